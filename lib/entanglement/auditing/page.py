"""The page of an audit: one HTML file that asks no other host for anything."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape

from entanglement.auditing.wording import CAUTION, of_number, of_run, signed
from entanglement.rows import VERDICTS

__all__ = ["page"]

#: Width and height of a figure, and the margins left of and below its axes, px.
_W, _H, _LEFT, _BELOW = 360, 240, 46, 34
#: Rows of the file that are listed one by one, where something is to be noted of them.
_LISTED = 1000


def _ticks(low: float, high: float) -> list[float]:
    """Return a few round numbers between two others."""
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step = next(step * k for k in (1, 2, 5, 10) if (high - low) / (step * k) <= 5)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


class _Axis:
    """A linear axis from values to pixels."""

    def __init__(self, values: list[float], start: float, end: float, digits: int | None = None) -> None:
        low, high = min(values), max(values)
        room = (high - low) * 0.06 or 1.0
        self.low, self.high = low - room, high + room
        self.start, self.end = start, end
        self.ticks = [(self(t), self._label(t, digits)) for t in _ticks(self.low, self.high)]

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @staticmethod
    def _label(value: float, digits: int | None) -> str:
        text = f"{value:.4g}" if digits is None else f"{value:.{digits}f}"
        return text.replace("-", "\u2212")


def _plane(pairs: pd.DataFrame) -> dict[str, Any]:
    """How far the two answers of each held-out pair move apart and together, as points."""
    held = pairs[pairs["held_out"]]
    apart = (held["chosen_whole"] - held["rejected_whole"]).tolist()
    together = ((held["chosen_whole"] + held["rejected_whole"]) / 2).tolist()
    x = _Axis([*apart, 0.0], _LEFT, _W - 8)
    y = _Axis([*together, 0.0], _H - _BELOW, 8)
    places, sides = held["place"].tolist(), held["chosen_says"].tolist()
    kinds = {1: "up", -1: "down", 0: "open"}
    points = [
        (x(a), y(t), kinds[int(s)], p) for a, t, s, p in zip(apart, together, sides, places, strict=True)
    ]
    return {"x": x, "y": y, "points": points}


def _curve(ratios: pd.DataFrame, number: dict[str, Any]) -> dict[str, Any]:
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


def _shade(pull: float, largest: float) -> tuple[str, float]:
    """Return a token's class and how strongly it is colored."""
    return ("down" if pull < 0 else "up"), round(min(abs(pull) / largest, 1.0) * 0.75, 2) if largest else 0.0


def _shaded(worst: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for row in worst:
        largest = max((abs(pull) for side in ("chosen", "rejected") for _, pull in row[side]), default=0.0)
        shown = {"place": row["place"], "pull": signed(row["pull"])}
        for side in ("chosen", "rejected"):
            shown[side] = [(text, *_shade(pull, largest), f"{pull:+.3g}") for text, pull in row[side]]
        found.append(shown)
    return found


def page(
    summary: dict[str, Any],
    rows: pd.DataFrame,
    pairs: pd.DataFrame,
    ratios: pd.DataFrame,
    worst: list[dict[str, Any]],
) -> str:
    """Return the page.

    Args:
        summary, rows, pairs, ratios, worst: as in ``AuditReport``.
    """
    loader = Environment(
        loader=PackageLoader("entanglement.auditing", "."), autoescape=select_autoescape(default=True),
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    noted = rows[rows["verdict"] != "ok"]
    rehearsed = summary["number"] is not None
    return loader.get_template("page.html.jinja").render(
        summary=summary,
        verdicts=[(name, n, VERDICTS[name]) for name, n in summary["verdicts"].items()],
        noted=noted.head(_LISTED).itertuples(index=False),
        more=max(len(noted) - _LISTED, 0),
        run=of_run(summary).splitlines() if rehearsed else [],
        number=of_number(summary["number"]).splitlines() if rehearsed else [],
        caution=CAUTION,
        plane=_plane(pairs) if rehearsed else None,
        curve=_curve(ratios, summary["number"]) if rehearsed else None,
        size=(_W, _H, _LEFT, _BELOW),
        worst=_shaded(worst),
        pairs=pairs.to_dict("records"),
        signed=signed,
    )
