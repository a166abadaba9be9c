"""What a stored thing was made by, kept beside it, and in words what has changed since."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from entanglement.files import digest, file_sha256
from entanglement.uses import FILE, Use
from entanglement_book.provenance.graph import CodeGraph, Fingerprint, Root
from entanglement_book.provenance.views import View

__all__ = ["Origin", "changes", "differences", "file_digest", "only_names_moved", "origin_of", "read_uses"]

MISSING = "missing"


@dataclass(frozen=True)
class Origin:
    """What a thing was made by.

    Attributes:
        view: what counted, see ``views``.
        code: hash of the code.
        shape: the same without names of definitions.
        uses: what was looked up in registries, (kind, name), sorted; None if nobody knows.
        files: files of the repository that were read, by their path from its root, with SHA-256.
        parts: "module: definition" → short hash.
    """

    view: View
    code: str
    shape: str
    uses: tuple[Use, ...] | None
    files: dict[str, str]
    parts: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return asdict(self) | {"uses": None if self.uses is None else [list(use) for use in self.uses]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Origin:
        """Return what ``to_json`` gave.

        Raises:
            ValueError: something is missing or not known.
        """
        try:
            uses = data["uses"]
            pairs = None if uses is None else tuple((str(kind), str(name)) for kind, name in uses)
            return cls(**{**data, "uses": pairs})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"data={sorted(data)} is no origin; expected what to_json gives.") from error

    def again(self, graph: CodeGraph, roots: str | Iterable[Root], root: Path) -> Origin:
        """Return what the thing would be made by today, if it used the same things."""
        files = [(FILE, (root / path).as_posix()) for path in self.files]
        uses = None if self.uses is None else [*self.uses, *files]
        now = origin_of(graph, roots, uses, root, self.view)
        return now if uses is not None else _with_files(now, _digests(files, root))


def _with_files(origin: Origin, files: dict[str, str]) -> Origin:
    return Origin(**{**vars(origin), "files": files})


def origin_of(
    graph: CodeGraph,
    roots: str | Iterable[Root],
    uses: Iterable[Use] | None,
    root: Path,
    view: View = "numbers",
) -> Origin:
    """Return what a thing is made by.

    Args:
        graph: of the library.
        roots: source or definitions, see ``CodeGraph.fingerprint``.
        uses: what its run wrote down (``uses.recording`` or ``read_uses``), or None if nobody knows.
        root: of the repository; files outside are pinned by checksums in the code and are left out.
        view: "numbers" or "page".
    """
    used = None if uses is None else sorted(set(uses))
    found: Fingerprint = graph.fingerprint(roots, used, view)
    named = None if used is None else tuple(use for use in used if use[0] != FILE)
    return Origin(view, found.code, found.shape, named, _digests(used or [], root), found.parts)


#: What a stored table or benchmark says of the code that made it. Who reads the table does not depend on it:
#: a stamp that is renewed moves no number.
STAMP = frozenset({"code", "shape", "uses", "files", "restamped"})


def _without_stamps(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_stamps(value) for key, value in content.items() if key not in STAMP}
    return [_without_stamps(value) for value in content] if isinstance(content, list) else content


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    if path.suffix == ".json" and "results" in path.parts:
        with contextlib.suppress(ValueError):
            return digest(_without_stamps(json.loads(path.read_bytes())))
    return file_sha256(path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read once per version of it; "missing" where there is none."""
    if not path.is_file():
        return MISSING
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


def _digests(uses: Iterable[Use], root: Path) -> dict[str, str]:
    base = root.resolve()
    paths = sorted({Path(name) for kind, name in uses if kind == FILE})
    inside = [path for path in paths if path.resolve().is_relative_to(base)]
    return {path.resolve().relative_to(base).as_posix(): file_digest(path) for path in inside}


def read_uses(path: Path) -> set[Use]:
    """Return the uses that a process wrote into the file of ``uses.VARIABLE``; none if it wrote nothing."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    pairs = (line.partition("\t") for line in text.splitlines())
    return {(kind, name) for kind, separator, name in pairs if separator}


def differences(before: Origin, now: Origin) -> list[str]:
    """Return in words what changed between two origins, a line each; [] if the thing is still current."""
    lines = []
    for path in sorted(before.files.keys() | now.files.keys()):
        then, today = before.files.get(path), now.files.get(path)
        if then != today:
            lines.append(f"{path} " + ("is missing" if today == MISSING else "changed"))
    if before.code == now.code and before.uses == now.uses:
        return lines
    old, new = before.parts, now.parts
    named = [f"{name} changed" for name in old if name in new and old[name] != new[name]]
    gone = [name for name in old if name not in new]
    added = [name for name in new if name not in old]
    for name in gone:
        ending = name.partition(": ")[2]
        moved = [a for a in added if a.partition(": ")[2] == ending and new[a] == old[name]]
        if moved:
            added.remove(moved[0])
            continue  # where a definition stands is no change
        named.append(f"{name} is not used any more")
    named += [f"{name} is used now" for name in added]
    return [*lines, *(named or ["what a name refers to, or the order of registered things, changed"])]


def changes(origin: Origin, graph: CodeGraph, roots: str | Iterable[Root], root: Path) -> list[str]:
    """Return in words what changed since a thing was made, a line each; [] if it is current."""
    return differences(origin, origin.again(graph, roots, root))


def only_names_moved(before: Origin, now: Origin) -> bool:
    """Whether nothing but names of our definitions differs: the thing may be stamped anew after a check."""
    same = (before.view, before.shape, before.uses, before.files) == (
        now.view,
        now.shape,
        now.uses,
        now.files,
    )
    return same and before.code != now.code
