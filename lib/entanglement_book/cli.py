"""The command line of the book: ``entanglement-book COMMAND``, or ``python -m entanglement_book COMMAND``.

``make`` calls it. Each room that has commands has them in a module of its own, which imports what is heavy
only when a command is called; here they are put together. Exit status: 0 done; 1 something failed or is not
as it should be, and it says what; 2 what was asked for is not allowed, in one line, and nothing was written.
"""

from __future__ import annotations

from collections.abc import Sequence

from entanglement.archive import DataError
from entanglement.cli import make_app, run_app
from entanglement_book.bench import cli as bench
from entanglement_book.grids import cli as grids
from entanglement_book.layout import BookError, UsageError
from entanglement_book.press import (
    chapter_cli,
    claims_cli,
    cli as press,
    nano_cli,
    nightly_cli,
    publishing_cli,
    reading_cli,
    teaching_cli,
)
from entanglement_book.press.browser import NoBrowserError

__all__ = ["app", "main"]

app = make_app(
    "Execute, build, check and read the book “Gradient Entanglement”.\n\n"
    "`book` does all that is needed: it executes the chapters that changed and builds the pages; `serve` "
    "shows them. What was executed before is kept and not executed again.\n\n"
    "Examples:\n\n"
    "- `entanglement-book book --scale smoke`: everything, small, in some minutes\n"
    "- `entanglement-book book --only 08`: one chapter\n"
    "- `entanglement-book status`: what would run, and why",
)
app.add_typer(press.app)
app.add_typer(reading_cli.app)
app.add_typer(teaching_cli.app)
app.add_typer(claims_cli.app)
app.add_typer(chapter_cli.app)
app.add_typer(grids.app, name="results")
app.add_typer(bench.app, name="bench")
app.add_typer(nano_cli.app)
app.add_typer(nightly_cli.app)
app.add_typer(publishing_cli.app)


#: What becomes one line, and the exit status; the first that fits counts.
_ERRORS: dict[type[Exception], int] = {UsageError: 2, BookError: 1, DataError: 1, NoBrowserError: 1}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    return run_app(app, "entanglement-book", arguments, _ERRORS)
