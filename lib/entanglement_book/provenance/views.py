"""Two ways to look at what a thing depends on: what can change its numbers, and what can change its page."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from typing import Literal, get_args

__all__ = ["LEFT_OUT", "VIEWS", "View", "is_left_out"]

View = Literal["numbers", "page"]
VIEWS: tuple[View, ...] = get_args(View)
#: Modules that a view leaves out. ``uses`` only writes down what others do. Beyond that numbers leave out
#: what only draws, prints or decides what is stale; a function whose value a claim or a table holds belongs
#: elsewhere.
LEFT_OUT: dict[View, tuple[str, ...]] = {
    "page": ("entanglement.uses",),
    "numbers": (
        "entanglement.uses",
        "entanglement_book.drawing*",
        "entanglement_book.press*",
        "entanglement_book.exercises*",
        "entanglement_book.provenance*",
        "entanglement_book.studies.*.figures",
    ),
}


@cache
def is_left_out(module: str, view: View) -> bool:
    """Whether a view leaves a module out."""
    return any(fnmatchcase(module, pattern) for pattern in LEFT_OUT[view])
