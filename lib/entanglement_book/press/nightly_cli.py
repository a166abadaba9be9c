"""The commands of the night: a mutation run, and two builds that are compared byte for byte."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.layout import UsageError, parse_jobs, parse_only, parse_scale, parse_seed
from entanglement_book.options import (
    JobsOption,
    OnlyOption,
    OutOption,
    RootOption,
    ScaleOption,
    book_at,
    writable,
)

__all__ = ["app"]

app = make_app("What is too long for a day.")


@app.command()
def mutants(
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            help="Targets of tests/mutation/targets.yml, or parts of files' names, comma separated; "
            "a line, too: stats.py:74.",
            show_default="all",
            metavar="MODULES",
        ),
    ] = None,
    sample: Annotated[
        str, typer.Option("--sample", help="Mutants of each target; 0: all.", metavar="N")
    ] = "25",
    seed: Annotated[str, typer.Option("--seed", help="Of the draw.", metavar="N")] = "0",
    jobs: JobsOption = "2",
    root: RootOption = None,
) -> int:
    """Change the code that makes the tables in small ways, one at a time: do the tests notice?

    A run over all targets with the usual sample and seed writes book/results/mutation.json, which the
    report shows. What no test noticed is printed, file and line first.

    Examples:

    - `entanglement-book mutants`
    - `entanglement-book mutants --only stats --sample 0`
    """
    if not re.fullmatch(r"[0-9]{1,5}", sample):
        raise UsageError(f"sample {sample!r} is not allowed: expected a whole number from 0 to 99999")
    at, count, drawn = book_at(root), parse_jobs(jobs), parse_seed(seed)
    tool = at.root / "tests" / "mutation" / "run.py"
    if not tool.is_file():
        raise UsageError(f"{at.root} has no tests/mutation: run it in a checkout")
    command = [sys.executable, str(tool), "--sample", sample, "--seed", str(drawn), "--jobs", str(count)]
    command += [] if only is None else ["--only", only]
    return subprocess.run(command, cwd=at.root, stdin=subprocess.DEVNULL).returncode


@app.command()
def twice(
    scale: ScaleOption = "smoke",
    only: OnlyOption = None,
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Build the committed state twice, from two clones in two surroundings, and compare every byte.

    Executed notebooks, records, verdicts and pages. Exit status 1 if a byte differs: its file, its place and
    what stands there are told, and the clones are kept.

    Examples:

    - `entanglement-book twice`
    - `entanglement-book twice --only 03,06`: these chapters, and no other page
    """
    from entanglement_book.layout import Settings
    from entanglement_book.press.twice import make_twice

    at, settings = book_at(root, out), Settings(parse_scale(scale))
    parse_only(only, at.chapters())  # a name that is none is told before anything is cloned
    found = make_twice(writable(at), settings, only)
    for line in found[:50]:
        print(line)
    if len(found) > 50:
        print(f"and {len(found) - 50} more")
    print(f"{len(found)} files differ" if found else "two builds, the same bytes", flush=True)
    return 1 if found else 0
