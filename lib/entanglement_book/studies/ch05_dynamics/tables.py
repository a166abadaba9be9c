"""Reading the grids of chapter 05: from their stored tables to the intervals that it shows.

Intervals are t intervals over seeds. The pairs of one seed share a model, so they are averaged first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from entanglement.geometry import CASES
from entanglement.stats import Interval, mean_interval, summarize

__all__ = [
    "at_end",
    "case_table",
    "curve",
    "end_table",
    "length_slope",
    "mass_shares",
    "over_seeds",
    "token_table",
]


def over_seeds(table: pd.DataFrame, column: str) -> Interval:
    """Return the mean and interval of a column over seeds; rows of one seed are averaged first.

    Raises:
        ValueError: no rows.
    """
    if table.empty:
        raise ValueError(f"over_seeds: the table has no rows for {column!r}.")
    return mean_interval(table.groupby("seed")[column].mean().to_numpy())


def _rows(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    for column, value in values.items():
        table = table[table[column] == value]
    if table.empty:
        raise ValueError(f"the table has no rows for {values}.")
    return table


def at_end(means: pd.DataFrame, data: str, loss: str, column: str) -> Interval:
    """Return a quantity of one data set and loss at the last step."""
    rows = _rows(means, data=data, loss=loss)
    return over_seeds(rows[rows["step"] == rows["step"].max()], column)


def curve(means: pd.DataFrame, data: str, column: str) -> pd.DataFrame:
    """Return one quantity along training, a row a loss and step with its interval over seeds."""
    return summarize(_rows(means, data=data), column, ["loss", "step"])


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
            some = _rows(means, data=data, loss=loss)
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


def mass_shares(mass: pd.DataFrame, data: str, loss: str) -> pd.DataFrame:
    """Return where probability went, a row a response, place and part ("own", "top", "other", "rest")."""
    rows = _rows(mass, data=data, loss=loss)
    long = rows.melt(["seed", "response", "place"], ["own", "top", "other", "rest"], var_name="part")
    return summarize(long, "value", ["response", "place", "part"])


def token_table(tokens: pd.DataFrame, data: str, loss: str, place: str, most: int = 4) -> pd.DataFrame:
    """Return the tokens that gained and lost most at a place, with their probabilities: means over seeds.

    A token that is not among the listed ones of a seed is left out, so that all means have all seeds.
    """
    rows = _rows(tokens, data=data, loss=loss, place=place)
    found = rows.groupby("token")[["before", "after", "change"]].agg("mean")
    found = found[rows.groupby("token").size() == rows["seed"].nunique()].sort_values("change")
    if len(found) > 2 * most:
        found = pd.concat([found.head(most), found.tail(most)])
    found.index = pd.Index([repr(token) for token in found.index], name="token")
    return found
