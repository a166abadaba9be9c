"""Files that are there whole or not at all, reading that names what is damaged, and hashes: the one place."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from entanglement.checks import shown
from entanglement.signatures import checked

__all__ = [
    "HOUR",
    "digest",
    "file_sha256",
    "known_sha256",
    "read_text",
    "sha256",
    "sweep",
    "whole_folder",
    "write_all",
    "write_changed",
    "write_json",
    "write_whole",
]

#: How the names of files and folders end that are still being written.
PART = ".part"
#: How the name of an older folder ends while the new one takes its place.
_OLD = ".old"
_KEPT = "; what was there is kept"
#: Nobody takes longer over one file, in seconds: what is older was left by a writer that was killed.
HOUR = 3600.0


@checked()
def read_text(path: Path) -> str:
    """Return what a text file holds.

    Raises:
        OSError: it cannot be read, or is no text in UTF-8; the error names the file.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        reason = f"not a text in UTF-8 (byte {error.start}): mend it, or fetch it back with git checkout"
        raise OSError(errno.EILSEQ, reason, str(path)) from None


@checked(contents=None)
def write_all(contents: Mapping[Path, str | bytes]) -> None:
    """Write files that belong together, each so that another process sees all of it or nothing.

    All are written under other names before the first takes its place, in the order given: where one cannot
    be written, all older files stay as they were. What killed writers left beside them goes.

    Args:
        contents: path → text (written as UTF-8) or bytes; folders are made.

    Raises:
        TypeError: neither text nor bytes. Nothing is written then.
        OSError: a folder cannot be written, or the disk is full; the error names the file that was wanted.
    """
    if not isinstance(contents, Mapping):
        raise TypeError(f"contents={shown(contents)}; expected paths and what goes to each.")
    data = {
        path: content.encode() if isinstance(content, str) else content for path, content in contents.items()
    }
    for content in data.values():
        if not isinstance(content, bytes):
            raise TypeError(f"content is {type(content).__name__}; expected text or bytes.")
    made: dict[Path, Path] = {}
    older: dict[Path, Path | None] = {}
    new: list[Path] = []
    path = Path()
    try:
        for path, content in data.items():
            new += [folder for folder in path.parents if folder not in new and not folder.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=PART)
            made[path] = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            made[path].chmod(0o644)
        for path, part in made.items():
            if len(made) > 1:
                older[path] = _second_name(path, part)
            part.replace(path)
    except BaseException as error:
        for place, before in older.items():
            if before is not None:
                before.replace(place)
                before.unlink(missing_ok=True)  # where the two are still one file, renaming does nothing
            elif not made[place].exists():  # it took its place, and there was none before
                place.unlink(missing_ok=True)
        for part in made.values():
            part.unlink(missing_ok=True)
        for folder in sorted(new, key=lambda folder: -len(folder.parts)):
            with contextlib.suppress(OSError):  # what others put into it stays
                folder.rmdir()
        if isinstance(error, OSError) and error.errno is not None:
            raise _wanted(error, path) from error
        raise
    for before in older.values():
        if before is not None:
            before.unlink(missing_ok=True)
    for folder in {path.parent for path in data}:
        sweep(folder, idle=HOUR)


def _second_name(path: Path, part: Path) -> Path | None:
    """Give an older file, if there is one, a second name that it keeps until all new ones stand."""
    if not path.exists():
        return None
    second = part.with_name(f"{part.name}.old{PART}")
    try:
        os.link(path, second)
    except OSError:  # no links on this disk
        shutil.copy2(path, second)
    return second


def _wanted(error: OSError, path: Path) -> OSError:
    """Return an error of the disk that names what was wanted; one that names a part of it is told anew."""
    reason = (error.strerror or "").removesuffix(_KEPT)
    return OSError(error.errno, f"{reason}{_KEPT}", str(path))


@checked(content=None)
def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that another process sees all of it or nothing, also when this one is killed.

    Args:
        path: of the file; its folder is made. An older file stays until the new one is whole.
        content: text (written as UTF-8) or bytes.

    Raises:
        TypeError: neither text nor bytes. Nothing is written then.
        OSError: the folder cannot be written, or the disk is full. The older file is left as it was.
    """
    write_all({path: content})


def _prefix(path: Path) -> str:
    return f".{path.name[:100]}."


@checked()
@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Make a folder with all that is in it, or leave what was there: for what others write file by file.

    Yields an empty folder beside it, which takes its place when the block ends without an error. A file of
    the older folder that the new one lacks is gone then. Between two renames the folder is missing; who is
    killed there leaves the older one beside it, and the next call puts that back.

    Raises:
        OSError: it cannot be written; the error names the folder that was wanted.
    """
    part = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent, idle=HOUR)
        _put_back(folder)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_prefix(folder), suffix=PART))
        part.chmod(0o755)
        yield part
        old = part.with_suffix(_OLD)
        with contextlib.suppress(FileNotFoundError):
            folder.replace(old)
        try:
            part.replace(folder)
        except BaseException:
            if old.exists():
                old.replace(folder)
            raise
        _remove(old)
    except BaseException as error:
        if part is not None:
            _remove(part)
        if isinstance(error, OSError) and error.errno is not None:
            raise _wanted(error, folder) from error
        raise


def _put_back(folder: Path) -> None:
    """Put back the older folder of a writer that was killed between its two renames, and remove others."""
    left = sorted(
        folder.parent.glob(f"{escape(_prefix(folder))}*{_OLD}"), key=lambda path: path.stat().st_ctime
    )
    for old in reversed(left):
        if folder.exists():
            _remove(old)
        else:
            old.replace(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@checked()
def write_changed(path: Path, text: str) -> bool:
    """Write a text whole, unless the file holds just that already; returns whether it was written."""
    try:
        if path.read_bytes() == text.encode():
            return False
    except OSError:
        pass
    write_whole(path, text)
    return True


@checked()
def write_json(path: Path, content: Any, *, indent: int | None = 1, sort_keys: bool = False) -> None:
    """Write a JSON file whole, with a final newline."""
    try:
        text = json.dumps(content, indent=indent, sort_keys=sort_keys, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"content={shown(content)}; expected what JSON can hold ({error}).") from None
    write_whole(path, text + "\n")


@checked()
def sweep(folder: Path, idle: float = 0.0) -> int:
    """Remove what writers that were killed left in a folder (not below it); returns how much it was.

    Args:
        folder: may be missing.
        idle: seconds for which it was not touched. 0 only for a folder that no other process writes to.
    """
    latest = time.time() - idle
    left = 0
    for path in folder.glob(f".*{PART}") if folder.is_dir() else ():
        with contextlib.suppress(OSError):  # another process sweeps, too
            if path.stat().st_mtime <= latest:
                _remove(path)
                left += 1
    return left


@checked()
def sha256(data: str | bytes) -> str:
    """Return the SHA-256 of bytes, or of a text in UTF-8, as a hexadecimal string."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


@checked()
def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@checked()
def known_sha256(path: Path) -> str:
    """Return the SHA-256 of a large file, which this process reads once, and again when its size, one of its
    times or its place on the disk changed. Only a file that is written over in place, with as many bytes and
    within one tick of the clock, is taken for the old one.
    """
    state = path.stat()
    return _sha256_of(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


@functools.cache
def _sha256_of(path: Path, *_state: int) -> str:
    return file_sha256(path)


def digest(*parts: object) -> str:
    """Return a short, stable hash (32 hexadecimal digits) of JSON-able things; the order of keys is none."""
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False))[:32]
