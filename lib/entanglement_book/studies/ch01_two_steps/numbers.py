"""The numbers that the text of RLHF in two steps quotes from its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from entanglement.stats import Interval, mean_interval, share_interval
from entanglement_book.studies.ch01_two_steps.study import TwoSteps

__all__ = ["blind", "judges", "movements", "right", "weights"]


def _share(flags: Sequence[torch.Tensor]) -> Interval:
    """Return the mean of the seeds' shares, with an interval in [0, 1]: the exact one if no two differ."""
    found = mean_interval([float(each.double().mean()) for each in flags])
    low, high = found.low, found.high
    if low == high:
        every = torch.cat(list(flags))
        _, low, high, _ = share_interval(int(every.sum()), len(every))
    return found._replace(low=max(low, 0.0), high=min(high, 1.0))


def _percent(share: Interval) -> Interval:
    return Interval(*(100 * end for end in share[:3]), share.n)  # type: ignore[call-arg,arg-type]


def judges(runs: Mapping[int, TwoSteps]) -> dict[str, Interval]:
    """Return, for three judges, in how many percent of the held-out pairs they prefer the chosen answer.

    Args:
        runs: seed → its run.
    """
    after = [run.table.query("phase == 'sft'").sort_values("step").iloc[-1] for run in runs.values()]
    likelier = mean_interval([float(row["accuracy"]) for row in after])
    likelier = likelier._replace(low=max(likelier.low, 0.0), high=min(likelier.high, 1.0))
    return {
        "SFT: the likelier": _percent(likelier),
        "reward model": _percent(right(runs)),
        "DPO: the larger gain": _percent(_share([run.implicit_right for run in runs.values()])),
    }


def right(runs: Mapping[int, TwoSteps]) -> Interval:
    """Return the share of held-out pairs in which the reward model is right; ``runs``: seed → its run."""
    return _share([run.reward_right for run in runs.values()])


def blind(runs: Mapping[int, TwoSteps]) -> Interval:
    """Return the same share for a reward model that was fitted to swapped pairs."""
    return _share([run.blind_right for run in runs.values()])


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
