"""How alike a model's own states of the two responses are: the centered hidden embedding similarity.

CHES of a pair is ⟨h_w, h_l⟩ − ‖h_w‖², where h sums the last hidden states over a response's tokens (Razin et
al. 2024, arXiv 2410.08847): said there to foretell which chosen responses lose probability. The audit reports
it beside its own rehearsal, for comparison.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from entanglement.logps import check_batch, model_device
from entanglement.pairs import PairBatch
from entanglement.signatures import checked

__all__ = ["alike_states"]


@checked()
@torch.no_grad()
def alike_states(model: nn.Module, batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return CHES, plain and length-normalized (means over a response's tokens in place of sums).

    Args:
        model: of transformers; one that gives no hidden states has nan.
        batch: B pairs; only response tokens enter, so padding does not.

    Returns:
        Two (B,) tensors, float64, on the CPU.

    Raises:
        ValueError: an empty response, naming the pair.
    """
    check_batch(batch, "alike_states")
    batch = batch.to(model_device(model))
    unwrap = getattr(model, "get_base_model", None)  # an adapter hides the model's own arguments
    inner: Any = unwrap() if callable(unwrap) else model
    accepted = inspect.signature(inner.forward).parameters
    given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if "position_ids" in accepted:
        given["position_ids"] = batch.position_ids
    if "output_hidden_states" not in accepted and "kwargs" not in accepted:
        nothing = torch.full((len(batch),), torch.nan, dtype=torch.float64)
        return nothing, nothing.clone()
    states = model(**given, output_hidden_states=True).hidden_states[-1]  # (2B, T, H)
    counted = batch.response_mask[:, :, None]
    sums = torch.where(counted, states, torch.zeros_like(states)).sum(dim=1).double().cpu()  # (2B, H)
    n = len(batch)

    def centered(h_w: torch.Tensor, h_l: torch.Tensor) -> torch.Tensor:
        return (h_w * h_l).sum(dim=1) - h_w.square().sum(dim=1)

    means = sums / batch.response_mask.sum(dim=1, keepdim=True).cpu()
    return centered(sums[:n], sums[n:]), centered(means[:n], means[n:])
