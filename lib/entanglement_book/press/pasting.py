"""Numbers for the prose: what a notebook pastes into its page by name."""

from __future__ import annotations

import numbers
from typing import Any

__all__ = ["put"]


def _plain(value: Any, name: str) -> int | float:
    """Return a Python number: the page's format specifications know no others."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"put: {name} is {value!r}; expected a number or an interval.")
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def put(name: str, value: Any) -> None:
    """Paste a number as ``name``, or an interval as ``name``, ``name_low`` and ``name_high``.

    Args:
        name: for ``{glue:text}`` in the prose.
        value: a number, an ``Interval``, or a table's row with the columns value, low and high.

    Raises:
        TypeError: anything else.
    """
    from myst_nb import glue

    parts = {"": value}
    if hasattr(value, "low") and hasattr(value, "high"):
        parts = {"": value.value, "_low": value.low, "_high": value.high}
    for end, number in parts.items():
        glue(f"{name}{end}", _plain(number, name + end), display=False)
