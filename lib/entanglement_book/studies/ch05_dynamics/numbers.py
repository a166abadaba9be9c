"""The numbers that the text of training dynamics quotes from the stored grids, and its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from entanglement.losses import PairLogps, get_loss
from entanglement.stats import Interval, mean_interval, share_interval
from entanglement_book.press.pasting import percent
from entanglement_book.studies.ch05_dynamics import tables
from entanglement_book.studies.shared.seeds import over_seeds, rows_of

__all__ = ["of_account", "of_accuracy", "of_cases", "of_ends", "of_plain_steps", "of_rates", "records"]

Number = float | Interval

MARGIN_ONLY = ("dpo", "ipo", "simpo", "kto", "bco", "sppo")
PULLED = ("slic_hf", "rpo", "cpo", "rrhf", "orpo")


def of_ends(means: pd.DataFrame) -> dict[str, Number]:
    """Return where losses end: <loss>_<quantity> on near-copies, far_<loss>_<quantity> on summaries; and
    sppo_r, the ratio of SPPO's weights there.

    Args:
        means: of the grid, with DPO-Shift.
    """
    found: dict[str, Number] = {}
    for data, short in (("sentiment", ""), ("summaries", "far_")):
        for loss in dict.fromkeys(rows_of(means, data=data)["loss"]):
            for name in ("chosen", "rejected", "margin"):
                found[f"{short}{loss}_{name}"] = tables.at_end(means, data, loss, name)
            found[f"{short}{loss}_both"] = percent(tables.share_at_end(means, data, loss, "both_fell"))
    found["fallers"] = sum(_high(found[f"{loss}_chosen"]) < 0 for loss in MARGIN_ONLY)
    lifted = [float(tables.at_end(means, "sentiment", loss, "chosen").value) for loss in PULLED]
    found |= {"pulled_low": min(lifted), "pulled_high": max(lifted)}
    found["pulled_margin"] = max(
        float(tables.at_end(means, "sentiment", loss, "margin").value) for loss in PULLED
    )
    ends = [tables.at_end(means, "sentiment", "sppo", side).value for side in ("chosen", "rejected")]
    chosen, rejected = (torch.tensor([end], dtype=torch.float64) for end in ends)
    start = torch.zeros_like(chosen)
    d_w, d_l = get_loss("sppo").weights(PairLogps(chosen, rejected, start, start))
    found["sppo_r"] = float(d_w / d_l)
    return found


def _high(number: Number) -> float:
    return number.high if isinstance(number, Interval) else number


def of_cases(means: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Number]:
    """Return what the held-out pairs' own gradients say, and in how many the rejected one is the longer;
    pulled_up, the least share of "both up" at the start under a pulled loss, percent.

    Args:
        means, pairs: tables of the grid.
    """
    found: dict[str, Number] = {}
    for data, short in (("sentiment", "near"), ("summaries", "far")):
        rows = rows_of(means, data=data, loss="dpo")
        first, last = (rows[rows["step"] == step] for step in (rows["step"].min(), rows["step"].max()))
        found[f"cos_{short}"] = over_seeds(first, "cosine")
        found[f"ideal_{short}"] = 100 * float(first["ideal"].mean())
        found[f"ideal_{short}_end"] = 100 * float(last["ideal"].mean())
        start = rows_of(pairs, data=data, loss="dpo", step=0)
        found[f"longer_{short}"] = 100 * float((start["norm_ratio"] > 1).mean())
        found[f"norm_{short}"] = float(start["norm_ratio"].median())
    pulled = {loss: rows_of(means, data="sentiment", loss=loss) for loss in ("rpo", "cpo", "orpo")}
    found["pulled_up"] = 100 * min(
        float(rows[rows["step"] == rows["step"].min()]["both_up"].mean()) for rows in pulled.values()
    )
    last = pulled["rpo"][pulled["rpo"]["step"] == pulled["rpo"]["step"].max()]
    found |= {"rpo_cos": float(last["cosine"].mean()), "rpo_ideal": 100 * float(last["ideal"].mean())}
    return found


def of_account(account: pd.DataFrame) -> dict[str, Number]:
    """Return the terms of the chosen answer's account: <near|far>_<set>_<term>."""
    found: dict[str, Number] = {}
    for data, short in (("sentiment", "near"), ("summaries", "far")):
        for name, terms in tables.account_rows(account, data).items():
            found |= {f"{short}_{name}_{term}": value for term, value in terms.items()}
    return found


def of_plain_steps(updates: pd.DataFrame) -> dict[str, Number]:
    """Return where DPO with plain steps ends on held-out near-copies.

    Args:
        updates: the table "means" of the grid of update rules.
    """
    rows = rows_of(updates, update="joint", optimizer="sgd", set="test")
    last = rows[rows["step"] == rows["step"].max()]
    return {f"plain_{name}": over_seeds(last, name) for name in ("chosen", "margin")}


def of_rates(chart: pd.DataFrame, updates: pd.DataFrame) -> dict[str, Number]:
    """Return what the two knobs do, at the end of the runs and at equal margin.

    Args:
        chart: the table of the grid of knobs.
        updates: the table "means" of the grid of update rules.
    """
    last = chart[chart["step"] == chart["step"].max()]
    mine = last[last["beta"] == 0.1]
    slow, fast = min(mine["rate"]), max(mine["rate"])
    found: dict[str, Number] = {"map_seeds": int(last["seed"].nunique())}
    for name, rate in (("slow", slow), ("fast", fast)):
        rows = mine[mine["rate"] == rate]
        n = int(rows["pairs"].sum())
        found[f"{name}_both"] = percent(share_interval(round(float(rows["both_fell"].mean()) * n), n))
        found[f"{name}_margin"] = float(rows["margin"].mean())
    paths = tables.paths_of_rates(updates)
    for name, rates in (("quarter", (0.25, 1.0)), ("half", (0.5, 1.0)), ("one", (1.0, 4.0))):
        for column, short in (("chosen", "chosen"), ("both_fell", "both")):
            there = tables.slower_against(mine, paths, rates, column)
            for key, value in there.items():
                found[f"{name}_{short}_{key}"] = percent(value) if column == "both_fell" else value
    one = rows_of(last, rate=1.0).pivot_table(index="seed", columns="beta", values=["chosen", "both_fell"])
    low, high = min(last["beta"]), max(last["beta"])
    shares = one["both_fell"]
    found["beta_both"] = percent(mean_interval((shares[low] - shares[high]).to_numpy()))
    at_ends = rows_of(last, beta=0.1).pivot_table(index="seed", columns="rate", values="both_fell")
    found["end_both_gap"] = percent(mean_interval((at_ends[1.0] - at_ends[slow]).to_numpy()))
    return found


def of_accuracy(sweep: pd.DataFrame) -> dict[str, Number]:
    """Return the accuracy on held-out near-copies in percent: before training, and after r = 1 and r = 1.005.

    Args:
        sweep: the table "means" of the grid of constant ratios.
    """
    rows = rows_of(sweep, optimizer="adamw", rate=1.0, set="test")
    last = rows["step"].max()
    before = 100 * rows_of(rows, ratio=1.0, step=0).set_index("seed")["accuracy"]
    found: dict[str, Number] = {"accuracy_none": mean_interval(before.to_numpy())}
    for ratio, name in ((1.0, "dpo"), (1.005, "dpo_shift")):
        after = 100 * rows_of(rows, ratio=ratio, step=last).set_index("seed")["accuracy"]
        found[f"accuracy_{name}"] = mean_interval(after.to_numpy())
        found[f"accuracy_gain_{name}"] = mean_interval((after - before).to_numpy())
    return found


def records(facts: Mapping[str, Number], slopes: Sequence[Interval]) -> dict[str, tuple[Number, Number]]:
    """Return claim → what was measured and its control.

    Args:
        facts: all of the above.
        slopes: of SimPO and of IPO.
    """
    return {
        "dynamics-margin-only-falls": (facts["dpo_chosen"], facts["dpo_shift_chosen"]),
        "dynamics-condition-kept": (facts["near_batch_own_pair"], facts["near_batch_preconditioner"]),
        "dynamics-pull-lifts-both": (facts["rpo_rejected"], facts["dpo_rejected"]),
        "dynamics-pull-costs-margin": (facts["rpo_margin"], facts["dpo_margin"]),
        "dynamics-dissimilar-cosine": (facts["cos_far"], facts["cos_near"]),
        "dynamics-dissimilar-fall": (_share(facts["far_dpo_both"]), _share(facts["far_rpo_both"])),
        "dynamics-token-means": (slopes[0], slopes[1]),
        "dynamics-rate": (_share(facts["quarter_both_gap"]), _share(facts["end_both_gap"])),
    }


def _share(number: Number) -> Interval:
    """Return percents as a share."""
    assert isinstance(number, Interval)
    return Interval(number.value / 100, number.low / 100, number.high / 100, number.n)
