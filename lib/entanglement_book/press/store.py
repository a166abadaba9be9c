"""Stored outputs: what is kept of an executed chapter, whether it is whole and current, what it measured.

For a chapter, under ``_build/executed/<run>/``:

- ``<chapter>.ipynb``: the executed notebook, normalized;
- ``claims/<chapter>.json``: what it recorded for the ledger;
- ``<chapter>.run.json``, the sidecar, written last: the cache's key with its parts, the sha256 of both files,
  and the wall time.

An output counts as finished only if the sidecar is whole, its key is today's, and both files have the
recorded hashes. ``verdicts.json`` beside them holds the run's verdicts, decided once, before the report.

What outputs depend on is asked of ``depends``, with what the stored run used.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from entanglement.files import file_sha256, write_json, write_whole
from entanglement.uses import FILE
from entanglement_book.layout import Book, BookError, Settings, default_workspace, is_report
from entanglement_book.ledger.claims import load_ledger
from entanglement_book.ledger.records import Record, dump_records, read_file
from entanglement_book.ledger.verdicts import Basis, Measured, VerdictFile, decide, without_claim
from entanglement_book.press.depends import Dependencies, Uses, depends_on, key_of, why_changed
from entanglement_book.provenance import CodeGraph, Origin

__all__ = [
    "State",
    "Store",
    "inspect",
    "judge",
    "measured",
    "run_times",
    "science_now",
    "unclaimed",
]


@dataclass(frozen=True)
class Hashes:
    """The sha256 of the two files of a stored output."""

    notebook: str
    claims: str


@dataclass(frozen=True)
class Sidecar:
    """What vouches for a stored output."""

    key: str
    parts: dict[str, str]
    origin: dict[str, Any]
    seconds: float
    sha256: Hashes

    def uses(self, root: Path) -> Uses:
        """What the run looked up by name and read."""
        origin = Origin.from_json(self.origin)
        files = [(FILE, (root / name).as_posix()) for name in origin.files]
        return (*(origin.uses or ()), *files)


_SIDECAR = TypeAdapter(Sidecar)


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

    @property
    def verdicts(self) -> Path:
        """The verdicts of the run, which its report shows."""
        return self.folder / "verdicts.json"

    @property
    def lock(self) -> Path:
        """The file that an execution holds, so that another one is refused."""
        return self.folder / ".lock"

    def read_sidecar(self, chapter: str) -> Sidecar | None:
        """The sidecar, or None if there is none or it is damaged."""
        try:
            return _SIDECAR.validate_json(self.sidecar(chapter).read_bytes())
        except (OSError, ValidationError):
            return None

    def why_stale(self, chapter: str, now: Dependencies | None) -> str:
        """'' if the stored output is whole and current, else in a few words why it is not; ``now``: what it
        depends on today, if it uses what it used then.
        """
        if not self.sidecar(chapter).is_file():
            return "no stored output"
        sidecar = self.read_sidecar(chapter)
        if sidecar is None or now is None:
            return "its sidecar is damaged"
        if sidecar.key != key_of(now.parts):
            names = [*now.parts, *(name for name in sidecar.parts if name not in now.parts)]
            changed = [name for name in names if sidecar.parts.get(name) != now.parts.get(name)]
            if not changed:
                return "its sidecar is damaged"
            return why_changed(Origin.from_json(sidecar.origin), now.origin, changed)
        for path, known in (
            (self.notebook(chapter), sidecar.sha256.notebook),
            (self.claims(chapter), sidecar.sha256.claims),
        ):
            try:
                whole = file_sha256(path) == known
            except OSError:
                whole = False
            if not whole:
                return "its stored output is damaged"
        return ""

    def save(
        self, chapter: str, text: str, records: list[Record], made: Dependencies, seconds: float
    ) -> None:
        """Store an output; the sidecar last, because it is what makes the rest count."""
        self.sidecar(chapter).unlink(missing_ok=True)
        write_whole(self.notebook(chapter), text)
        write_whole(self.claims(chapter), dump_records(records))
        hashes = Hashes(
            notebook=file_sha256(self.notebook(chapter)), claims=file_sha256(self.claims(chapter))
        )
        origin = made.origin.to_json()
        kept = Sidecar(key_of(made.parts), made.parts, origin, round(seconds, 1), hashes)
        write_json(self.sidecar(chapter), asdict(kept))

    def identity(self, chapter: str) -> str:
        """What the report depends on: the key and the output of another chapter."""
        sidecar = self.read_sidecar(chapter)
        return "" if sidecar is None else f"{sidecar.key} {sidecar.sha256}"

    def seconds(self, chapter: str) -> float | None:
        """Wall time of the last finished run, in seconds."""
        sidecar = self.read_sidecar(chapter)
        return None if sidecar is None else sidecar.seconds


def run_times(scale: str = "book") -> dict[str, float]:
    """Wall time in seconds of each chapter's last finished run: for the report.

    Under ``make`` those of the running scale; elsewhere those stored under ``_build`` for ``scale``, if any.
    """
    folder = default_workspace() or Book.find().executed(Settings(scale))
    found = {}
    for path in sorted(folder.glob("*.run.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found[path.name.removesuffix(".run.json")] = float(
                json.loads(path.read_text(encoding="utf-8"))["seconds"]
            )
    return found


@dataclass
class State:
    """What is current.

    Attributes:
        graph: of the library, read once.
        stale: per chapter why it is to run, '' if its output is current.
        broken: per chapter whose notebook cannot be read, what is wrong with it.
        inputs: the outputs that the report would read.
        bases: what the numbers of each chapter rest on today, if it uses what it used when it last ran.
    """

    graph: CodeGraph
    stale: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    bases: dict[str, Basis] = field(default_factory=dict)


def inspect(book: Book, settings: Settings) -> State:
    """Compare all stored outputs with today's sources. Reads only. A notebook that is damaged is told in
    ``broken`` and stops no other.
    """
    store = Store(book, settings)
    state = State(CodeGraph.of(book.library.parent))
    for chapter in sorted(book.chapters(), key=is_report):
        if is_report(chapter):
            state.inputs = {name: store.identity(name) for name, why in state.stale.items() if not why}
        sidecar = store.read_sidecar(chapter)
        uses = sidecar.uses(book.root) if sidecar is not None else ()
        try:
            now = depends_on(book, chapter, settings, uses, state.graph, state.inputs)
        except BookError as error:
            state.broken[chapter] = str(error)
            state.stale[chapter] = "its notebook cannot be read"
            continue
        state.stale[chapter] = store.why_stale(chapter, now)
        origin = now.origin
        named = (*(origin.uses or ()), *((FILE, name) for name in origin.files))
        state.bases[chapter] = Basis(now.science, named)
        if is_report(chapter) and not state.stale[chapter] and any(state.stale.values()):
            state.stale[chapter] = "it reads chapters that are to run"
    return state


def measured(book: Book, settings: Settings, state: State | None = None) -> Measured:
    """What the current outputs of one run recorded. Errors: BookError."""
    state, store = state or inspect(book, settings), Store(book, settings)
    records = {chapter: read_file(store.claims(chapter)) for chapter, why in state.stale.items() if not why}
    bases = {chapter: state.bases[chapter] for chapter in records}
    return Measured(settings.scale, records, bases, state.stale)


def judge(book: Book, settings: Settings, state: State | None = None) -> VerdictFile:
    """Decide the verdicts of one run from its current outputs and keep them in its folder.

    Errors: BookError for a ledger or a record that is not in order.
    """
    ledger = load_ledger(book.ledger)
    decided = decide(ledger, measured(book, settings, state))
    store = Store(book, settings)
    if store.folder.is_dir():
        decided.write(store.verdicts)
    return decided


def unclaimed(book: Book, settings: Settings, chapters: Iterable[str]) -> list[str]:
    """What chapters recorded in stored outputs that is no claim of theirs in the ledger, one line each; a
    chapter without stored output has recorded nothing.
    """
    store = Store(book, settings)
    ledger = load_ledger(book.ledger)
    stored = [chapter for chapter in chapters if store.claims(chapter).is_file()]
    return without_claim(ledger, {chapter: read_file(store.claims(chapter)) for chapter in stored})


def science_now(book: Book, recorded: VerdictFile) -> dict[str, str]:
    """Per chapter of a file of verdicts the hash that today's sources give, if it uses what it used then.

    A chapter that is gone has none. Errors: BookError for a notebook that cannot be read.
    """
    graph, found = CodeGraph.of(book.library.parent), {}
    for chapter, basis in recorded.notebooks.items():
        if book.notebook(chapter).is_file():
            uses = [(kind, str(book.root / name) if kind == FILE else name) for kind, name in basis.uses]
            found[chapter] = depends_on(book, chapter, Settings(recorded.scale), uses, graph).science
    return found
