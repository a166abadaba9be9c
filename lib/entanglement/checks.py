"""What arguments may be: one small set of checks that everything public in this package uses.

A check is called with an argument's name and its value, and refuses what cannot be meant in one line::

    positive("lr", -1)      # ValueError: lr=-1; expected a positive finite number.

``signatures.checked`` puts checks before a function or a class's constructor.

NumPy's scalars and tensors without dimensions are numbers; True and False are none. A number is finite, and
no larger than a float can be, unless the check says otherwise.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

__all__ = [
    "Check",
    "any_number",
    "between",
    "columns",
    "device",
    "finite",
    "finite_tensor",
    "instance_of",
    "interval",
    "non_empty",
    "non_negative",
    "number_or_inf",
    "one_of",
    "positive",
    "positive_or_inf",
    "share",
    "shown",
    "text",
    "torch_seed",
    "whole",
]

#: Whole numbers are counts, places and seeds; what is beyond has no meaning, and no float either.
LARGEST = 2**63 - 1
_LONGEST_SHOWN = 80


@dataclass(frozen=True)
class Check:
    """What one argument may be.

    Attributes:
        expected: what is allowed, as it stands in the message.
        holds: value → whether it is that.
        besides: whether this is asked for besides what the annotation says, and not in place of it.
    """

    expected: str
    holds: Callable[[Any], bool]
    besides: bool = False

    def __call__(self, name: str, value: object, where: str = "") -> None:
        """Refuse a value.

        Args:
            name: of the argument.
            value: what it is.
            where: begins the message, if given.

        Raises:
            ValueError: in one line: the name, the value, what is allowed.
        """
        if not self.holds(value):
            prefix = f"{where}: " if where else ""
            raise ValueError(f"{prefix}{name}={shown(value)}; expected {self.expected}.")

    def __or__(self, other: Check) -> Check:
        """Either of two."""
        return Check(f"{self.expected}, or {other.expected}", lambda v: self.holds(v) or other.holds(v))


def shown(value: object) -> str:
    """Return a value as it stands in a message: in one line, and not long."""
    try:
        said = " ".join(repr(value).split())
    except Exception:  # an integer of thousands of digits, a class with a fault of its own
        said = f"a value of type {type(value).__name__}"
    if len(said) <= _LONGEST_SHOWN:
        return said
    return said[: _LONGEST_SHOWN - 1] + "…"


# --- numbers ------------------------------------------------------------------------------------------------


def _number(value: Any) -> Any:
    """Return what counts as a number, as one that can be compared; None for anything else."""
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        value = value.item()  # NumPy's and torch's scalars
    return value if isinstance(value, Real) and not isinstance(value, bool) else None


def interval(low: float, high: float, *, low_open: bool = False, high_open: bool = False) -> str:
    """Return an interval in mathematical notation, e.g. ``(0, inf)``; arguments as of ``between``."""
    left = "(" if low_open or math.isinf(low) else "["
    right = ")" if high_open or math.isinf(high) else "]"
    return f"{left}{low:g}, {high:g}{right}"


def between(
    low: float = -math.inf,
    high: float = math.inf,
    *,
    low_open: bool = False,
    high_open: bool = False,
    expected: str = "",
) -> Check:
    """Return the check for a finite number in an interval.

    Args:
        low, high: its ends.
        low_open, high_open: whether that end itself is refused.
        expected: what the message says; by default the interval in mathematical notation.
    """
    said = expected or f"a number in {interval(low, high, low_open=low_open, high_open=high_open)}"

    def holds(value: Any) -> bool:
        number = _number(value)
        # Compared with the largest float: an integer beyond it has no float, and would overflow later.
        if number is None or not abs(number) <= sys.float_info.max:
            return False
        return bool(number > low if low_open else number >= low) and bool(
            number < high if high_open else number <= high
        )

    return Check(said, holds)


#: A number that is neither nan nor infinite.
finite = between(expected="a finite number")
positive = between(0, low_open=True, expected="a positive finite number")
non_negative = between(0, expected="a finite number, at least 0")
#: From 0 to 1, both allowed.
share = between(0, 1, expected="a share from 0 to 1")
#: Also nan and infinity, where these say that something is not known or has no bound.
any_number = Check("a number", lambda v: _number(v) is not None)
#: For bounds that may be none at all.
positive_or_inf = positive | Check("inf", lambda v: _number(v) is not None and v == math.inf)
number_or_inf = finite | Check("±inf", lambda v: _number(v) is not None and abs(v) == math.inf)


def whole(low: int | None = None, high: int = LARGEST) -> Check:
    """Return the check for a whole number, a float's is none, from ``low`` to ``high`` (both allowed)."""
    least = -LARGEST - 1 if low is None else low
    parts = ([] if low is None else [f"of at least {low}"]) + ([f"at most {high}"] if high != LARGEST else [])
    expected = " and ".join(parts)

    def holds(value: Any) -> bool:
        number = _number(value)
        return isinstance(number, Integral) and least <= int(number) <= high

    return Check(f"a whole number {expected}".rstrip(), holds)


#: What a generator of torch takes.
torch_seed = whole(-LARGEST - 1, 2**64 - 1)

# --- other things -------------------------------------------------------------------------------------------


def one_of(*allowed: object) -> Check:
    """Return the check for one of a few words or numbers."""
    said = " or ".join([", ".join(map(repr, allowed[:-1])), repr(allowed[-1])] if allowed[1:] else ["", ""])

    def holds(value: Any) -> bool:
        return isinstance(value, (str, int)) and not isinstance(value, bool) and value in allowed

    return Check(said if allowed[1:] else repr(allowed[0]), holds)


def instance_of(*classes: type, expected: str = "") -> Check:
    """Return the check for an instance of one of some classes."""
    names = " or ".join(f"{_article(c.__name__)} {c.__name__}" for c in classes)
    return Check(expected or names, lambda v: isinstance(v, classes))


def _article(word: str) -> str:
    return "an" if word[0] in "AEIOUaeiou" else "a"


text = Check("a text", lambda v: isinstance(v, str))
#: Not of length 0, besides what the annotation says.
non_empty = Check("at least one", lambda v: len(v) > 0, besides=True)


def _is_device(value: Any) -> bool:
    import torch

    try:
        torch.empty(0, device=torch.device(value))
    except Exception:  # torch raises many kinds, and warns of none
        return False
    return not isinstance(value, (bool, int))


#: A device on which a tensor can be made, by name or as torch's own.
device = Check("a device of this machine, such as 'cpu'", _is_device)


def finite_tensor(*dimensions: str) -> Check:
    """Return the check for a tensor of finite numbers that is not empty; its dimensions by their names."""

    def holds(value: Any) -> bool:
        import torch

        if not isinstance(value, torch.Tensor) or value.ndim != len(dimensions) or not value.numel():
            return False
        return bool(torch.isfinite(value).all())

    comma = "," if len(dimensions) == 1 else ""
    return Check(f"a tensor of finite numbers, ({', '.join(dimensions)}{comma})", holds)


def columns(*names: str) -> Check:
    """Return the check for a table that has some columns, and rows."""
    said = ", ".join(names)
    return Check(
        f"a table with rows and the columns {said}",
        lambda v: {*names} <= set(getattr(v, "columns", ())) and len(v) > 0,
    )
