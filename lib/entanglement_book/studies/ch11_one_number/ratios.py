"""Reading the grids of constant ratios: where answers turn, what was foretold, and what rules add to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from entanglement.stats import Interval, mean_interval
from entanglement_book.studies.shared.constant_ratios import at_the_end, smaller_gain
from entanglement_book.studies.shared.update_tables import at_margin, inside

__all__ = [
    "DIRECTIONS",
    "after_steps",
    "everywhere",
    "foretold_turns",
    "gain_interval",
    "gains_at_margin",
    "lab_data",
    "lab_series",
    "standing",
    "sweep",
    "told_beside_found",
    "told_by_margin",
    "turns_found",
    "turns_of_mean",
]

_ANSWERS = ("chosen", "rejected")
#: Optimizer → direction of its virtual step.
DIRECTIONS = {"adamw": "sign", "sgd": "plain"}


def sweep(ends: pd.DataFrame) -> pd.DataFrame:
    """Return one row a ratio: ratio, and chosen, rejected, margin, accuracy, fell, rose as intervals."""
    rows = []
    for ratio, group in ends.groupby("ratio", sort=True):
        row: dict[str, object] = {"ratio": ratio}
        for name in (*_ANSWERS, "margin", "accuracy", "fell", "rose"):
            row[name] = mean_interval(group[name].to_numpy())
        rows.append(row)
    return pd.DataFrame(rows)


def lab_data(found: pd.DataFrame, upto: float = math.inf) -> dict[str, Any]:
    """Return what the page's lab shows of a sweep: for each ratio both answers' means with their intervals.

    Args:
        found: of ``sweep``.
        upto: the largest ratio that is shown.
    """
    shown = found[found["ratio"] <= upto]
    rows = [
        {"ratio": float(row["ratio"])}
        | {name: [row[name].value, row[name].low, row[name].high] for name in _ANSWERS}
        for _, row in shown.iterrows()
    ]
    most = max(abs(interval.value) for name in _ANSWERS for interval in shown[name])
    return {"rows": rows, "seeds": int(shown["chosen"].iloc[0].n), "reach": math.ceil(10 * most) / 10}


def turns_found(ends: pd.DataFrame) -> pd.DataFrame:
    """Return, seed by seed, the ratio at which each answer's mean change is 0, between two ratios that were
    tried (linear between them); missing where none turns it.

    Returns:
        Index seed; columns chosen, rejected.
    """
    found = {}
    for seed, group in ends.groupby("seed", sort=True):
        group = group.sort_values("ratio")
        found[seed] = {name: _zero(group["ratio"].to_numpy(), group[name].to_numpy()) for name in _ANSWERS}
    return pd.DataFrame(found).T.rename_axis("seed")


def turns_of_mean(ends: pd.DataFrame) -> tuple[float, float]:
    """Return the ratios at which the mean over seeds of chosen and rejected turns, as in ``turns_found``."""
    mean = ends.groupby("ratio", as_index=False)[list(_ANSWERS)].mean().assign(seed=0)
    turned = turns_found(mean)
    return float(turned["chosen"].iloc[0]), float(turned["rejected"].iloc[0])


def _zero(x: np.ndarray, y: np.ndarray) -> float:
    """Return where a piecewise linear curve first goes from below 0 to above."""
    up = np.flatnonzero((y[:-1] < 0) & (y[1:] >= 0))
    if not len(up):
        return float("nan")
    i = int(up[0])
    return float(x[i] - y[i] * (x[i + 1] - x[i]) / (y[i + 1] - y[i]))


def told_by_margin(turns: pd.DataFrame, direction: str) -> pd.DataFrame:
    """Return what virtual steps of several lengths told, one row a margin that every seed reached.

    Args:
        turns: the table of the grid ``foretold``.
        direction: "sign" for AdamW, "plain" for plain steps, whose small-step limit is at margin 0.

    Returns:
        Columns margin; chosen and rejected, each an ``Interval``.
    """
    rows = []
    for margin, group in turns[turns["direction"] == direction].groupby("margin", sort=True):
        if group[list(_ANSWERS)].notna().all(axis=None):
            told = {name: mean_interval(group[name].to_numpy()) for name in _ANSWERS}
            rows.append({"margin": margin, **told})
    return pd.DataFrame(rows)


def foretold_turns(turns: pd.DataFrame, direction: str, margins: Mapping[Any, float]) -> pd.DataFrame:
    """Return what was foretold at a margin, seed by seed (linear between the margins that were looked at).

    Args:
        turns: the table of the grid ``foretold``.
        direction: "sign" for AdamW, "plain" for plain steps.
        margins: seed → margin, nats.

    Returns:
        Index seed; columns chosen, rejected; missing for a seed of which no step gains as much,
        or which was not looked at.
    """
    found = {}
    for seed, margin in margins.items():
        rows = turns[(turns["seed"] == seed) & (turns["direction"] == direction) & (turns["margin"] > 0)]
        rows = rows.dropna(subset=list(_ANSWERS)).sort_values("margin")
        far = float("nan")
        found[seed] = dict.fromkeys(_ANSWERS, far)
        if len(rows):
            found[seed] = {
                name: float(np.interp(margin, rows["margin"], rows[name], right=far)) for name in _ANSWERS
            }
    return pd.DataFrame(found).T.rename_axis("seed")


def told_beside_found(
    turns: pd.DataFrame, means: pd.DataFrame, *, optimizer: str = "adamw", rate: float = 1.0
) -> pd.DataFrame:
    """Return what was foretold at the margin of DPO's run beside what training found, seed by seed.

    Args:
        turns: the table of the grid ``foretold`` of the same model and data.
        means: of the grid of constant ratios.
        optimizer, rate: of which runs.

    Returns:
        One row an answer and seed that both tables have: answer, seed, gained (the margin, nats), told and
        found (ratios), the latter two missing where there is none.
    """
    ends = at_the_end(means, optimizer=optimizer, rate=rate)
    gained = ends[ends["ratio"] == 1].set_index("seed")["margin"]
    gained = gained[gained.index.isin(turns["seed"])]
    told = foretold_turns(turns, DIRECTIONS[optimizer], gained.to_dict())
    found = turns_found(ends).loc[gained.index]
    parts = [
        pd.DataFrame({"answer": name, "gained": gained, "told": told[name], "found": found[name]})
        for name in _ANSWERS
    ]
    return pd.concat(parts).rename_axis("seed").reset_index()


def lab_series(runs: Mapping[str, Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]]) -> dict[str, Any]:
    """Return what the page's lab shows of all sweeps: a series a data set, model, optimizer and rate.

    Args:
        runs: as of ``everywhere``.
    """
    series = []
    for data, models in runs.items():
        for model, (_, means) in models.items():
            for optimizer, rate in _ways(means):
                found = sweep(at_the_end(means, optimizer=optimizer, rate=rate))
                title = f"{data}, {_setting(model, optimizer, rate)}"
                series.append({"title": title, **lab_data(found)})
    return {"series": series}


def _ways(means: pd.DataFrame) -> list[tuple[str, float]]:
    """Return the optimizers and rates of a grid of constant ratios, in order."""
    ways = means[["optimizer", "rate"]].drop_duplicates().sort_values(["optimizer", "rate"])
    return list(ways.itertuples(index=False, name=None))


def _setting(model: str, optimizer: str, rate: float) -> str:
    """Return how a setting is called: the model, the optimizer, and the rate where it is not the recipe's."""
    name = {"adamw": "AdamW", "sgd": "plain"}[optimizer]
    return f"{model}, {name}" + ("" if rate == 1 else f" × {rate:g}")


def everywhere(runs: Mapping[str, Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]]) -> pd.DataFrame:
    """Return what was foretold beside what was found, for every optimizer and rate that was run.

    Args:
        runs: data → model → (table of the grid ``foretold``, of the grid of constant ratios).

    Returns:
        ``told_beside_found`` of all, with columns data and setting (the model, the optimizer, and the rate
        where it is not the recipe's).
    """
    parts = []
    for data, models in runs.items():
        for model, (turns, means) in models.items():
            for optimizer, rate in _ways(means):
                found = told_beside_found(turns, means, optimizer=optimizer, rate=rate)
                parts.append(found.assign(data=data, setting=_setting(model, optimizer, rate)))
    return pd.concat(parts, ignore_index=True)


def gain_interval(rows: pd.DataFrame, way: str) -> Interval:
    """Return the smaller gain of one way of training, over the seeds that got there.

    Args:
        rows: of ``at_margin`` or ``after_steps``.
        way: its name there.
    """
    return mean_interval(smaller_gain(rows[rows["update"] == way]).dropna().to_numpy())


def after_steps(means: pd.DataFrame, steps: Mapping[str, float], *, pairs: str = "test") -> pd.DataFrame:
    """Return where ways of training stand after some steps, which need not be whole (linear between moments).

    Args:
        means: with AdamW at rate 1.
        steps: way → how many.
        pairs: which set.

    Returns:
        One row a way and seed: update, seed, chosen, rejected, margin.
    """
    some = means[(means["set"] == pairs) & (means["rate"] == 1.0) & (means["optimizer"] == "adamw")]
    rows = []
    for way, step in steps.items():
        for seed, path in some[some["update"] == way].groupby("seed", sort=True):
            path = path.sort_values("step")
            row = {name: np.interp(step, path["step"], path[name]) for name in (*_ANSWERS, "margin")}
            rows.append({"update": way, "seed": seed, **row})
    return pd.DataFrame(rows)


def gains_at_margin(means: pd.DataFrame, ways: Sequence[str], share: float, *, itself: str) -> pd.DataFrame:
    """Return the smaller gain of ways at a share of DPO's final margin on held-out pairs: a column a way, a
    row a seed; missing where the margin was not reached.
    """
    there = at_margin(means, ways, share, pairs="test", itself=itself)
    return there.assign(gain=smaller_gain(there)).pivot_table(
        index="seed", columns="update", values="gain", dropna=False
    )


def standing(
    means: pd.DataFrame, ways: Sequence[str], share: float, *, itself: str
) -> dict[str, dict[str, Interval]]:
    """Return where ways stand at a share of DPO's final margin on held-out pairs: way → chosen, rejected and
    gain, for the ways that got there with every seed.
    """
    there = at_margin(means, ways, share, pairs="test", itself=itself)
    found = {}
    for way in ways:
        mine = there[there["update"] == way]
        if mine["step"].notna().all():
            parts = {name: mean_interval(mine[name].to_numpy()) for name in _ANSWERS}
            parts |= {name: inside(mean_interval(mine[name].to_numpy())) for name in ("fell", "rose")}
            found[way] = parts | {"gain": gain_interval(there, way)}
    return found
