"""Locks: what one process makes, no other one makes at the same time. A lock goes with the process, however
that ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from entanglement_book.layout import UsageError

__all__ = ["exclusive"]


@contextlib.contextmanager
def exclusive(path: Path, what: str, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a lock file while something is made.

    Args:
        path: of the file; its folder is made.
        what: is made, in words: "executing scale 'smoke'".
        wait: told in a line when another process holds it, and then it is waited for; None: refuse at once.

    Errors: UsageError, if another process holds it and ``wait`` is None.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if wait is None:
            raise UsageError(f"another run is {what} here: wait for it to end") from None
        wait(f"another run is {what} here: waiting for it to end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
