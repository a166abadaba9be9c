"""The numbers of chapters: made from ``_toc.yml``, typed nowhere.

Chapters of the parts with ``numbered: true`` count from 1 on through all parts. What stands in front of them
has no number; what stands behind them is the appendix, and carries the letter A. A Sphinx build numbers by
this table also where pages were left out, so that a chapter has one number in every build.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entanglement_book.layout import Book, UsageError, toc_files

__all__ = ["APPENDIX", "complaints_about_numbers", "misnumbered", "numbers_of", "typed_numbers"]

#: What stands for a chapter's number in the appendix.
APPENDIX = "A"
#: File prefixes of notebooks in the appendix begin here.
FIRST_OF_APPENDIX = 80

_WORDS = (
    "chapters?|theorems?|lemmas?|propositions?|observations?|corollar(?:y|ies)|exercises?|appendix|appendices"
)
_TYPED = re.compile(rf"\b(?:{_WORDS})\s+(?:[A-Z]?\d[\d.]*′?|[IVX]+\b)", re.IGNORECASE)
_RANGE = re.compile(r"\{doc\}`[^`]*`\s+(?:to|and|or|through)\s+\d", re.IGNORECASE)


def numbers_of(toc: Mapping[str, Any]) -> dict[str, str]:
    """Return file → number for the chapters ("1", "2", …) and the appendix ("A") of a table of contents."""
    numbers: dict[str, str] = {}
    count, begun = 0, False
    for part in toc.get("parts", ()):
        files = toc_files(part)
        if part.get("numbered"):
            begun = True
            for name in files:
                count += 1
                numbers[name] = str(count)
        elif begun:
            numbers |= dict.fromkeys(files, APPENDIX)
    return numbers


def misnumbered(toc: Mapping[str, Any]) -> list[str]:
    """Return the notebooks whose file prefix is not their number, one line each."""
    found = []
    numbers = numbers_of(toc)
    for name in toc_files(dict(toc)):
        chapter = re.fullmatch(r"notebooks/(\d\d)_\w+", name)
        if chapter is None:
            continue
        number = numbers.get(name)
        if number is None:
            found.append(f"{name}.ipynb stands in no numbered part of _toc.yml and not behind them")
        elif number == APPENDIX and int(chapter[1]) < FIRST_OF_APPENDIX:
            found.append(f"{name}.ipynb stands in the appendix: its prefix is {FIRST_OF_APPENDIX} or more")
        elif number != APPENDIX and chapter[1] != number.zfill(2):
            found.append(f"{name}.ipynb is chapter {number} by _toc.yml: its prefix is {number.zfill(2)}")
    return found


def complaints_about_numbers(path: Path) -> list[str]:
    """Return what ``misnumbered`` says of one notebook; nothing for one that stands in no book."""
    try:
        toc = Book.find(path.parent).toc()
    except UsageError:
        return []
    return [f"{path}: {line}" for line in misnumbered(toc) if f"/{path.stem}.ipynb" in line]


def typed_numbers(text: str) -> list[str]:
    """Return the references in a text whose number was typed, such as ``chapter`` with a figure behind it."""
    return [found[0] for pattern in (_TYPED, _RANGE) for found in pattern.finditer(text)]
