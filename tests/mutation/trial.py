"""What happens in a forked process: the changed module stands in the place of its file, and pytest runs.

Nothing on the disk is touched: an import hook hands out the changed code. Code that reads the library's
source files (provenance) sees them as they are. A process that a test starts gets the same hook, by
``hook/sitecustomize.py``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

__all__ = ["IMPORT", "measure", "try_tests"]

HERE = Path(__file__).resolve().parent
#: The pseudo-test that stands for what runs while tests are collected.
IMPORT = "import"
OPTIONS = [
    *("-q", "--no-header", "--tb=no", "-m", "not gpu and not site"),
    *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:anyio", "-W", "ignore"),
]


def _into(root: Path, folder: Path) -> None:
    """Make this process one of a test: in the repository, silent, with temporary files of its own."""
    os.setsid()
    os.chdir(root)
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    os.environ["TMPDIR"] = str(folder)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE / "hook"), str(root / "lib")])
    sys.path[:] = [str(root / "lib"), *[path for path in sys.path if path != str(HERE)]]


def try_tests(root: Path, folder: Path, module: str, source: str, file: Path, wanted: list[str]) -> None:
    """Run tests in this process with a changed module, fastest first, until one fails; then leave.

    Args:
        root: the repository.
        folder: for temporary files, the log and ``failed``, the name of the test that failed.
        module: its name; '' for no change.
        source: its changed text.
        file: where it stands.
        wanted: the tests, in the order in which they are to run.

    The exit status is pytest's; 0 if the change was not noticed.
    """
    _into(root, folder)
    if module:
        changed = folder / "mutant.json"
        changed.write_text(json.dumps({"module": module, "file": str(file), "source": source}))
        os.environ["ENTANGLEMENT_MUTANT"] = str(changed)
        sys.path.insert(0, str(HERE / "hook"))
        from mutant_hook import install

        install(changed)
        sys.path.pop(0)
    files = list(dict.fromkeys(name.partition("::")[0] for name in wanted))
    plugins = [_Chosen(wanted), _Failed(folder / "failed")]
    status = pytest.main([*OPTIONS, "-x", "--basetemp", str(folder / "pytest"), *files], plugins=plugins)
    os._exit(int(status))


class _Failed:
    """Writes down the name of a test that failed."""

    def __init__(self, failed: Path) -> None:
        self.failed = failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.write_text(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.write_text(f"{report.nodeid} (collection)")


class _Chosen:
    def __init__(self, wanted: list[str]) -> None:
        self.place = {name: number for number, name in enumerate(wanted)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self.place]
        # No name is as it was: then all of them.
        items[:] = sorted(chosen, key=lambda item: self.place[item.nodeid]) or items


def measure(root: Path, folder: Path, test_file: str, traced: list[str]) -> None:
    """Run a file of tests as it is and write down which lines of some modules each test runs; then leave.

    ``folder/lines.json`` holds the tests' times and lines. The exit status is pytest's.
    """
    _into(root, folder)
    plugin = _Lines({str(root / name): name for name in traced})
    sys.addaudithook(plugin.audit)
    threading.settrace(plugin.call)
    sys.settrace(plugin.call)
    plugins = [plugin, _Failed(folder / "failed")]
    status = pytest.main([*OPTIONS, "--basetemp", str(folder / "pytest"), test_file], plugins=plugins)
    sys.settrace(None)
    (folder / "lines.json").write_text(json.dumps(plugin.found()))
    os._exit(int(status))


class _Lines:
    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self.lines: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self.starts: set[str] = set()
        self.seconds: dict[str, float] = {}
        self.uses: dict[str, list[str]] = {}
        self.current = IMPORT

    def call(self, frame: FrameType, event: str, _arg: Any) -> Any:
        return self.line if frame.f_code.co_filename in self.files else None

    def line(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line":
            self.lines[self.current].add((self.files[frame.f_code.co_filename], frame.f_lineno))
        return self.line

    def audit(self, event: str, _args: Any) -> None:
        if event in ("subprocess.Popen", "os.posix_spawn", "os.fork"):
            self.starts.add(self.current)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        self.current, began = item.nodeid, time.monotonic()
        self.uses[item.nodeid] = list(getattr(item, "fixturenames", ()))
        sys.settrace(self.call)
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - began
            self.current = IMPORT

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[Any]:
        before = self.current
        if fixturedef.scope != "function":  # made once: all who take it rest on what it ran
            self.current = f"fixture {fixturedef.argname}"
        try:
            return (yield)
        finally:
            self.current = before

    def found(self) -> dict[str, Any]:
        """Return times, lines and who starts processes, by test."""
        tests: dict[str, Any] = {}
        for name, seconds in self.seconds.items():
            contexts = [name, *[f"fixture {fixture}" for fixture in self.uses[name]]]
            lines = set().union(*(self.lines.get(context, set()) for context in contexts))
            starts = any(context in self.starts for context in contexts)
            tests[name] = {"seconds": seconds, "starts": starts, "lines": _by_file(lines)}
        return {"tests": tests, IMPORT: _by_file(self.lines[IMPORT])}


def _by_file(lines: set[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for file, line in sorted(lines):
        found[file].append(line)
    return dict(found)
