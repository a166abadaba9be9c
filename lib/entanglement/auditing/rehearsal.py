"""The rehearsal: what a run will do to responses that it never sees, by steps that are taken back.

Along the direction in which the run will walk (``walk``), the model is moved by the length of the planned
run, the responses are measured, and the step is undone. What the data cannot decide yet is told by the halves
of the run's batches: where they disagree on a response, nothing is said about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import pandas as pd
import torch
from torch import nn

from entanglement.auditing.walk import Gradient, Half, Walk, stepped
from entanglement.checks import non_empty, positive
from entanglement.gradients.directions import directional_change
from entanglement.outcomes.turning import turning_point
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked

__all__ = ["Number", "rehearse", "response_table", "sweep", "turning_number"]


@checked(groups=non_empty)
@torch.no_grad()
def response_table(
    model: nn.Module, groups: Sequence[PairBatch], step: Gradient | None = None, length: float = 0.0
) -> torch.Tensor:
    """Return log π_w and log π_l of all pairs, (B, 2), float64, nats, as they are or after a step that is
    taken back.

    Args:
        model: in evaluation mode; left as it was, to the bit.
        groups: pairs padded together.
        step: what one step at rate 1 adds to the parameters; None for none.
        length: by which it is multiplied.
    """
    with stepped(model, step or {}, length):
        parts = [torch.stack(quick_logps(model, group), dim=1).double().cpu() for group in groups]
    return torch.cat(parts)


@checked(groups=non_empty, length=positive)
def rehearse(model: nn.Module, walk: Walk, groups: Sequence[PairBatch], length: float) -> pd.DataFrame:
    """Return what the run's direction does to each response.

    Args:
        model: as training will find it; left as it was, to the bit.
        walk: of the run.
        groups: pairs whose responses are measured, held-out ones say, padded together in groups.
        length: of the run: its steps times its mean rate.

    Returns:
        One row a pair, in order, with (for chosen and rejected each) logp (now), first (change to first
        order), whole (after a step of this length), even, odd (the same along half of the batches each),
        nats; and says: 1 if it will rise, −1 if it will fall, 0 where the halves or the two orders disagree.
    """
    before = response_table(model, groups)
    step = walk.along()
    first = [directional_change(model, group, step, "trainable") for group in groups]
    changes = {"first": length * torch.cat([torch.stack(one, dim=1).cpu() for one in first])}
    halves: dict[str, Half] = {"whole": "all", "even": "even", "odd": "odd"}
    for name, half in halves.items():
        changes[name] = response_table(model, groups, walk.along(1.0, half), length) - before
    signs = torch.stack([found.sign() for found in changes.values()])
    says = torch.where((signs == signs[0]).all(dim=0), signs[0], torch.zeros_like(signs[0]))
    table: dict[str, object] = {"pair": [name for group in groups for name in group.ids]}
    for k, side in enumerate(("chosen", "rejected")):
        table[f"{side}_logp"] = before[:, k].numpy()
        for name, found in changes.items():
            table[f"{side}_{name}"] = found[:, k].numpy()
        table[f"{side}_says"] = says[:, k].int().numpy()
    return pd.DataFrame(table)


@dataclass(frozen=True)
class Number:
    """The ratios r, by which d_w/d_l is multiplied, at which the mean response stays where it was.

    Attributes:
        chosen, rejected: above it, that response rises; nan where there is none between 1/64 and 64.
        at_one: changes of the mean chosen and rejected response at r = 1, nats.
        between: the same half way between the two ratios (on the log scale); (nan, nan) where one is missing.
    """

    chosen: float
    rejected: float
    at_one: tuple[float, float]
    between: tuple[float, float]


@checked(groups=non_empty, length=positive)
def turning_number(model: nn.Module, walk: Walk, groups: Sequence[PairBatch], length: float) -> Number:
    """Return at which ratios the mean chosen and the mean rejected response turn, by steps that are undone.

    Args:
        model: as training will find it; left as it was.
        walk: of the run.
        groups: held-out pairs.
        length: of the run: its steps times its mean rate.
    """
    before = response_table(model, groups).mean(dim=0)

    @cache
    def at(ratio: float) -> tuple[float, float]:
        found = response_table(model, groups, walk.along(ratio), length).mean(dim=0) - before
        return float(found[0]), float(found[1])

    chosen, rejected = (turning_point(lambda r, k=k: at(r)[k]) for k in (0, 1))  # type: ignore[misc]
    middle = (chosen * rejected) ** 0.5
    between = at(middle) if middle == middle else (float("nan"), float("nan"))
    return Number(chosen, rejected, at(1.0), between)


@checked(groups=non_empty, length=positive, ratios=non_empty)
def sweep(
    model: nn.Module, walk: Walk, groups: Sequence[PairBatch], length: float, ratios: Sequence[float]
) -> pd.DataFrame:
    """Return where the mean responses go at some ratios.

    Args:
        model: as training will find it; left as it was.
        walk: of the run.
        groups: held-out pairs.
        length: of the run: its steps times its mean rate.
        ratios: by which d_w/d_l is multiplied.

    Returns:
        One row a ratio: ratio, chosen, rejected (mean changes, nats).
    """
    before = response_table(model, groups).mean(dim=0)
    rows = []
    for ratio in ratios:
        change = response_table(model, groups, walk.along(ratio), length).mean(dim=0) - before
        rows.append({"ratio": ratio, "chosen": float(change[0]), "rejected": float(change[1])})
    return pd.DataFrame(rows)
