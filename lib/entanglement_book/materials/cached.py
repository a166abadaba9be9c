"""Docstrings that were read once and kept: reading them takes a minute, and their packages are pinned."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from entanglement.archive import cache_dir, keep
from entanglement.files import sha256
from entanglement_book.materials import docstrings
from entanglement_book.materials.docstrings import Docstring, package_versions, read_docstrings

__all__ = ["cached_docstrings"]

#: What the file must hold; no corpus is empty.
_KEPT = TypeAdapter(Annotated[list[Docstring], Field(min_length=1)])


def _file() -> Path:
    """Return where the docstrings of today's packages, read by today's code, are kept."""
    code = Path(docstrings.__file__).read_text(encoding="utf-8")
    about = json.dumps([package_versions(), code], sort_keys=True)
    return cache_dir() / f"docstrings-{sha256(about)[:16]}.json"


@lru_cache(maxsize=1)
def cached_docstrings() -> list[Docstring]:
    """Return ``read_docstrings()``, from the user's cache folder if they were read before.

    What is kept belongs to the installed versions and to the code that read them; a file that cannot be
    understood is written again, and a cache that cannot be written is warned of.
    """
    path = _file()
    with contextlib.suppress(OSError, ValidationError):
        return _KEPT.validate_json(path.read_bytes())
    found = read_docstrings()
    keep(path, json.dumps([asdict(row) for row in found]).encode())
    return found
