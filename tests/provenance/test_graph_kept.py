"""A graph is used again while the texts that it was made of are the same, and not a moment longer."""

from entanglement_book.provenance import CodeGraph


def test_a_graph_is_made_again_when_a_module_changes_comes_or_goes(tmp_path):
    package = tmp_path / "toy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    part = package / "part.py"
    part.write_text("def f():\n    return 1\n")
    first = CodeGraph.of(tmp_path)
    assert CodeGraph.of(tmp_path) is first
    code = first.fingerprint([("toy.part", "f")]).code
    part.write_text("def f():\n    return 2\n")  # as long as before, within the same second
    second = CodeGraph.of(tmp_path)
    assert second is not first and second.fingerprint([("toy.part", "f")]).code != code
    (package / "more.py").write_text("")
    third = CodeGraph.of(tmp_path)
    assert third is not second
    (package / "more.py").unlink()
    assert CodeGraph.of(tmp_path) is not third
    part.write_text("def f():\n    return 1\n")
    assert CodeGraph.of(tmp_path).fingerprint([("toy.part", "f")]).code == code
