"""One constant ratio for all pairs, as a way of training beside others, and which of them to take.

A way of training is judged by its *smaller gain*: the smaller of the chosen answer's rise and the rejected
one's fall, nats. At a margin m it is m/2 at most, and above 0 only if both signs are right.
"""

from __future__ import annotations

import pandas as pd

__all__ = ["as_ways", "at_the_end", "best_ratio", "constant", "smaller_gain", "stopped_early"]


def constant(ratio: float) -> str:
    """Return what the way of training with a constant ratio is called."""
    return f"r = {ratio:g}"


def as_ways(means: pd.DataFrame) -> pd.DataFrame:
    """Return the table of a grid of constant ratios in the form of the grid of update rules."""
    return means.assign(update=[constant(ratio) for ratio in means["ratio"]])


def at_the_end(
    means: pd.DataFrame, *, optimizer: str = "adamw", rate: float = 1.0, pairs: str = "test"
) -> pd.DataFrame:
    """Return the last step's rows of the runs with one optimizer and rate, on one set of pairs."""
    rows = means[(means["set"] == pairs) & (means["optimizer"] == optimizer) & (means["rate"] == rate)]
    return rows[rows["step"] == rows["step"].max()]


def smaller_gain(rows: pd.DataFrame) -> pd.Series:
    """Return min(Δ chosen, −Δ rejected), nats."""
    return pd.concat([rows["chosen"], -rows["rejected"]], axis=1).min(axis=1, skipna=False)


def best_ratio(means: pd.DataFrame, *, optimizer: str = "adamw", pairs: str = "validation") -> float:
    """Return the ratio whose smaller gain is the largest after training, in the mean over seeds, on pairs
    that do not judge it.
    """
    ends = at_the_end(means, optimizer=optimizer, pairs=pairs)
    gains = ends.assign(gain=smaller_gain(ends)).groupby("ratio", as_index=False)["gain"].mean()
    return float(gains.loc[gains["gain"].idxmax(), "ratio"])


def stopped_early(means: pd.DataFrame, way: str) -> pd.DataFrame:
    """Return a way of training at the measured step at which its smaller gain is the largest on validation
    pairs, in the mean over seeds: the rows of the held-out pairs then.
    """
    mine = means[(means["update"] == way) & (means["optimizer"] == "adamw") & (means["rate"] == 1.0)]
    seen = mine[(mine["set"] == "validation") & (mine["step"] > 0)]
    step = seen.assign(gain=smaller_gain(seen)).groupby("step")["gain"].mean().idxmax()
    return mine[(mine["set"] == "test") & (mine["step"] == step)]
