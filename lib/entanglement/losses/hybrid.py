"""Losses of no single form: a margin term together with terms of one response that pull the other way."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from entanglement.logps import PairLogps
from entanglement.losses.base import declare_loss
from entanglement.losses.strict import beta


@declare_loss(
    "apo_down",
    title="APO-down",
    formula=r"\sigma(\beta\varrho_w)+1-\sigma(\beta\Delta)",
    source="D'Oosterlinck et al. 2024, arXiv 2408.06266",
    form="hybrid",
    hyper=[beta(0.1)],
    needs_reference=True,
    d_w=r"\beta(\sigma'(\beta\Delta)-\sigma'(\beta\varrho_w))",
    d_l=r"\beta\,\sigma'(\beta\Delta)",
    notes="Made for chosen responses that are worse than the model: it starts at r = 0.",
)
def apo_down(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """σ(βϱ_w) + 1 − σ(βΔ), (B,)."""
    return torch.sigmoid(beta * logps.chosen_logratio) + torch.sigmoid(-beta * logps.delta)


@declare_loss(
    "caldpo",
    title="Cal-DPO",
    formula=r"-\log\sigma(\Delta)+\tfrac12\bigl[\bigl(\varrho_w-\tfrac1{2\beta}\bigr)^2+"
    r"\bigl(\varrho_l+\tfrac1{2\beta}\bigr)^2\bigr]",
    source="Xiao et al. 2024, arXiv 2412.14516 (the half as in its code)",
    form="hybrid",
    hyper=[beta(1e-3, "inverse of twice each side's target")],
    needs_reference=True,
    d_w=r"\sigma(-\Delta)+\tfrac1{2\beta}-\varrho_w",
    d_l=r"\sigma(-\Delta)+\tfrac1{2\beta}+\varrho_l",
    notes="There is no β inside its logistic function.",
)
def caldpo(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """DPO without β, and squared distances of the log-ratios from ±1/(2β), (B,)."""
    target = 1 / (2 * beta)
    far = (logps.chosen_logratio - target) ** 2 + (logps.rejected_logratio + target) ** 2
    return -logsigmoid(logps.delta) + 0.5 * far
