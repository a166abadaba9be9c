"""``entanglement-book bench``: measure, check what is stored, re-stamp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from entanglement.files import write_whole
from entanglement_book.bench.lines import works
from entanglement_book.bench.measured import measure_all, measure_work
from entanglement_book.bench.readme import readme, table, write_readme
from entanglement_book.bench.stored import file_of
from entanglement_book.bench.timing import THREADS
from entanglement_book.bench.upkeep import problems, restamp as restamp_lines

__all__ = ["app"]

app = typer.Typer(
    invoke_without_command=True,
    help="Time and memory of the gradient geometry and of training steps, against other ways.",
)


@app.callback()
def bench(
    context: typer.Context,
    only: Annotated[
        str | None, typer.Option(metavar="WORK", help=f"These lines of the table: {'; '.join(works())}.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    output: Annotated[
        Path | None, typer.Option(help="Write to this file. By default under book/results/bench.")
    ] = None,
) -> None:
    """Measure the benchmark, or some lines of it. Exit status 1 if a line is not what it must be.

    Half an hour alone on two cores; wants 22 GB of memory.
    """
    if context.invoked_subcommand:
        return
    if device not in ("cpu", "cuda"):
        raise typer.BadParameter(f"device={device!r}; expected cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("device=cuda, but PyTorch finds no CUDA device.")
    torch.set_num_threads(THREADS)
    try:
        found = measure_work(only, device=device) if only else measure_all(device)
    except (OSError, ValueError) as error:
        typer.echo(f"bench: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(table(found))
    target = output or file_of(device)
    write_whole(target, json.dumps(found, indent=2) + "\n")
    if target == file_of("cpu"):
        write_readme(found, readme())
    failed = [f"{line['ours']} against {line['theirs']}" for line in found["lines"] if not line["met"]]
    failed += [f"heat map of {g['tokens']} tokens" for g in found["growth"] if not g["met"]]
    for name in failed:
        typer.echo(f"not what it must be: {name}")
    raise typer.Exit(1 if failed else 0)


@app.command()
def check() -> None:
    """Is the stored benchmark whole, fast enough and of today's code? Exit status 1 if not."""
    wrong = problems()
    for problem in wrong:
        typer.echo(problem)
    typer.echo(f"bench: {'as it should be' if not wrong else f'{len(wrong)} problems'}")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def restamp(
    code_moved: Annotated[
        str, typer.Option(metavar="WHY", help="More than names changed, and nothing became slower: say what.")
    ] = "",
    measure: Annotated[bool, typer.Option(help="Measure one stale line again.")] = True,
) -> None:
    """Carry the stored benchmark over a change that made nothing slower. Exit status 1 if one did."""
    try:
        restamp_lines(code_moved, measure=measure)
    except (OSError, ValueError) as error:
        typer.echo(str(error))
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
