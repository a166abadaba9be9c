"""Reading the grids of training dynamics: from their stored tables to the intervals that the chapter shows.

Intervals are t intervals over seeds. The pairs of one seed share a model, so they are averaged first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from entanglement.geometry import CASES
from entanglement.stats import Interval, mean_interval, share_interval, summarize
from entanglement_book.studies.shared.seeds import over_seeds, rows_of

__all__ = [
    "account_rows",
    "along_margin",
    "at_end",
    "case_table",
    "curve",
    "ends",
    "length_slope",
    "paths_of_rates",
    "share_at_end",
    "shifted",
    "slower_against",
]

TERMS = ("own_pair", "other_pairs", "preconditioner", "curvature", "total")


def shifted(
    sweep: pd.DataFrame, ratio: float, like: pd.DataFrame, *, name: str = "dpo_shift"
) -> pd.DataFrame:
    """Return the runs with one constant ratio as those of one more loss.

    DPO-Shift with λ = 1/r has the ratio r for every pair at every step, as has the update that sets it.

    Args:
        sweep: the table "means" of a grid of constant ratios on one data set, whose checkpoints, batches and
            held-out pairs are those of training dynamics.
        ratio: which.
        like: the table "means" of training dynamics, for the number of held-out pairs.
        name: what the loss is called in the table.
    """
    rows = rows_of(sweep, ratio=ratio, optimizer="adamw", rate=1.0, set="test")
    columns = ["data", "seed", "step", "chosen", "rejected", "margin", "both_fell", "accuracy"]
    pairs = int(rows_of(like, data=rows["data"].iloc[0])["pairs"].iloc[0])
    return rows[columns].assign(loss=name, pairs=pairs, r=ratio)


def at_end(means: pd.DataFrame, data: str, loss: str, column: str) -> Interval:
    """Return a quantity of one data set and loss at the last step."""
    rows = rows_of(means, data=data, loss=loss)
    return over_seeds(rows[rows["step"] == rows["step"].max()], column)


def share_at_end(means: pd.DataFrame, data: str, loss: str, column: str) -> Interval:
    """Return a share of held-out pairs at the last step, with an interval inside [0, 1].

    Where all seeds have the same share, they say nothing about the spread; then the interval is the exact one
    of as many independent pairs.
    """
    rows = rows_of(means, data=data, loss=loss)
    last = rows[rows["step"] == rows["step"].max()]
    if last[column].nunique() == 1:
        n = int(last["pairs"].sum())
        return share_interval(round(float(last[column].iloc[0]) * n), n)
    found = over_seeds(last, column)
    return Interval(found.value, max(found.low, 0.0), min(found.high, 1.0), found.n)


def curve(means: pd.DataFrame, data: str, column: str) -> pd.DataFrame:
    """Return one quantity along training, a row a loss and step with its interval over seeds."""
    return summarize(rows_of(means, data=data), column, ["loss", "step"])


def ends(means: pd.DataFrame, data: str, losses: Sequence[str]) -> pd.DataFrame:
    """Return, per loss at the last step, an interval each of chosen, rejected and margin (changes, nats) and
    of both_fell, the share of held-out pairs whose answers both fell.
    """
    rows = {}
    for loss in losses:
        row = {name: at_end(means, data, loss, name) for name in ("chosen", "rejected", "margin")}
        rows[loss] = row | {"both_fell": share_at_end(means, data, loss, "both_fell")}
    return pd.DataFrame(rows).T


def case_table(means: pd.DataFrame, losses: Sequence[str]) -> pd.DataFrame:
    """Return the shares of the cases at the first and at the last step, by each pair's own gradients and the
    loss's own weights: one row a data set and loss, means over seeds.
    """
    rows = []
    for data in dict.fromkeys(means["data"]):
        for loss in losses:
            some = rows_of(means, data=data, loss=loss)
            row: dict[str, object] = {"data": data, "loss": loss}
            for moment, step in (("start", some["step"].min()), ("end", some["step"].max())):
                at = some[some["step"] == step]
                row |= {f"{case}, {moment}": float(at[case].mean()) for case in CASES if case != "reversed"}
            rows.append(row)
    return pd.DataFrame(rows).set_index(["data", "loss"])


def account_rows(
    account: pd.DataFrame, data: str, response: str = "chosen"
) -> dict[str, dict[str, Interval]]:
    """Return DPO's account of one response, summed over the steps: set of pairs → term → interval (nats).

    Args:
        account: the grid's table.
        data: which data set.
        response: "chosen" or "rejected".
    """
    rows = rows_of(account, data=data, response=response)
    found = {}
    for name, group in rows.groupby("set", sort=True):
        terms = [term for term in TERMS if term != "own_pair" or name == "batch"]
        found[str(name)] = {term: over_seeds(group, term) for term in terms}
    return found


def paths_of_rates(updates: pd.DataFrame) -> pd.DataFrame:
    """Return DPO's paths at several rates on held-out pairs, of the seeds that every rate has.

    Args:
        updates: the table "means" of the grid of update rules.
    """
    rows = rows_of(updates, update="joint", optimizer="adamw", set="test")
    seeds = set.intersection(*(set(group["seed"]) for _, group in rows.groupby("rate")))
    return rows[rows["seed"].isin(seeds)]


def _where(path: pd.DataFrame, margin: float, column: str) -> float:
    """Return a column of one run where its margin first reaches a value, between two moments linear in the
    margin; missing if it never does, or does so before the first moment after the start.
    """
    path = path.sort_values("step")
    margins, values = path["margin"].to_numpy(), path[column].to_numpy()
    reached = np.flatnonzero(margins >= margin)
    if not len(reached) or reached[0] < 2:
        return float("nan")
    after = int(reached[0])
    part = (margin - margins[after - 1]) / (margins[after] - margins[after - 1])
    return float(values[after - 1] + part * (values[after] - values[after - 1]))


def along_margin(paths: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a quantity beside the margin, one row a rate and measured moment after the start.

    Returns:
        Columns rate, step; margin, the mean over seeds; value, low, high: the quantity with its interval.
    """
    rows = []
    for (rate, step), some in paths[paths["step"] > 0].groupby(["rate", "step"], sort=True):
        found = mean_interval(some[column].to_numpy())
        rows.append({"rate": rate, "step": step, "margin": some["margin"].mean()} | found._asdict())
    return pd.DataFrame(rows)


def slower_against(
    ends_of_slow: pd.DataFrame, paths: pd.DataFrame, rates: tuple[float, float], column: str
) -> Mapping[str, Interval]:
    """Return what a slower run ends with and what a faster one has when its margin is the same, seed by seed.

    Args:
        ends_of_slow: last rows of the slower runs, with rate and seed.
        paths: of ``paths_of_rates``.
        rates: the slower and the faster rate.
        column: the quantity.

    Returns:
        "slow", "fast" and "gap", fast − slow, over the seeds whose faster run passes that margin.
    """
    slow = ends_of_slow[ends_of_slow["rate"] == rates[0]].set_index("seed")
    reached = slow["margin"].to_dict()
    fast = {
        seed: _where(path, reached[seed], column)
        for seed, path in paths[paths["rate"] == rates[1]].groupby("seed")
        if seed in reached
    }
    there = pd.Series(fast).dropna()
    other = slow.loc[there.index, column]
    columns = {"slow": other, "fast": there, "gap": there - other}
    return {name: mean_interval(values.to_numpy()) for name, values in columns.items()}


def length_slope(pairs: pd.DataFrame, data: str, loss: str, base: str = "dpo") -> Interval:
    """Return how much more a pair's chosen answer gains under one loss than under another, per unit of
    log(n_l/n_w): the least-squares slope of each seed, in nats, with its interval over seeds.

    Args:
        pairs: the grid's table, with r = n_l/n_w for a loss of token means.
        data: which data set.
        loss, base: whose gains are compared, pair by pair.
    """
    rows = pairs[(pairs["data"] == data) & (pairs["step"] == pairs["step"].max())]
    wide = rows.pivot(index=["seed", "pair"], columns="loss", values="chosen")
    ratio = np.log(rows[rows["loss"] == "simpo"].set_index(["seed", "pair"])["r"])
    gain = (wide[loss] - wide[base]).rename("gain")
    both = pd.concat([gain, ratio], axis=1).dropna()
    slopes = [np.polyfit(some["r"], some["gain"], 1)[0] for _, some in both.groupby("seed")]
    return mean_interval(slopes)
