"""Which rows pull the held-out chosen answers down, and with which tokens, to first order.

With E the mean gradient of the held-out chosen responses and P the optimizer's diagonal, a row contributes
d_w⟨g_w, PE⟩ − d_l⟨g_l, PE⟩ to their mean change. One small step along PE, taken and undone, gives these
products for all responses, token by token: they are what it changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn

from entanglement.auditing.walk import Gradient, Walk, length_of, stepped
from entanglement.checks import non_empty
from entanglement.gradients.select import fused_activations
from entanglement.logps import PairLogps, token_logps
from entanglement.losses import Loss
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked

__all__ = ["pulls", "token_pulls"]

#: Length of the step, relative to that of the parameters: products of float32 models are read off it.
_RELATIVE = 1e-4
#: AdamW's diagonal, 1/ε, where no batch had a gradient, less some rounding.
_UNSEEN = (1 - 1e-6) / 1e-8


def _mean_chosen(model: nn.Module, groups: Sequence[PairBatch], scale: Gradient) -> Gradient:
    """Return P times the mean gradient of the chosen responses."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = {name: torch.zeros_like(p) for name, p in named.items()}
    total = sum(len(group) for group in groups)
    with fused_activations(model):
        for group in groups:
            chosen, _ = quick_logps(model, group)
            parts = torch.autograd.grad(chosen.sum() / total, list(named.values()), allow_unused=True)
            for name, part in zip(named, parts, strict=True):
                if part is not None:
                    found[name] += part
    return {
        name: part * _where_it_steps(scale[name]) if name in scale else part for name, part in found.items()
    }


def _where_it_steps(scale: torch.Tensor) -> torch.Tensor:
    """Return AdamW's diagonal, 0 where no batch had a gradient: the run never steps there, and 1/ε would
    drown all else.
    """
    return torch.where(scale >= _UNSEEN, torch.zeros_like(scale), scale)


def _length(model: nn.Module, direction: Gradient) -> float:
    own = length_of({name: p.detach() for name, p in model.named_parameters() if p.requires_grad})
    return _RELATIVE * own / max(length_of(direction), 1e-30)


@torch.no_grad()
def _products(model: nn.Module, groups: Sequence[PairBatch], direction: Gradient) -> list[torch.Tensor]:
    """Return, a group each, the inner products of all response tokens with a direction, (2, B, T)."""
    length, sides = _length(model, direction), []
    for sign in (1.0, -1.0):  # a central difference has no curvature
        with stepped(model, direction, sign * length):
            sides.append([token_logps(model, group) for group in groups])
    return [
        torch.stack([up.chosen - down.chosen, up.rejected - down.rejected]).double().cpu() / (2 * length)
        for up, down in zip(*sides, strict=True)
    ]


@checked(groups=non_empty, held_out=non_empty)
def token_pulls(
    model: nn.Module, walk: Walk, groups: Sequence[PairBatch], held_out: Sequence[PairBatch], loss: Loss
) -> list[torch.Tensor]:
    """Return what each response token contributes to the mean change of the held-out chosen responses.

    Args:
        model: as training will find it; left as it was.
        walk: of the run, whose optimizer's diagonal is taken.
        groups: rows that are trained on.
        held_out: pairs whose chosen responses are to stay up.
        loss: of the run; the model is its own reference.

    Returns:
        For each group (2, B, T): chosen and rejected, in the tokens' own columns, 0 elsewhere; nats per unit
        of the rate. Positive ones push the held-out chosen responses up.
    """
    direction = _mean_chosen(model, held_out, walk.scale)
    found = []
    for group, products in zip(groups, _products(model, groups, direction), strict=True):
        with torch.no_grad():
            logps = [side.detach() for side in quick_logps(model, group)]
        lengths = (group.chosen_len.to(logps[0].device), group.rejected_len.to(logps[0].device))
        d_w, d_l = loss.weights(PairLogps(logps[0], logps[1], logps[0], logps[1], *lengths))
        weights = torch.stack([d_w, -d_l]).double().cpu()
        found.append(products * weights[:, :, None])
    return found


@checked(groups=non_empty, held_out=non_empty)
def pulls(
    model: nn.Module, walk: Walk, groups: Sequence[PairBatch], held_out: Sequence[PairBatch], loss: Loss
) -> pd.DataFrame:
    """Return what each row contributes to the mean change of the held-out chosen responses.

    Args: as ``token_pulls``.

    Returns:
        One row a pair, in the order of the groups: pair, from_chosen, from_rejected (nats per unit of the
        rate) and pull, their sum. The mean of ``pull`` is the rate at which the mean held-out chosen response
        moves in a plain run without clipping, and in AdamW's diagonal.
    """
    found = token_pulls(model, walk, groups, held_out, loss)
    sums = np.concatenate([part.sum(dim=2).numpy() for part in found], axis=1)
    names = [name for group in groups for name in group.ids]
    return pd.DataFrame(
        {"pair": names, "from_chosen": sums[0], "from_rejected": sums[1], "pull": sums[0] + sums[1]}
    )
