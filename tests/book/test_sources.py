"""What makes a notebook run again, seen in the cache's key; nothing is executed here."""

import pytest
from nbformat.v4 import new_code_cell

from entanglement_book.layout import Book, Settings
from entanglement_book.press import notebooks
from entanglement_book.provenance.sources import ImportGraph, code_text, key_parts, science_of

SMOKE = Settings("smoke")


@pytest.fixture
def changed(tiny):
    """Call with nothing: which parts of the first chapter's key changed since the last call."""
    book = Book.find(tiny.root)
    before = key_parts(book, "03_first", SMOKE)

    def compare(settings=SMOKE):
        return [
            name for name, value in key_parts(book, "03_first", settings).items() if value != before[name]
        ]

    return compare


def test_prose_and_presentation_do_not_count(tiny, changed):
    tiny.edit("03_first", "Prose", "Other prose", kind="markdown")
    book = notebooks.read(tiny.path("03_first"))
    book.cells[2].metadata["mystnb"] = {"image": {"alt": "Other"}}
    book.cells[3].metadata["tags"] = ["hide-input"]
    tiny.path("03_first").write_text(notebooks.dumps(book))
    (tiny.root / "book" / "intro.md").write_text("# Other\n")
    assert changed() == []


def test_code_counts(tiny, changed):
    tiny.edit("03_first", "print(scale, seed)", "print(seed, scale)")
    assert changed() == ["code"]


def test_tags_that_change_a_run_count(tiny, changed):
    book = notebooks.read(tiny.path("03_first"))
    book.cells[3].metadata["tags"] = ["raises-exception"]
    tiny.path("03_first").write_text(notebooks.dumps(book))
    assert changed() == ["code"]


def test_parameters_count_where_they_are_declared(changed):
    assert changed(Settings("book")) == ["parameters"]
    assert changed(Settings("smoke", seed=3)) == ["parameters"]
    assert changed(Settings("smoke", model="gpt2")) == []  # this chapter has no parameter called model


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("geometry.py", ["library"]),  # imported in a function
        ("pairs.py", ["library"]),  # imported by geometry
        ("__init__.py", ["library"]),
        ("losses.py", []),
        ("book/claims.py", []),
    ],
)
def test_the_imported_part_of_the_library_counts(tiny, changed, module, expected):
    path = tiny.root / "lib" / "entanglement" / module
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + "\nMORE = 1\n")
    assert changed() == expected


def test_comments_and_docstrings_of_the_library_do_not_count(tiny, changed):
    path = tiny.root / "lib" / "entanglement" / "geometry.py"
    path.write_text('"""Another text."""\n# a comment\nfrom . import pairs\n\n\nTWO = 2  # two\n')
    assert changed() == []


def test_data_counts_where_a_module_names_it(tiny, changed):
    checkpoints = tiny.root / "lib" / "entanglement" / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "nano.bin").write_bytes(b"1")
    assert changed() == []
    path = tiny.root / "lib" / "entanglement" / "pairs.py"
    path.write_text('WHERE = "checkpoints"\n')
    assert changed() == ["library", "data"]


def test_tables_count_where_they_are_read(tiny, changed):
    (tiny.root / "book" / "results").mkdir()
    (tiny.root / "book" / "results" / "grid.csv").write_text("1\n")
    assert changed() == []
    book = notebooks.read(tiny.path("03_first"))
    book.metadata["entanglement"] = {"reads": ["book/results/grid*"]}
    tiny.path("03_first").write_text(notebooks.dumps(book))
    assert changed() == ["data"]
    del book.metadata["entanglement"]
    book.cells.append(new_code_cell("import entanglement_book.grids.results"))
    (tiny.root / "lib" / "entanglement" / "results.py").write_text("")
    tiny.path("03_first").write_text(notebooks.dumps(book))
    assert changed() == ["code", "library", "data"]


def test_the_lock_file_counts_and_verdicts_outlive_it(tiny, changed):
    book = Book.find(tiny.root)
    before = science_of(key_parts(book, "03_first", SMOKE))
    (tiny.root / "requirements.lock").write_text("numpy==2\n")
    assert changed() == ["environment"]
    assert science_of(key_parts(book, "03_first", SMOKE)) == before
    tiny.edit("03_first", "print(scale, seed)", "print(seed)")
    assert science_of(key_parts(book, "03_first", SMOKE)) != before


def test_code_text_cuts_only_what_does_not_run():
    source = '''"""Module."""
import os  # why


class A:
    """Class.

    More.
    """

    x = "# no comment"

    def f(self):
        """Function."""
        return """no docstring"""  # ä
'''
    expected = (
        'import os\nclass A:\n    x = "# no comment"\n    def f(self):\n        return """no docstring"""'
    )
    assert code_text(source) == expected
    assert code_text("x = ('ä', 1)  # ö\n") == "x = ('ä', 1)"
    assert code_text("def f(): 'doc'\nprint(f.__doc__)\n") == "def f(): 'doc'\nprint(f.__doc__)\n"


def test_imports_are_found_without_importing(tmp_path):
    library = tmp_path / "entanglement"
    (library / "a").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "a/__init__.py": "from .b import x",
        "a/b.py": "from ..c import d",
        "c.py": "import entanglement.e as e",
        "e.py": "raise SystemExit",
        "lazy.py": "import importlib\nimportlib.import_module('entanglement.f')",
        "f.py": "",
        "g.py": "",
    }
    for name, text in files.items():
        (library / name).write_text(text)
    graph = ImportGraph(library)
    everything = ["entanglement", "entanglement.a", "entanglement.a.b", "entanglement.c", "entanglement.e"]
    assert graph.closure("from entanglement import a") == everything
    assert graph.closure("import entanglement.lazy") == [
        "entanglement",
        "entanglement.f",
        "entanglement.lazy",
    ]
    assert graph.closure("import numpy") == []
    assert graph.closure("this is no Python") == sorted(graph.modules)
