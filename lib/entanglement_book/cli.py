"""The command line of the book: ``python -m entanglement_book COMMAND``. ``make`` calls it.

Exit status: 0 done; 1 something failed, and it says what; 2 what was asked for is not allowed, in one line,
and nothing was written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from entanglement_book.layout import (
    SCALES,
    Book,
    Settings,
    UsageError,
    parse_jobs,
    parse_model,
    parse_only,
    parse_scale,
    parse_seed,
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _book(args: argparse.Namespace) -> Book:
    return Book.find(Path(args.root) if args.root else None, Path(args.out) if args.out else None)


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(parse_scale(args.scale), parse_seed(args.seed), parse_model(args.model))


def _execute(args: argparse.Namespace) -> int:
    from entanglement_book.press.execute import Execution, report_failures

    book, settings, jobs = _book(args), _settings(args), parse_jobs(args.jobs)
    outcomes = Execution(book, settings, jobs).run(parse_only(args.only, book.chapters()))
    report_failures(outcomes)
    return 0 if all(outcome.state in {"cached", "finished"} for outcome in outcomes) else 1


def _make_book(args: argparse.Namespace) -> int:
    import shutil
    import time

    from entanglement_book.press.execute import Execution, clock, report_failures

    book, settings, jobs = _book(args), _settings(args), parse_jobs(args.jobs)
    chapters = parse_only(args.only, book.chapters())
    wrong = [] if args.only else book.missing_from_toc()
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    run = Execution(book, settings, jobs)
    outcomes = run.run(chapters)
    ran = [outcome for outcome in outcomes if outcome.state == "finished"]
    failed = [outcome for outcome in outcomes if outcome.state not in {"cached", "finished"}]
    if failed:
        # An older site would be taken for the one that was asked for.
        shutil.rmtree(book.site(settings), ignore_errors=True)
        report_failures(outcomes)
        print(f"\n{len(failed)} of {len(chapters)} notebooks have no output; no site was built", flush=True)
        return 1
    print(f"{len(ran)} notebooks ran, {len(outcomes) - len(ran)} were cached", flush=True)
    if settings.is_default and settings.scale != "smoke":
        from entanglement_book.ledger.verdicts import update

        update(book, settings)
    index = _build_site(book, settings, partial=bool(args.only))
    if index is None:
        return 1
    print(
        f"\nThe book is at {index}\nin all {clock(time.monotonic() - run.began)}; read it with: make serve",
        flush=True,
    )
    return 0


def _build_site(book: Book, settings: Settings, partial: bool) -> Path | None:
    from entanglement_book.press.site import BuildError, build

    try:
        return build(book, settings, partial)
    except BuildError as error:
        print(f"\nFAILED {error}", file=sys.stderr)
        return None


def _site(args: argparse.Namespace) -> int:
    book, settings = _book(args), _settings(args)
    return 0 if _build_site(book, settings, partial=args.partial) else 1


def _repeat(args: argparse.Namespace) -> int:
    from entanglement_book.press.execute import inspect, repeat

    book, settings, jobs = _book(args), _settings(args), parse_jobs(args.jobs)
    chapters = parse_only(args.only, book.chapters())
    state = inspect(book, settings)
    stale = [chapter for chapter in chapters if state.stale[chapter]]
    if stale:
        raise UsageError(f"no current output to compare with for {', '.join(stale)}: run execute first")
    differing = repeat(book, settings, jobs, chapters)
    print("\n".join(differing) or f"{len(chapters)} notebooks ran again and gave the same bytes", flush=True)
    return 1 if differing else 0


def _check(args: argparse.Namespace) -> int:
    from entanglement_book.press.browser import NoBrowserError
    from entanglement_book.press.check import check, pages_of

    site = Path(args.site) if args.site else _book(args).site(_settings(args))
    try:
        problems = check(site, Path(args.screenshots) if args.screenshots else None)
    except NoBrowserError as error:
        print(error, file=sys.stderr)
        return 1
    for problem in problems:
        print(problem)
    print(
        f"{len(pages_of(site)) if site.is_dir() else 0} pages looked at, {len(problems)} problems", flush=True
    )
    return 1 if problems else 0


def _browser(args: argparse.Namespace) -> int:
    from entanglement_book.press.browser import NoBrowserError, provide

    try:
        print(provide(), flush=True)
    except NoBrowserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _serve(args: argparse.Namespace) -> int:
    import threading

    from entanglement_book.press.check import serve

    site = _book(args).site(_settings(args))
    if not args.port.isdigit() or int(args.port) > 65535:
        raise UsageError(f"port {args.port!r} is not allowed: expected a whole number up to 65535")
    if not (site / "index.html").is_file():
        print(f"there is no site at {site} yet: run make book first", file=sys.stderr)
        return 1
    try:
        with serve(site, int(args.port)) as address:
            print(f"the book is at {address}/ (Ctrl-C ends)", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(
            f"port {args.port} cannot be used ({error.strerror}): choose another with PORT=", file=sys.stderr
        )
        return 1
    return 0


def _status(args: argparse.Namespace) -> int:
    from entanglement_book.press.execute import Store, clock, inspect

    book, settings = _book(args), _settings(args)
    store, state = Store(book, settings), inspect(book, settings)
    for chapter in sorted(state.stale):
        seconds = store.seconds(chapter)
        took = f"took {clock(seconds)}" if seconds is not None else ""
        why = f"to run: {state.stale[chapter]}" if state.stale[chapter] else "current"
        print(f"{chapter:<28} {why:<44} {took}".rstrip())
    return 0


def _claims(args: argparse.Namespace) -> int:
    from entanglement_book.ledger.claims import LedgerError, VerdictFile, load_ledger
    from entanglement_book.ledger.verdicts import check, update

    book, settings = _book(args), _settings(args)
    if args.check:
        problems = check(book)
        print(
            "\n".join(problems) or "the recorded verdicts hold, and were made by today's library", flush=True
        )
        return 1 if problems else 0
    try:
        if args.update:
            update(book, settings)
        recorded = VerdictFile.read(book.verdicts(settings.scale), settings.scale)
        for claim in load_ledger(book.ledger):
            row = recorded.claims.get(claim.id, {"verdict": "none recorded", "why": ""})
            print(f"{claim.id:<36} {claim.notebook[:2]}  {row['verdict']:<20} {row['why']}".rstrip())
    except (LedgerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _tidy(args: argparse.Namespace) -> int:
    from entanglement_book.press.notebooks import complaints, dumps, read, tidy

    book = _book(args)
    paths = [Path(path) for path in args.paths] or [book.notebook(chapter) for chapter in book.chapters()]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise UsageError(f"no such notebook: {', '.join(missing)}")
    if not args.check:
        for path in paths:
            text = dumps(tidy(read(path)))
            if text != path.read_text(encoding="utf-8"):
                path.write_text(text, encoding="utf-8")
                print(f"tidied {path}")
    found = [line for path in paths for line in complaints(path)]
    print("\n".join(found) or f"{len(paths)} notebooks are in order", flush=True)
    return 1 if found else 0


def _test(args: argparse.Namespace) -> int:
    from entanglement_book.press.stages import run

    return run(_book(args), parse_jobs(args.jobs))


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    common = _Parser(add_help=False)
    common.add_argument("--root", help=argparse.SUPPRESS)
    common.add_argument("--out", help="folder for everything that is made (default: _build)")
    chosen = _Parser(add_help=False)
    chosen.add_argument("--scale", help=f"one of {', '.join(SCALES)} (default: book)")
    chosen.add_argument("--seed", help="a whole number (default: each notebook's own)")
    chosen.add_argument("--model", help="nano, smollm2-135m, or the id of a model on a hub (default: nano)")
    running = _Parser(add_help=False)
    running.add_argument("--only", help="chapters by number, comma separated: 08 or 03,08")
    running.add_argument("--jobs", help="notebooks at a time (default: 2)")

    top = _Parser(
        prog="entanglement-book", description="Execute, build, check and serve the book.", allow_abbrev=False
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def add(
        name: str, action: Callable[[argparse.Namespace], int], text: str, *parents: _Parser
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=text, description=text, parents=[common, *parents], allow_abbrev=False
        )
        command.set_defaults(action=action)
        return command

    add("book", _make_book, "execute what changed and build the pages", chosen, running)
    add("execute", _execute, "execute what changed", chosen, running)
    site = add("site", _site, "build the pages from stored outputs", chosen)
    site.add_argument("--partial", action="store_true", help="leave out pages that have no current output")
    check = add("check", _check, "open every built page in a browser and say what is wrong", chosen)
    check.add_argument("--site", help="folder of the pages (default: those of the scale)")
    check.add_argument("--screenshots", help="folder for a picture of every page, light, dark and narrow")
    served = add("serve", _serve, "show the pages on this machine", chosen)
    served.add_argument("--port", default="8000", help="default: 8000")
    add("status", _status, "say which notebooks would run, and why", chosen)
    claims = add("claims", _claims, "show the ledger's verdicts", chosen)
    claims.add_argument("--update", action="store_true", help="write down the verdicts of the stored outputs")
    claims.add_argument(
        "--check", action="store_true", help="fail if smoke verdicts changed or the book's are stale"
    )
    add("repeat", _repeat, "execute again elsewhere and compare byte for byte", chosen, running)
    tidy = add("tidy", _tidy, "bring notebooks into the form in which they are committed")
    tidy.add_argument("--check", action="store_true", help="only say what is not in order")
    tidy.add_argument("paths", nargs="*", help="default: all chapters")
    add("browser", _browser, "find or install the browser for the checks")
    test = add("test", _test, "run everything that must hold")
    test.add_argument("--jobs", help="notebooks at a time (default: 2)")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        args = parser().parse_args(argv)
        if not args.command:
            raise UsageError(f"no command: expected one of {', '.join(_names())}")
        return int(args.action(args))
    except UsageError as error:
        print(f"entanglement-book: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _names() -> list[str]:
    commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return list(commands.choices)
