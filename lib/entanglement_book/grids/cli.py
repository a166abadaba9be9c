"""``entanglement-book results``: compute the grids, check their tables, repeat a cell, re-stamp.

What is heavy is imported when a command has seen that it can do what it was asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.layout import (
    BookError,
    UsageError,
    parse_jobs,
    parse_model,
    parse_scale,
    parse_scheduler,
)
from entanglement_book.machine import repository
from entanglement_book.options import JobsOption, ScaleOption, path_of, say_where

if TYPE_CHECKING:
    from entanglement_book.grids.grid import Grid
    from entanglement_book.grids.run import Compute

__all__ = ["app"]

app = make_app(
    "Compute and check the tables of long experiments.\n\n"
    "A grid is a family of runs too long for a notebook. Its tables are stored under book/results; the "
    "chapters read them. What they were made by is stored with them.\n\n"
    "Examples:\n\n"
    "- `entanglement-book results list`: the grids, and which tables are of today's code\n"
    "- `entanglement-book results run`: compute what is missing"
)

_Grids = Annotated[
    list[str] | None,
    typer.Option("--grid", help="Name of a grid; may be repeated.", show_default="all", metavar="NAME"),
]
_Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Language model: nano, smollm2-135m, a folder that holds one, or an id of the Hugging Face hub.",
        show_default="those whose tables are kept",
        metavar="NAME",
    ),
]


def _model(text: str | None) -> str | None:
    return None if text is None else parse_model(text) or "nano"


def _chosen(names: list[str] | None) -> list[Grid]:
    from entanglement_book.grids.grid import GRIDS

    for name in names or ():
        if names and names.count(name) > 1:
            raise UsageError(f"grid {name!r} is named twice")
    try:
        return [GRIDS[name] for name in names or GRIDS]
    except ValueError as error:
        raise UsageError(str(error)) from None


def _stored(grids: Iterable[Grid], scale: str, model: str | None) -> list[tuple[Grid, str]]:
    """The tables that are asked for, which are kept or there. Errors: UsageError if there are none."""
    from entanglement_book.grids.stored import folder_of

    asked = [(one, name) for one in grids for name in ((model,) if model else one.kept(scale))]
    root = repository()
    for one, name in asked:
        if name not in one.kept(scale) and not folder_of(root, one.name, scale, name).is_dir():
            raise UsageError(f"grid {one.name!r} has no tables at scale {scale} of the model {name!r}")
    if not asked:
        raise UsageError(f"no tables are kept at scale {scale!r}: name a --model that has some")
    return asked


@app.command()
def run(
    grid: _Grids = None,
    scale: ScaleOption = "book",
    model: _Model = None,
    jobs: JobsOption = "2",
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Compute on a Dask cluster: the address of its scheduler, such as tcp://host:8786, whose "
            "workers all compute; or local, for a cluster of --jobs processes here. A cell whose worker dies "
            "is computed again by another.",
            show_default="no cluster, --jobs processes",
            metavar="ADDRESS",
        ),
    ] = None,
) -> int:
    """Compute what is missing and write the tables; it may be stopped, and goes on where it was.

    Tables that are of today's code stay as they are. All of them take five to ten hours on two
    cores.

    Examples:

    - `entanglement-book results run`
    - `entanglement-book results run --grid untangling --scale smoke`
    - `entanglement-book results run --scheduler tcp://10.0.0.2:8786`
    """
    at, count, name = parse_scale(scale), parse_jobs(jobs), _model(model)
    chosen = _chosen(grid)
    if scheduler is not None:
        parse_scheduler(scheduler)
    from entanglement_book.grids.run import run as run_grid

    say_where(repository())
    with _computing(scheduler, count) as (count, compute):
        for one in chosen:
            for base in (name,) if name else one.kept(at) or ("nano",):
                print(f"tables: {run_grid(one, at, base, jobs=count, compute=compute)}", flush=True)
    return 0


@contextmanager
def _computing(scheduler: str | None, jobs: int) -> Iterator[tuple[int, Compute | None]]:
    """How many processes compute cells, and by which function; None for the usual one."""
    if scheduler is None:
        yield jobs, None
        return
    from entanglement_book.grids.cluster import on_cluster

    with on_cluster(scheduler, jobs) as cluster:
        yield max(1, len(cluster.workers)), cluster.compute


@app.command()
def check(grid: _Grids = None) -> int:
    """Say which stored tables are not whole or not of today's code; nothing is computed.

    Exit status 1 if there are any.

    Example: `entanglement-book results check`
    """
    from entanglement_book.grids.freshness import check as find_problems

    chosen = _chosen(grid)
    say_where(repository())
    problems = find_problems(chosen)
    for problem in problems:
        print(problem)
    print(f"results: {'as they should be' if not problems else f'{len(problems)} problems'}", flush=True)
    return 1 if problems else 0


@app.command()
def rerun(grid: _Grids = None, scale: ScaleOption = "smoke", model: _Model = None) -> int:
    """Compute one cell of each stored table again and compare every number.

    Which one is drawn by the commit's hash, so that over time all are visited. Exit status 1 if a number is
    another one.

    Example: `entanglement-book results rerun --grid untangling`
    """
    at, name = parse_scale(scale), _model(model)
    asked = _stored(_chosen(grid), at, name)
    from entanglement_book.grids.rerun import rerun_one

    say_where(repository())
    missed = 0
    for one, base in asked:
        again = rerun_one(one.name, at, base)
        said = "met" if again.agrees else "NOT met"
        print(
            f"{one.name} {at} {base} {again.cell}: {said}, differs by {again.worst:.1e} "
            f"(allowed {again.allowed:g}), {again.seconds:.0f} s",
            flush=True,
        )
        missed += not again.agrees
    return 1 if missed else 0


@app.command()
def restamp(
    grid: _Grids = None,
    scale: Annotated[
        str | None,
        typer.Option(help="Whose tables.", show_default="smoke and book", metavar="smoke|book|paper"),
    ] = None,
    model: _Model = None,
    code_moved: Annotated[
        str | None,
        typer.Option(
            metavar="WHY",
            help="What changed, if more than names and yet no number: all smoke cells are repeated first.",
            show_default="only names changed",
        ),
    ] = None,
    smoke: Annotated[
        Path | None,
        typer.Option(
            help="Folder of smoke tables that the earlier code made on this machine; with --code-moved.",
            show_default="book/results/smoke",
            metavar="FOLDER",
            parser=path_of,
        ),
    ] = None,
    rounding: Annotated[
        bool,
        typer.Option(
            "--rounding",
            help="Sums are taken in another order, and rounding moves: cells must be met as on another kind "
            "of machine; with --code-moved.",
        ),
    ] = False,
    jobs: JobsOption = "2",
) -> int:
    """Carry stored tables over a change of the code that moved no number, after repeating cells.

    Exit status 1 if a number moved; that table stays as it was.

    Examples:

    - `entanglement-book results restamp`
    - `entanglement-book results restamp --code-moved "a loop became one call"`
    """
    count = parse_jobs(jobs)
    scales = ("smoke", "book") if scale is None else (parse_scale(scale),)
    if code_moved is not None and not code_moved.strip():
        raise UsageError(f"--code-moved {code_moved!r} says nothing: say what changed")
    if rounding and code_moved is None:
        raise UsageError("--rounding goes with --code-moved only: say what changed")
    if smoke is not None:
        if code_moved is None:
            raise UsageError("--smoke is looked at with --code-moved only")
        if not smoke.is_dir():
            raise UsageError(f"--smoke {str(smoke)!r} is not a folder")
    name = _model(model)
    chosen = _chosen(grid)
    for at in scales:
        _stored(chosen, at, name)
    from entanglement_book.grids.restamp import repeat_smoke, restamp as restamp_tables

    say_where(repository())
    missed = 0
    for one in chosen:
        try:
            moved = None
            if code_moved is not None:
                before = None if smoke is None else smoke / f"{one.name}-{one.kept('smoke')[0]}"
                moved = repeat_smoke(one, code_moved, exact=not rounding, folder=before, jobs=count)
            for at in scales:
                for base in (name,) if name else one.kept(at):
                    restamp_tables(one, at, base, moved=moved)
        except BookError as error:
            print(error, file=sys.stderr)
            missed += 1
    return 1 if missed else 0


@app.command(name="list")
def list_grids() -> int:
    """List the grids, their stored tables and whether these are of today's code.

    Example: `entanglement-book results list`
    """
    from entanglement_book.grids.freshness import problems_of
    from entanglement_book.grids.grid import GRIDS
    from entanglement_book.grids.made_by import Code

    say_where(repository())
    code = Code(repository())
    for name in GRIDS:
        one = GRIDS[name]
        print(name)
        for scale in ("smoke", "book"):
            for model in one.kept(scale):
                problems = problems_of(one, scale, model, code)
                cells = len(one.cells(scale, model))
                state = problems[0].partition(": ")[2] if problems else "fresh"
                print(f"  {scale:<6} {model:<16} {cells:>4} cells  {state}", flush=True)
    return 0
