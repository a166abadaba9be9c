"""Reading the sentiment grid: from its stored tables to the intervals that the chapter shows.

Intervals are t intervals over seeds. The pairs of one seed share a model, so they are averaged first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from entanglement.bounded import clustered_share, summarize_bounded
from entanglement.geometry import CASES
from entanglement.stats import Interval, mean_interval, summarize
from entanglement.training.account import TERMS

__all__ = [
    "account_shares",
    "account_total",
    "along_training",
    "case_share",
    "difference",
    "norm_share",
    "ratio_shares",
    "value_at",
]

#: What a quantity can be, where it has a range.
RANGES: dict[str, tuple[float, float]] = {
    "cosine": (-1.0, 1.0),
    "accuracy": (0.0, 1.0),
    **{case: (0.0, 1.0) for case in CASES},
}
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
    elif quantity in RANGES:
        low, high = RANGES[quantity]
        return summarize_bounded(rows, quantity, ["variant", "step"], low=low, high=high)
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


def case_share(means: pd.DataFrame, case: str, variant: str, *, condition: str = "main") -> Interval:
    """Return the share of held-out pairs that are in a case at the end of DPO; clustered by seed."""
    rows = _moment(_select(means, condition), "after DPO")
    rows = rows[rows["variant"] == variant]
    pairs = rows["measured_pairs"]
    return clustered_share((rows[case] * pairs).round(), pairs)


def ratio_shares(pairs: pd.DataFrame, *, condition: str = "main") -> dict[tuple[str, str, str], Interval]:
    """Return how many pairs two ratios say to be entangled: c/‖g_w‖², which the authors' script prints, and
    c/min(‖g_w‖², ‖g_l‖²), which Condition 1 asks for.

    Returns:
        (variant, moment, "printed" or "asked") → the share of held-out pairs whose ratio is above 1; the
        intervals are clustered by seed.
    """
    rows = _select(pairs, condition).copy()
    a, b = rows["chosen_norm"], rows["rejected_norm"]
    inner = rows["cosine"] * a * b
    rows["printed"] = inner > a**2
    rows["asked"] = inner > np.minimum(a, b) ** 2
    found = {}
    for when in ("after SFT", "after DPO"):
        for variant, some in _moment(rows, when).groupby("variant"):
            for name in ("printed", "asked"):
                by_seed = some.groupby("seed")[name]
                found[(str(variant), when, name)] = clustered_share(by_seed.sum(), by_seed.size())
    return found


def norm_share(pairs: pd.DataFrame, variant: str, *, condition: str = "main") -> Interval:
    """Return the share of held-out pairs with the longer rejected gradient after DPO; clustered by seed."""
    rows = _moment(_select(pairs, condition), "after DPO")
    rows = rows[rows["variant"] == variant]
    longer = (rows["rejected_norm"] > rows["chosen_norm"]).groupby(rows["seed"])
    return clustered_share(longer.sum(), longer.size())


def account_shares(
    account: pd.DataFrame,
    *,
    condition: str = "main",
    response: str = "chosen",
    sets: Sequence[str] = ("batch", "test"),
    length: str = "taken",
) -> pd.DataFrame:
    """Return the account of Δ log π summed over all DPO steps: a row a variant, set and term, with intervals.

    The terms of each variant and set sum to its total (nats a pair).

    Args:
        account: the grid's table of that name.
        condition: which runs.
        response: "chosen" or "rejected".
        sets: of pairs.
        length: how long the plain step is, to which the step taken is compared: "taken" for as long as that
            one, which is how the account was kept, or "margin" for so long that over the run it gains the
            batch's pairs the same margin, to first order.

    Raises:
        ValueError: another length.
    """
    if length not in ("taken", "margin"):
        raise ValueError(f"length={length!r}; expected taken or margin.")
    rows = _select(account, condition)
    factors = _factors(rows)
    rows = rows[(rows["response"] == response) & rows["set"].isin(sets)]
    columns = [*TERMS, "total"]
    sums = rows.groupby(["variant", "set", "seed"])[columns].sum().reset_index()
    if length == "margin":
        factor = factors.reindex(pd.MultiIndex.from_frame(sums[["variant", "seed"]])).to_numpy()
        plain = sums["own_pair"] + sums["other_pairs"]
        sums["preconditioner"] += (1 - factor) * plain  # what the plain step gives up or takes over
        sums[["own_pair", "other_pairs"]] = sums[["own_pair", "other_pairs"]].mul(factor, axis=0)
    long = sums.melt(["variant", "set", "seed"], columns, var_name="term", value_name="nats")
    return summarize(long, "nats", ["variant", "set", "term"])


def _factors(account: pd.DataFrame) -> pd.Series:
    """Return the first-order margin of all steps taken over that of the plain ones, by variant and seed."""
    batch = account[account["set"] == "batch"]
    plain = batch["own_pair"] + batch["other_pairs"]
    side = batch["response"].map({"chosen": 1.0, "rejected": -1.0})
    keys = [batch["variant"], batch["seed"]]
    taken = (side * (plain + batch["preconditioner"])).groupby(keys).sum()
    return taken / (side * plain).groupby(keys).sum()


def account_total(account: pd.DataFrame, name: str, variant: str, term: str = "total") -> Interval:
    """Return one term of ``account_shares``, or its total, for a pair set ("batch", or a held-out one)."""
    rows = account[(account["set"] == name) & (account["variant"] == variant) & (account["term"] == term)]
    if len(rows) != 1:
        raise ValueError(
            f"the account has {len(rows)} rows for set={name!r}, variant={variant!r}, term={term!r}."
        )
    row = rows.iloc[0]
    return Interval(float(row["value"]), float(row["low"]), float(row["high"]), int(row["n"]))
