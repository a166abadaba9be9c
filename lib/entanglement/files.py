"""Files that are there whole or not at all, and hashes: the one place for both."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from entanglement.checks import shown
from entanglement.signatures import checked

__all__ = ["digest", "file_sha256", "sha256", "sweep", "write_changed", "write_json", "write_whole"]

#: How the names of files end that are still being written.
PART = ".part"


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
    data = content.encode() if isinstance(content, str) else content
    if not isinstance(data, bytes):
        raise TypeError(f"content is {type(content).__name__}; expected text or bytes.")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


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
def sweep(folder: Path) -> int:
    """Remove what writers that were killed left in a folder (not below it); returns how many files.

    Only for a folder that no other process is writing to.
    """
    left = [path for path in folder.glob(f".*{PART}") if path.is_file()] if folder.is_dir() else []
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


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
