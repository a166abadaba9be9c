"""The two figures of an audit's page, as numbers for its SVG."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

__all__ = ["SIZE", "curve", "plane", "ticks"]

#: Width and height of a figure, and the margins left of and below its axes, px.
SIZE = _W, _H, _LEFT, _BELOW = 360, 240, 64, 34
_KINDS = {1: "up", -1: "down", 0: "open"}


def ticks(low: float, high: float) -> list[float]:
    """Return a few round numbers between two others."""
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step = next(step * k for k in (1, 2, 5, 10) if (high - low) / (step * k) <= 5)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


class _Axis:
    """A linear axis from values to pixels."""

    def __init__(self, values: list[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        room = (high - low) * 0.06 or 1.0
        self.low, self.high = low - room, high + room
        self.start, self.end = start, end
        self.ticks = [(self(t), f"{t:.4g}".replace("-", "\u2212")) for t in ticks(self.low, self.high)]
        if start < end:  # across, a label half as wide as it is long must not leave the figure
            self.ticks = [(at, label) for at, label in self.ticks if at + 3.5 * len(label) <= _W]

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def plane(pairs: pd.DataFrame) -> dict[str, Any]:
    """How far the two answers of each held-out pair move apart and together, as points."""
    held = pairs[pairs["held_out"]]
    apart = (held["chosen_whole"] - held["rejected_whole"]).tolist()
    together = ((held["chosen_whole"] + held["rejected_whole"]) / 2).tolist()
    x = _Axis([*apart, 0.0], _LEFT, _W - 8)
    y = _Axis([*together, 0.0], _H - _BELOW, 8)
    places, sides = held["place"].tolist(), held["chosen_says"].tolist()
    points = [
        (x(a), y(t), _KINDS[int(s)], p) for a, t, s, p in zip(apart, together, sides, places, strict=True)
    ]
    return {"x": x, "y": y, "points": points}


def curve(ratios: pd.DataFrame, number: dict[str, Any]) -> dict[str, Any]:
    """Where the mean responses go at each ratio."""
    x = _Axis(ratios["ratio"].tolist(), _LEFT, _W - 8)
    y = _Axis([*ratios["chosen"], *ratios["rejected"], 0.0], _H - _BELOW, 8)
    lines = {
        side: " ".join(f"{x(r)},{y(v)}" for r, v in zip(ratios["ratio"], ratios[side], strict=True))
        for side in ("chosen", "rejected")
    }
    marks = [(x(number[side]), side) for side in lines if number[side] == number[side]]
    marks = [(at, side) for at, side in marks if _LEFT <= at <= _W]
    return {"x": x, "y": y, "lines": lines, "marks": marks, "one": x(1.0)}
