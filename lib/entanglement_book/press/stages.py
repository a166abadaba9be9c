"""``make test``: everything that must hold, stage after stage, with the time each took.

A stage that fails does not keep the others from running, except those that need what it should have made.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

from entanglement_book.layout import Book
from entanglement_book.press.execute import clock


@dataclass(frozen=True)
class Stage:
    """One command. ``needs``: names of stages without which it makes no sense."""

    name: str
    command: list[str]
    needs: tuple[str, ...] = ()


def stages(jobs: int) -> list[Stage]:
    """The stages of ``make test``, in order. The browser comes early: what cannot be had is better known at
    once.
    """

    def python(*arguments: str) -> list[str]:
        return [sys.executable, "-m", *arguments]

    def book(*arguments: str) -> list[str]:
        return python("entanglement_book", *arguments)

    smoke = ("--scale", "smoke")
    return [
        Stage("lint", python("ruff", "check", ".")),
        Stage("format", python("ruff", "format", "--check", ".")),
        Stage("notebooks in order", book("tidy", "--check")),
        Stage("types", python("mypy")),
        Stage("browser", book("browser")),
        Stage(
            "tests",
            python("pytest", "-q", "-m", "not gpu", "-n", "2", "--dist", "loadfile"),
            needs=("browser",),
        ),
        Stage("notebooks at smoke", book("execute", *smoke, "--jobs", str(jobs))),
        Stage(
            "same numbers again", book("repeat", *smoke, "--jobs", str(jobs)), needs=("notebooks at smoke",)
        ),
        Stage("site", book("site", *smoke), needs=("notebooks at smoke",)),
        Stage("site in a browser", book("check", *smoke), needs=("browser", "site")),
        Stage("claims", book("claims", "--check"), needs=("notebooks at smoke",)),
        Stage("tables are fresh", book("results", "check")),
        Stage("benchmark is fresh", book("bench", "check")),
    ]


def run(book: Book, jobs: int) -> int:
    """Run all stages; 0 if all passed. Closes with ``N passed, N failed``, counting stages."""
    outcome: dict[str, str] = {}
    rows = []
    for stage in stages(jobs):
        missing = [name for name in stage.needs if outcome.get(name) != "passed"]
        print(f"\n=== {stage.name}", flush=True)
        began = time.monotonic()
        if missing:
            print(f"not run: it needs {', '.join(missing)}", flush=True)
            outcome[stage.name] = "failed"
        else:
            status = subprocess.run(stage.command, cwd=book.root, stdin=subprocess.DEVNULL).returncode
            outcome[stage.name] = "passed" if status == 0 else "failed"
        rows.append((stage.name, outcome[stage.name], time.monotonic() - began))
    print("\n=== summary", flush=True)
    for name, result, seconds in rows:
        print(f"{result:<7} {name:<22} {clock(seconds):>14}", flush=True)
    print(f"        {'in all':<22} {clock(sum(row[2] for row in rows)):>14}", flush=True)
    failed = sum(result == "failed" for _, result, _ in rows)
    print(f"\n{len(rows) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0
