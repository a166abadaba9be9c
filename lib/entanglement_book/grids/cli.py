"""``entanglement-book results``: the grids that are too big for a notebook."""

from __future__ import annotations

from typing import Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.grids.results import main

__all__ = ["app"]

app = make_app("Compute and check the tables of long experiments.")


@app.command()
def run(
    scale: Annotated[str, typer.Option(help="smoke, book or paper.")] = "book",
    model: Annotated[str | None, typer.Option(help="Default: the models whose tables are kept.")] = None,
    grid: Annotated[list[str] | None, typer.Option(help="Default: all. May be given again.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time.")] = 2,
) -> int:
    """Compute what is missing and write the tables."""
    chosen = [f"--grid={name}" for name in grid or []] + ([f"--model={model}"] if model else [])
    return main(["run", "--scale", scale, "--jobs", str(jobs), *chosen])


@app.command()
def check() -> int:
    """Are the stored tables whole and made by today's code?"""
    return main(["check"])
