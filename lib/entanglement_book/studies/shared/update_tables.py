"""Reading grids of ways to train: from their stored tables to the intervals that chapters show.

Intervals are t intervals over seeds. The pairs of one seed share a model, so they are averaged first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from entanglement.stats import Interval, mean_interval

__all__ = [
    "as_updates",
    "at_end",
    "at_margin",
    "cost_table",
    "end_table",
    "fell_at",
    "inside",
    "margin_table",
]


def as_updates(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a grid's table in the form that this module reads: its ways of training are its updates, all
    with AdamW's rate.

    Args:
        table: "means" or "answers" of a grid.
        column: that names the way.
    """
    return table.rename(columns={column: "update"}).assign(rate=1.0, optimizer="adamw")


def at_end(
    means: pd.DataFrame,
    update: str,
    column: str,
    *,
    pairs: str = "test",
    rate: float = 1.0,
    optimizer: str = "adamw",
) -> Interval:
    """Return a quantity of one update at the last step.

    Args:
        means: the grid's table.
        update: which.
        column: of ``set_means``.
        pairs: "trained" or "test".
        rate: multiple of the learning rate.
        optimizer: "adamw" or "sgd" (plain steps).

    Raises:
        ValueError: no such rows.
    """
    rows = means[(means["update"] == update) & (means["set"] == pairs)]
    rows = rows[(rows["rate"] == rate) & (rows["optimizer"] == optimizer)]
    if rows.empty:
        raise ValueError(f"the table has no rows for {update!r}, {pairs!r}, rate {rate}, {optimizer}.")
    last = rows[rows["step"] == rows["step"].max()]
    return mean_interval(last.groupby("seed")[column].mean().to_numpy())


def end_table(
    means: pd.DataFrame, answers: pd.DataFrame, updates: Mapping[str, str], *, pairs: str = "test"
) -> pd.DataFrame:
    """Return one row an update after training, each cell "mean [low, high]".

    Columns: chosen kept (share of pairs whose chosen answer did not fall by more than the tolerance),
    rejected not up (share whose rejected one did not rise by more), margin (nats), accuracy, and of the drawn
    answers KL to the reference (nats), distinct-2, repeated tokens, and length (tokens).

    Args:
        means, answers: the grid's tables.
        updates: name → title, in the table's order.
        pairs: "trained" or "test".
    """
    rows = {}
    for name, title in updates.items():
        fell, rose = (at_end(means, name, column, pairs=pairs) for column in ("fell", "rose"))
        row = {"chosen kept": f"{_flip(fell):.2f}", "rejected not up": f"{_flip(rose):.2f}"}
        row["margin"] = f"{at_end(means, name, 'margin', pairs=pairs):.2f}"
        row["accuracy"] = f"{inside(at_end(means, name, 'accuracy', pairs=pairs)):.2f}"
        mine = answers[answers["update"] == name]
        for column, label in (("kl", "KL"), ("distinct_2", "distinct-2"), ("repeated", "repeated")):
            row[label] = _cell(mine[column], ".2f")
        rows[title] = row | {"length": _cell(mine["length"], ".1f")}
    return pd.DataFrame(rows).T


def _cell(values: pd.Series, digits: str, *, share: bool = False) -> str:
    """Return "mean [low, high]" of the values that there are (answers of one token have no distinct-2)."""
    known = values.dropna().to_numpy()
    if len(known) < 2:
        return "–"
    found = mean_interval(known)
    return f"{inside(found) if share else found:{digits}}"


def inside(found: Interval) -> Interval:
    """Return a t interval of shares without what lies below 0 or above 1."""
    return Interval(found.value, max(found.low, 0.0), min(found.high, 1.0), found.n)


def _flip(share: Interval) -> Interval:
    found = inside(share)
    return Interval(1 - found.value, 1 - found.high, 1 - found.low, found.n)


def at_margin(
    means: pd.DataFrame,
    updates: Sequence[str],
    share: float,
    *,
    pairs: str = "trained",
    itself: str = "joint",
) -> pd.DataFrame:
    """Return where each update stands when its margin is a share of what DPO itself ends with.

    Between two measured moments everything is taken to be linear in the margin.

    Args:
        means: the grid's table.
        updates: which.
        share: of the final mean margin of DPO itself with the same seed.
        pairs: "trained" or "test".
        itself: the name of DPO itself.

    Returns:
        One row an update and seed: update, seed, margin (nats), step, chosen, rejected (nats), fell, rose;
        missing values where the margin was never reached.
    """
    some = means[(means["set"] == pairs) & (means["rate"] == 1.0) & (means["optimizer"] == "adamw")]
    some = some.sort_values("step")
    last = some[(some["update"] == itself) & (some["step"] == some["step"].max())]
    targets = share * last.set_index("seed")["margin"]
    rows = []
    for name in updates:
        for seed, target in targets.items():
            path = some[(some["update"] == name) & (some["seed"] == seed)]
            row: dict[str, object] = {"update": name, "seed": seed, "margin": target}
            rows.append(row | _crossing(path, float(target)))
    return pd.DataFrame(rows)


def _crossing(path: pd.DataFrame, target: float) -> dict[str, float]:
    """Return the first place on a path at which its margin reaches a target."""
    columns = ["step", "chosen", "rejected", "fell", "rose"]
    margin = path["margin"].to_numpy()
    reached = np.flatnonzero(margin >= target)
    if not len(reached):
        return dict.fromkeys(columns, float("nan"))
    after = int(reached[0])
    if after == 0:
        return {name: float(path[name].iloc[0]) for name in columns}
    part = (target - margin[after - 1]) / (margin[after] - margin[after - 1])
    low, high = path.iloc[after - 1], path.iloc[after]
    return {name: float(low[name] + part * (high[name] - low[name])) for name in columns}


def fell_at(found: pd.DataFrame) -> dict[str, Interval]:
    """Return the share whose chosen answer fell, for each update of ``at_margin`` that got there with every
    seed.
    """
    return {
        str(name): inside(mean_interval(rows["fell"].to_numpy()))
        for name, rows in found.groupby("update")
        if rows["step"].notna().all()
    }


def margin_table(found: pd.DataFrame, updates: Mapping[str, str]) -> pd.DataFrame:
    """Return ``at_margin`` as a table, one row an update, each cell "mean [low, high]" over the seeds that
    reached the margin.
    """
    rows = {}
    for name, title in updates.items():
        mine = found[found["update"] == name]
        there = mine.dropna(subset=["step"])
        row: dict[str, object] = {"seeds": f"{len(there)} of {len(mine)}"}
        for column, digits in (("step", ".0f"), ("chosen", "+.2f"), ("rejected", "+.2f")):
            row[column] = _cell(there[column], digits)
        for column in ("fell", "rose"):
            row[column] = _cell(there[column], ".2f", share=True)
        rows[title] = row
    return pd.DataFrame(rows).T


def cost_table(lines: Sequence[Mapping[str, Any]], work: str) -> pd.DataFrame:
    """Return what a training step costs beside DPO's own, from the stored benchmark.

    Args:
        lines: of ``bench.stored()``.
        work: which of them.

    Returns:
        One row a line: s and DPO's own s (seconds a step), times as long, GB and DPO's own GB.

    Raises:
        ValueError: no such lines.
    """
    rows = {
        line["ours"]: {
            "s": round(line["seconds"], 2),
            "DPO's own, s": round(line["their_seconds"], 2),
            "times as long": round(1 / line["ratio"], 2),
            "GB": round(line["peak_mb"] * 2**20 / 1e9, 1),
            "DPO's own, GB": round(line["their_peak_mb"] * 2**20 / 1e9, 1),
        }
        for line in lines
        if line["work"] == work
    }
    if not rows:
        raise ValueError(f"work={work!r}: the benchmark has no such lines; run: make bench")
    return pd.DataFrame(rows).T
