"""Slides come from the chapters' figures and numbers; each deck is whole, and nothing leaves a slide."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from nbformat import v4

from entanglement.archive import DataError
from entanglement_book.layout import Book, BookError, Settings
from entanglement_book.press import slides

ROOT = Path(__file__).resolve().parents[2]
DECKS = slides.decks_of(Book.find(ROOT))
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="300pt" height="200pt"><rect width="9" height="9"/></svg>'
)


def test_each_part_has_a_deck():
    parts = [
        part for part in yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"] if part.get("numbered")
    ]
    assert [int(path.name.split("_")[0]) for path in DECKS] == list(range(1, len(parts) + 1))
    for path, part in zip(DECKS, parts, strict=True):
        assert path.read_text().startswith(f"# Part {part['caption']}\n"), path.name


@pytest.mark.parametrize("path", DECKS, ids=lambda path: path.stem)
def test_a_deck_can_be_taught_from(path):
    found = slides.slides_of(path.read_text())
    assert 18 <= len(found) <= 22
    assert sum("![](" in text for text in found) >= 7
    notes = [text.partition("\nNote:")[2].split() for text in found]
    assert all(len(note) >= 25 for note in notes)
    for text in found:
        shown = text.partition("\nNote:")[0]
        shown = re.sub(r"\$[^$]*\$|!\[\]\([^)]*\)|```.*?```|\{[^}]*\}|^\|.*?$", "", shown, flags=re.S | re.M)
        assert len(shown.split()) <= 60, text[:60]


@pytest.fixture
def deck(monkeypatch):
    chapter = slides.Chapter({"fig-a": (SVG, 'A "figure"')}, {"fall": -1.25, "n": 7.0})
    return slides._Deck("1_x.md", {"07": chapter})


def test_a_slide_has_figure_numbers_and_notes(deck):
    made = deck.slide(
        "## It falls by {07 fall .1f}\n\n![](07 fig-a)\n\nIn {07 n d} of $a<b$.\n\nNote: Say it."
    )
    assert "<h2>It falls by −1.2</h2>" in made
    assert '<img src="figures/fig-a.svg" alt="A &quot;figure&quot;">' in made
    assert r"\(a&lt;b\)" in made and "In 7 of" in made
    assert '<aside class="notes"><p>Say it.</p>' in made and "Note:" not in made
    assert deck.used == {"fig-a.svg": SVG}
    assert "columns" not in deck.slide("# Title\n\nWords.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{08 fall .1f}", "1_x.md: 08 has no current output"),
        ("{07 rise .1f}", "07 pasted no number 'rise'"),
        ("![](07 fig-b)", "07 has no figure 'fig-b'"),
    ],
)
def test_what_is_not_there_is_told(deck, text, said):
    with pytest.raises(BookError, match=said):
        deck.slide(text)


def test_a_chapter_is_read():
    drawn = v4.new_output("display_data", {"image/svg+xml": SVG})
    pasted = [
        v4.new_output(
            "display_data",
            {"application/papermill.record/text/plain": text},
            metadata={"scrapbook": {"name": name}},
        )
        for name, text in (("x", "1.5"), ("lab", '{"a": 1}'))
    ]
    shown = {"mystnb": {"figure": {"name": "fig-a"}, "image": {"alt": "words"}}}
    page = v4.new_notebook(
        cells=[v4.new_code_cell("", outputs=[drawn], metadata=shown), v4.new_code_cell("", outputs=pasted)]
    )
    assert slides.read_chapter(page) == slides.Chapter({"fig-a": (SVG, "words")}, {"x": 1.5})


def small_book(tmp_path):
    """A book of two decks: one in order, and one with a crowded slide and a wrong formula."""
    root = tmp_path / "book"
    (root / "book" / "slides").mkdir(parents=True)
    (root / "notebooks").mkdir()
    (root / "_toc.yml").write_text("root: x\n")
    shutil.copy2(ROOT / "_config.yml", root / "_config.yml")
    good = "# Part\n\n---\n\n## $a^2$\n\nText.\n\n- $$\\norm{g}$$\n\nNote: x"
    (root / "book" / "slides" / "1_good.md").write_text(good)
    bad = "# Part\n\n---\n\n" + "- line\n" * 40 + "\n\n$\\nothing$"
    (root / "book" / "slides" / "2_bad.md").write_text(bad)
    return Book(root, tmp_path / "out")


def test_without_reveal_a_deck_is_a_page_to_scroll(tmp_path, monkeypatch, capsys):
    def nobody(*_):
        raise DataError("reveal.js was not downloaded")

    monkeypatch.setattr(slides, "write_scripts", nobody)
    index = slides.write_slides(small_book(tmp_path), Settings("smoke"))
    page = (index.parent / "1_good.html").read_text()
    assert "Text." in page and "reveal" not in page.replace('class="reveal"', "").replace(".reveal ", "")
    assert slides.check_slides(index.parent) == []
    assert capsys.readouterr().out == "decks are pages to scroll: reveal.js was not downloaded\n"


def test_slides_are_looked_at(tmp_path):
    """In a browser."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    book = small_book(tmp_path)
    index = slides.write_slides(book, Settings("smoke"))
    assert "1_good.html" in index.read_text() and "2 slides" in index.read_text()
    found = [str(problem) for problem in slides.check_slides(index.parent, tmp_path / "pictures")]
    assert found and all(line.startswith("2_bad.html#/1: ") for line in found)
    assert {"below: line", "a formula is wrong"} <= {line.partition(": ")[2] for line in found}
    assert len(list((tmp_path / "pictures").iterdir())) == 4
