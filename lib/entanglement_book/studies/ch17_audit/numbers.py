"""How well an audit foretells, from the grid ``audits``: signs, ranks, sizes, and what its advice did."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from entanglement.stats import Interval, mean_interval
from entanglement_book.studies.ch17_audit.grid_audits import BLIND

__all__ = [
    "JUDGED",
    "RANKED",
    "SIGNED",
    "advice_panels",
    "advised",
    "after_training",
    "by_setting",
    "chance",
    "chance_to_speak",
    "parted",
    "rank_correlation",
    "right_signs",
    "settings",
    "short_run",
    "slope",
    "spoken",
    "worst",
]

#: Steps at which the goals hold; before, single batches decide.
JUDGED = (30, 100)
#: What tells a sign: title by the column that has it.
SIGNED = {"told": "rehearsal", "first": "first order", "own": "own pair"}
#: What is said to order the changes, with the sign under which it is said to do so.
RANKED = {"told": 1, "first": 1, "own": 1, "ches": -1, "edits": 1, "length": -1}
#: A run is one cell.
CELL = ["data", "optimizer", "seed"]


def settings(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the (data, optimizer) that a table has, in its order."""
    return list(dict.fromkeys(zip(table["data"], table["optimizer"], strict=True)))


def by_setting(table: pd.DataFrame, of: Callable[[pd.DataFrame], float]) -> dict[tuple[str, str], Interval]:
    """Return the mean over seeds, with its interval, of a number of each run, by (data, optimizer); runs that
    have none (nan) are left out.
    """
    found = {}
    for setting in settings(table):
        mine = table[(table["data"] == setting[0]) & (table["optimizer"] == setting[1])]
        values = [of(run) for _, run in mine.groupby("seed")]
        kept = [value for value in values if value == value]
        if kept:
            found[setting] = mean_interval(kept)
    return found


def at(responses: pd.DataFrame, step: int, side: str = "chosen") -> pd.DataFrame:
    """Return the rows of one moment and side."""
    return responses[(responses["step"] == step) & (responses["side"] == side)]


def right_signs(by: str) -> Callable[[pd.DataFrame], float]:
    """Return a function: rows of one run and moment → share of responses whose sign was foretold.

    Args:
        by: a column of ``SIGNED``; "says" for the rehearsal where it speaks, the others left out; "label" and
            "data" for those who know afterwards what most responses with the same first token did, or most
            responses of the run.
    """

    def share(run: pd.DataFrame) -> float:
        if by == "says":
            run = run[run["says"] != 0]
        if run.empty:
            return float("nan")
        found = np.sign(run["found"])
        if by in ("label", "data"):
            groups = run["label"] if by == "label" else pd.Series(0, index=run.index)
            up = found.gt(0).groupby(groups).transform("mean")
            return float(np.maximum(up, 1 - up).mean())
        return float((np.sign(run[by]) == found).mean())

    return share


def short_run(responses: pd.DataFrame, side: str = "chosen") -> pd.DataFrame:
    """Return the rows of the last moment with a column short: what training had done at the moment before,
    which is what someone knows who trains so far, looks, and goes back.
    """
    before, last = sorted(responses["step"].unique())[-2:]
    known = at(responses, before, side).set_index([*CELL, "pair"])["found"].rename("short")
    return at(responses, last, side).join(known, on=[*CELL, "pair"])


def chance(run: pd.DataFrame) -> float:
    """Return the share of signs that the rehearsal's would get right where it speaks if they were dealt to
    the responses by lot.
    """
    run = run[run["says"] != 0]
    up, rose = float((run["says"] > 0).mean()), float((run["found"] > 0).mean())
    return up * rose + (1 - up) * (1 - rose)


def chance_to_speak(run: pd.DataFrame) -> float:
    """Return the share of responses on which the four signs of a rehearsal would agree if each were dealt to
    the responses by lot.
    """
    up = [float((run[name] > 0).mean()) for name in ("told", "first", "even", "odd")]
    return float(np.prod(up) + np.prod([1 - share for share in up]))


def spoken(run: pd.DataFrame) -> float:
    """Return the share of responses of which the rehearsal says something."""
    return float((run["says"] != 0).mean())


def rank_correlation(by: str) -> Callable[[pd.DataFrame], float]:
    """Return a function: rows of one run and moment → Spearman's correlation of a column of ``RANKED`` with
    what was found; 0 where the column is the same for all.
    """

    def correlation(run: pd.DataFrame) -> float:
        if run[by].nunique() < 2 or run["found"].nunique() < 2:
            return 0.0
        return float(RANKED[by] * run[by].corr(run["found"], method="spearman"))

    return correlation


def slope(run: pd.DataFrame) -> float:
    """Return by what the told changes must be multiplied to be nearest the found ones (least squares)."""
    told, found = run["told"].to_numpy(), run["found"].to_numpy()
    return float(told @ found / (told @ told))


def worst(found: Mapping[tuple[str, str], Interval]) -> Interval:
    """Return the interval of the setting with the smallest mean."""
    return min(found.values(), key=lambda interval: interval.value)


def after_training(means: pd.DataFrame) -> pd.DataFrame:
    """Return where the runs end: one row a run and way, with kept (its margin, as a share of DPO's)."""
    ends = means[means["step"] == means["step"].max()].copy()
    dpo = ends[ends["way"] == "dpo"].set_index(CELL)["margin"].rename("whole")
    ends = ends.join(dpo, on=CELL)
    ends["kept"] = ends["margin"] / ends["whole"]
    return ends


def advised(ends: pd.DataFrame, way: str, *, within: float = 0.2, kept: float = 0.9) -> pd.Series:
    """Return of each run whether a way of training held the mean chosen response and kept the margin.

    Args:
        ends: from ``after_training``.
        way: "told", "blind" or "dpo".
        within: nats by which the mean held-out chosen response may have moved.
        kept: share of DPO's margin.
    """
    mine = ends[ends["way"] == way].set_index(CELL)
    return (mine["chosen"].abs() <= within) & (mine["kept"] >= kept)


def parted(ends: pd.DataFrame, way: str) -> pd.Series:
    """Return of each run whether the mean chosen response rose and the mean rejected one fell.

    Args:
        ends: from ``after_training``.
        way: "told", "blind" or "dpo".
    """
    mine = ends[ends["way"] == way].set_index(CELL)
    return (mine["chosen"] > 0) & (mine["rejected"] < 0)


def advice_panels(
    ends: pd.DataFrame, data: Mapping[str, str]
) -> dict[str, dict[str, tuple[Interval, Interval]]]:
    """Return where both mean answers end, by setting and way, for ``figures.after_advice``.

    Args:
        ends: from ``after_training``.
        data: names of the data sets → their titles.
    """
    ways = {"dpo": "DPO", "told": "the number", "blind": f"r = {BLIND:g}"}
    titles = {"adamw": "AdamW", "sgd": "plain steps"}
    found: dict[str, dict[str, tuple[Interval, Interval]]] = {}
    for way, title in ways.items():
        mine = ends[ends["way"] == way]
        sides = [
            by_setting(mine, lambda run, side=side: float(run[side].mean()))  # type: ignore[misc]
            for side in ("chosen", "rejected")
        ]
        for name, optimizer in settings(mine):
            row = found.setdefault(f"{data[name]}, {titles[optimizer]}", {})
            row[title] = (sides[0][name, optimizer], sides[1][name, optimizer])
    return found
