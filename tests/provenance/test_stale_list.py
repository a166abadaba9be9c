"""The specification of the cache: what each of a list of edits makes stale, and what it leaves alone.

A copy of the tree in which everything is current is edited, one edit at a time. What then counts as stale
must be what is written down here: pages (``status``), published verdicts (``claims --check``), tables
(``results check``) and lines of the benchmark.
"""

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from entanglement_book.bench.lines import LINES
from entanglement_book.bench.made_of import made_of_line
from entanglement_book.grids.freshness import problems_of
from entanglement_book.grids.grid import GRIDS
from entanglement_book.grids.made_by import Code
from entanglement_book.layout import Book, Settings, is_report
from entanglement_book.ledger.verdicts import VerdictFile
from entanglement_book.press.depends import depends_on
from entanglement_book.press.store import Store, inspect, science_now
from entanglement_book.provenance import CodeGraph

ROOT = Path(__file__).resolve().parents[2]
SMOKE = Settings("smoke")
PARTS = ("lib", "notebooks", "book", "_toc.yml", "_config.yml", "requirements.lock")


@dataclass(frozen=True)
class Stale:
    """What is stale: chapters by the words of their files, grids, and a line of the benchmark by its side."""

    pages: frozenset[str] = frozenset()
    verdicts: frozenset[str] = frozenset()
    grids: frozenset[str] = frozenset()
    bench: frozenset[str] = frozenset()


def topic(chapter):
    return chapter.partition("_")[2]


@dataclass
class Copy:
    """A copy of the tree, with outputs that are current by construction."""

    root: Path
    before: dict[Path, bytes] = field(default_factory=dict)

    @property
    def book(self):
        return Book(self.root, self.root / "_build")

    def stale(self):
        pages = {topic(c) for c, why in inspect(self.book, SMOKE).stale.items() if why and not is_report(c)}
        published = VerdictFile.read(self.book.verdicts("book"), "book").notebooks
        now = science_now(self.book, published)
        verdicts = {topic(c) for c, basis in published.items() if now.get(c) != basis.science}
        code = Code(self.root)
        grids = {
            name
            for name, grid in GRIDS.items()
            for scale in ("smoke", "book")
            for model in grid.kept(scale)
            if problems_of(grid, scale, model, code)
        }
        measured = json.loads((self.root / "book" / "results" / "bench" / "cpu.json").read_text())["lines"]
        rows = {(row["ours"], row["theirs"]): row for row in measured}
        bench = set()
        for line in LINES:
            row = rows[line.ours, line.theirs]
            made = made_of_line(line, [tuple(use) for use in row["uses"]], code)
            if (made["code"], made["files"]) != (row["code"], row["files"]):
                bench.add(line.ours)
        return Stale(frozenset(pages), frozenset(verdicts), frozenset(grids), frozenset(bench))

    def change(self, path, old, new, count=1):
        file = self.root / path
        self.before.setdefault(file, file.read_bytes())
        text = file.read_text(encoding="utf-8")
        assert len(re.findall(re.escape(old), text)) >= 1, f"{path} has no {old!r}: mend the edit"
        file.write_text(text.replace(old, new, count), encoding="utf-8")

    def undo(self):
        for file, content in self.before.items():
            file.write_bytes(content)
        self.before.clear()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, root / name, ignore=ignored)
        else:
            shutil.copy(source, root / name)
    copy = Copy(root)
    # Outputs as if every chapter had just run, with the uses that are recorded for smoke.
    graph, store = CodeGraph(root / "lib"), Store(copy.book, SMOKE)
    bases = VerdictFile.read(copy.book.verdicts("smoke"), "smoke").notebooks
    for chapter in copy.book.chapters():
        if not is_report(chapter):
            uses = [
                (kind, str(root / name) if kind == "file" else name) for kind, name in bases[chapter].uses
            ]
            store.save(chapter, "{}", [], depends_on(copy.book, chapter, SMOKE, uses, graph), 1.0)
    return copy
