"""Executes notebooks: in parallel, cached, resumable, and so that two runs give the same bytes.

What is stored for a chapter, under ``_build/executed/<scale>/``:

- ``<chapter>.ipynb``: the executed notebook, normalized;
- ``claims/<chapter>.json``: what it recorded for the ledger;
- ``<chapter>.run.json``, the sidecar, written last: the cache's key with its parts, the sha256 of both
  files, the wall time, and a hash of the sidecar itself.

An output counts as finished only if the sidecar is whole, its key is today's, and both files have the
recorded hashes. Every file is written under another name and renamed when whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from entanglement_book.layout import HEAVY, Book, Settings, UsageError, default_workspace, is_report
from entanglement_book.ledger.claims import Record, dump_records, read_records
from entanglement_book.press import notebooks
from entanglement_book.provenance.sources import ImportGraph, key_of, key_parts, science_of

#: One thread a notebook, however many run at once: sums in another order are other numbers.
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_QUIET = {
    "SOURCE_DATE_EPOCH": "1729123200",  # dates inside figures: 2024-10-17, the paper's v1
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # no widgets here, and none wanted
    "JUPYTER_PREFER_ENV_PATH": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


@dataclass
class Outcome:
    """What became of one chapter: ``cached``, ``finished``, ``failed`` or ``left out``."""

    chapter: str
    state: str
    seconds: float = 0.0
    error: str = ""
    stderr: str = ""


@dataclass
class _Runner:
    """Processes that run now, so that an interrupt ends them."""

    processes: set[subprocess.Popen[bytes]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: bool = False

    def stop(self) -> None:
        with self.lock:
            self.stopping = True
            for process in self.processes:
                _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a worker and its kernel: each worker leads a group of its own (where the system has groups)."""
    if not hasattr(os, "killpg"):
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def clock(seconds: float) -> str:
    """``4 min 12 s``, ``12 s``, ``0.4 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Store:
    """The stored outputs of one run's parameters."""

    def __init__(self, book: Book, settings: Settings) -> None:
        self.folder = book.executed(settings)

    def notebook(self, chapter: str) -> Path:
        """The executed notebook."""
        return self.folder / f"{chapter}.ipynb"

    def claims(self, chapter: str) -> Path:
        """What the chapter recorded."""
        return self.folder / "claims" / f"{chapter}.json"

    def sidecar(self, chapter: str) -> Path:
        """What vouches for both."""
        return self.folder / f"{chapter}.run.json"

    def read_sidecar(self, chapter: str) -> dict[str, Any] | None:
        """The sidecar, or None if there is none or it is damaged."""
        try:
            content = json.loads(self.sidecar(chapter).read_text(encoding="utf-8"))
            seal = content.pop("seal")
        except (OSError, ValueError, KeyError, AttributeError):
            return None
        return content if seal == self._seal(content) else None

    @staticmethod
    def _seal(content: Mapping[str, Any]) -> str:
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def why_stale(self, chapter: str, parts: Mapping[str, str]) -> str:
        """'' if the stored output is whole and current, else in a few words why it is not."""
        if not self.sidecar(chapter).is_file():
            return "no stored output"
        sidecar = self.read_sidecar(chapter)
        if sidecar is None:
            return "its sidecar is damaged"
        if sidecar["key"] != key_of(dict(parts)):
            changed = [name for name in parts if sidecar.get("parts", {}).get(name) != parts[name]]
            return f"changed: {', '.join(changed)}"
        for path, name in ((self.notebook(chapter), "notebook"), (self.claims(chapter), "claims")):
            if not path.is_file() or _sha256(path) != sidecar["sha256"][name]:
                return "its stored output is damaged"
        return ""

    def save(
        self, chapter: str, text: str, records: list[Record], parts: Mapping[str, str], seconds: float
    ) -> None:
        """Store an output; the sidecar last, because it is what makes the rest count."""
        self.sidecar(chapter).unlink(missing_ok=True)
        write_whole(self.notebook(chapter), text)
        write_whole(self.claims(chapter), dump_records(records))
        content: dict[str, Any] = {
            "key": key_of(dict(parts)),
            "parts": dict(parts),
            "science": science_of(dict(parts)),
            "seconds": round(seconds, 1),
            "sha256": {"notebook": _sha256(self.notebook(chapter)), "claims": _sha256(self.claims(chapter))},
        }
        content["seal"] = self._seal(content)
        write_whole(self.sidecar(chapter), json.dumps(content, indent=1) + "\n")

    def identity(self, chapter: str) -> str:
        """What the report depends on: the key and the output of another chapter."""
        sidecar = self.read_sidecar(chapter) or {}
        return f"{sidecar.get('key')} {sidecar.get('sha256')}"

    def seconds(self, chapter: str) -> float | None:
        """Wall time of the last finished run, in seconds."""
        sidecar = self.read_sidecar(chapter)
        return None if sidecar is None else float(sidecar["seconds"])


def run_times(scale: str = "book") -> dict[str, float]:
    """Wall time in seconds of each chapter's last finished run: for the report.

    Under ``make`` those of the running scale; elsewhere those stored under ``_build`` for ``scale``, if any.
    """
    folder = default_workspace() or Book.find().executed(Settings(scale))
    found = {}
    for path in sorted(folder.glob("*.run.json")):
        with contextlib.suppress(ValueError, KeyError):
            found[path.name.removesuffix(".run.json")] = float(
                json.loads(path.read_text(encoding="utf-8"))["seconds"]
            )
    return found


@dataclass
class State:
    """What is current: per chapter the key's ``parts`` and why it is ``stale`` ('' if it is not).

    ``inputs``: the outputs that the report would read.
    """

    parts: dict[str, dict[str, str]] = field(default_factory=dict)
    stale: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)


def inspect(book: Book, settings: Settings) -> State:
    """Compare all stored outputs with today's sources. Reads only."""
    store, graph = Store(book, settings), ImportGraph(book.library)
    state = State()
    for chapter in sorted(book.chapters(), key=is_report):
        if is_report(chapter):
            state.inputs = {name: store.identity(name) for name, why in state.stale.items() if not why}
        state.parts[chapter] = key_parts(book, chapter, settings, state.inputs, graph)
        state.stale[chapter] = store.why_stale(chapter, state.parts[chapter])
        if is_report(chapter) and not state.stale[chapter] and any(state.stale.values()):
            state.stale[chapter] = "it reads chapters that are to run"
    return state


class Execution:
    """One run over some chapters."""

    def __init__(self, book: Book, settings: Settings, jobs: int = 2, force: bool = False) -> None:
        self.book, self.settings, self.jobs, self.force = book, settings, jobs, force
        self.store = Store(book, settings)
        self.working = book.working(settings)
        self.runner = _Runner()
        self.began = time.monotonic()
        self.total = self.done = 0

    def say(self, chapter: str, text: str) -> None:
        """One progress line."""
        elapsed = clock(time.monotonic() - self.began)
        print(f"[{self.done}/{self.total}] {chapter:<28} {text}   (elapsed {elapsed})", flush=True)

    def run(self, chapters: list[str]) -> list[Outcome]:
        """Execute those of ``chapters`` whose stored outputs are not current; the report after all others."""
        self.total = len(chapters)
        self.store.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.store.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UsageError(
                f"another run is executing scale {self.settings.label!r} here: wait for it to end"
            ) from None
        with _terminate_as_interrupt():
            try:
                outcomes = self._run_all([c for c in chapters if not is_report(c)])
                reports = [c for c in chapters if is_report(c)]
                failed = [o.chapter for o in outcomes if o.state == "failed"]
                if failed and reports:
                    for chapter in reports:
                        self.done += 1
                        self.say(chapter, f"not run: it reads {', '.join(failed)}, which failed")
                    return outcomes + [Outcome(chapter, "left out") for chapter in reports]
                return outcomes + self._run_all(reports)
            except KeyboardInterrupt:
                self.runner.stop()
                print("interrupted; finished notebooks are kept and will not run again", flush=True)
                raise
            finally:
                lock.release()

    def _run_all(self, chapters: list[str]) -> list[Outcome]:
        state = inspect(self.book, self.settings)
        outcomes, todo = [], []
        for chapter in chapters:
            why = "forced" if self.force else state.stale[chapter]
            if why:
                todo.append((chapter, why))
            else:
                self.done += 1
                outcomes.append(Outcome(chapter, "cached", self.store.seconds(chapter) or 0.0))
                self.say(chapter, "cached")
            if is_report(chapter):
                # Records of chapters that are not current must not be reported.
                for other, other_why in state.stale.items():
                    if other_why and other != chapter:
                        self.store.claims(other).unlink(missing_ok=True)
        with ThreadPoolExecutor(max_workers=self.jobs) as pool:
            waiting: dict[Future[Outcome], str] = {}
            for chapter, why in sorted(todo, key=self._longest_first):
                waiting[pool.submit(self._run_one, chapter, why, state)] = chapter
            try:
                while waiting:
                    finished, _ = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                    for future in finished:
                        del waiting[future]
                        outcomes.append(future.result())
            except KeyboardInterrupt:
                self.runner.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return sorted(outcomes, key=lambda outcome: outcome.chapter)

    def _longest_first(self, item: tuple[str, str]) -> tuple[bool, float, str]:
        chapter = item[0]
        return (not chapter.startswith(HEAVY), -(self.store.seconds(chapter) or 0.0), chapter)

    def _run_one(self, chapter: str, why: str, state: State) -> Outcome:
        if self.runner.stopping:
            return Outcome(chapter, "left out")
        last = self.store.seconds(chapter)
        self.say(chapter, f"started: {why}" + (f"; took {clock(last)} last time" if last else ""))
        began = time.monotonic()
        try:
            outcome = self._execute(chapter, state, began)
        except Exception as error:  # a fault of ours in one notebook must not end the others
            outcome = Outcome(
                chapter, "failed", time.monotonic() - began, f"  {type(error).__name__}: {error}"
            )
        with self.runner.lock:
            self.done += 1
        if not self.runner.stopping:
            self.say(chapter, f"{outcome.state} in {clock(outcome.seconds)}")
            if outcome.stderr.strip():
                first = outcome.stderr.strip().splitlines()[0]
                print(f"      {chapter} wrote to stderr (left out of the page): {first[:160]}", flush=True)
        return outcome

    def _execute(self, chapter: str, state: State, began: float) -> Outcome:
        self.working.mkdir(parents=True, exist_ok=True)
        partial, log = self.working / f"{chapter}.ipynb", self.working / f"{chapter}.log"
        source = notebooks.read(self.book.notebook(chapter))
        declared = notebooks.declared_parameters(source)
        with tempfile.TemporaryDirectory(prefix="entanglement-") as scratch:
            recorded = Path(scratch) / "claims"
            recorded.mkdir()
            copy = Path(scratch) / f"{chapter}.ipynb"
            copy.write_text(notebooks.dumps(notebooks.tidy(source)), encoding="utf-8")
            job = Path(scratch) / "job.json"
            job.write_text(
                json.dumps(
                    {
                        "parent": os.getpid(),
                        "source": str(copy),
                        "output": str(partial),
                        "folder": str(self.book.notebooks),
                        "parameters": {k: v for k, v in self.settings.parameters().items() if k in declared},
                    }
                ),
                encoding="utf-8",
            )
            partial.unlink(missing_ok=True)
            with log.open("wb") as stream:
                status = self._call(
                    [sys.executable, "-m", "entanglement_book.press.worker", str(job)],
                    recorded,
                    scratch,
                    stream,
                )
            seconds = time.monotonic() - began
            if status != 0:
                return Outcome(chapter, "failed", seconds, self._describe(chapter, status, partial, log))
            clean, stderr = notebooks.normalize(notebooks.read(partial), source)
            records = sorted(read_records(recorded).values(), key=lambda item: item.id)
        if self.runner.stopping:
            return Outcome(chapter, "left out", seconds)
        parts = state.parts[chapter]
        now = key_parts(self.book, chapter, self.settings, state.inputs)
        if now != parts:  # what ran is then perhaps neither the old nor the new
            changed = ", ".join(name for name in parts if parts[name] != now[name])
            return Outcome(
                chapter, "failed", seconds, f"  its sources changed while it ran ({changed}): run it again"
            )
        self.store.save(chapter, notebooks.dumps(clean), records, parts, seconds)
        partial.unlink()
        if not stderr:
            log.unlink()
        else:
            log.write_text(stderr, encoding="utf-8")
        return Outcome(chapter, "finished", seconds, stderr=stderr)

    def _call(self, command: list[str], recorded: Path, scratch: str, stream: Any) -> int:
        environment = {
            **os.environ,
            **dict.fromkeys(_THREADS, "1"),
            **_QUIET,
            "ENTANGLEMENT_CLAIMS_DIR": str(recorded),
            "ENTANGLEMENT_RUN_DIR": str(self.store.folder),
            # Away from the reader's own: start-up files there could change a run, and two kernels share no
            # history.
            "IPYTHONDIR": f"{scratch}/ipython",
            "JUPYTER_RUNTIME_DIR": f"{scratch}/runtime",
        }
        with self.runner.lock:
            if self.runner.stopping:
                return -9
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=environment,
                start_new_session=True,
            )
            self.runner.processes.add(process)
        try:
            return process.wait()
        finally:
            _kill_group(process)  # a worker that was killed leaves its kernel
            with self.runner.lock:
                self.runner.processes.discard(process)

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


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM as an interrupt, so that the notebooks end with the run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def report_failures(outcomes: list[Outcome]) -> None:
    """Print what failed, at the end, where it is seen."""
    for outcome in outcomes:
        if outcome.state == "failed":
            print(f"\nFAILED notebooks/{outcome.chapter}.ipynb\n{outcome.error}", flush=True)


def repeat(book: Book, settings: Settings, jobs: int, chapters: list[str]) -> list[str]:
    """Execute afresh elsewhere and compare with what is stored: the differing cells, one line each; [] if
    identical.
    """
    stored = Store(book, settings)
    differing = []
    with tempfile.TemporaryDirectory(prefix="entanglement-repeat-") as folder:
        other = Book(book.root, Path(folder))
        outcomes = Execution(other, settings, jobs).run(chapters)
        for outcome in outcomes:
            if outcome.state != "finished":
                differing.append(
                    f"{outcome.chapter}: {outcome.state} when run again\n{outcome.error}".rstrip()
                )
                continue
            again = Store(other, settings)
            pairs = zip(
                notebooks.comparable(notebooks.read(stored.notebook(outcome.chapter))),
                notebooks.comparable(notebooks.read(again.notebook(outcome.chapter))),
                strict=True,
            )
            differing += [
                f"{outcome.chapter}: {name} differs between two runs" for (name, a), (_, b) in pairs if a != b
            ]
            if stored.claims(outcome.chapter).read_bytes() != again.claims(outcome.chapter).read_bytes():
                differing.append(f"{outcome.chapter}: its recorded claims differ between two runs")
    return differing
