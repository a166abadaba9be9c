"""Losses of strict margin form, L = m(f_w − f_l + const): d_w = d_l, so Condition 1 decides."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from entanglement.logps import PairLogps
from entanglement.losses.registry import Hyper, declare_loss

BETA = Hyper("beta", 0.1, r"\beta", low=0.0, low_open=True, meaning="inverse temperature of the reward")


@declare_loss(
    "dpo",
    title="DPO",
    formula=r"-\log\sigma(\beta\Delta)",
    source="Rafailov et al. 2023, arXiv 2305.18290",
    form="strict",
    hyper=[BETA],
    needs_reference=True,
    d_w=r"\beta\,\sigma(-\beta\Delta)",
    d_l=r"\beta\,\sigma(-\beta\Delta)",
)
def dpo(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """−log σ(β Δ), (B,)."""
    return -logsigmoid(beta * logps.delta)
