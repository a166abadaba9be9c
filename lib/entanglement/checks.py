"""What arguments may be: one small set of checks that everything public in this package uses.

A check is called with an argument's name and its value, and refuses what cannot be meant in one line::

    positive("lr", -1)      # ValueError: lr=-1; expected a positive finite number.

``@checked(lr=positive, steps=whole(0))`` puts checks before a function or before a class's constructor.
Arguments that are not named are held against their annotations: the signature says what they are, and nobody
has to say it again. A value that passes is handed on as it is.

NumPy's scalars and tensors without dimensions are numbers; True and False are none. A number is finite, and
no larger than a float can be, unless the check says otherwise.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeVar

__all__ = [
    "Check",
    "any_number",
    "between",
    "checked",
    "columns",
    "device",
    "finite",
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

F = TypeVar("F", bound=Callable[..., Any])

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


def _flag(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")  # NumPy's


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


def columns(*names: str) -> Check:
    """Return the check for a table that has some columns, and rows."""
    said = ", ".join(names)
    return Check(
        f"a table with rows and the columns {said}",
        lambda v: {*names} <= set(getattr(v, "columns", ())) and len(v) > 0,
    )


_tokenizer = Check(
    "a tokenizer of transformers",
    lambda v: callable(v) and hasattr(v, "eos_token_id") and not inspect.isclass(v),
)
_SIMPLE: dict[Any, Check] = {
    bool: Check("True or False", _flag),
    int: whole(),
    float: finite,
    str: text,
    type(None): Check("None", lambda v: v is None),
}


# --- annotations --------------------------------------------------------------------------------------------


def _in_order(value: Any) -> bool:
    return (
        hasattr(value, "__len__")
        and hasattr(value, "__getitem__")
        and not isinstance(value, (str, bytes, Mapping, set))
        and getattr(value, "ndim", 1) > 0
        and not inspect.isclass(value)
    )


def _sequence(elements: Check | None, *classes: type) -> Check:
    """Return the check for some things in order; ``classes`` if they must be in one of these."""
    said = " or ".join(c.__name__ for c in classes) or "sequence"

    def holds(value: Any) -> bool:
        if not (isinstance(value, classes) if classes else _in_order(value)):
            return False
        return elements is None or all(
            map(elements.holds, value.tolist() if hasattr(value, "tolist") else value)
        )

    return Check(f"a {said}" + ("" if elements is None else f", each {elements.expected}"), holds)


def _tuple(parts: Sequence[Check | None]) -> Check:
    said = ", ".join("anything" if part is None else part.expected for part in parts)

    def holds(value: Any) -> bool:
        return (
            isinstance(value, (tuple, list))
            and len(value) == len(parts)
            and all(part is None or part.holds(v) for part, v in zip(parts, value, strict=True))
        )

    return Check(f"({said})", holds)


def _mapping(values: Check | None) -> Check:
    said = "a mapping" if values is None else f"a mapping to {values.expected}"
    return Check(
        said,
        lambda v: isinstance(v, Mapping) and (values is None or all(map(values.holds, v.values()))),
    )


#: Names that some modules import for the type checker only, since their packages are slow to import.
_TYPED_ONLY = {"PreTrainedTokenizerBase": type("PreTrainedTokenizerBase", (), {})}


def of_annotation(hint: Any) -> Check | None:
    """Return the check that an annotation stands for; None where it allows anything."""
    if hint in (Any, object) or isinstance(hint, (str, TypeVar)):
        return None
    if hint is None or hint in _SIMPLE:
        return _SIMPLE[type(None) if hint is None else hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [of_annotation(part) for part in arguments]
        found = [part for part in parts if part is not None]
        return functools.reduce(Check.__or__, found) if len(found) == len(parts) else None
    if origin is typing.Literal:
        return one_of(*arguments)
    if origin is tuple and (len(arguments) != 2 or arguments[1] is not Ellipsis):
        return _tuple([of_annotation(part) for part in arguments])
    if origin is type or hint is type:
        return Check("a class", inspect.isclass)
    kind_of = origin or hint
    if kind_of is Callable:
        return Check("a function", callable)
    if kind_of in (Sequence, list, tuple):
        classes = () if kind_of is Sequence else (list, tuple)
        return _sequence(of_annotation(arguments[0]) if arguments else None, *classes)
    if kind_of in (Mapping, dict):
        return _mapping(of_annotation(arguments[1]) if arguments else None)
    if kind_of in (Iterable, Iterator):
        return Check(
            "something to go through", lambda v: hasattr(v, "__iter__") and not isinstance(v, (str, bytes))
        )
    if inspect.isclass(kind_of):
        if any(base.__name__ == "PreTrainedTokenizerBase" for base in kind_of.__mro__):
            return _tokenizer
        return instance_of(kind_of)
    return None


class _Names(dict[str, Any]):
    """The names that annotations are written in; one that is there for the type checker only allows all."""

    def __missing__(self, name: str) -> Any:
        return vars(builtins).get(name, _TYPED_ONLY.get(name, Any))


def _plan(call: Callable[..., Any], module: str, checks: Mapping[str, Check | None]) -> dict[str, Check]:
    """Return parameter → check, in the order of the signature."""
    signature = inspect.signature(call).parameters
    if unknown := sorted(set(checks) - set(signature)):
        raise TypeError(f"{call.__qualname__}: no argument {unknown[0]!r} to check.")
    names = _Names(vars(sys.modules[module]))
    found: dict[str, Check] = {}
    for name, parameter in signature.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint: Any = parameter.annotation
        if hint is parameter.empty:
            hint = Any
        elif isinstance(hint, str):
            hint = eval(hint, {}, names)
        said = of_annotation(hint)
        check = checks.get(name, said)
        if check is None:
            continue
        if check.besides and said is not None:
            check = _both(said, check)
        elif check is not said and type(None) in typing.get_args(hint):
            check = check | _SIMPLE[type(None)]
        found[name] = check
    return found


def _both(first: Check, then: Check) -> Check:
    return Check(
        f"{first.expected}, {then.expected}", lambda v: first.holds(v) and (v is None or then.holds(v))
    )


def checked(**checks: Check | None) -> Callable[[F], F]:
    """Check the arguments of the decorated function, or of the decorated class's constructor, at each call.

    Args:
        **checks: argument → what it may be, in place of what its annotation says; None for an argument that
            the function looks at itself. None is allowed where the annotation allows it, and defaults are not
            looked at.
    """

    def decorate(thing: F) -> F:
        if inspect.isclass(thing):
            setattr(thing, "__init__", _before(thing.__init__, thing.__module__, checks))  # noqa: B010
            return thing
        return _before(thing, thing.__module__, checks)

    return decorate


def _before(call: F, module: str, checks: Mapping[str, Check | None]) -> F:
    plan: dict[str, Check] = {}
    order: list[str] = []

    @functools.wraps(call)
    def held(*args: Any, **kwargs: Any) -> Any:
        if not order:  # at the first call, since annotations may name what stands further below
            plan.update(_plan(call, module, checks))
            order.extend(inspect.signature(call).parameters)
        for name, value in zip(order, args, strict=False):
            if name in plan:
                plan[name](name, value)
        for name, value in kwargs.items():
            if name in plan:
                plan[name](name, value)
        return call(*args, **kwargs)

    return held  # type: ignore[return-value]
