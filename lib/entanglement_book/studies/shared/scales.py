"""One of three sizes of an experiment, by the name of its scale."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["at_scale"]

Size = TypeVar("Size")


def at_scale(scale: str, smoke: Size, book: Size, paper: Size) -> Size:
    """Return what belongs to a scale.

    Args:
        scale: "smoke", "book" or "paper".
        smoke, book, paper: the three of which one is returned.

    Raises:
        ValueError: another scale.
    """
    found = {"smoke": smoke, "book": book, "paper": paper}.get(scale)
    if found is None:
        raise ValueError(f"scale={scale!r}; expected smoke, book or paper.")
    return found
