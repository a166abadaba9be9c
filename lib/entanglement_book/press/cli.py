"""The commands that make the book: execute, build, check, and what belongs to them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.layout import (
    Book,
    Settings,
    UsageError,
    parse_jobs,
    parse_only,
)
from entanglement_book.options import (
    JobsOption,
    ModelOption,
    OnlyOption,
    OutOption,
    RootOption,
    ScaleOption,
    SeedOption,
    book_at,
    check_folder,
    make_folder,
    path_of,
    settings_of,
    writable,
)

__all__ = ["app"]

app = make_app("The commands that make the book.")


@app.command()
def book(
    scale: ScaleOption = "book",
    seed: SeedOption = None,
    model: ModelOption = None,
    only: OnlyOption = None,
    jobs: JobsOption = "2",
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Execute what changed and build the pages.

    A chapter runs again when its code, the library that it uses, its data or its parameters changed; prose
    never runs anything. With default seed and model the verdicts of scale book and paper are recorded in
    book/verdicts. If a chapter fails, no site is built; what was finished is kept.

    Examples:

    - `entanglement-book book`
    - `entanglement-book book --scale smoke --jobs 4`
    - `entanglement-book book --only 03,08 --seed 1`
    """
    import time

    from entanglement_book.press.claims_cli import record_verdicts
    from entanglement_book.press.execute import Execution, clock, report_failures
    from entanglement_book.press.site import remove

    count, settings, at = parse_jobs(jobs), settings_of(scale, seed, model), book_at(root, out)
    chapters = parse_only(only, at.chapters())
    wrong = [] if only else at.disagreements()
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    run = Execution(writable(at), settings, count)
    outcomes = run.run(chapters)
    _warn(at, settings, chapters)
    ran = [outcome for outcome in outcomes if outcome.state == "finished"]
    failed = [outcome for outcome in outcomes if outcome.state not in {"cached", "finished"}]
    if failed:
        # An older site would be taken for the one that was asked for.
        remove(at, settings)
        report_failures(outcomes)
        print(f"\n{len(failed)} of {len(chapters)} notebooks have no output; no site was built", flush=True)
        return 1
    print(f"{len(ran)} notebooks ran, {len(outcomes) - len(ran)} were cached", flush=True)
    if settings.is_default and settings.scale != "smoke":
        record_verdicts(at, settings)
    index = _build_site(at, settings, partial=bool(only))
    if index is None:
        return 1
    print(
        f"\nThe book is at {index}\nin all {clock(time.monotonic() - run.began)}; read it with: make serve",
        flush=True,
    )
    return 0


@app.command()
def execute(
    scale: ScaleOption = "book",
    seed: SeedOption = None,
    model: ModelOption = None,
    only: OnlyOption = None,
    jobs: JobsOption = "2",
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Execute what changed, and build no pages.

    It may be stopped at any time: chapters that were finished are kept and do not run again.

    Examples:

    - `entanglement-book execute --scale smoke`
    - `entanglement-book execute --only 08`
    """
    from entanglement_book.press.execute import Execution, report_failures

    count, settings, at = parse_jobs(jobs), settings_of(scale, seed, model), book_at(root, out)
    chapters = parse_only(only, at.chapters())
    outcomes = Execution(writable(at), settings, count).run(chapters)
    _warn(at, settings, chapters)
    report_failures(outcomes)
    return 0 if all(outcome.state in {"cached", "finished"} for outcome in outcomes) else 1


def _warn(at: Book, settings: Settings, chapters: Iterable[str]) -> None:
    """Say what a chapter lacks to be part of the book: a place in it, or a claim for what it recorded."""
    from entanglement_book.press.store import unclaimed

    for line in [*at.disagreements(), *unclaimed(at, settings, chapters)]:
        print(f"warning: {line}", file=sys.stderr, flush=True)


def _build_site(at: Book, settings: Settings, partial: bool) -> Path | None:
    from entanglement_book.press.site import BuildError, build

    try:
        return build(at, settings, partial)
    except BuildError as error:
        print(f"\nFAILED {error}", file=sys.stderr)
        return None


@app.command()
def site(
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out chapters that have no current output.")
    ] = False,
    scale: ScaleOption = "book",
    seed: SeedOption = None,
    model: ModelOption = None,
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Build the pages from what was executed before; nothing runs.

    The prose is today's. Any warning is an error, because it is a link or a number that a reader would miss.

    Examples:

    - `entanglement-book site`
    - `entanglement-book site --scale smoke --partial`
    """
    settings, at = settings_of(scale, seed, model), book_at(root, out)
    return 0 if _build_site(writable(at), settings, partial) else 1


@app.command()
def repeat(
    scale: ScaleOption = "book",
    seed: SeedOption = None,
    model: ModelOption = None,
    only: OnlyOption = None,
    jobs: JobsOption = "2",
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Execute current chapters once more, elsewhere, and compare byte for byte with what is stored.

    It shows that a run repeats. Nothing that is stored is changed. Exit status 1 if a cell or a recorded
    claim differs.

    Example: `entanglement-book repeat --scale smoke --only 03`
    """
    from entanglement_book.press.execute import repeat as execute_again
    from entanglement_book.press.store import inspect

    count, settings, at = parse_jobs(jobs), settings_of(scale, seed, model), book_at(root, out)
    chapters = parse_only(only, at.chapters())
    state = inspect(at, settings)
    stale = [chapter for chapter in chapters if state.stale[chapter]]
    if stale:
        raise UsageError(f"no current output to compare with for {', '.join(stale)}: run execute first")
    differing = execute_again(at, settings, count, chapters)
    print("\n".join(differing) or f"{len(chapters)} notebooks ran again and gave the same bytes", flush=True)
    return 1 if differing else 0


@app.command()
def check(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--site",
            help="Folder of the pages.",
            show_default="those of the run",
            metavar="FOLDER",
            parser=path_of,
        ),
    ] = None,
    screenshots: Annotated[
        Path | None,
        typer.Option(
            help="Folder for three pictures of every page: light, dark, narrow.",
            show_default="no pictures",
            metavar="FOLDER",
            parser=path_of,
        ),
    ] = None,
    scale: ScaleOption = "book",
    seed: SeedOption = None,
    model: ModelOption = None,
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Open every built page in a browser and say what is wrong.

    Links, anchors, alternative texts, mathematics, scripts, requests to other hosts, width on a telephone.

    Example: `entanglement-book check --scale smoke --screenshots pictures`
    """
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--site {str(folder)!r} is not a folder")
    if screenshots is not None:
        check_folder("--screenshots", screenshots)
    settings = settings_of(scale, seed, model)
    pages = folder or book_at(root, out).site(settings)
    if not (pages / "index.html").is_file():
        print(f"there is no site at {pages} yet: run make book first", file=sys.stderr)
        return 1
    from entanglement_book.press.browser import installed
    from entanglement_book.press.check import check as check_site
    from entanglement_book.press.problems import pages_in

    installed()  # before the pages are read
    if screenshots is not None:
        make_folder("--screenshots", screenshots)
    problems = check_site(pages, screenshots)
    for problem in problems:
        print(problem)
    print(f"{len(pages_in(pages))} pages looked at, {len(problems)} problems", flush=True)
    return 1 if problems else 0


@app.command()
def status(
    scale: ScaleOption = "book",
    seed: SeedOption = None,
    model: ModelOption = None,
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Say which chapters would run, and why.

    Example: `entanglement-book status --scale smoke`
    """
    from entanglement_book.press.execute import clock
    from entanglement_book.press.store import Store, inspect

    settings, at = settings_of(scale, seed, model), book_at(root, out)
    store, state = Store(at, settings), inspect(at, settings)
    for chapter in sorted(state.stale):
        seconds = store.seconds(chapter)
        took = f"took {clock(seconds)}" if seconds is not None else ""
        why = f"to run: {state.stale[chapter]}" if state.stale[chapter] else "current"
        print(f"{chapter:<28} {why:<44} {took}".rstrip())
    for wrong in state.broken.values():
        print(wrong, file=sys.stderr)
    _warn(at, settings, [chapter for chapter, why in state.stale.items() if not why])
    return 1 if state.broken else 0


@app.command()
def tidy(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files of notebooks.", show_default="all chapters", metavar="[NOTEBOOK]...", parser=path_of
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say what is not in order.")] = False,
    root: RootOption = None,
) -> int:
    """Bring notebooks into the form in which they are committed: no outputs, stable ids.

    Examples:

    - `entanglement-book tidy`
    - `entanglement-book tidy --check notebooks/08_sentiment_gpt2.ipynb`
    """
    from entanglement.files import write_changed
    from entanglement_book.press.notebooks import complaints, dumps, read, tidy as tidied

    if other := [str(path) for path in paths or () if path.suffix != ".ipynb"]:
        raise UsageError(f"no notebook: {', '.join(other)}; expected files that end in .ipynb")
    if missing := [str(path) for path in paths or () if not path.is_file()]:
        raise UsageError(f"no such notebook: {', '.join(missing)}")
    at = book_at(root)
    chosen = paths or [at.notebook(chapter) for chapter in at.chapters()]
    if not check:
        texts = {path: dumps(tidied(read(path))) for path in chosen}
        for path, text in texts.items():
            if write_changed(path, text):
                print(f"tidied {path}")
    found = [line for path in chosen for line in complaints(path)]
    print("\n".join(found) or f"{len(chosen)} notebooks are in order", flush=True)
    return 1 if found else 0


@app.command()
def browser() -> int:
    """Find the browser for the checks, or install one.

    One that is installed is taken first; then Playwright's is downloaded; then, as root on Debian, the
    package chromium.

    Example: `entanglement-book browser`
    """
    from entanglement_book.press.browser import provide

    print(provide(), flush=True)
    return 0


@app.command()
def test(jobs: JobsOption = "2", root: RootOption = None) -> int:
    """Run everything that must hold, stage after stage, with the time each took.

    Lint, types, tests, all chapters at smoke and again, the built site in a browser, claims, tables.

    Example: `entanglement-book test`
    """
    from entanglement_book.press.stages import run

    count = parse_jobs(jobs)
    return run(book_at(root), count)
