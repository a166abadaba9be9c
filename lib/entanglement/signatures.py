"""Checks of arguments by what the signature says: annotations, and ranges besides.

``@checked(lr=positive, steps=whole(0))`` puts checks before a function, or before the constructor of a class.
Arguments that are not named are held against their annotations: the signature says what they are, and nobody
has to say it again. A value that passes is handed on as it is.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from entanglement.checks import Check, finite, instance_of, one_of, text, whole

__all__ = ["checked", "of_annotation"]

F = TypeVar("F", bound=Callable[..., Any])


def _flag(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")  # NumPy's


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
_TYPED_ONLY: dict[str, Any] = {"PreTrainedTokenizerBase": type("PreTrainedTokenizerBase", (), {})}


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
    """The names that annotations are written in, those included that are there for the type checker only."""

    def __missing__(self, name: str) -> Any:
        if name not in (known := vars(builtins) | _TYPED_ONLY):
            raise NameError(f"an annotation says {name}, which its module does not know when it runs")
        return known[name]


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
