"""What a page, a table, a verdict or a bench line was made by, and whether that is still what stands here.

The code is read, not imported: ``CodeGraph`` follows names from definition to definition. What was looked up
in a registry or read from a file is known when the thing has run (``entanglement.uses``), and is kept with
it in its ``Origin``.
"""

from __future__ import annotations

from entanglement_book.provenance.graph import CodeGraph, Fingerprint, Root, root_of
from entanglement_book.provenance.origins import (
    Origin,
    changes,
    differences,
    file_digest,
    only_names_moved,
    origin_of,
    read_uses,
)
from entanglement_book.provenance.views import View

__all__ = [
    "CodeGraph",
    "Fingerprint",
    "Origin",
    "Root",
    "View",
    "changes",
    "differences",
    "file_digest",
    "only_names_moved",
    "origin_of",
    "read_uses",
    "root_of",
]
