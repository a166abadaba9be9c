"""Numbers for the prose: what a notebook pastes into its page by name."""

from __future__ import annotations

import numbers
from typing import Any

from entanglement.stats import Interval

__all__ = ["percent", "put"]


def _plain(value: Any, name: str) -> int | float:
    """Return a Python number: the page's format specifications know no others."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"put: {name} is {value!r}; expected a number or an interval.")
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def percent(share: Interval) -> Interval:
    """Return a share and its interval in percent, to be put."""
    return Interval(100 * float(share.value), 100 * float(share.low), 100 * float(share.high), share.n)


def put(name: str | None = None, value: Any = None, /, **numbers: Any) -> None:
    """Paste a number as ``name``, or an interval as ``name``, ``name_low`` and ``name_high``.

    ``put("n", 3)`` and ``put(n=3, share=found)`` do the same for one and for several.

    Args:
        name: for ``{glue:text}`` in the prose.
        value: a number, an ``Interval``, or a table's row with the columns value, low and high.
        **numbers: more names with their values.

    Raises:
        TypeError: anything else.
    """
    from myst_nb import glue

    wanted = numbers if name is None else {name: value, **numbers}
    for key, given in wanted.items():
        parts = {"": given}
        if hasattr(given, "low") and hasattr(given, "high"):
            parts = {"": given.value, "_low": given.low, "_high": given.high}
        for end, number in parts.items():
            glue(f"{key}{end}", _plain(number, key + end), display=False)
