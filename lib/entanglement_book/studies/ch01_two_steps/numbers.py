"""The numbers that the text of RLHF in two steps quotes from its runs."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from entanglement.stats import Interval, mean_interval
from entanglement_book.studies.ch01_two_steps.study import TwoSteps

__all__ = ["blind", "judges", "movements", "shares", "weights"]


def judges(runs: Mapping[int, TwoSteps]) -> dict[str, Interval]:
    """Return, for three judges, in how many percent of the held-out pairs they prefer the chosen answer.

    Args:
        runs: seed → its run.
    """
    right = {
        "SFT: the likelier": [
            float(run.table.query("phase == 'sft'").sort_values("step")["accuracy"].iloc[-1])
            for run in runs.values()
        ],
        "reward model": [float(run.reward_right.double().mean()) for run in runs.values()],
        "DPO: the larger gain": [float(run.implicit_right.double().mean()) for run in runs.values()],
    }
    return {name: mean_interval([100 * share for share in shares]) for name, shares in right.items()}


def shares(percent: Interval) -> Interval:
    """Return an interval in percent as one of shares, inside [0, 1]."""
    value, low, high = (end / 100 for end in percent[:3])
    return Interval(value, max(low, 0.0), min(high, 1.0), percent.n)


def blind(runs: Mapping[int, TwoSteps]) -> Interval:
    """Return the share of held-out pairs in which a reward model of swapped pairs is right."""
    return mean_interval([float(run.blind_right.double().mean()) for run in runs.values()])


def weights(runs: Mapping[int, TwoSteps]) -> dict[str, Interval]:
    """Return the reward per standard deviation of each feature.

    Args:
        runs: seed → its run.
    """
    each = pd.DataFrame([run.reward.table(run.spread) for run in runs.values()])
    return {str(name): mean_interval(each[name].to_numpy()) for name in each}


def movements(table: pd.DataFrame) -> dict[str, Interval]:
    """Return how far both answers and the margin moved in each step, nats.

    Args:
        table: columns seed, phase ("sft" and "dpo"), step, chosen_logp, rejected_logp.

    Returns:
        <phase>_chosen, <phase>_rejected, <phase>_margin.
    """
    found: dict[str, Interval] = {}
    for phase in ("sft", "dpo"):
        rows = table[table["phase"] == phase].sort_values("step").groupby("seed")
        moved = {}
        for side in ("chosen", "rejected"):
            ends = rows[f"{side}_logp"].agg(["first", "last"])
            moved[side] = ends["last"] - ends["first"]
            found[f"{phase}_{side}"] = mean_interval(moved[side].to_numpy())
        margin = moved["chosen"] - moved["rejected"]
        found[f"{phase}_margin"] = mean_interval(margin.to_numpy())
    return found
