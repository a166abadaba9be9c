"""Bad input: one line naming what was given and what is allowed, status 2, nothing written."""

import pytest

from entanglement_book.cli import main


def everything(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


@pytest.mark.parametrize("command", ["book", "execute"])
@pytest.mark.parametrize(
    ("arguments", "given", "allowed"),
    [
        (("--scale", "tiny"), "'tiny'", "smoke, book, paper"),
        (("--only", "44"), "'44'", "03, 06, 90"),
        (("--only", "03,x"), "'x'", "03, 06, 90"),
        (("--seed", "1.5"), "'1.5'", "whole number"),
        (("--seed", "-1"), "'-1'", "whole number"),
        (("--jobs", "0"), "'0'", "whole number"),
        (("--jobs", "many"), "'many'", "whole number"),
        (("--scal", "smoke"), "--scal", "unrecognized"),
    ],
)
def test_bad_input_is_refused_in_one_line(tiny, capsys, command, arguments, given, allowed):
    before = everything(tiny.root)
    assert tiny.run(command, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert given in err
    assert allowed in err
    assert everything(tiny.root) == before


def test_a_model_that_cannot_be_had_is_refused_in_one_line(tiny, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = everything(tiny.root)
    assert tiny.run("book", "--model", "no-such/model") == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1
    assert "no-such/model" in err
    assert "nano" in err
    assert everything(tiny.root) == before


def test_no_command_and_an_unknown_one(capsys):
    assert main([]) == 2
    assert main(["bake"]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "expected one of book, execute" in first
    assert "'bake'" in second


def test_outside_a_book(tmp_path, capsys):
    assert main(["status", "--root", str(tmp_path)]) == 2
    assert f"no book at {tmp_path}" in capsys.readouterr().err


def test_chapters_may_be_named_in_three_ways(tiny):
    from entanglement_book.layout import parse_only

    chapters = ["03_first", "06_second", "90_report"]
    assert (
        parse_only("03", chapters)
        == parse_only("3", chapters)
        == parse_only("03_first", chapters)
        == ["03_first"]
    )
    assert parse_only("90, 6", chapters) == ["06_second", "90_report"]
    assert parse_only(None, chapters) == parse_only("", chapters) == chapters


def test_a_table_of_contents_that_names_no_notebook(tiny, capsys):
    (tiny.root / "_toc.yml").write_text(
        (tiny.root / "_toc.yml").read_text() + "  - file: notebooks/07_gone\n"
    )
    assert tiny.run("book", "--scale", "smoke") == 1
    assert "names notebooks/07_gone.ipynb, which is not there" in capsys.readouterr().err
    assert tiny.runs() == []


def test_tidy_brings_notebooks_into_order(tiny, capsys):
    path = tiny.path("06_second")
    tidied = path.read_text()
    path.write_text(tidied.replace('"execution_count": null', '"execution_count": 7'))
    assert tiny.run("tidy", "--check") == 1
    assert "holds outputs" in capsys.readouterr().out
    assert tiny.run("tidy") == 0
    assert path.read_text() == tidied
    assert tiny.run("tidy", "--check") == 0


def test_serving_what_is_not_there(tiny, capsys):
    assert tiny.run("serve") == 1
    assert "make book" in capsys.readouterr().err
    assert tiny.run("serve", "--port", "http") == 2
