"""Two builds from two clones, in two folders and two surroundings, compared byte for byte.

What differs between the two: the folder (one has a blank and letters outside ASCII in its name), how many
notebooks run at a time, locale and time zone; and threads and the seed of Python's hashes, of which a
notebook is always given its own. What is compared: each executed notebook, each record, the verdicts, what
every output says it was made from, and every file of the built pages. Cells tagged ``volatile`` show a clock,
and the wall times in the sidecars are one: only these may differ. The second build then takes those of the
first, so that the pages can be compared whole.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from entanglement_book.layout import Book, BookError, Settings, UsageError
from entanglement_book.locks import exclusive
from entanglement_book.press import notebooks
from entanglement_book.press.store import Store

__all__ = [
    "SURROUNDINGS",
    "Surrounding",
    "call_in",
    "differing_files",
    "differing_outputs",
    "first_difference",
    "make_twice",
]


@dataclass(frozen=True)
class Surrounding:
    """Where one of the builds is made.

    Attributes:
        folder: the name of its clone.
        jobs: notebooks at a time.
        variables: of its environment.
    """

    folder: str
    jobs: int
    variables: dict[str, str]


SURROUNDINGS = (
    Surrounding(
        "first", 1, {"OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"}
    ),
    Surrounding(
        "the sécond",
        2,
        {"OMP_NUM_THREADS": "4", "LC_ALL": "C", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "4242"},
    ),
)
#: How much of the text around a byte is shown on either side.
_AROUND = 40


def first_difference(name: str, one: bytes, other: bytes) -> str:
    """Return where two files differ first, with what stands there in each; '' if they are equal."""
    if one == other:
        return ""
    pairs = enumerate(zip(one, other, strict=False))
    at = next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
    shown = [part[max(0, at - _AROUND) : at + _AROUND].decode("utf-8", "replace") for part in (one, other)]
    return f"{name}, byte {at}: {shown[0]!r} and {shown[1]!r}"


def make_twice(
    book: Book, settings: Settings, only: str | None = None, call: Callable[..., None] | None = None
) -> list[str]:
    """Build the committed state twice and return what differs, a line each; [] if no byte does.

    The clones lie in ``twice`` beside everything else that is made; they stay if something differs.

    Args:
        book: of whose commit the clones are.
        settings: what is built.
        only: chapters, as in ``parse_only``; the pages of the others are left out. Default: all.
        call: runs a command in a clone; default: ``call_in``.

    Errors: UsageError without a git checkout, or while another process does the same; BookError if one of the
    builds fails.
    """
    call = call or call_in
    some, partial = ([], []) if only is None else (["--only", only], ["--partial"])
    work = book.out / "twice"
    with exclusive(book.out / ".twice.lock", "building everything twice"):
        shutil.rmtree(work, ignore_errors=True)
        one, other = (_clone(book, work / each.folder) for each in SURROUNDINGS)
        for each, clone in zip(SURROUNDINGS, (one, other), strict=True):
            call(clone, each, ["execute", "--scale", settings.scale, "--jobs", str(each.jobs), *some])
        found = differing_outputs(one, other, settings)
        if not found:
            for each, clone in zip(SURROUNDINGS, (one, other), strict=True):
                call(clone, each, ["site", "--scale", settings.scale, *partial])
            found = differing_files(one.site(settings), other.site(settings))
        if not found:
            shutil.rmtree(work)
        return found


def _clone(book: Book, folder: Path) -> Book:
    command = ["git", "clone", "--quiet", "--no-hardlinks", str(book.root), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise UsageError(f"{book.root} cannot be cloned: {' '.join(done.stderr.split())}")
    return Book(folder.resolve(), folder.resolve() / "_build")


def call_in(book: Book, where: Surrounding, arguments: list[str]) -> None:
    """Run a command of the book in a clone, with the clone's own library. Errors: BookError if it fails."""
    environment = {**os.environ, **where.variables, "PYTHONPATH": str(book.root / "lib")}
    told = " ".join(f"{name}={value}" for name, value in where.variables.items())
    print(f"{where.folder}: {' '.join(arguments)} ({told})", flush=True)
    log = book.root.parent / f"{where.folder} {arguments[0]}.log"
    with log.open("wb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "entanglement_book", *arguments],
            cwd=book.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    if done.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise BookError(f"{where.folder}: {arguments[0]} failed ({' '.join(lines[-1:])}); log: {log}")


def differing_outputs(one: Book, other: Book, settings: Settings) -> list[str]:
    """Return how what two books executed differs, but for clocks; if in nothing, the other takes the one's
    clocks.
    """
    first, second = Store(one, settings), Store(other, settings)
    both, found = _in_both(_names(first), _names(second))
    for chapter in both:
        for name, read in (
            (f"{chapter}.ipynb", lambda store, chapter: _without_clocks(store.notebook(chapter))),
            (f"claims/{chapter}.json", lambda store, chapter: store.claims(chapter).read_bytes()),
            (f"{chapter}.run.json", _vouches),
        ):
            found.append(first_difference(name, read(first, chapter), read(second, chapter)))
    found.append(first_difference("verdicts.json", first.verdicts.read_bytes(), second.verdicts.read_bytes()))
    found = [line for line in found if line]
    if not found:
        for chapter in _names(first):
            for path in (first.notebook(chapter), first.sidecar(chapter)):
                shutil.copyfile(path, second.folder / path.name)
    return found


def _names(store: Store) -> list[str]:
    return [path.stem for path in sorted(store.folder.glob("*.ipynb"))]


def _without_clocks(path: Path) -> bytes:
    """Return an executed notebook without the outputs of its volatile cells."""
    notebook = notebooks.read(path)
    for cell in notebook.cells:
        if "volatile" in notebooks.tags(cell):
            cell.outputs = []
    return notebooks.dumps(notebook).encode()


def _vouches(store: Store, chapter: str) -> bytes:
    """Return a sidecar without its wall time, and without the hash of a notebook that may show a clock.

    The report's key goes over those hashes, so that it is left out with them.
    """
    content = json.loads(store.sidecar(chapter).read_text(encoding="utf-8"))
    for part, names in ((content, ("seconds", "key")), (content["sha256"], ("notebook",))):
        for name in names:
            part.pop(name)
    content["parts"].pop("inputs", None)
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False).encode()


def differing_files(one: Path, other: Path) -> list[str]:
    """Return how two folders differ, a line for each file."""
    both, lines = _in_both(*(_files(folder) for folder in (one, other)))
    for name in both:
        lines.append(first_difference(name, (one / name).read_bytes(), (other / name).read_bytes()))
    return [line for line in lines if line]


def _files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _in_both(one: Iterable[str], other: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the names that both have, and a line for each that only one has."""
    first, second = set(one), set(other)
    return sorted(first & second), [f"only one build has {name}" for name in sorted(first ^ second)]
