"""One token: the three numbers by autograd, and how small each weight may be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from entanglement.loglinear import OneToken
from entanglement_book.exercises.checking import Check

Numbers = tuple[float, float, float]
Pair = tuple[float, float]


def _three(g_w: torch.Tensor, g_l: torch.Tensor) -> Numbers:
    """a², b² and c of two gradients."""
    return float(g_w @ g_w), float(g_l @ g_l), float(g_w @ g_l)


def _gradients(logits: Sequence[float], chosen: int, rejected: int) -> tuple[torch.Tensor, torch.Tensor]:
    z = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    logp = z.log_softmax(-1)
    g_w = torch.autograd.grad(logp[chosen], z, retain_graph=True)[0]
    return g_w, torch.autograd.grad(logp[rejected], z)[0]


def _numbers(logits: Sequence[float], chosen: int, rejected: int) -> Numbers:
    return _three(*_gradients(logits, chosen, rejected))


def _of_probabilities(logits: Sequence[float], chosen: int, rejected: int) -> Numbers:
    z = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    p = z.softmax(-1)
    g_w = torch.autograd.grad(p[chosen], z, retain_graph=True)[0]
    return _three(g_w, torch.autograd.grad(p[rejected], z)[0])


def _exchanged(logits: Sequence[float], chosen: int, rejected: int) -> Numbers:
    return _numbers(logits, rejected, chosen)


def _of_the_push(logits: Sequence[float], chosen: int, rejected: int) -> Numbers:
    """The inner product of g_w with −g_l."""
    g_w, g_l = _gradients(logits, chosen, rejected)
    return _three(g_w, -g_l)


def _of_logits(logits: Sequence[float], chosen: int, rejected: int) -> Numbers:
    """The gradients of z_w and z_l, not normalized by a softmax."""
    z = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    g_w = torch.autograd.grad(z[chosen], z, retain_graph=True)[0]
    return _three(g_w, torch.autograd.grad(z[rejected], z)[0])


def _norms(logits: Sequence[float], chosen: int, rejected: int) -> Numbers:
    a2, b2, c = _numbers(logits, chosen, rejected)
    return math.sqrt(a2), math.sqrt(b2), c


def _accumulated(logits: Sequence[float], chosen: int, rejected: int) -> Numbers:
    """Two calls of backward: the second gradient is added to the first."""
    g_w, g_l = _gradients(logits, chosen, rejected)
    return _three(g_w, g_w + g_l)


def _ratios(probs: Sequence[float], chosen: int, rejected: int) -> Numbers:
    """c/a², c/b² and ρ."""
    p = torch.tensor([probs], dtype=torch.float64)
    g = OneToken.from_probs(p, chosen, rejected).geometry()
    return float(g.inner / g.chosen_sq), float(g.inner / g.rejected_sq), float(g.cosine)


def _smallest(probs: Sequence[float], chosen: int, rejected: int) -> Pair:
    for_w, for_l, _ = _ratios(probs, chosen, rejected)
    return max(0.0, for_w), max(0.0, for_l)


def _smallest_exchanged(probs: Sequence[float], chosen: int, rejected: int) -> Pair:
    return _smallest(probs, rejected, chosen)


def _below_zero(probs: Sequence[float], chosen: int, rejected: int) -> Pair:
    return _ratios(probs, chosen, rejected)[:2]


def _cosines(probs: Sequence[float], chosen: int, rejected: int) -> Pair:
    rho = max(0.0, _ratios(probs, chosen, rejected)[2])
    return rho, rho


def _band_ends(probs: Sequence[float], chosen: int, rejected: int) -> Pair:
    """The two ends of the band of r; 0 for what is no bound."""
    for_w, for_l = _smallest(probs, chosen, rejected)
    return for_w, (1 / for_l if for_l else 0.0)


CHECKS: dict[str, Check] = {
    "06.1": Check(
        right=_numbers,
        mistakes=[
            (
                _of_probabilities,
                "these are gradients of the probabilities. g_w and g_l are gradients of log-probabilities.",
            ),
            (_exchanged, "chosen and rejected are exchanged: your a² is that of the rejected token."),
            (
                _of_the_push,
                "the sign of c is wrong. g_l is the gradient of log p_l itself, and not the direction in "
                "which the loss pushes it.",
            ),
            (
                _of_logits,
                "this differentiates the two logits. The softmax is forgotten, and with it the other tokens.",
            ),
            (_norms, "a and b are norms. Asked are their squares."),
            (
                _accumulated,
                "your second gradient contains the first: backward adds to .grad what is there already.",
            ),
        ],
        inputs=[([0.5, -1.0, 2.0], 0, 1), ([2.0, 0.0, 1.0], 2, 0), ([-2.0, -1.5, 1.5], 1, 0)],
        praise="In the first and the third c is positive, and in all three it is smaller than a² and b².",
    ),
    "06.4": Check(
        right=_smallest,
        mistakes=[
            (_smallest_exchanged, "the two are exchanged: the chosen token's motion depends on c and a²."),
            (
                _below_zero,
                "where c is negative you return negative ratios. Which positive weights are safe there?",
            ),
            (_cosines, "you return the cosine twice. The two norms differ here, so the bounds do as well."),
            (
                _band_ends,
                "your second number is the upper end of the band of d_w/d_l. Asked is a bound on d_l/d_w.",
            ),
        ],
        inputs=[
            ([0.02, 0.28, 0.70], 0, 1),
            ([0.30, 0.40, 0.30], 0, 1),
            ([0.10, 0.04, 0.80, 0.06], 1, 0),
            ([0.22, 0.03, 0.75], 0, 1),
        ],
        praise="No distribution gives more than one half: for one token either weight may be half the other.",
    ),
}
