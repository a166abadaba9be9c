"""Executes notebooks: in parallel, cached, resumable, and so that two runs give the same bytes.

What is kept of a run, and when it counts, stands in ``press.store``; every file is written under another name
and renamed when whole. When the chapters have been executed, the run's verdicts are decided, once; then the
report runs and shows them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from entanglement.files import sweep, write_json, write_whole
from entanglement_book.layout import (
    Book,
    Settings,
    is_report,
    number_of,
    one_line,
    place_by_length,
)
from entanglement_book.ledger.claims import load_ledger
from entanglement_book.ledger.records import read_records
from entanglement_book.ledger.verdicts import VerdictFile
from entanglement_book.locks import exclusive
from entanglement_book.press import notebooks
from entanglement_book.press.depends import depends_on, why_changed
from entanglement_book.press.store import State, Store, inspect, judge
from entanglement_book.press.workers import Runner, environment, scratch_folder, terminate_as_interrupt
from entanglement_book.provenance import CodeGraph, read_uses

__all__ = ["Execution", "Outcome", "clock", "repeat", "report_failures"]


@dataclass
class Outcome:
    """What became of one chapter: ``cached``, ``finished``, ``failed`` or ``left out``."""

    chapter: str
    state: str
    seconds: float = 0.0
    error: str = ""
    stderr: str = ""


def clock(seconds: float) -> str:
    """``4 min 12 s``, ``12 s``, ``0.4 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Execution:
    """One run over some chapters.

    Args:
        book: whose chapters.
        settings: the parameters of the run.
        jobs: notebooks at a time.
        force: execute what is current, too.
        scratch: a folder for temporary files; default: one of its own.
        verdicts: what the report is to show; default: they are decided when the chapters have run.
    """

    def __init__(
        self,
        book: Book,
        settings: Settings,
        jobs: int = 2,
        force: bool = False,
        scratch: Path | None = None,
        verdicts: VerdictFile | None = None,
    ) -> None:
        self.book, self.settings, self.jobs, self.force = book, settings, jobs, force
        self.store = Store(book, settings)
        self.working = book.working(settings)
        self.scratch, self.verdicts = scratch, verdicts
        self.runner = Runner()
        self.began = time.monotonic()
        self.total = self.done = 0

    def say(self, chapter: str, text: str) -> None:
        """One progress line."""
        elapsed = clock(time.monotonic() - self.began)
        print(f"[{self.done}/{self.total}] {chapter:<28} {text}   (elapsed {elapsed})", flush=True)

    def run(self, chapters: list[str]) -> list[Outcome]:
        """Execute those of ``chapters`` whose stored outputs are not current; the report after all others.

        Errors: UsageError if another run is going on; BookError for a damaged ledger or settings, before
        anything runs.
        """
        load_ledger(self.book.ledger)
        self.book.toc()
        self.book.config()
        self.total = len(chapters)
        with contextlib.ExitStack() as stack:
            stack.enter_context(exclusive(self.store.lock, f"executing scale {self.settings.label!r}"))
            for folder in (self.store.folder, self.store.folder / "claims", self.working):
                sweep(folder)  # what a killed run left, nobody else writes here
            if self.scratch is None:
                self.scratch = stack.enter_context(scratch_folder(self.store.folder / ".scratch"))
            stack.enter_context(terminate_as_interrupt())
            try:
                return self._run_in_order(chapters)
            except KeyboardInterrupt:
                self.runner.stop()
                print("interrupted; finished notebooks are kept and will not run again", flush=True)
                raise
            except OSError:  # a full disk, say
                print("stopped; finished notebooks are kept and will not run again", flush=True)
                raise

    def _run_in_order(self, chapters: list[str]) -> list[Outcome]:
        outcomes = self._run_all([c for c in chapters if not is_report(c)])
        if self.verdicts is None:
            judge(self.book, self.settings)
        else:
            self.verdicts.write(self.store.verdicts)
        reports = [c for c in chapters if is_report(c)]
        failed = [o.chapter for o in outcomes if o.state == "failed"]
        if failed and reports:
            for chapter in reports:
                self.done += 1
                self.say(chapter, f"not run: it reads {', '.join(failed)}, which failed")
            return outcomes + [Outcome(chapter, "left out") for chapter in reports]
        return outcomes + self._run_all(reports)

    def _run_all(self, chapters: list[str]) -> list[Outcome]:
        if not chapters:
            return []
        state = inspect(self.book, self.settings)
        outcomes, todo = [], []
        for chapter in chapters:
            why = state.stale[chapter] or ("forced" if self.force else "")
            if chapter in state.broken:
                self.done += 1
                outcomes.append(Outcome(chapter, "failed", error=f"  {state.broken[chapter]}"))
                self.say(chapter, f"failed: {state.broken[chapter]}")
            elif why:
                todo.append((chapter, why))
            else:
                self.done += 1
                outcomes.append(Outcome(chapter, "cached", self.store.seconds(chapter) or 0.0))
                self.say(chapter, "cached")
        with ThreadPoolExecutor(max_workers=self.jobs) as pool:
            waiting: set[Future[Outcome]] = {
                pool.submit(self._run_one, chapter, why, state)
                for chapter, why in sorted(todo, key=self._longest_first)
            }
            try:
                while waiting:
                    finished, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                    outcomes += [future.result() for future in finished]
            except KeyboardInterrupt:
                self.runner.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return sorted(outcomes, key=lambda outcome: outcome.chapter)

    def _longest_first(self, item: tuple[str, str]) -> tuple[int, float, str]:
        chapter = item[0]
        return (place_by_length(chapter), -(self.store.seconds(chapter) or 0.0), chapter)

    def _run_one(self, chapter: str, why: str, state: State) -> Outcome:
        if self.runner.stopping:
            return Outcome(chapter, "left out")
        last = self.store.seconds(chapter)
        self.say(chapter, f"started: {why}" + (f"; took {clock(last)} last time" if last else ""))
        began = time.monotonic()
        try:
            outcome = self._execute(chapter, state, began)
        except Exception as error:  # a fault of ours in one notebook must not end the others
            reason = f"  {type(error).__name__}: {one_line(error)}"
            outcome = Outcome(chapter, "failed", time.monotonic() - began, reason)
        with self.runner.lock:
            self.done += 1
        if not self.runner.stopping:
            self.say(chapter, f"{outcome.state} in {clock(outcome.seconds)}")
            if outcome.stderr.strip():
                first = outcome.stderr.strip().splitlines()[0]
                print(f"      {chapter} wrote to stderr (left out of the page): {first[:160]}", flush=True)
        return outcome

    def _execute(self, chapter: str, state: State, began: float) -> Outcome:
        assert self.scratch is not None
        self.working.mkdir(parents=True, exist_ok=True)
        partial, log = self.working / f"{chapter}.ipynb", self.working / f"{chapter}.log"
        source = notebooks.read(self.book.notebook(chapter))
        declared = notebooks.declared_parameters(source)
        # The name is short: the kernel's sockets lie in this folder.
        scratch = self.scratch / number_of(chapter)
        recorded, job, copy = scratch / "claims", scratch / "job.json", scratch / f"{chapter}.ipynb"
        recorded.mkdir(parents=True)
        write_whole(copy, notebooks.dumps(notebooks.tidy(source)))
        parameters = {k: v for k, v in self.settings.parameters().items() if k in declared}
        write_json(
            job,
            {
                "parent": os.getpid(),
                "source": str(copy),
                "output": str(partial),
                "folder": str(self.book.notebooks),
                "parameters": parameters,
            },
        )
        partial.unlink(missing_ok=True)
        with log.open("wb") as stream:
            env = environment(self.store.folder, recorded, scratch)
            status = self.runner.call(job, env, stream)
        seconds = time.monotonic() - began
        if status != 0:
            return Outcome(chapter, "failed", seconds, self._describe(chapter, status, partial, log))
        clean, stderr = notebooks.normalize(notebooks.read(partial), source)
        records = sorted(read_records(recorded).values(), key=lambda item: item.id)
        if self.runner.stopping:
            return Outcome(chapter, "left out", seconds)
        uses = read_uses(scratch / "uses")
        asked = (self.book, chapter, self.settings, uses)
        then = depends_on(*asked, state.graph, state.inputs, source)
        now = depends_on(*asked, CodeGraph.of(self.book.library.parent), state.inputs)
        if now.parts != then.parts:  # what ran is then perhaps neither the old nor the new
            changed = why_changed(
                then.origin, now.origin, [name for name in then.parts if then.parts[name] != now.parts[name]]
            )
            return Outcome(
                chapter, "failed", seconds, f"  its sources changed while it ran ({changed}): run it again"
            )
        self.store.save(chapter, notebooks.dumps(clean), records, now, seconds)
        partial.unlink()
        if not stderr:
            log.unlink()
        else:
            write_whole(log, stderr)
        return Outcome(chapter, "finished", seconds, stderr=stderr)

    def _describe(self, chapter: str, status: int, partial: Path, log: Path) -> str:
        where = found = None
        if partial.is_file():
            with contextlib.suppress(Exception):  # killed while it was being written
                found = notebooks.find_error(notebooks.read(partial))
            where = partial
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        killed = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        if found:
            number, first, error = found
            text = f"  cell {number}: {first}\n  {error}" + (f" ({killed})" if status < 0 else "")
        else:
            text = f"  before or between cells: {killed}" + (f"\n  {lines[-1]}" if lines else "")
        return text + f"\n  partly executed notebook: {where or 'none was written'}\n  log: {log}"


def report_failures(outcomes: list[Outcome]) -> None:
    """Print what failed, at the end, where it is seen."""
    for outcome in outcomes:
        if outcome.state == "failed":
            print(f"\nFAILED notebooks/{outcome.chapter}.ipynb\n{outcome.error}", flush=True)


def repeat(book: Book, settings: Settings, jobs: int, chapters: list[str]) -> list[str]:
    """Execute afresh elsewhere and compare with what is stored: the differing cells, one line each; [] if
    identical. The log of what failed is kept among the book's own.
    """
    stored = Store(book, settings)
    with (
        exclusive(stored.lock, f"executing scale {settings.label!r}"),
        scratch_folder(stored.folder / ".scratch") as folder,
    ):
        other = Book(book.root, folder)
        # Verdicts rest on all chapters, also where only some are repeated; records are compared below.
        run = Execution(other, settings, jobs, scratch=folder / "w", verdicts=judge(book, settings))
        outcomes = run.run(chapters)
        found = [line for one in outcomes for line in _differing(one, stored, Store(other, settings))]
        left, kept = other.working(settings), book.working(settings) / "repeat"
        shutil.rmtree(kept, ignore_errors=True)
        if left.is_dir():  # what failed has its log there, and the folder goes
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(left, kept)
        return [line.replace(str(left), str(kept)) for line in found]


def _differing(outcome: Outcome, stored: Store, again: Store) -> list[str]:
    """What differs between two stores in one chapter, one line each."""
    chapter = outcome.chapter
    if outcome.state != "finished":
        return [f"{chapter}: {outcome.state} when run again\n{outcome.error}".rstrip()]
    pairs = zip(
        notebooks.comparable(notebooks.read(stored.notebook(chapter))),
        notebooks.comparable(notebooks.read(again.notebook(chapter))),
        strict=True,
    )
    lines = [f"{chapter}: {name} differs between two runs" for (name, a), (_, b) in pairs if a != b]
    if stored.claims(chapter).read_bytes() != again.claims(chapter).read_bytes():
        lines.append(f"{chapter}: its recorded claims differ between two runs")
    return lines
