"""Reading the grids of training dynamics: from their stored tables to the intervals that the chapter shows.

Intervals are t intervals over seeds. The pairs of one seed share a model, so they are averaged first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from entanglement.geometry import CASES
from entanglement.stats import Interval, mean_interval, summarize
from entanglement_book.studies.shared.seeds import over_seeds, rows_of

__all__ = ["at_end", "case_table", "curve", "end_table", "length_slope"]


def at_end(means: pd.DataFrame, data: str, loss: str, column: str) -> Interval:
    """Return a quantity of one data set and loss at the last step."""
    rows = rows_of(means, data=data, loss=loss)
    return over_seeds(rows[rows["step"] == rows["step"].max()], column)


def curve(means: pd.DataFrame, data: str, column: str) -> pd.DataFrame:
    """Return one quantity along training, a row a loss and step with its interval over seeds."""
    return summarize(rows_of(means, data=data), column, ["loss", "step"])


def end_table(means: pd.DataFrame, data: str, losses: Sequence[str]) -> pd.DataFrame:
    """Return, per loss at the last step, both changes and the margin (nats) and the shares of held-out pairs
    whose chosen, or both answers fell, as "mean [low, high]".
    """
    rows = {}
    for loss in losses:
        row = {name: f"{at_end(means, data, loss, name):+.2f}" for name in ("chosen", "rejected", "margin")}
        row["chosen fell"] = f"{at_end(means, data, loss, 'fell'):.2f}"
        row["both fell"] = f"{at_end(means, data, loss, 'both_fell'):.2f}"
        rows[loss] = row
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
