"""Options that several commands share, each declared once, and what they say when they are wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from entanglement_book.layout import Book, Settings, UsageError, parse_model, parse_scale, parse_seed

__all__ = [
    "JobsOption",
    "ModelOption",
    "OnlyOption",
    "OutOption",
    "RootOption",
    "ScaleOption",
    "SeedOption",
    "book_at",
    "settings_of",
    "writable",
]

_RUN, _HOW, _WHERE = "Which run", "How it runs", "Where"

RootOption = Annotated[Path | None, typer.Option("--root", hidden=True)]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder for everything that is made.",
        show_default="_build in the book's folder",
        metavar="FOLDER",
        rich_help_panel=_WHERE,
    ),
]
ScaleOption = Annotated[
    str,
    typer.Option(
        "--scale",
        help="smoke: seconds, and the numbers mean little; book: what is published; paper: wants a GPU.",
        metavar="smoke|book|paper",
        rich_help_panel=_RUN,
    ),
]
SeedOption = Annotated[
    str | None,
    typer.Option(
        "--seed",
        help="Whole number for every chapter's random choices.",
        show_default="each chapter's own",
        metavar="N",
        rich_help_panel=_RUN,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="nano, smollm2-135m, a folder with a causal language model, or the id of one on a hub.",
        show_default="nano",
        metavar="NAME",
        rich_help_panel=_RUN,
    ),
]
OnlyOption = Annotated[
    str | None,
    typer.Option(
        "--only",
        help="Chapters by number, comma separated: 08 or 03,08.",
        show_default="all",
        metavar="CHAPTERS",
        rich_help_panel=_RUN,
    ),
]
JobsOption = Annotated[
    str,
    typer.Option("--jobs", help="How many at a time, one thread each.", metavar="N", rich_help_panel=_HOW),
]


def book_at(root: Path | None, out: Path | None = None) -> Book:
    """The book around ``root`` (default: around the current folder). Errors: UsageError."""
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out {str(out)!r} is not a folder")
    return Book.find(root, out)


def settings_of(scale: str, seed: str | None, model: str | None) -> Settings:
    """Check the parameters of a run. Errors: UsageError."""
    return Settings(parse_scale(scale), parse_seed(seed), parse_model(model))


def writable(book: Book) -> Book:
    """Make the folder for what is made. Errors: UsageError if that cannot be done."""
    try:
        book.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{book.out} cannot be made ({error.strerror}): choose another with --out") from None
    if not os.access(book.out, os.W_OK):
        raise UsageError(f"{book.out} cannot be written: choose another with --out")
    return book
