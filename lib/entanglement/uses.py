"""What a run uses: names looked up in registries, and files read, written down as it goes.

A page or a table depends on the code that it names and on whatever that code finds by a name or reads from
a file. The first can be read off the source; the second is known when it has run. A run with the same code,
the same things behind the same names and the same files uses the same things again, so what the last run
used is all that has to be looked at to know whether it would come out the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

__all__ = ["EVERYTHING", "FILE", "Use", "note", "note_file", "recording", "remembered"]

P = ParamSpec("P")
T = TypeVar("T")

Use = tuple[str, str]
#: The name that stands for all entries of a registry, for code that goes through all of them.
EVERYTHING = "*"
#: The kind of a file.
FILE = "file"
#: A process that runs a page is told here where to write its uses, a line each.
VARIABLE = "ENTANGLEMENT_USES"
_recorders: list[set[Use]] = []
_written: set[Use] = set()


def note(kind: str, name: str) -> None:
    """Write down that the thing ``name`` of a ``kind`` (a registry's name, or ``FILE``) was used."""
    use = (kind, name)
    for uses in _recorders:
        uses.add(use)
    path = os.environ.get(VARIABLE)
    if path and use not in _written:
        _written.add(use)
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{kind}\t{name}\n")


def note_file(path: Path | str) -> None:
    """Write down that a file was read; outside the repository files are pinned by checksums, not by this."""
    note(FILE, Path(path).resolve().as_posix())


@contextmanager
def recording() -> Iterator[set[Use]]:
    """Collect what is used inside the block. Blocks may stand inside each other."""
    uses: set[Use] = set()
    _recorders.append(uses)
    try:
        yield uses
    finally:
        _recorders[:] = [other for other in _recorders if other is not uses]


def remembered(maxsize: int | None = None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep what a function returned, as ``functools.lru_cache`` does, with what it used: whoever gets a
    value that was kept uses the same things.

    Args:
        maxsize: values kept; None for all.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @lru_cache(maxsize)
        def keep(*args: P.args, **kwargs: P.kwargs) -> tuple[T, frozenset[Use]]:
            with recording() as uses:
                value = function(*args, **kwargs)
            return value, frozenset(uses)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            value, uses = keep(*args, **kwargs)  # type: ignore[arg-type]
            for kind, name in sorted(uses):
                note(kind, name)
            return value

        return call

    return decorate
