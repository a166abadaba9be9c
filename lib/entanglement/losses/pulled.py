"""Losses with an extra pull on the chosen response: d_w is larger than d_l by a term or a factor."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid, relu

from entanglement.logps import PairLogps
from entanglement.losses.base import Hyper, declare_loss
from entanglement.losses.strict import beta


@declare_loss(
    "rpo",
    title="RPO (DPO + NLL)",
    formula=r"-\log\sigma(\beta\Delta)-\alpha\bar f_w",
    source="Pang et al. 2024, arXiv 2404.19733; Liu et al. 2024, arXiv 2405.16436 (α = 0.005, β = 0.01)",
    form="pulled",
    hyper=[beta(0.1), Hyper("alpha", 1.0, r"\alpha", low=0.0, meaning="weight of the likelihood of chosen")],
    needs_reference=True,
    needs_lengths=True,
    d_w=r"\beta S+\alpha/n_w,\;S=\sigma(-\beta\Delta)",
    d_l=r"\beta S",
    notes="r grows without bound as the margin grows.",
)
def rpo(logps: PairLogps, *, beta: float, alpha: float) -> torch.Tensor:
    """DPO and the likelihood of the chosen response, (B,)."""
    return -logsigmoid(beta * logps.delta) - alpha * logps.chosen_mean


@declare_loss(
    "cpo",
    title="CPO",
    formula=r"-\log\sigma(\beta(f_w-f_l))-\alpha\bar f_w",
    source="Xu et al. 2024, arXiv 2401.08417",
    form="pulled",
    hyper=[beta(0.1), Hyper("alpha", 1.0, r"\alpha", low=0.0, meaning="weight of the likelihood of chosen")],
    needs_reference=False,
    needs_lengths=True,
    d_w=r"\beta\,\sigma(-\beta(f_w-f_l))+\alpha/n_w",
    d_l=r"\beta\,\sigma(-\beta(f_w-f_l))",
    notes="Without its second term (α = 0) a strict margin loss with no reference.",
)
def cpo(logps: PairLogps, *, beta: float, alpha: float) -> torch.Tensor:
    """Logistic loss of the bare margin, and the likelihood of the chosen response, (B,)."""
    return -logsigmoid(beta * logps.margin) - alpha * logps.chosen_mean


@declare_loss(
    "slic_hf",
    title="SLiC-HF",
    formula=r"\max(0,\delta-f_w+f_l)-\lambda f_w",
    source="Zhao et al. 2023, arXiv 2305.10425",
    form="pulled",
    hyper=[
        Hyper("delta", 1.0, r"\delta", low=0.0, meaning="margin from which the hinge rests"),
        Hyper("lam", 0.1, r"\lambda", low=0.0, meaning="weight of the likelihood of chosen"),
    ],
    needs_reference=False,
    d_w=r"\mathbf 1[f_w-f_l<\delta]+\lambda",
    d_l=r"\mathbf 1[f_w-f_l<\delta]",
    notes="While the hinge rests it is SFT. At the kink the hinge's weight is 0.",
)
def slic_hf(logps: PairLogps, *, delta: float, lam: float) -> torch.Tensor:
    """Hinge of the bare margin, and the likelihood of the chosen response, (B,)."""
    return relu(delta - logps.margin) - lam * logps.chosen


@declare_loss(
    "rrhf",
    title="RRHF",
    formula=r"\max(0,\bar f_l-\bar f_w)-\lambda\bar f_w",
    source="Yuan et al. 2023, arXiv 2304.05302",
    form="pulled",
    hyper=[Hyper("lam", 1.0, r"\lambda", low=0.0, meaning="weight of the likelihood of chosen")],
    needs_reference=False,
    length_normalized=True,
    d_w=r"(\mathbf 1[\bar f_w<\bar f_l]+\lambda)/n_w",
    d_l=r"\mathbf 1[\bar f_w<\bar f_l]/n_l",
    notes="Its authors' code weighs the ranking term a hundred times the likelihood.",
)
def rrhf(logps: PairLogps, *, lam: float) -> torch.Tensor:
    """Hinge of the margin of token means, and the likelihood of the chosen response, (B,)."""
    return relu(logps.rejected_mean - logps.chosen_mean) - lam * logps.chosen_mean


@declare_loss(
    "dpop",
    title="DPOP",
    formula=r"-\log\sigma\bigl(\beta(\Delta-\lambda\max(0,-\varrho_w))\bigr)",
    source="Pal et al. 2024, arXiv 2402.13228",
    form="pulled",
    hyper=[
        beta(0.1),
        Hyper("lam", 50.0, r"\lambda", low=0.0, meaning="penalty on a chosen response that falls"),
    ],
    needs_reference=True,
    d_w=r"\beta S\,(1+\lambda\mathbf 1[\varrho_w<0]),\;"
    r"S=\sigma\bigl(-\beta(\Delta-\lambda\max(0,-\varrho_w))\bigr)",
    d_l=r"\beta S",
    notes="At the reference, where ϱ_w = 0, the penalty's weight is 0, so training starts at r = 1.",
)
def dpop(logps: PairLogps, *, beta: float, lam: float) -> torch.Tensor:
    """DPO with a penalty once the chosen response is below its reference, (B,)."""
    # relu, not clamp: its derivative at the kink is 0, and the kink is where training starts.
    return -logsigmoid(beta * (logps.delta - lam * relu(-logps.chosen_logratio)))


@declare_loss(
    "orpo",
    title="ORPO",
    formula=r"-\bar f_w-\lambda\log\sigma(o(\bar f_w)-o(\bar f_l)),\;o(t)=t-\log(1-e^t)",
    source="Hong et al. 2024, arXiv 2403.07691",
    form="pulled",
    hyper=[Hyper("lam", 0.1, r"\lambda", low=0.0, meaning="weight of the odds ratio (TRL: beta)")],
    needs_reference=False,
    length_normalized=True,
    d_w=r"\tfrac1{n_w}\bigl(1+\tfrac{\lambda S}{1-e^{\bar f_w}}\bigr),\;S=\sigma(o(\bar f_l)-o(\bar f_w))",
    d_l=r"\tfrac1{n_l}\tfrac{\lambda S}{1-e^{\bar f_l}}",
    notes="SFT with a small push: r starts far above 1. TRL's likelihood runs over the prompt as well.",
)
def orpo(logps: PairLogps, *, lam: float) -> torch.Tensor:
    """Likelihood of the chosen response, and the log odds ratio of token means, (B,)."""

    def odds(mean: torch.Tensor) -> torch.Tensor:
        return mean - torch.log(-torch.expm1(mean))

    ratio = odds(logps.chosen_mean) - odds(logps.rejected_mean)
    return -logps.chosen_mean - lam * logsigmoid(ratio)
