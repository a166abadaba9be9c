"""Losses that are a sum of one term for each response: each has its own target.

The step still couples the two through ⟨g_w, g_l⟩: separable losses change r, and do not untangle.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from entanglement.logps import PairLogps
from entanglement.losses.base import Hyper, declare_loss
from entanglement.losses.strict import beta


@declare_loss(
    "kto",
    title="KTO (one pair)",
    formula=r"\lambda_D(1-\sigma(\beta(\varrho_w-z)))+\lambda_U(1-\sigma(\beta(z-\varrho_l)))",
    source="Ethayarajh et al. 2024, arXiv 2402.01306",
    form="separable",
    hyper=[
        beta(0.1),
        Hyper("desirable", 1.0, r"\lambda_D", low=0.0, meaning="weight of the chosen side"),
        Hyper("undesirable", 1.0, r"\lambda_U", low=0.0, meaning="weight of the rejected side"),
        Hyper("kl", 0.0, "z", low=0.0, meaning="estimate of the KL to the reference, a constant in the step"),
    ],
    needs_reference=True,
    d_w=r"\lambda_D\beta\,\sigma'(\beta(\varrho_w-z))",
    d_l=r"\lambda_U\beta\,\sigma'(\beta(\varrho_l-z))",
    notes="The KL is estimated from other pairs and not differentiated; here it is given.",
)
def kto(logps: PairLogps, *, beta: float, desirable: float, undesirable: float, kl: float) -> torch.Tensor:
    """Both sides of KTO for a pair whose responses are one desirable and one undesirable example, (B,)."""
    chosen = desirable * torch.sigmoid(-beta * (logps.chosen_logratio - kl))
    rejected = undesirable * torch.sigmoid(-beta * (kl - logps.rejected_logratio))
    return chosen + rejected


@declare_loss(
    "apo_zero",
    title="APO-zero",
    formula=r"1-\sigma(\beta\varrho_w)+\sigma(\beta\varrho_l)",
    source="D'Oosterlinck et al. 2024, arXiv 2408.06266",
    form="separable",
    hyper=[beta(0.1)],
    needs_reference=True,
    d_w=r"\beta\,\sigma'(\beta\varrho_w)",
    d_l=r"\beta\,\sigma'(\beta\varrho_l)",
    notes="When both fall alike, both weights vanish alike.",
)
def apo_zero(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """1 − σ(βϱ_w) + σ(βϱ_l), (B,)."""
    return torch.sigmoid(-beta * logps.chosen_logratio) + torch.sigmoid(beta * logps.rejected_logratio)


@declare_loss(
    "bco",
    title="BCO (pair)",
    formula=r"-\log\sigma(\beta\varrho_w-\delta)-\log\sigma(\delta-\beta\varrho_l)",
    source="Jung et al. 2024, arXiv 2404.04656",
    form="separable",
    hyper=[
        beta(0.01),
        Hyper("delta", 0.0, r"\delta", meaning="reward that counts as neither; 0 in TRL today"),
    ],
    needs_reference=True,
    d_w=r"\beta\,\sigma(\delta-\beta\varrho_w)",
    d_l=r"\beta\,\sigma(\beta\varrho_l-\delta)",
    notes="Pulls back: as both fall, d_w grows and d_l shrinks.",
)
def bco(logps: PairLogps, *, beta: float, delta: float) -> torch.Tensor:
    """A binary classifier of chosen and rejected by their rewards, (B,)."""
    chosen = logsigmoid(beta * logps.chosen_logratio - delta)
    return -chosen - logsigmoid(delta - beta * logps.rejected_logratio)


@declare_loss(
    "nca",
    title="NCA (pair)",
    formula=r"-\log\sigma(\beta\varrho_w)-\tfrac12\log\sigma(-\beta\varrho_w)-\tfrac12\log\sigma(-\beta\varrho_l)",
    source="Chen et al. 2024, arXiv 2402.05369",
    form="separable",
    hyper=[beta(0.01)],
    needs_reference=True,
    d_w=r"\beta\bigl(1-\tfrac32\sigma(\beta\varrho_w)\bigr)",
    d_l=r"\tfrac\beta2\sigma(\beta\varrho_l)",
    notes="Turns the chosen side around once βϱ_w is above log 2.",
)
def nca(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """Noise-contrastive estimation with the pair as its own noise, (B,)."""
    chosen, rejected = beta * logps.chosen_logratio, beta * logps.rejected_logratio
    return -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)


@declare_loss(
    "sppo",
    title="SPPO (hard)",
    formula=r"\bigl(\varrho_w-\tfrac1{2\beta}\bigr)^2+\bigl(\varrho_l+\tfrac1{2\beta}\bigr)^2",
    source="Wu et al. 2024, arXiv 2405.00675",
    form="separable",
    hyper=[beta(1e-3, "inverse of twice each side's target")],
    needs_reference=True,
    d_w=r"2\bigl(\tfrac1{2\beta}-\varrho_w\bigr)",
    d_l=r"2\bigl(\varrho_l+\tfrac1{2\beta}\bigr)",
    notes="Below its target the rejected side is pulled up.",
)
def sppo(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """Squared distances of the two log-ratios from ±1/(2β), (B,)."""
    target = 1 / (2 * beta)
    return (logps.chosen_logratio - target) ** 2 + (logps.rejected_logratio + target) ** 2


@declare_loss(
    "sft",
    title="SFT",
    formula=r"-\bar f_w",
    source="maximum likelihood",
    form="separable",
    needs_reference=False,
    length_normalized=True,
    d_w=r"1/n_w",
    d_l="0",
    notes="Does not look at the rejected response, and moves it all the same.",
)
def sft(logps: PairLogps) -> torch.Tensor:
    """Negative mean log-likelihood of the chosen response, (B,)."""
    return -logps.chosen_mean
