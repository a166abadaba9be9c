"""What a line of the benchmark is measured with: the code of its two sides, their sizes and options."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from entanglement.files import sha256
from entanglement.uses import Use
from entanglement_book.bench.lines import Line
from entanglement_book.bench.trainings import STEPS, Step
from entanglement_book.bench.ways import GROWTH, WAYS, Way, slow_and_fast
from entanglement_book.grids.made_by import Code

__all__ = ["made_of_line", "made_of_ways"]


def made_of_line(line: Line, uses: Iterable[Use] | None, code: Code) -> dict[str, Any]:
    """Return "code", "shape", "uses" and "files" of a line.

    Args:
        line: of ``LINES``.
        uses: what its two sides looked up when they were measured; None if nobody knows.
        code: the repository's.
    """
    return _made_of([_side(name) for name in (line.ours, line.theirs)], uses, code)


def made_of_ways(uses: Iterable[Use] | None, code: Code) -> dict[str, Any]:
    """Return the same of what stands beside the lines: growth and scaling."""
    sides = [WAYS[f"heat map of {n} + {n} tokens"] for n in GROWTH]
    scaled = [way for name, way in WAYS.items() if name.startswith(tuple(f"{w}, " for w in slow_and_fast()))]
    return _made_of([*sides, *scaled], uses, code)


def _side(name: str) -> Way | Step:
    return STEPS[name] if name in STEPS else WAYS[name]


def _made_of(sides: Sequence[Way | Step], uses: Iterable[Use] | None, code: Code) -> dict[str, Any]:
    roots: dict[Callable[..., Any], None] = {}
    sizes = []
    for side in sides:
        called = [side.prepare, *(value for value in side.options.values() if callable(value))]
        roots |= dict.fromkeys(called)
        told = {key: value for key, value in asdict(side).items() if key not in ("prepare", "options")}
        # A function counts by its code, whatever it is called.
        told["options"] = {key: value for key, value in side.options.items() if not callable(value)}
        sizes.append(told)
    made = code.made_by(tuple(roots), uses).as_dict()
    text = json.dumps(sizes, sort_keys=True)
    return made | {key: sha256(f"{made[key]} {text}")[:32] for key in ("code", "shape")}
