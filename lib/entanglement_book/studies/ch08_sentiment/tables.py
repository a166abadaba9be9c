"""Reading the sentiment grid: from its stored tables to the intervals that the chapter shows.

Intervals are t intervals over seeds. The pairs of one seed share a model, so they are averaged first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from entanglement.stats import Interval, mean_interval, summarize
from entanglement.training.account import TERMS
from entanglement_book.materials.tweets import VARIANTS

__all__ = [
    "account_shares",
    "account_total",
    "along_training",
    "at_the_ends",
    "difference",
    "norm_share",
    "ratio_table",
    "value_at",
]

_ENDS = {"base": ("sft", "min"), "after SFT": ("sft", "max"), "after DPO": ("dpo", "max")}


def _select(table: pd.DataFrame, condition: str, phase: str | None = None) -> pd.DataFrame:
    chosen = table[table["condition"] == condition]
    if phase is not None:
        chosen = chosen[chosen["phase"] == phase]
    if chosen.empty:
        raise ValueError(f"the table has no rows for condition={condition!r}, phase={phase!r}.")
    return chosen


def along_training(
    means: pd.DataFrame, quantity: str, *, condition: str = "main", phase: str = "dpo", change: bool = False
) -> pd.DataFrame:
    """Return one quantity along training: one row a variant and step, with the interval over seeds.

    Args:
        means: the grid's table of that name.
        quantity: one of its columns.
        condition: which runs.
        phase: "sft" or "dpo".
        change: subtract each seed's own value at the phase's first step.
    """
    rows = _select(means, condition, phase).copy()
    if change:
        key = ["variant", "seed"]
        starts = rows.loc[rows.groupby(key)["step"].idxmin(), [*key, quantity]]
        first = rows[key].merge(starts, on=key, how="left")[quantity].to_numpy()
        rows[quantity] = rows[quantity] - first
    return summarize(rows, quantity, ["variant", "step"])


def value_at(curve: pd.DataFrame, variant: str, step: int | None = None) -> Interval:
    """Return the interval of a curve at a step (the last one if None)."""
    rows = curve[curve["variant"] == variant]
    wanted = rows["step"].max() if step is None else step
    row = rows[rows["step"] == wanted].iloc[0]
    return Interval(float(row["value"]), float(row["low"]), float(row["high"]), int(row["n"]))


def difference(
    means: pd.DataFrame, quantity: str, one: str, other: str, *, condition: str = "main", change: bool = False
) -> Interval:
    """Return variant ``one`` minus variant ``other`` at the last DPO step, seed by seed."""
    rows = _select(means, condition, "dpo")
    ends = rows.loc[rows.groupby(["variant", "seed"])["step"].idxmax()].set_index(["variant", "seed"])[
        quantity
    ]
    if change:
        starts = rows.loc[rows.groupby(["variant", "seed"])["step"].idxmin()]
        ends = ends - starts.set_index(["variant", "seed"])[quantity]
    return mean_interval((ends.loc[one] - ends.loc[other]).to_numpy())


def _moment(table: pd.DataFrame, name: str) -> pd.DataFrame:
    phase, which = _ENDS[name]
    rows = table[table["phase"] == phase]
    steps = rows.groupby(["variant", "seed"])["step"]
    wanted = steps.transform("min") if which == "min" else steps.transform("max")
    return rows[rows["step"] == wanted]


def at_the_ends(means: pd.DataFrame, quantity: str, *, condition: str = "main") -> pd.DataFrame:
    """Return one quantity of each variant for the base, after SFT and after DPO, as "mean [low, high]"."""
    rows = _select(means, condition)
    variants = [v for v in VARIANTS if v in set(rows["variant"])]
    table = {}
    for name in _ENDS:
        some = summarize(_moment(rows, name), quantity, ["variant"]).set_index("variant")
        table[name] = [f"{Interval(*some.loc[v, ['value', 'low', 'high', 'n']]):.2f}" for v in variants]
    return pd.DataFrame(table, index=pd.Index([v.replace("_", " ") for v in variants], name="responses"))


def ratio_table(pairs: pd.DataFrame, *, condition: str = "main") -> pd.DataFrame:
    """Return c/‖g_w‖², which the authors print, beside c/min(‖g_w‖², ‖g_l‖²), after SFT and after DPO.

    One row a variant and moment: the mean of each ratio over pairs, and the share of pairs in which each is
    above 1, which is what the mean hides.
    """
    rows = _select(pairs, condition).copy()
    a, b = rows["chosen_norm"], rows["rejected_norm"]
    inner = rows["cosine"] * a * b
    rows["authors"] = inner / a**2
    rows["right"] = inner / np.minimum(a, b) ** 2
    rows["authors_above"] = (rows["authors"] > 1).astype(float)
    rows["right_above"] = (rows["right"] > 1).astype(float)
    table = []
    for name in ("after SFT", "after DPO"):
        for variant in VARIANTS:
            some = _moment(rows, name)
            some = some[some["variant"] == variant]
            row: dict[str, object] = {"responses": variant.replace("_", " "), "moment": name}
            for column, title in (
                ("authors", "c/‖g_w‖²"),
                ("right", "c/min(‖g_w‖², ‖g_l‖²)"),
                ("authors_above", "share of pairs: first above 1"),
                ("right_above", "share of pairs: second above 1"),
            ):
                row[title] = f"{mean_interval(some.groupby('seed')[column].mean().to_numpy()):.2f}"
            table.append(row)
    return pd.DataFrame(table).set_index(["responses", "moment"])


def norm_share(pairs: pd.DataFrame, variant: str, *, condition: str = "main") -> Interval:
    """Return the share of held-out pairs whose rejected gradient is the longer one after DPO, over seeds."""
    rows = _moment(_select(pairs, condition), "after DPO")
    rows = rows[rows["variant"] == variant]
    longer = (rows["rejected_norm"] > rows["chosen_norm"]).astype(float)
    return mean_interval(longer.groupby(rows["seed"]).mean().to_numpy())


def account_shares(
    account: pd.DataFrame,
    *,
    condition: str = "main",
    response: str = "chosen",
    sets: Sequence[str] = ("batch", "test"),
) -> pd.DataFrame:
    """Return the account of Δ log π summed over all DPO steps: a row a variant, set and term, with intervals.

    The terms of each variant and set sum to its total (nats a pair).
    """
    rows = _select(account, condition)
    rows = rows[(rows["response"] == response) & rows["set"].isin(sets)]
    columns = [*TERMS, "total"]
    sums = rows.groupby(["variant", "set", "seed"])[columns].sum().reset_index()
    long = sums.melt(["variant", "set", "seed"], columns, var_name="term", value_name="nats")
    return summarize(long, "nats", ["variant", "set", "term"])


def account_total(account: pd.DataFrame, name: str, variant: str) -> Interval:
    """Return the total of ``account_shares`` for one pair set ("batch", or a held-out one) and variant."""
    rows = account[(account["set"] == name) & (account["variant"] == variant) & (account["term"] == "total")]
    if len(rows) != 1:
        raise ValueError(f"the account has {len(rows)} totals for set={name!r}, variant={variant!r}.")
    row = rows.iloc[0]
    return Interval(float(row["value"]), float(row["low"]), float(row["high"]), int(row["n"]))
