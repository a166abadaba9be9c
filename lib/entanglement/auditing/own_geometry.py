"""What the gradients of single pairs say: their geometry, and the case of a step on the pair alone.

It explains; it does not foretell. What a pair's own gradients say of its chosen response leaves out all other
pairs, which do most of the moving.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn

from entanglement.auditing.alike_states import alike_states
from entanglement.checks import non_empty
from entanglement.gradients import pair_geometry
from entanglement.logps import PairLogps, model_device
from entanglement.losses import Loss
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked

__all__ = ["own_geometry"]


@checked(groups=non_empty)
def own_geometry(model: nn.Module, groups: Sequence[PairBatch], loss: Loss) -> pd.DataFrame:
    """Return what each pair's own gradients are like.

    Args:
        model: in evaluation mode; its trainable parameters count. It is its own reference.
        groups: pairs padded together.
        loss: whose weights decide the case.

    Returns:
        One row a pair, in order: pair; chosen_logp, rejected_logp (nats); a, b (norms of the two gradients),
        c (their inner product), cosine; band_low, band_high (the ratios of the two weights with which a step
        on this pair lowers neither the chosen nor raises the rejected response); r (the loss's own ratio);
        case (``PairGeometry.case``); ches, ches_mean (``alike_states``).
    """
    parts = []
    for group in groups:
        geometry = pair_geometry(model, group, "trainable")
        with torch.no_grad():
            chosen, rejected = (side.detach() for side in quick_logps(model, group))
        device = model_device(model)
        lengths = (group.chosen_len.to(device), group.rejected_len.to(device))
        d_w, d_l = loss.weights(PairLogps(chosen, rejected, chosen, rejected, *lengths))
        d_w, d_l = d_w.double().cpu(), d_l.double().cpu()
        low, high = geometry.band
        ches, ches_mean = alike_states(model, group)
        columns = {
            "chosen_logp": chosen, "rejected_logp": rejected, "a": geometry.chosen_sq.sqrt(),
            "b": geometry.rejected_sq.sqrt(), "c": geometry.inner, "cosine": geometry.cosine, "band_low": low,
            "band_high": high, "r": d_w / d_l, "ches": ches, "ches_mean": ches_mean,
        }  # fmt: skip
        numbers = {name: value.double().cpu().numpy() for name, value in columns.items()}
        parts.append(pd.DataFrame({"pair": list(group.ids)} | numbers | {"case": geometry.case(d_w, d_l)}))
    return pd.concat(parts, ignore_index=True)
