"""Docstrings that were read once and kept: reading them takes a minute, and their packages are pinned."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from entanglement.archive import cache_dir
from entanglement.files import sha256, write_whole
from entanglement_book.materials import docstrings
from entanglement_book.materials.docstrings import Docstring, package_versions, read_docstrings

__all__ = ["cached_docstrings"]


def _file() -> Path:
    """Return where the docstrings of today's packages, read by today's code, are kept."""
    code = Path(docstrings.__file__).read_text(encoding="utf-8")
    about = json.dumps([package_versions(), code], sort_keys=True)
    return cache_dir() / f"docstrings-{sha256(about)[:16]}.json"


@lru_cache(maxsize=1)
def cached_docstrings() -> list[Docstring]:
    """Return ``read_docstrings()``, from the user's cache folder if they were read before.

    What is kept belongs to the installed versions and to the code that read them; a file that cannot be
    understood is written again.
    """
    path = _file()
    try:
        return [Docstring(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        pass
    found = read_docstrings()
    write_whole(path, json.dumps([asdict(row) for row in found]).encode())
    return found
