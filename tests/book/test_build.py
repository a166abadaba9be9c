"""The site is built from stored outputs: fresh when anything changed, whole or not at all."""

import re

import pytest
from bs4 import BeautifulSoup

from entanglement_book.layout import Book, Settings
from entanglement_book.press import notebooks
from entanglement_book.press.site import BuildError, stage


def text_of(book, page="book/intro.html", scale="smoke"):
    html = (book.root / "_build" / "site" / scale / page).read_text()
    return BeautifulSoup(html, "html.parser").find("article").get_text(" ", strip=True)


def test_prose_and_glued_numbers_are_today_s(executed, capsys):
    assert executed.run("book", "--scale", "smoke") == 0
    assert executed.runs() == []
    assert "_build/site/smoke/index.html" in capsys.readouterr().out
    assert "The number is 1.5 today." in text_of(executed)
    index = (executed.root / "_build" / "site" / "smoke" / "index.html").read_text()
    assert 'url=book/intro.html"' in index
    executed.edit("03_first", "Prose of the first", "Better prose of the first", kind="markdown")
    executed.edit("03_first", '"number", 1.5', '"number", 2.5')
    assert executed.run("book", "--scale", "smoke") == 0
    assert executed.runs() == ["03", "90"]
    assert "The number is 2.5 today." in text_of(executed)
    page = text_of(executed, "notebooks/03_first.html")
    assert "Better prose" in page
    assert "scale = 'smoke'" not in page.replace('"', "'")  # what papermill injected is on no page


def test_a_site_is_built_again_only_if_something_that_it_shows_changed(executed, capsys):
    page = executed.root / "_build" / "site" / "smoke" / "book" / "intro.html"

    def builds():
        before = page.stat().st_mtime_ns if page.exists() else 0
        assert executed.run("site", "--scale", "smoke") == 0
        return page.stat().st_mtime_ns != before

    assert builds()
    assert not builds()
    assert "that of today's pages" in capsys.readouterr().out
    intro = executed.root / "book" / "intro.md"
    intro.write_text(intro.read_text().replace("today", "this day"))
    assert builds() and "this day" in text_of(executed)
    library = next((executed.root / "lib").rglob("*.py"))  # a docstring may stand on a page
    library.write_text(library.read_text() + '\n"""More."""\n')
    assert builds() and not builds()
    page.parent.parent.joinpath(".made-from").unlink()  # what says nothing of itself is not trusted
    assert builds()


def test_a_warning_is_an_error_and_leaves_no_site(executed, capsys):
    intro = executed.root / "book" / "intro.md"
    intro.write_text(intro.read_text() + "\n[gone](nowhere.md)\n")
    assert executed.run("book", "--scale", "smoke") == 1
    err = capsys.readouterr().err
    assert "nowhere.md" in err
    assert re.search(r"book/intro\.md:\d+", err)
    assert not (executed.root / "_build" / "site" / "smoke").exists()


def test_one_chapter_alone(executed, capsys):
    intro = executed.root / "book" / "intro.md"
    intro.write_text("# Tiny\n\nNo numbers.\n")
    assert executed.run("book", "--only", "06") == 0
    assert executed.runs() == ["06"]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out of the site")]
    assert lines == ["left out of the site (no current output): notebooks/03_first, notebooks/90_report"]
    site = executed.root / "_build" / "site" / "book"
    assert (site / "notebooks" / "06_second.html").is_file()
    assert not (site / "notebooks" / "03_first.html").exists()
    assert "Some pages are left out" in (site / "book" / "intro.html").read_text()


def test_stale_outputs_are_not_published(executed):
    executed.edit("03_first", '"number", 1.5', '"number", 2.5')
    book = Book.find(executed.root)
    with pytest.raises(BuildError, match="03_first"):
        stage(book, Settings("smoke"), partial=False)
    folder, gone = stage(book, Settings("smoke"), partial=True)
    assert gone == ["notebooks/03_first", "notebooks/90_report"]
    assert not (folder / "notebooks" / "03_first.ipynb").exists()
    assert "03_first" not in (folder / "_toc.yml").read_text()


def test_an_output_that_changes_while_its_page_is_made_is_named(executed, monkeypatch):
    """An execution may store another one meanwhile."""
    real, book = notebooks.read, Book.find(executed.root)
    other = executed.executed("06_second")

    def read(path):
        return real(other if path == executed.executed("03_first") else path)

    monkeypatch.setattr(notebooks, "read", read)
    with pytest.raises(BuildError, match="03_first changed while its page was made"):
        stage(book, Settings("smoke"), partial=False)
