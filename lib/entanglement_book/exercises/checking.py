"""Checks of answers: what is right, and what usually goes wrong."""

from __future__ import annotations

import importlib
import importlib.util
import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Check", "Judgment", "alike", "check", "checks_of", "describe"]


@dataclass(frozen=True)
class Judgment:
    """What a check says: ``right`` or not, and a sentence."""

    right: bool
    said: str

    def __repr__(self) -> str:
        return self.said


@dataclass(frozen=True)
class Check:
    """What is right in one exercise, and the mistakes that have a name.

    Attributes:
        right: the answer: a number, a word, a truth value, an array or tensor, a list, tuple or mapping of
            these; or, with ``inputs``, a function. Without ``inputs`` a function of nothing makes the answer
            when it is needed.
        mistakes: wrong answers of the same kind, each with the sentence that names the mistake.
        inputs: the arguments, one tuple a call, on which a function is tried.
        tolerance: of numbers, relative; and absolute, where the right one is smaller than 1.
        praise: one sentence more for a right answer: what it means.
    """

    right: Any
    mistakes: Sequence[tuple[Any, str]]
    inputs: Sequence[tuple[Any, ...]] = field(default=())
    tolerance: float = 1e-3
    praise: str = ""

    def judge(self, answer: Any) -> Judgment:
        """Compare an answer with the right one and with the known mistakes."""
        if answer is Ellipsis or answer is None:
            return Judgment(False, "Still to do: put your answer where the dots are.")
        try:
            given = self._of(answer)
        except Exception as error:  # whatever the reader's function raises is for the reader
            return Judgment(False, f"Not yet: your function raised {type(error).__name__}: {error}")
        if any(part is Ellipsis or part is None for part in _parts(given)):
            return Judgment(False, "Still to do: your answer has dots, or nothing, in it.")
        right = self._of(self.right)
        if alike(given, right, self.tolerance):
            return Judgment(True, f"Right. {self.praise}".strip())
        for wrong, hint in self.mistakes:
            if alike(given, self._of(wrong), self.tolerance):
                return Judgment(False, f"Not yet: {hint}")
        if describe(given) != describe(right):
            return Judgment(False, f"Not yet: expected {describe(right)}, and this is {describe(given)}.")
        return Judgment(False, "Not yet.")

    def _of(self, answer: Any) -> Any:
        if self.inputs:
            if not callable(answer):
                raise TypeError(f"expected a function, and this is {describe(answer)}")
            return [answer(*arguments) for arguments in self.inputs]
        return answer() if callable(answer) else answer


def check(name: str, answer: Any) -> Judgment:
    """Check the answer to an exercise.

    Args:
        name: the exercise's number as the page shows it: ``"07.2"`` or ``"7.2"``.
        answer: what the exercise asks for: a value or a function.

    Returns:
        A judgment, which a notebook shows as one sentence.

    Raises:
        ValueError: no exercise of this name has a check.
    """
    found = re.fullmatch(r"\s*0*(\d{1,2})\.0*(\d{1,2})\s*", str(name))
    key = f"{int(found[1]):02d}.{int(found[2])}" if found else ""
    checks = checks_of(key.partition(".")[0]) if found else {}
    if key not in checks:
        known = f"this chapter has checks for {', '.join(checks)}" if checks else 'names look like "07.2"'
        raise ValueError(f"check: there is no check for {name!r}: {known}.")
    return checks[key].judge(answer)


def checks_of(chapter: str) -> dict[str, Check]:
    """Return a chapter's checks by their names; {} for a chapter without any.

    Args:
        chapter: its number in two digits.
    """
    module = f"entanglement_book.exercises.answers.ch{chapter}"
    if importlib.util.find_spec(module) is None:
        return {}
    found: dict[str, Check] = importlib.import_module(module).CHECKS
    return found


def _plain(value: Any) -> Any:
    """An answer without the clothes that its library gave it."""
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu().numpy()
    if hasattr(value, "to_numpy"):  # a table's column
        value = value.to_numpy()
    if isinstance(value, np.ndarray):
        return value.item() if value.size == 1 else value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def _parts(value: Any) -> list[Any]:
    value = _plain(value)
    if isinstance(value, Mapping):
        return [part for one in value.values() for part in _parts(one)]
    if isinstance(value, list | tuple):
        return [part for one in value for part in _parts(one)]
    return [value]


def alike(one: Any, other: Any, tolerance: float) -> bool:
    """Whether two answers are the same: numbers nearly, words without regard to case, sets in any order."""
    one, other = _plain(one), _plain(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return set(one) == set(other) and all(alike(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        together: Callable[[Any, Any], bool] = lambda a, b: alike(a, b, tolerance)  # noqa: E731
        return len(one) == len(other) and all(map(together, one, other))
    if isinstance(one, str) and isinstance(other, str):
        return " ".join(one.lower().split()) == " ".join(other.lower().split())
    if isinstance(one, bool) or isinstance(other, bool):
        return isinstance(one, bool) and isinstance(other, bool) and one == other
    if isinstance(one, numbers.Real) and isinstance(other, numbers.Real):
        a, b = float(one), float(other)
        if not (math.isfinite(a) and math.isfinite(b)):
            return a == b or (math.isnan(a) and math.isnan(b))
        return abs(a - b) <= tolerance * max(1.0, abs(b))
    return bool(type(one) is type(other) and one == other)


def describe(value: Any) -> str:
    """Say what kind of thing an answer is, and nothing of its content."""
    value = _plain(value)
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, numbers.Real):
        return "a number"
    if isinstance(value, str):
        return "a word"
    if isinstance(value, Mapping):
        return f"a mapping with the keys {', '.join(sorted(map(str, value)))}"
    if isinstance(value, list | tuple):
        kinds = sorted({describe(part) for part in value})
        inside = kinds[0] if len(kinds) == 1 else "things of several kinds"
        return f"{len(value)} × {inside}" if value else "an empty list"
    return f"a {type(value).__name__}"
