"""Looks for solutions where there must be none: in the student edition."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bs4 import BeautifulSoup

from entanglement.files import read_text
from entanglement_book.layout import Book
from entanglement_book.press import notebooks
from entanglement_book.press.asked import solutions_of
from entanglement_book.press.site import FOR_TEACHERS

__all__ = ["sentences", "solutions_in"]

#: Words in a row that no two texts share by chance.
RUN = 8
_READ = {".html", ".ipynb", ".md", ".txt", ".js", ".csv", ".json"}


def sentences(text: str) -> Iterator[str]:
    """The runs of words by which a text is known wherever it stands, without its mathematics."""
    plain = re.sub(r"\$[^$]*\$|\{[\w:]+\}`[^`]*`|`{3}\w*", " | ", text)
    for piece in plain.split("|"):
        yield from _runs(piece)


def _runs(text: str) -> Iterator[str]:
    words = re.findall(r"\w+", text.lower())
    for at in range(len(words) - RUN + 1):
        yield " ".join(words[at : at + RUN])


def _shown(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".html":
        text = BeautifulSoup(text, "html.parser").get_text(" ")
    if path.suffix == ".ipynb":
        text = text.replace("\\n", " ")
    return text


def solutions_in(book: Book, site: Path) -> list[str]:
    """Return a line for each place of a site where a solution's words stand; [] if there is none.

    A run of words that the book says elsewhere, too, gives nothing away and is no finding.

    Args:
        book: whose solutions.
        site: folder of pages.
    """
    solutions: dict[str, set[str]] = {}
    # The ledger's sentences stand in the report.
    elsewhere = set(sentences(read_text(book.ledger))) if book.ledger.is_file() else set()
    for path in [*sorted(book.notebooks.glob("*.ipynb")), *sorted((book.root / "book").glob("*.md"))]:
        texts = (
            [notebooks.prose_of(cell) for cell in notebooks.read(path).cells]
            if path.suffix == ".ipynb"
            else [path.read_text(encoding="utf-8")]
        )
        whole = f"book/{path.stem}" in FOR_TEACHERS
        for text in texts:
            kept, solved = ("", [("a page for teachers", text)]) if whole else solutions_of(text)
            elsewhere |= set(sentences(kept))
            for name, solution in solved:
                solutions.setdefault(name, set()).update(sentences(solution))
    problems = []
    for path in sorted(site.rglob("*")):
        if path.suffix not in _READ or not path.is_file() or "mathjax" in path.parts:
            continue
        told = set(_runs(_shown(path))) - elsewhere
        for name, runs in solutions.items():
            if found := sorted(runs & told):
                problems.append(f"{path.relative_to(site)}: tells of the solution of {name}: {found[0]!r}")
    return problems
