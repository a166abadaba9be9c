"""Numbers for the prose: what a notebook pastes into its page by name."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping
from typing import Any

from entanglement.stats import Interval

__all__ = ["percent", "put", "put_data", "put_missing"]


def _plain(value: Any, name: str) -> int | float:
    """Return a Python number: the page's format specifications know no others."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"put: {name} is {value!r}; expected a number or an interval.")
    if not math.isfinite(value):
        raise ValueError(f"put: {name} is {value!r}; expected a finite number.")
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
        ValueError: a number that is not finite. Nothing is pasted then.
    """
    from myst_nb import glue

    wanted = numbers if name is None else {name: value, **numbers}
    pasted = {}
    for key, given in wanted.items():
        parts = {"": given}
        if hasattr(given, "low") and hasattr(given, "high"):
            parts = {"": given.value, "_low": given.low, "_high": given.high}
        for end, number in parts.items():
            pasted[key + end] = _plain(number, key + end)
    for key, number in pasted.items():
        glue(key, number, display=False)


def put_missing(name: str) -> None:
    """Paste as ``name`` that there is no such number in this run: at scale smoke some runs never get to where
    it is measured. The page shows nan.
    """
    from myst_nb import glue

    glue(name, math.nan, display=False)


class _Written(str):
    """A text whose representation is itself: a notebook keeps no other kind of data under a name."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(str(self))


def put_data(name: str, value: Mapping[str, Any]) -> None:
    """Paste what a lab of the page shows (``{lab}``).

    Args:
        name: for the lab's ``:data:``.
        value: of numbers, words, lists and mappings.

    Raises:
        ValueError: a number that is not finite, or what JSON does not know. Nothing is pasted then.
    """
    from myst_nb import glue

    try:
        written = _Written(json.dumps(value, allow_nan=False, ensure_ascii=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"put_data: {name} cannot be written as JSON: {error}.") from None
    glue(name, written, display=False)
