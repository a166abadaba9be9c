"""``entanglement-book results``: compute the grids, check their tables, repeat a cell, re-stamp."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from entanglement_book.grids.freshness import check as find_problems, problems_of
from entanglement_book.grids.grid import GRIDS, SCALES, Grid
from entanglement_book.grids.made_by import Code
from entanglement_book.grids.rerun import rerun_one
from entanglement_book.grids.restamp import repeat_smoke, restamp as restamp_tables
from entanglement_book.grids.run import run as run_grid
from entanglement_book.layout import parse_model
from entanglement_book.machine import repository

__all__ = ["app"]

app = typer.Typer(help="The grids: runs too long for a notebook, stored as tables.")

_Grids = Annotated[
    list[str] | None, typer.Option("--grid", help="A grid's name; may be repeated. All of them by default.")
]
_Scale = Annotated[str, typer.Option(help=f"One of {', '.join(SCALES)}.")]
_Model = Annotated[
    str | None, typer.Option(help="Name of the base model. By default those whose tables are kept.")
]


def _chosen(names: list[str] | None, scale: str = "book") -> list[Grid]:
    if scale not in SCALES:
        raise typer.BadParameter(f"scale={scale!r}; expected one of {', '.join(SCALES)}.")
    try:
        return [GRIDS[name] for name in names or GRIDS]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _models(grid: Grid, scale: str, model: str | None) -> tuple[str, ...]:
    if model is None:
        return grid.kept(scale) or ("nano",)
    return (parse_model(model) or "nano",)


@app.command()
def run(
    grid: _Grids = None,
    scale: _Scale = "book",
    model: _Model = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time, one thread each.")] = 2,
) -> None:
    """Compute what is missing and write the tables. May be stopped, and goes on where it was."""
    for one in _chosen(grid, scale):
        for name in _models(one, scale, model):
            folder = run_grid(one, scale, name, jobs=jobs)
            typer.echo(f"tables: {folder}")


@app.command()
def check(grid: _Grids = None) -> None:
    """Are the stored tables whole, and would today's code make them? Exit status 1 if not."""
    problems = find_problems(_chosen(grid))
    for problem in problems:
        typer.echo(problem)
    typer.echo(f"results: {'as they should be' if not problems else f'{len(problems)} problems'}")
    raise typer.Exit(1 if problems else 0)


@app.command()
def rerun(grid: _Grids = None, scale: _Scale = "smoke", model: _Model = None) -> None:
    """Compute one cell of each table again, drawn by the commit. Exit status 1 if a number is another one."""
    missed = 0
    for one in _chosen(grid, scale):
        for name in _models(one, scale, model):
            again = rerun_one(one.name, scale, name)
            said = "met" if again.agrees else "NOT met"
            typer.echo(
                f"{one.name} {scale} {name} {again.cell}: {said}, differs by {again.worst:.1e} "
                f"(allowed {again.allowed:g}), {again.seconds:.0f} s"
            )
            missed += not again.agrees
    raise typer.Exit(1 if missed else 0)


@app.command()
def restamp(
    grid: _Grids = None,
    scale: Annotated[str | None, typer.Option(help="smoke or book; both by default.")] = None,
    model: _Model = None,
    code_moved: Annotated[
        str, typer.Option(metavar="WHY", help="More than names changed, and no number: say what.")
    ] = "",
    smoke: Annotated[
        Path | None,
        typer.Option(
            help="A folder of smoke tables that the earlier code made on this machine, in place of "
            "book/results/smoke; with --code-moved."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time, one thread each.")] = 2,
) -> None:
    """Carry tables over a change that moved no number, after repeating cells. Exit status 1 if one did."""
    missed = 0
    for one in _chosen(grid, scale or "book"):
        try:
            moved = None
            if code_moved:
                before = None if smoke is None else smoke / f"{one.name}-{one.models[0]}"
                moved = repeat_smoke(one, code_moved, folder=before, jobs=jobs)
            for at in (scale,) if scale else ("smoke", "book"):
                for name in (model,) if model else one.kept(at):
                    restamp_tables(one, at, name, moved=moved)
        except (OSError, ValueError) as error:
            typer.echo(str(error))
            missed += 1
    raise typer.Exit(1 if missed else 0)


@app.command(name="list")
def list_grids() -> None:
    """List the grids, their tables and whether these are of today's code."""
    code = Code(repository())
    for name in GRIDS:
        one = GRIDS[name]
        typer.echo(name)
        for scale in ("smoke", "book"):
            for model in one.kept(scale):
                problems = problems_of(one, scale, model, code)
                cells = len(one.cells(scale, model))
                state = problems[0].partition(": ")[2] if problems else "fresh"
                typer.echo(f"  {scale:<6} {model:<16} {cells:>4} cells  {state}")


if __name__ == "__main__":
    app()
