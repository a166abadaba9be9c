"""Files that are there whole or not at all, reading that names what is damaged, and hashes: the one place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from entanglement.checks import shown
from entanglement.signatures import checked

__all__ = [
    "HOUR",
    "digest",
    "file_sha256",
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
            part.replace(path)
        for folder in {path.parent for path in data}:
            sweep(folder, idle=HOUR)
    except BaseException as error:
        for part in made.values():
            part.unlink(missing_ok=True)
        for folder in sorted(new, key=lambda folder: -len(folder.parts)):
            with contextlib.suppress(OSError):  # what others put into it stays
                folder.rmdir()
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, f"{error.strerror}; what was there is kept", str(path)) from error
        raise


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
    the older folder that the new one lacks is gone then. Between two renames the folder is missing.

    Raises:
        OSError: it cannot be written; the error names the folder that was wanted.
    """
    part = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent, idle=HOUR)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_prefix(folder), suffix=PART))
        part.chmod(0o755)
        yield part
        old = part.with_name(f"{part.name.removesuffix(PART)}.old{PART}")
        with contextlib.suppress(FileNotFoundError):
            folder.replace(old)
        part.replace(folder)
        _remove(old)
    except BaseException as error:
        if part is not None:
            _remove(part)
        if isinstance(error, OSError) and error.errno is not None:
            reason = (error.strerror or "").removesuffix("; what was there is kept")
            raise OSError(error.errno, f"{reason}; what was there is kept", str(folder)) from error
        raise


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


def digest(*parts: object) -> str:
    """Return a short, stable hash (32 hexadecimal digits) of JSON-able things; the order of keys is none."""
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False))[:32]
