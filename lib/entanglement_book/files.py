"""Files that are written whole or not at all, and hashes of what they hold."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["sha256_of", "write_whole"]


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that, whatever happens meanwhile, its old or its new content stands there.

    Args:
        path: in a folder that is made if need be.
        content: text (written as UTF-8) or bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sha256_of(content: Path | str | bytes) -> str:
    """Return the SHA-256 of a file (given as a path), of text (as UTF-8) or of bytes, in hexadecimal."""
    if isinstance(content, Path):
        content = content.read_bytes()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
