"""Losses of strict margin form, L = m(f_w − f_l + const): d_w = d_l at every pair, so Condition 1 decides.

A negative d means that the loss asks for a *smaller* margin there. Formulas: the book's table of losses,
checked against executed TRL where it has them.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid, relu

from entanglement.logps import PairLogps
from entanglement.losses.base import Hyper, declare_loss


def beta(default: float, meaning: str = "inverse temperature of the reward") -> Hyper:
    """Return the hyper-parameter β > 0 with a loss's own default."""
    return Hyper("beta", default, r"\beta", low=0.0, low_open=True, meaning=meaning)


BETA = beta(0.1)


def smoothing(default: float) -> Hyper:
    """Return the hyper-parameter ε in [0, 0.5), the share of flipped labels, with a loss's own default."""
    meaning = "share of flipped labels"
    return Hyper("label_smoothing", default, r"\varepsilon", 0.0, 0.5, high_open=True, meaning=meaning)


def smoothed(x: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Return −(1−ε) log σ(x) − ε log σ(−x): the logistic loss if a share ε of the labels is flipped."""
    return -(1 - label_smoothing) * logsigmoid(x) - label_smoothing * logsigmoid(-x)


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


@declare_loss(
    "cdpo",
    title="cDPO",
    formula=r"-(1-\varepsilon)\log\sigma(\beta\Delta)-\varepsilon\log\sigma(-\beta\Delta)",
    source="Mitchell 2023, note on DPO with noisy preferences; TRL before v0.29 (label_smoothing)",
    form="strict",
    hyper=[beta(0.1), smoothing(0.1)],
    needs_reference=True,
    d_w=r"\beta\,(1-\varepsilon-\sigma(\beta\Delta))",
    d_l=r"\beta\,(1-\varepsilon-\sigma(\beta\Delta))",
    notes="Turns around once the margin is that of the flipped labels.",
)
def cdpo(logps: PairLogps, *, beta: float, label_smoothing: float) -> torch.Tensor:
    """DPO with a share of flipped labels, (B,)."""
    return smoothed(beta * logps.delta, label_smoothing)


@declare_loss(
    "robust",
    title="Robust DPO",
    formula=r"\frac{-(1-\varepsilon)\log\sigma(\beta\Delta)+\varepsilon\log\sigma(-\beta\Delta)}{1-2\varepsilon}",
    source="Chowdhury et al. 2024, arXiv 2403.00409",
    form="strict",
    hyper=[beta(0.1), smoothing(0.1)],
    needs_reference=True,
    d_w=r"\beta\bigl(\tfrac{1-\varepsilon}{1-2\varepsilon}-\sigma(\beta\Delta)\bigr)",
    d_l=r"\beta\bigl(\tfrac{1-\varepsilon}{1-2\varepsilon}-\sigma(\beta\Delta)\bigr)",
    notes="Never stops pulling: its weight stays above zero at any margin.",
)
def robust(logps: PairLogps, *, beta: float, label_smoothing: float) -> torch.Tensor:
    """DPO corrected for a share of flipped labels, (B,)."""
    x = beta * logps.delta
    kept = (1 - label_smoothing) * logsigmoid(x) - label_smoothing * logsigmoid(-x)
    return -kept / (1 - 2 * label_smoothing)


@declare_loss(
    "rdpo",
    title="R-DPO",
    formula=r"-\log\sigma(\beta\Delta+\alpha(n_w-n_l))",
    source="Park et al. 2024, arXiv 2403.19159; sign as in the paper's code",
    form="strict",
    hyper=[beta(0.1), Hyper("alpha", 0.2, r"\alpha", low=0.0, meaning="weight of the difference in length")],
    needs_reference=True,
    needs_lengths=True,
    d_w=r"\beta\,\sigma(-\beta\Delta-\alpha(n_w-n_l))",
    d_l=r"\beta\,\sigma(-\beta\Delta-\alpha(n_w-n_l))",
    notes="The lengths enter as a constant, so the weights stay equal.",
)
def rdpo(logps: PairLogps, *, beta: float, alpha: float) -> torch.Tensor:
    """DPO with a margin that depends on the lengths, (B,)."""
    assert logps.chosen_len is not None and logps.rejected_len is not None
    longer = (logps.chosen_len - logps.rejected_len).to(logps.chosen)
    return -logsigmoid(beta * logps.delta + alpha * longer)


@declare_loss(
    "ipo",
    title="IPO",
    formula=r"\bigl(\Delta-\tfrac1{2\beta}\bigr)^2",
    source="Azar et al. 2023, arXiv 2310.12036 (β is their τ)",
    form="strict",
    hyper=[beta(0.1, "inverse of twice the target margin")],
    needs_reference=True,
    d_w=r"2\bigl(\tfrac1{2\beta}-\Delta\bigr)",
    d_l=r"2\bigl(\tfrac1{2\beta}-\Delta\bigr)",
    notes="Turns around beyond the target margin.",
)
def ipo(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """Squared distance of the margin from 1/(2β), (B,)."""
    return (logps.delta - 1 / (2 * beta)) ** 2


@declare_loss(
    "hinge",
    title="Hinge",
    formula=r"\max(0,1-\beta\Delta)",
    source="RSO, Liu et al. 2023, arXiv 2309.06657",
    form="strict",
    hyper=[beta(0.05)],
    needs_reference=True,
    d_w=r"\beta\,\mathbf 1[\beta\Delta<1]",
    d_l=r"\beta\,\mathbf 1[\beta\Delta<1]",
    notes="At the kink its weight is 0.",
)
def hinge(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """max(0, 1 − βΔ), (B,)."""
    return relu(1 - beta * logps.delta)


@declare_loss(
    "exo",
    title="EXO",
    formula=r"q\log\tfrac{q}{1-\varepsilon}+(1-q)\log\tfrac{1-q}{\varepsilon},\;q=\sigma(\beta\Delta)",
    source="Ji et al. 2024, arXiv 2402.00856",
    form="strict",
    hyper=[
        beta(0.1),
        Hyper(
            "label_smoothing",
            1e-3,
            r"\varepsilon",
            0.0,
            0.5,
            low_open=True,
            high_open=True,
            meaning="share of flipped labels",
        ),
    ],
    needs_reference=True,
    d_w=r"\beta\,\sigma'(\beta\Delta)\,(\operatorname{logit}(1-\varepsilon)-\beta\Delta)",
    d_l=r"\beta\,\sigma'(\beta\Delta)\,(\operatorname{logit}(1-\varepsilon)-\beta\Delta)",
    notes="The reverse divergence: small at margins that are wrong by far, too.",
)
def exo(logps: PairLogps, *, beta: float, label_smoothing: float) -> torch.Tensor:
    """KL from the policy's preference to the smoothed label, (B,)."""
    x = beta * logps.delta
    q = torch.sigmoid(x)
    log = torch.log(torch.tensor([1 - label_smoothing, label_smoothing], dtype=torch.float64)).tolist()
    return q * (logsigmoid(x) - log[0]) + (1 - q) * (logsigmoid(-x) - log[1])


@declare_loss(
    "discopop",
    title="DiscoPOP",
    formula=r"(1-\mu)(-\log\sigma(X))+\mu e^{-X},\;X=\beta\Delta,\;\mu=\sigma(X/\tau)",
    source="Lu et al. 2024, arXiv 2406.08414",
    form="strict",
    hyper=[
        beta(0.05),
        Hyper(
            "tau", 0.05, r"\tau", low=0.0, low_open=True, meaning="width of the change between the two parts"
        ),
    ],
    needs_reference=True,
    d_w=r"\beta\bigl\{(1-\mu)\sigma(-X)+\mu e^{-X}-\tfrac{\mu(1-\mu)}{\tau}[e^{-X}+\log\sigma(X)]\bigr\}",
    d_l=r"\beta\bigl\{(1-\mu)\sigma(-X)+\mu e^{-X}-\tfrac{\mu(1-\mu)}{\tau}[e^{-X}+\log\sigma(X)]\bigr\}",
    notes="Its weight is negative around a margin of zero, where training starts.",
)
def discopop(logps: PairLogps, *, beta: float, tau: float) -> torch.Tensor:
    """The log-ratio-modulated loss that a language model proposed, (B,)."""
    x = beta * logps.delta
    mu = torch.sigmoid(x / tau)
    return -(1 - mu) * logsigmoid(x) + mu * torch.exp(-x)


@declare_loss(
    "aot",
    title="AOT (paired)",
    formula=r"-(1-\varepsilon)\log\sigma(\beta\delta_{(k)})-\varepsilon\log\sigma(-\beta\delta_{(k)}),\;"
    r"\delta_{(k)}=z_{(k)}-z^{\rm ref}_{(k)},\;z=f_w-f_l\text{ sorted over the batch}",
    source="Melnyk et al. 2024, arXiv 2406.05882 (TRL: aot)",
    form="strict",
    hyper=[beta(0.01), smoothing(0.0)],
    needs_reference=True,
    d_w=r"\beta\,(1-\varepsilon-\sigma(\beta\delta_{(k)}))\text{ at the rank of }z",
    d_l=r"\beta\,(1-\varepsilon-\sigma(\beta\delta_{(k)}))\text{ at the rank of }z",
    notes="Looks at the batch: k is the pair's rank in it.",
)
def aot(logps: PairLogps, *, beta: float, label_smoothing: float) -> torch.Tensor:
    """Sorted margins of the policy against sorted margins of the reference, (B,), in order of rank."""
    assert logps.ref_chosen is not None and logps.ref_rejected is not None
    ranked = torch.sort(logps.margin).values
    gap = ranked - torch.sort(logps.ref_chosen - logps.ref_rejected).values
    return smoothed(beta * gap, label_smoothing)
