"""What is changed, which tests guard it, and which of these run which line."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mutants import Mutant
from pool import Pool, Task
from trial import IMPORT, measure, try_tests

__all__ = ["Guards", "Target", "load_targets"]


@dataclass(frozen=True)
class Target:
    """A few modules under one name, and the files of tests that guard them."""

    name: str
    files: list[str]
    tests: list[str]


def load_targets(path: Path, root: Path) -> list[Target]:
    """Return the targets of a file, patterns resolved. Raises ValueError for a pattern that nothing matches
    where a module is wanted.
    """
    targets = []
    for row in yaml.safe_load(path.read_text(encoding="utf-8")):
        files = _matching(root, row["files"])
        tests = [name for name in _matching(root, row["tests"]) if Path(name).name.startswith("test_")]
        if not files or not tests:
            raise ValueError(
                f"target {row['name']!r} has {len(files)} modules and {len(tests)} files of tests."
            )
        targets.append(Target(row["name"], files, tests))
    return targets


def _matching(root: Path, patterns: list[str]) -> list[str]:
    found = {path.relative_to(root).as_posix() for pattern in patterns for path in root.glob(pattern)}
    return sorted(found)


class Guards:
    """The tests of a target: how long each takes, and which lines it runs."""

    def __init__(self, target: Target, root: Path, here: Path, scratch: Path) -> None:
        self.target, self.root, self.here, self.scratch = target, root, here, scratch
        self.traced = sorted(
            {name for each in load_targets(here / "targets.yml", root) for name in each.files}
        )
        self.store = root / "_build" / "mutants"
        self.tests: dict[str, Any] = {}
        self.imported: dict[str, set[int]] = {}
        self.importers: dict[str, set[str]] = {}
        self.failing: list[str] = []

    def measure(self, pool: Pool) -> None:
        """Run all tests once as they are, unless that was done for just this code."""
        files = {name: self.store / f"{self._digest(name)}.json" for name in self.target.tests}
        for number, (name, kept) in enumerate(files.items()):
            if not kept.is_file():
                folder = self.scratch / f"m{number}"
                task = Task(lambda at, name=name: measure(self.root, at, name, self.traced), 1800, folder)
                task.done = lambda task, name=name, kept=kept: self._keep(task, name, kept)
                pool.add(task)
        if pool.waiting:
            print(f"{self.target.name}: {len(pool.waiting)} files of tests run as they are", flush=True)
        pool.run()
        for name, kept in files.items():
            if kept.is_file():
                self.take(name, json.loads(kept.read_text()))
        self._try_in_our_order(pool)

    def take(self, test_file: str, found: dict[str, Any]) -> None:
        """Note what a file of tests was seen to run."""
        self.tests.update(found["tests"])
        for file, lines in found[IMPORT].items():
            self.imported.setdefault(file, set()).update(lines)
            self.importers.setdefault(file, set()).add(test_file)

    def _keep(self, task: Task, name: str, kept: Path) -> None:
        if task.status not in (0, 5):
            self.failing.append(f"{name} ({task.reason})")
            return
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes((task.folder / "lines.json").read_bytes())

    def _try_in_our_order(self, pool: Pool) -> None:
        """The tests must also pass in the order in which mutants meet them: those that touch the target's
        modules, and the others.
        """
        touching = self._ordered([name for name, test in self.tests.items() if self._touches(test)])
        others = self._ordered([name for name in self.tests if name not in set(touching)])
        order = hashlib.sha256(json.dumps([self._digest(name) for name in self.target.tests]).encode())
        passed = self.store / f"{order.hexdigest()[:32]}.passed"
        if self.failing or passed.is_file():
            return

        def done(task: Task) -> None:
            if task.status != 0:
                self.failing.append(f"{task.reason} (after others of {self.target.name})")

        for part, names in (("touching", touching), ("others", others)):
            if names:
                work = lambda at, names=names: try_tests(self.root, at, "", "", self.root, names)  # noqa: E731
                limit = 60 + 3 * self.seconds(names)
                pool.add(Task(work, limit, self.scratch / part, done))
        pool.run()
        if not self.failing:
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.touch()

    def _touches(self, test: dict[str, Any], file: str | None = None) -> bool:
        wanted = self.target.files if file is None else [file]
        return any(name in test["lines"] for name in wanted)

    def chosen(self, mutant: Mutant) -> tuple[list[str], list[str]]:
        """Return the tests that run a mutant's statement, and others that may notice it.

        What an import runs concerns all tests that touch the module, and then those of all files that import
        it: they may look at a function that they do not call. A line that no test runs may be run by a
        process that a test starts.
        """
        touching = [name for name, test in self.tests.items() if self._touches(test, mutant.file)]
        starting = [name for name, test in self.tests.items() if test["starts"]]
        span = set(mutant.span)
        hit = [n for n in touching if span & set(self.tests[n]["lines"][mutant.file])]
        imported = mutant.at_import or bool(span & self.imported.get(mutant.file, set()))
        if imported:
            importers = self.importers.get(mutant.file, set())
            others = [n for n in self.tests if n.partition("::")[0] in importers or n in set(touching)]
            first = touching if mutant.at_import or not hit else hit
            first = first or others or list(self.tests)
        else:
            others, first = touching if hit else [], hit or starting
        return self._ordered(first), self._ordered([name for name in others if name not in set(first)])

    def _ordered(self, names: list[str]) -> list[str]:
        """Files with little to run first, and in each the fastest tests first."""
        total: dict[str, float] = {}
        for name in names:
            file = name.partition("::")[0]
            total[file] = total.get(file, 0.0) + self.tests[name]["seconds"]
        return sorted(
            names,
            key=lambda name: (
                total[name.partition("::")[0]],
                name.partition("::")[0],
                self.tests[name]["seconds"],
            ),
        )

    def seconds(self, names: list[str]) -> float:
        """Return how long some tests took while their lines were written down."""
        return sum(self.tests[name]["seconds"] for name in names)

    def _digest(self, test_file: str) -> str:
        """Return a hash of all that a file of tests runs."""
        parts = [*sorted((self.root / "lib").rglob("*.py")), self.here / "trial.py"]
        parts += [self.root / "tests" / "conftest.py"]
        folder = (self.root / test_file).parent
        parts += [path for path in sorted(folder.glob("*.py")) if not path.name.startswith("test_")]
        parts.append(self.root / test_file)
        hashed = hashlib.sha256(f"{test_file} {self.traced}".encode())
        for path in parts:
            hashed.update(path.read_bytes())
        return hashed.hexdigest()[:32]
