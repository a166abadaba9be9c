"""``entanglement-book new-chapter``: a chapter that runs, to be written over.

It makes the notebook, the study folder, the line in ``_toc.yml`` and a row of the ledger: all of them, or, if
what is asked cannot be done, none. No other chapter gets another number.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from entanglement.files import read_text, write_all
from entanglement_book.layout import REPORT, Book, BookError, UsageError, number_of, one_line, toc_files
from entanglement_book.ledger.claims import load_ledger
from entanglement_book.press.chapter_template import claim_row, notebook_text
from entanglement_book.press.numbering import APPENDIX, FIRST_OF_APPENDIX, numbers_of, typed_numbers

__all__ = ["NewChapter", "plan", "write"]

#: Longer names make lines of code that are wider than the page.
LONGEST_NAME = 30
_EXAMPLE = "example"


@dataclass(frozen=True)
class NewChapter:
    """What is to be written.

    Attributes:
        chapter: file stem of the notebook.
        files: path → text, of files that are new.
        changed: the same, of files that are there: the table of contents and the ledger.
    """

    chapter: str
    files: dict[Path, str]
    changed: dict[Path, str]


@dataclass(frozen=True)
class _Place:
    """Where a chapter can be added: caption of the part, number, the notebook before it, the new text."""

    caption: str
    number: str
    before: str | None
    toc: str


def _shown(toc: Mapping[str, Any]) -> list[str]:
    return [str(part.get("caption", "")) for part in toc.get("parts", ())]


def _insert(text: str, caption: str, after: str | None, name: str) -> str | None:
    """Return the table of contents with a file in a part, behind a file of it; None if its lines cannot be
    found. Comments stay.
    """
    lines, inside = text.splitlines(keepends=True), False
    at, indent = None, ""
    for i, line in enumerate(lines):
        if heading := re.match(r"\s*- caption:\s*(.+)", line):
            inside = yaml.safe_load(heading[1]) == caption
        elif inside and after is None and (found := re.match(r"(\s*)chapters:\s*$", line)):
            at, indent = i, f"{found[1]}  "
        elif inside and (found := re.match(r"(\s*)- file:\s*(\S+)", line)) and found[2] == after:
            at, indent = i, found[1]
    if at is None:
        return None
    lines.insert(at + 1, f"{indent}- file: {name}\n")
    return "".join(lines)


def _numbered(files: list[str]) -> list[str]:
    return [name for name in files if re.fullmatch(r"notebooks/\d\d_\w+", name)]


def _places(book: Book, name: str) -> list[_Place]:
    """Where a chapter can be added so that no other gets another number."""
    toc, text = book.toc(), read_text(book.root / "_toc.yml")
    before, found = numbers_of(toc), []
    for part, caption in zip(toc.get("parts", ()), _shown(toc), strict=True):
        files = toc_files(part)
        behind = part.get("numbered") is None and any(before.get(file) == APPENDIX for file in files)
        if behind:
            notebooks = [n for n in _numbered(files) if number_of(n.partition("/")[2]) < REPORT]
            after: str | None = (notebooks or files)[-1]
            number = int(number_of(notebooks[-1].partition("/")[2])) + 1 if notebooks else FIRST_OF_APPENDIX
            allowed = number < int(REPORT)
        else:
            after = files[-1] if files else None
            earlier = [p for p in toc["parts"][: _shown(toc).index(caption) + 1] if p.get("numbered")]
            number = sum(len(toc_files(p)) for p in earlier) + 1
            allowed = bool(part.get("numbered")) and number < FIRST_OF_APPENDIX
        entry = f"notebooks/{number:02d}_{name}"
        made = _insert(text, caption, after, entry)
        if not allowed or made is None:
            continue
        now = numbers_of(yaml.safe_load(made))
        if before.items() <= now.items() and len(now) == len(before) + 1:
            previous = [n for n in _numbered(toc_files(yaml.safe_load(made))) if n < entry]
            found.append(_Place(caption, f"{number:02d}", previous[-1] if previous else None, made))
    return found


def _chosen(places: list[_Place], wanted: str | None, captions: list[str]) -> _Place:
    """The place that was asked for; by default the last part with numbers."""
    allowed = ", ".join(repr(place.caption) for place in places) or "none in this _toc.yml"
    if wanted is None:
        numbered = [place for place in places if int(place.number) < FIRST_OF_APPENDIX]
        if not numbered:
            raise UsageError(f"_toc.yml has no numbered part at whose end a chapter can be added: {allowed}")
        return numbered[-1]

    def fits(caption: str) -> bool:
        return bool(wanted) and wanted.lower() in (caption.lower(), caption.partition(".")[0].lower())

    chosen = [place for place in places if fits(place.caption)]
    if not chosen:
        moves = any(fits(caption) for caption in captions)
        why = "would give other chapters other numbers" if moves else "is no part of _toc.yml"
        raise UsageError(f"--part {wanted!r} {why}: expected one of {allowed}")
    return chosen[0]


def _check_name(name: str) -> None:
    good = re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) and not keyword.iskeyword(name)
    if not good or len(name) > LONGEST_NAME:
        raise UsageError(
            f"name {name!r} is not allowed: expected at most {LONGEST_NAME} lower-case letters, digits and "
            "underscores, a letter first, such as contrastive_losses; the number is given by _toc.yml"
        )


def _check_title(title: str) -> str:
    title = title.strip()
    if not title or len(title) > 80 or not title.isprintable() or set(title) & set('"\\`{}[]<>'):
        raise UsageError(f"title {title!r} is not allowed: expected one line of at most 80 plain characters")
    if typed_numbers(title):
        raise UsageError(f"title {title!r} types a number of the book: refer by role")
    return title


def _with_row(text: str, row: str, number: str) -> str:
    """Return the ledger with a row behind the last one of this and all earlier chapters."""
    lines = (text if text.endswith("\n") else f"{text}\n").splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if line.startswith("- ")]
    at = 1  # behind the key
    for begin, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        owner = re.search(r"^  notebook:\s*(\d\d)_", "".join(lines[begin:end]), re.MULTILINE)
        if owner is None or owner[1] <= number:
            at = end
    while lines[at - 1].startswith("#"):  # that comment is about the next row
        at -= 1
    return "".join([*lines[:at], row, *lines[at:]])


def plan(book: Book, name: str, part: str | None = None, title: str | None = None) -> NewChapter:
    """Say what a new chapter would be made of; nothing is written.

    Args:
        book: to which it is added.
        name: of its files, without a number.
        part: caption of the part at whose end it stands, or what stands before the caption's first period;
            default: the last part with numbers.
        title: default: made from the name.

    Raises:
        UsageError: a name or a title that is not allowed or is taken, or a part whose end is followed by
            chapters with numbers, which would move.
        BookError: the table of contents or the ledger is damaged.
    """
    _check_name(name)
    title = _check_title(name.replace("_", " ").capitalize() if title is None else title)
    taken = [chapter for chapter in book.chapters() if chapter.partition("_")[2] == name]
    if taken:
        raise UsageError(f"name {name!r} is taken: notebooks/{taken[0]}.ipynb is there")
    place = _chosen(_places(book, name), part, _shown(book.toc()))
    chapter = f"{place.number}_{name}"
    study = name if int(place.number) >= FIRST_OF_APPENDIX else f"ch{chapter}"
    folder = book.library.parent / "entanglement_book" / "studies" / study
    if folder.exists():
        raise UsageError(f"name {name!r} is taken: {folder.relative_to(book.root)} is there")
    label = name.replace("_", "-")
    claim = f"{label}-example"
    if any(row.id == claim for row in load_ledger(book.ledger)):
        raise UsageError(f"name {name!r} is taken: the ledger has a claim {claim!r}")
    known = "{doc}`/book/notation`" if place.before is None else f"{{doc}}`{place.before.partition('/')[2]}`"
    example = Path(__file__).parents[1] / "studies" / _EXAMPLE
    files = {
        book.notebook(chapter): notebook_text(title, study, label, claim, known),
        folder / "__init__.py": f'"""The study of the chapter “{title}”."""\n',
        **{folder / n: read_text(example / n) for n in ("study.py", "figures.py")},
    }
    ledger = read_text(book.ledger)
    changed = {
        book.root / "_toc.yml": place.toc,
        book.ledger: _with_row(ledger, claim_row(title, chapter, claim), place.number),
    }
    return NewChapter(chapter, files, changed)


def write(new: NewChapter) -> None:
    """Write all files of a new chapter; if one cannot be written, all is as it was.

    Raises:
        BookError: a file cannot be written.
    """
    try:
        write_all({**new.files, **new.changed})
    except OSError as error:
        raise BookError(f"{new.chapter} was not made: {one_line(error)}") from None
