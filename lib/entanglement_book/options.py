"""Options that several commands share, each declared once, and what they say when they are wrong."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from entanglement_book.layout import (
    Book,
    Settings,
    UsageError,
    parse_model,
    parse_scale,
    parse_seed,
)

__all__ = [
    "JobsOption",
    "ModelOption",
    "OnlyOption",
    "OutOption",
    "RootOption",
    "ScaleOption",
    "SeedOption",
    "book_at",
    "check_folder",
    "make_folder",
    "path_of",
    "say_where",
    "settings_of",
    "writable",
]

_RUN, _HOW, _WHERE = "Which run", "How it runs", "Where"


def path_of(text: str) -> Path:
    """Check that a path is given at all, for an empty one would mean the current folder, and is one."""
    if not text.strip():
        raise typer.BadParameter(f"{text!r} is no path")
    try:
        Path(text).exists()
    except OSError as error:  # too long a name, or a folder on the way that may not be read
        raise typer.BadParameter(f"{text!r} is no path ({error.strerror})") from None
    return Path(text)


RootOption = Annotated[Path | None, typer.Option("--root", hidden=True, parser=path_of)]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder for everything that is made: outputs and pages.",
        show_default="_build in the book's folder",
        metavar="FOLDER",
        parser=path_of,
        rich_help_panel=_WHERE,
    ),
]
ScaleOption = Annotated[
    str,
    typer.Option(
        "--scale",
        help="Size of the experiments. smoke: seconds a chapter, and the numbers mean little; book: what is "
        "published; paper: the paper's own, wants a GPU.",
        metavar="smoke|book|paper",
        rich_help_panel=_RUN,
    ),
]
SeedOption = Annotated[
    str | None,
    typer.Option(
        "--seed",
        help="Seed of every chapter's random choices, a whole number from 0; its outputs are kept apart.",
        show_default="each chapter's own",
        metavar="N",
        rich_help_panel=_RUN,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Language model: nano, smollm2-135m, a folder that holds one, or an id of the Hugging Face hub.",
        show_default="nano",
        metavar="NAME",
        rich_help_panel=_RUN,
    ),
]
OnlyOption = Annotated[
    str | None,
    typer.Option(
        "--only",
        help="Chapters by number or name, separated by commas: 08, or 03,08.",
        show_default="all",
        metavar="CHAPTERS",
        rich_help_panel=_RUN,
    ),
]
JobsOption = Annotated[
    str,
    typer.Option(
        "--jobs", help="How many run at a time, one thread each.", metavar="N", rich_help_panel=_HOW
    ),
]


def book_at(root: Path | None, out: Path | None = None) -> Book:
    """The book around ``root`` (default: around the current folder). Errors: UsageError."""
    if root is not None and not root.exists():  # its parents might be a book
        raise UsageError(f"no book at {root}: there is no such folder")
    if out is not None:
        check_folder("--out", out)
    book = Book.find(root, out)
    if root is None:
        say_where(book.root)
    return book


def say_where(root: Path) -> None:
    """Say on stderr which book is taken, where nobody asked for that one."""
    if not Path.cwd().is_relative_to(root):
        print(f"there is no book around {Path.cwd()}: this is about the one in {root}", file=sys.stderr)


def check_folder(option: str, folder: Path) -> None:
    """Refuse what is no folder and cannot become one, before anything starts. Errors: UsageError."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        what = "is not a folder" if there == folder else f"cannot be made: {there} is not a folder"
        raise UsageError(f"{option} {str(folder)!r} {what}")


def settings_of(scale: str, seed: str | None, model: str | None) -> Settings:
    """Check the parameters of a run. Errors: UsageError."""
    return Settings(parse_scale(scale), parse_seed(seed), parse_model(model))


def writable(book: Book) -> Book:
    """Make the folder for what is made, and see that it can be written. Errors: UsageError."""
    make_folder("--out", book.out)
    return book


def make_folder(option: str, folder: Path) -> None:
    """Make a folder, and see that it can be written. Errors: UsageError, and nothing is left then."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # asking for permission says little: root has it everywhere
            pass
    except OSError as error:
        for place in new:
            with contextlib.suppress(OSError):
                place.rmdir()
        raise UsageError(
            f"{folder} cannot be written ({error.strerror}): choose another folder with {option}"
        ) from None
