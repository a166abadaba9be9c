"""What makes a table: the code that its functions can reach, what they look up by name, the files they read.

The names and files are those of the last run (``entanglement.uses``). A run with the same code, the same
things behind the same names and the same files comes out the same, so that nothing else has to be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entanglement.files import file_sha256
from entanglement.uses import FILE, Use
from entanglement_book.provenance.graph import CodeGraph, root_of

__all__ = ["Code", "MadeBy", "in_repository"]


@dataclass(frozen=True)
class MadeBy:
    """What made something.

    Attributes:
        code: hash of the code.
        shape: the same with our own names taken out: equal shapes and unequal codes mean that only names
            changed.
        uses: kind and name of each thing that was looked up, and each file of the repository that was read.
        files: the digests of those files.
    """

    code: str
    shape: str
    uses: tuple[Use, ...]
    files: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in a provenance."""
        return {
            "code": self.code,
            "shape": self.shape,
            "uses": [list(use) for use in self.uses],
            "files": self.files,
        }


class Code:
    """The code of a repository as it is now, read once.

    Args:
        root: of the repository.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._graph: CodeGraph | None = None
        self._known: dict[tuple[Any, ...], MadeBy] = {}

    def made_by(self, roots: Sequence[Callable[..., Any]], uses: Iterable[Use] | None) -> MadeBy:
        """Return what makes that which some functions return.

        Args:
            roots: functions at the top of a module.
            uses: what they looked up when they last ran; None if nobody knows: then everything counts that
                they could look up.
        """
        places = tuple(root_of(function) for function in roots)
        told = None if uses is None else in_repository(uses, self.root)
        if (places, told) not in self._known:
            self._graph = self._graph or CodeGraph.of(self.root / "lib")
            found = self._graph.fingerprint(places, told, "numbers")
            files = {name: self._digest(name) for kind, name in told or () if kind == FILE}
            self._known[places, told] = MadeBy(found.code, found.shape, told or (), files)
        return self._known[places, told]

    def _digest(self, name: str) -> str:
        file = self.root / name
        return file_sha256(file) if file.is_file() else "missing"


def in_repository(uses: Iterable[Use], root: Path) -> tuple[Use, ...]:
    """Return uses in order, files by their path in the repository; other files are pinned by checksums of
    their own and left out.
    """
    found = set()
    for kind, name in uses:
        if kind == FILE and Path(name).is_absolute():
            if not Path(name).is_relative_to(root.resolve()):
                continue
            name = Path(name).relative_to(root.resolve()).as_posix()
        found.add((kind, name))
    return tuple(sorted(found))
