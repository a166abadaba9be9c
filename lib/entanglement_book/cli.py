"""The command line of the book: ``entanglement-book COMMAND``, or ``python -m entanglement_book COMMAND``.

``make`` calls it. Each room that has commands has them in a module of its own; here they are put together.
Exit status: 0 done; 1 something failed or is not as it should be, and it says what; 2 what was asked for is
not allowed, in one line, and nothing was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from entanglement.cli import make_app, run_app
from entanglement_book.layout import BookError, UsageError
from entanglement_book.press import chapter_cli, claims_cli, cli as press, nightly_cli

__all__ = ["LATE", "app", "main"]

#: Commands whose rooms import torch: name → the module that holds their ``app``, and a line for the help.
LATE = {
    "results": ("entanglement_book.grids.cli", "Compute and check the tables of long experiments."),
    "bench": ("entanglement_book.bench.cli", "Time the gradient geometry and training steps."),
    "nano": ("entanglement_book.materials.cli", "Pretrain the small language model again."),
}


class _Rooms(TyperGroup):
    """Commands of which some are imported only when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, for the help."""
        return [*super().list_commands(ctx), *LATE]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command; of a late one only its line for the help."""
        if cmd_name in LATE:
            return TyperCommand(cmd_name, help=LATE[cmd_name][1])
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called."""
        name = args[0] if args else ""
        if name not in LATE:
            return super().resolve_command(ctx, args)
        command = typer.main.get_command(import_module(LATE[name][0]).app)
        command.name = name
        return name, command, args[1:]


app = make_app(
    "Execute, build, check and read the book “Gradient Entanglement”.\n\n"
    "`book` does all that is needed: it executes the chapters that changed and builds the pages; `serve` "
    "shows them. What was executed before is kept and not executed again.\n\n"
    "Examples:\n\n"
    "- `entanglement-book book --scale smoke`: everything, small, in some minutes\n"
    "- `entanglement-book book --only 08`: one chapter\n"
    "- `entanglement-book status`: what would run, and why",
    cls=_Rooms,
)
app.add_typer(press.app)
app.add_typer(claims_cli.app)
app.add_typer(chapter_cli.app)
app.add_typer(nightly_cli.app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    return run_app(app, "entanglement-book", arguments, {UsageError: 2, BookError: 1})
