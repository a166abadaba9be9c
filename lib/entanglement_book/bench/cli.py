"""``entanglement-book bench``: measure, check what is stored, re-stamp.

What is heavy is imported when a command has seen that it can do what it was asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.layout import UsageError
from entanglement_book.machine import repository
from entanglement_book.options import check_folder, make_folder, path_of, say_where

__all__ = ["app"]

app = make_app(
    "Time the gradient geometry and training steps against other ways.\n\n"
    "Without a command it measures: half an hour alone on two cores, with 22 GB of memory. The result is "
    "stored, and its table stands in README.md. Exit status 1 if a line is not what it must be.\n\n"
    "Examples:\n\n"
    "- `entanglement-book bench`\n"
    '- `entanglement-book bench --only "training step"`\n'
    "- `entanglement-book bench check`"
)


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="WORK",
            help='Measure one kind of work, such as "training step"; an unknown one is answered with all.',
            show_default="all",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to measure.", metavar="cpu|cuda")] = "cpu",
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write.", show_default="under book/results/bench", metavar="FILE", parser=path_of
        ),
    ] = None,
) -> int:
    """See the app's help."""
    if context.invoked_subcommand:
        if only is not None or output is not None or device != "cpu":
            raise UsageError(
                f"options of bench are for measuring, not for bench {context.invoked_subcommand}"
            )
        return 0
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r} is not allowed: expected cpu or cuda")
    if output is not None:
        check_folder("--output", output.parent)
        if output.is_dir():
            raise UsageError(f"--output {str(output)!r} is a folder: expected a file")
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {device!r} is not allowed: PyTorch finds no GPU; expected cpu")
    from entanglement.files import write_whole
    from entanglement_book.bench.lines import works
    from entanglement_book.bench.measured import measure_all, measure_work
    from entanglement_book.bench.readme import readme, table, write_readme
    from entanglement_book.bench.stored import file_of
    from entanglement_book.bench.timing import THREADS

    if only is not None and only not in works():
        raise UsageError(f"work {only!r} is not allowed: expected one of {'; '.join(works())}")
    if output is not None:
        make_folder("--output", output.parent)
    say_where(repository())
    torch.set_num_threads(THREADS)
    found = measure_all(device) if only is None else measure_work(only, device=device)
    print(table(found), flush=True)
    target = output or file_of(device)
    write_whole(target, json.dumps(found, indent=2) + "\n")
    if target == file_of("cpu"):
        write_readme(found, readme())
    failed = [f"{line['ours']} against {line['theirs']}" for line in found["lines"] if not line["met"]]
    failed += [f"heat map of {g['tokens']} tokens" for g in found["growth"] if not g["met"]]
    for name in failed:
        print(f"not what it must be: {name}", flush=True)
    return 1 if failed else 0


@app.command()
def check() -> int:
    """Say whether the stored benchmark is whole, fast enough and of today's code; nothing is measured.

    Exit status 1 if it is not.

    Example: `entanglement-book bench check`
    """
    from entanglement_book.bench.upkeep import problems

    say_where(repository())
    wrong = problems()
    for problem in wrong:
        print(problem)
    print(f"bench: {'as it should be' if not wrong else f'{len(wrong)} problems'}", flush=True)
    return 1 if wrong else 0


@app.command()
def watching() -> int:
    """Time what the callback adds to a training step of nano. It takes some minutes, and nothing is stored.

    Exit status 1 if it is more than it may be.

    Example: `entanglement-book bench watching`
    """
    from entanglement_book.bench.watching import MOST, measure_watching

    found = measure_watching()
    print(found, flush=True)
    return 0 if found.looked_at <= MOST * found.without else 1


@app.command()
def auditing() -> int:
    """Time and weigh an audit on rows of mixed length. It takes some minutes, and nothing is stored.

    Exit status 1 if it costs more than it may.

    Example: `entanglement-book bench auditing`
    """
    from entanglement_book.bench.auditing import MODELS, measure_auditing

    missed = 0
    for name in MODELS:
        for ratio in measure_auditing(name):
            print(ratio, flush=True)
            missed += not ratio.met
    return 1 if missed else 0


@app.command()
def restamp(
    code_moved: Annotated[
        str | None,
        typer.Option(
            metavar="WHY",
            help="What changed, if more than names and yet nothing became slower.",
            show_default="only names changed",
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option(help="Measure one stale line again, or trust that it holds.")
    ] = True,
) -> int:
    """Carry the stored benchmark over a change of the code that made nothing slower.

    Exit status 1 if a line became slower; the benchmark stays as it was.

    Examples:

    - `entanglement-book bench restamp`
    - `entanglement-book bench restamp --code-moved "a loop became one call"`
    """
    if code_moved is not None and not code_moved.strip():
        raise UsageError(f"--code-moved {code_moved!r} says nothing: say what changed")
    from entanglement_book.bench.upkeep import restamp as restamp_lines

    say_where(repository())
    restamp_lines(code_moved or "", measure=measure)
    return 0
