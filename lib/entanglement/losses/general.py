"""Losses with one scalar on both sides and unequal factors: d_w ≠ d_l, by length or by log-ratio."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from entanglement.logps import PairLogps
from entanglement.losses.base import Hyper, declare_loss
from entanglement.losses.strict import beta, smoothed, smoothing


@declare_loss(
    "dpo_shift",
    title="DPO-Shift",
    formula=r"-\log\sigma(\beta(\varrho_w-\lambda\varrho_l))",
    source="Yang et al. 2025, arXiv 2502.07599",
    form="general",
    hyper=[
        beta(0.1),
        Hyper(
            "shift", 0.95, r"\lambda", low=0.0, high=1.0, low_open=True,
            meaning="weight of the rejected response; 1 is DPO's",
        ),
    ],
    needs_reference=True,
    d_w=r"\beta S,\;S=\sigma(-\beta(\varrho_w-\lambda\varrho_l))",
    d_l=r"\lambda\beta S",
    notes="r is 1/λ, whatever the model does: a constant ratio.",
)  # fmt: skip
def dpo_shift(logps: PairLogps, *, beta: float, shift: float) -> torch.Tensor:
    """DPO with the rejected log-ratio times λ, (B,)."""
    return -logsigmoid(beta * (logps.chosen_logratio - shift * logps.rejected_logratio))


@declare_loss(
    "simpo",
    title="SimPO",
    formula=r"-\log\sigma(\beta(\bar f_w-\bar f_l)-\gamma)",
    source="Meng et al. 2024, arXiv 2405.14734",
    form="general",
    hyper=[beta(2.5), Hyper("gamma", 1.375, r"\gamma", low=0.0, meaning="target margin times β")],
    needs_reference=False,
    length_normalized=True,
    d_w=r"\beta S/n_w,\;S=\sigma(\gamma-\beta(\bar f_w-\bar f_l))",
    d_l=r"\beta S/n_l",
    notes="r is the ratio of the lengths, whatever the model does. TRL's defaults are β = 0.1 and γ = 0.5.",
)
def simpo(logps: PairLogps, *, beta: float, gamma: float) -> torch.Tensor:
    """Logistic loss of the margin of token means, (B,)."""
    return -logsigmoid(beta * (logps.chosen_mean - logps.rejected_mean) - gamma)


def _mean_ratios(logps: PairLogps) -> tuple[torch.Tensor, torch.Tensor]:
    assert logps.chosen_len is not None and logps.rejected_len is not None
    return logps.chosen_logratio / logps.chosen_len, logps.rejected_logratio / logps.rejected_len


@declare_loss(
    "ipo_norm",
    title="IPO by token means",
    formula=r"\bigl(\varrho_w/n_w-\varrho_l/n_l-\tfrac1{2\beta}\bigr)^2",
    source="IPO as TRL ships it (loss_type ipo)",
    form="general",
    hyper=[beta(0.1, "inverse of twice the target margin, a token")],
    needs_reference=True,
    length_normalized=True,
    d_w=r"2M/n_w,\;M=\tfrac1{2\beta}-(\varrho_w/n_w-\varrho_l/n_l)",
    d_l=r"2M/n_l",
    notes="With β = 0.1 the target is 5 nats a token, which is hardly ever reached.",
)
def ipo_norm(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """Squared distance of the margin of mean log-ratios from 1/(2β), (B,)."""
    chosen, rejected = _mean_ratios(logps)
    return (chosen - rejected - 1 / (2 * beta)) ** 2


@declare_loss(
    "sigmoid_norm",
    title="DPO by token means",
    formula=r"-\log\sigma(\beta(\varrho_w/n_w-\varrho_l/n_l))",
    source="Tülu 3, Lambert et al. 2024, arXiv 2411.15124",
    form="general",
    hyper=[beta(5.0)],
    needs_reference=True,
    length_normalized=True,
    d_w=r"\beta S/n_w,\;S=\sigma(-\beta(\varrho_w/n_w-\varrho_l/n_l))",
    d_l=r"\beta S/n_l",
)
def sigmoid_norm(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """Logistic loss of the margin of mean log-ratios, (B,)."""
    chosen, rejected = _mean_ratios(logps)
    return -logsigmoid(beta * (chosen - rejected))


@declare_loss(
    "alphapo",
    title="AlphaPO",
    formula=r"-\log\sigma(\beta(R_w-R_l)-\gamma),\;R=\tfrac{1-e^{-\alpha\bar f}}{\alpha}",
    source="Gupta et al. 2025, arXiv 2501.03884",
    form="general",
    hyper=[
        beta(2.5),
        Hyper("gamma", 0.1, r"\gamma", low=0.0, meaning="target margin"),
        Hyper("alpha", 0.25, r"\alpha", meaning="shape of the reward; 0 is SimPO's"),
    ],
    needs_reference=False,
    length_normalized=True,
    d_w=r"\beta S\,e^{-\alpha\bar f_w}/n_w,\;S=\sigma(\gamma-\beta(R_w-R_l))",
    d_l=r"\beta S\,e^{-\alpha\bar f_l}/n_l",
)
def alphapo(logps: PairLogps, *, beta: float, gamma: float, alpha: float) -> torch.Tensor:
    """SimPO with a reward that is curved in the token mean, (B,)."""

    def reward(mean: torch.Tensor) -> torch.Tensor:
        return mean if alpha == 0 else -torch.expm1(-alpha * mean) / alpha

    return -logsigmoid(beta * (reward(logps.chosen_mean) - reward(logps.rejected_mean)) - gamma)


_FDPO = "f-DPO, Wang et al. 2023, arXiv 2309.16240"


@declare_loss(
    "fdpo_forward_kl",
    title="f-DPO, forward KL",
    formula=r"-\log\sigma(\beta(e^{-\varrho_l}-e^{-\varrho_w}))",
    source=_FDPO,
    form="general",
    hyper=[beta(0.1)],
    needs_reference=True,
    d_w=r"\beta S e^{-\varrho_w},\;S=\sigma(-\beta(e^{-\varrho_l}-e^{-\varrho_w}))",
    d_l=r"\beta S e^{-\varrho_l}",
)
def fdpo_forward_kl(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """DPO with the forward KL in place of the reverse, (B,)."""
    x = torch.exp(-logps.rejected_logratio) - torch.exp(-logps.chosen_logratio)
    return -logsigmoid(beta * x)


@declare_loss(
    "fdpo_js",
    title="f-DPO, Jensen–Shannon",
    formula=r"-\log\sigma(\beta(\log\sigma(\varrho_w)-\log\sigma(\varrho_l)))",
    source=_FDPO,
    form="general",
    hyper=[beta(0.1)],
    needs_reference=True,
    d_w=r"\beta S\,\sigma(-\varrho_w),\;S=\sigma(-\beta(\log\sigma(\varrho_w)-\log\sigma(\varrho_l)))",
    d_l=r"\beta S\,\sigma(-\varrho_l)",
)
def fdpo_js(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """DPO with the Jensen–Shannon divergence, (B,)."""
    x = logsigmoid(logps.chosen_logratio) - logsigmoid(logps.rejected_logratio)
    return -logsigmoid(beta * x)


@declare_loss(
    "fdpo_alpha",
    title="f-DPO, α-divergence",
    formula=r"-\log\sigma\Bigl(\beta\tfrac{e^{(\alpha-1)\varrho_w}-e^{(\alpha-1)\varrho_l}}{\alpha-1}\Bigr)",
    source=_FDPO,
    form="general",
    hyper=[
        beta(0.1),
        Hyper("alpha", 0.5, r"\alpha", 0.0, 1.0, low_open=True, high_open=True, meaning="which divergence"),
    ],
    needs_reference=True,
    d_w=r"\beta S e^{(\alpha-1)\varrho_w},\;"
    r"S=\sigma\Bigl(-\beta\tfrac{e^{(\alpha-1)\varrho_w}-e^{(\alpha-1)\varrho_l}}{\alpha-1}\Bigr)",
    d_l=r"\beta S e^{(\alpha-1)\varrho_l}",
)
def fdpo_alpha(logps: PairLogps, *, beta: float, alpha: float) -> torch.Tensor:
    """DPO with an α-divergence, (B,)."""
    power = alpha - 1
    x = torch.exp(power * logps.chosen_logratio) - torch.exp(power * logps.rejected_logratio)
    return -logsigmoid(beta * x / power)


@declare_loss(
    "aot_unpaired",
    title="AOT (unpaired)",
    formula=r"-(1-\varepsilon)\log\sigma(\beta\delta_{(k)})-\varepsilon\log\sigma(-\beta\delta_{(k)}),\;"
    r"\delta_{(k)}=\varrho_{w(k)}-\varrho_{l(k)}\text{, each sorted over the batch}",
    source="Melnyk et al. 2024, arXiv 2406.05882 (TRL: aot_unpaired, before v0.28 aot_pair)",
    form="general",
    hyper=[beta(0.01), smoothing(0.0)],
    needs_reference=True,
    d_w=r"\beta\,(1-\varepsilon-\sigma(\beta\delta_{(k)}))\text{ at the rank of }\varrho_w",
    d_l=r"\beta\,(1-\varepsilon-\sigma(\beta\delta_{(k)}))\text{ at the rank of }\varrho_l",
    notes="Looks at the batch: a pair's two weights come from two ranks.",
)
def aot_unpaired(logps: PairLogps, *, beta: float, label_smoothing: float) -> torch.Tensor:
    """Sorted chosen against sorted rejected log-ratios, (B,), in order of rank."""
    gap = torch.sort(logps.chosen_logratio).values - torch.sort(logps.rejected_logratio).values
    return smoothed(beta * gap, label_smoothing)
