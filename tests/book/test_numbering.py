"""Numbers of chapters come from the table of contents, and nobody types one."""

from pathlib import Path

import pytest
import yaml

from entanglement_book.layout import Book
from entanglement_book.press.numbering import (
    complaints_about_numbers,
    misnumbered,
    numbers_of,
    typed_numbers,
)

ROOT = Path(__file__).parents[2]


def toc(*parts):
    """(numbered, files) a part."""
    made = [
        {"caption": "P", "chapters": [{"file": name} for name in files]}
        | ({"numbered": True} if numbered else {})
        for numbered, files in parts
    ]
    return {"format": "jb-book", "root": "book/intro", "parts": made}


def test_numbers_run_through_the_parts():
    contents = toc((False, ["book/notation"]), (True, ["a", "b"]), (True, ["c"]), (False, ["d", "e"]))
    assert numbers_of(contents) == {"a": "1", "b": "2", "c": "3", "d": "A", "e": "A"}
    assert numbers_of({"root": "x"}) == {}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([(True, ["notebooks/01_x", "notebooks/02_y"]), (False, ["book/p", "notebooks/80_z"])], None),
        (
            [(True, ["notebooks/01_x", "notebooks/03_y"])],
            "03_y.ipynb is chapter 2 by _toc.yml: its prefix is 02",
        ),
        ([(True, ["notebooks/01_x"]), (False, ["notebooks/02_y"])], "02_y.ipynb stands in the appendix"),
        ([(True, ["notebooks/80_x"])], "80_x.ipynb is chapter 1"),
        ([(False, ["notebooks/01_x"]), (True, ["notebooks/01_y"])], "01_x.ipynb stands in no numbered part"),
    ],
)
def test_a_prefix_is_the_number(parts, said):
    found = misnumbered(toc(*parts))
    assert (found == []) if said is None else (len(found) == 1 and said in found[0])


def test_a_notebook_is_judged_by_the_book_around_it(tmp_path):
    path = tmp_path / "notebooks" / "07_y.ipynb"
    assert complaints_about_numbers(path) == []  # no book
    (tmp_path / "_config.yml").write_text("title: T")
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc((True, ["notebooks/01_x", "notebooks/07_y"]))))
    assert len(complaints_about_numbers(path)) == 1
    assert complaints_about_numbers(path.with_name("01_x.ipynb")) == []


@pytest.mark.parametrize(
    "text",
    [
        "by Chapter 08",
        "chapters 05 and 11",
        "Theorem 1′ says",
        "theorem C2",
        "Lemma\n5",
        "exercise 2",
        "Appendix III",
        "{doc}`11_one_number` to 12",
    ],
)
def test_typed_numbers_are_seen(text):
    assert len(typed_numbers(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "paper §3.3 and figure 1",
        "Condition 1",
        "chapter {doc}`08_x` says",
        "{prf:ref}`thm-band` (i)",
        "12 exercises",
        "the theorem is about 2 answers",
        "a lemma on it",
    ],
)
def test_other_numbers_are_not(text):
    assert typed_numbers(text) == []


def test_no_page_and_no_module_types_a_number():
    pages = [
        *(ROOT / "book").glob("*.md"),
        ROOT / "book" / "claims.yml",
        *ROOT.glob("*.md"),
        *ROOT.glob("_*.yml"),
    ]
    modules = [path for folder in ("lib", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert len(pages) > 8 and len(modules) > 150
    found = {str(path): typed_numbers(path.read_text(encoding="utf-8")) for path in (*pages, *modules)}
    # The tests of the numbering build small books, and read their numbers.
    assert [
        name
        for name, typed in found.items()
        if typed
        and not name.endswith(("test_sphinx_pages.py", "test_numbering.py", "test_notebooks_rest.py"))
    ] == []


def test_the_book_s_own_prefixes_are_its_numbers():
    contents = Book.find(ROOT).toc()
    assert misnumbered(contents) == []
    numbers = numbers_of(contents)
    assert numbers["notebooks/10_where_the_probability_goes"] == "10"
    assert numbers["book/proofs"] == numbers["notebooks/90_reproduction_report"] == "A"
    assert "book/notation" not in numbers
