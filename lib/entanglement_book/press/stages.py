"""``make test``: everything that must hold, stage after stage, with the time each took.

A stage that fails does not keep the others from running, except those that need what it should have made.
Stages run side by side while there are cores; what those of one core say is shown when they end.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from entanglement_book.layout import Book
from entanglement_book.press.execute import clock

#: Seconds between two looks at what runs.
POLL = 0.1


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: in the summary.
        command: what is run.
        needs: names of stages without which it makes no sense.
        busy: whether it shares its work out to all cores. Then one stage of one core may run beside it, since
            it waits now and then, and no other busy one; and it may speak at once.
    """

    name: str
    command: list[str]
    needs: tuple[str, ...] = ()
    busy: bool = False


def stages(jobs: int) -> list[Stage]:
    """The stages of ``make test``, in order. The browser comes early: what cannot be had is better known at
    once.
    """

    def python(*arguments: str) -> list[str]:
        return [sys.executable, "-m", *arguments]

    def book(*arguments: str) -> list[str]:
        return python("entanglement_book", *arguments)

    smoke = ("--scale", "smoke")
    many = ("--jobs", str(jobs))
    tests = ("pytest", "-q", "-m", "not gpu", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    return [
        Stage("lint", python("ruff", "check", ".")),
        Stage("format", python("ruff", "format", "--check", ".")),
        Stage("types", python("mypy")),
        Stage("notebooks in order", book("tidy", "--check")),
        Stage("browser", book("browser")),
        Stage("tests", python(*tests), needs=("browser",), busy=True),
        Stage("notebooks at smoke", book("execute", *smoke, *many), busy=True),
        Stage("site", book("site", *smoke), needs=("notebooks at smoke",)),
        Stage("same numbers again", book("repeat", *smoke, *many), ("notebooks at smoke",), busy=True),
        Stage("site in a browser", book("check", *smoke), needs=("browser", "site")),
        Stage("slides", book("slides", *smoke), needs=("browser", "notebooks at smoke")),
        Stage("student edition", book("student", "--sources", *smoke), needs=("notebooks at smoke",)),
        Stage("claims", book("claims", "--check"), needs=("notebooks at smoke",)),
        Stage("tables are fresh", book("results", "check")),
        Stage("benchmark is fresh", book("bench", "check")),
    ]


@dataclass
class Running:
    """A stage that has been started. ``said``: what it says, where it may not speak at once."""

    stage: Stage
    process: subprocess.Popen[bytes]
    began: float
    said: IO[bytes] | None


def _start(stage: Stage, book: Book) -> Running:
    if stage.busy:
        print(f"\n=== {stage.name}", flush=True)
    said = None if stage.busy else tempfile.TemporaryFile()  # noqa: SIM115 - closed when it is shown
    process = subprocess.Popen(
        stage.command, cwd=book.root, stdin=subprocess.DEVNULL, stdout=said,
        stderr=None if said is None else subprocess.STDOUT,
    )  # fmt: skip
    return Running(stage, process, time.monotonic(), said)


def _show(running: Running) -> None:
    if running.said is None:
        return
    with running.said as said:
        said.seek(0)
        text = said.read().decode(errors="replace")
    print(f"\n=== {running.stage.name}\n{text}", end="", flush=True)


def next_stage(
    waiting: Sequence[Stage], running: Sequence[Running], known: Callable[[str], bool], jobs: int
) -> Stage | None:
    """Return the stage to start now, if there is one: the first that waits for nothing that still runs."""
    busy = any(one.stage.busy for one in running)
    used = sum(max(1, jobs - 1) if one.stage.busy else 1 for one in running)
    if used >= jobs:
        return None
    ready = (stage for stage in waiting if all(known(name) for name in stage.needs))
    return next((stage for stage in ready if not (busy and stage.busy)), None)


def run(book: Book, jobs: int) -> int:
    """Run all stages; 0 if all passed. Closes with ``N passed, N failed``, counting stages."""
    began = time.monotonic()
    waiting, running = list(stages(jobs)), list[Running]()
    outcome: dict[str, tuple[str, float]] = {}
    order = [stage.name for stage in waiting]
    try:
        while waiting or running:
            while stage := next_stage(waiting, running, outcome.__contains__, jobs):
                waiting.remove(stage)
                missing = [name for name in stage.needs if outcome[name][0] != "passed"]
                if missing:
                    print(f"\n=== {stage.name}\nnot run: it needs {', '.join(missing)}", flush=True)
                    outcome[stage.name] = ("failed", 0.0)
                else:
                    running.append(_start(stage, book))
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                _show(one)
                result = "passed" if one.process.returncode == 0 else "failed"
                outcome[one.stage.name] = (result, time.monotonic() - one.began)
            time.sleep(POLL)
    finally:
        for one in running:
            one.process.terminate()
    print("\n=== summary", flush=True)
    for name in order:
        result, seconds = outcome[name]
        print(f"{result:<7} {name:<22} {clock(seconds):>14}", flush=True)
    print(f"        {'in all':<22} {clock(time.monotonic() - began):>14}", flush=True)
    failed = sum(result == "failed" for result, _ in outcome.values())
    print(f"\n{len(outcome) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0
