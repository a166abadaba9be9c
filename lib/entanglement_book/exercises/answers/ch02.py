"""The underspecified margin: policies with one margin, and the losses that can tell them apart."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from entanglement.losses import PairLogps, get_loss
from entanglement_book.exercises.checking import Check

Probabilities = tuple[float, float, float]


def _all_three(chosen: float, rejected: float) -> Probabilities:
    return chosen, rejected, 1 - chosen - rejected


def _after(chosen: float, rejected: float, margin: float, common: float) -> Probabilities:
    return _all_three(chosen * math.exp(common + margin / 2), rejected * math.exp(common - margin / 2))


def _whole_margin(chosen: float, rejected: float, margin: float, common: float) -> Probabilities:
    return _after(chosen, rejected, 2 * margin, common)


def _exchanged(chosen: float, rejected: float, margin: float, common: float) -> Probabilities:
    return _after(chosen, rejected, -margin, common)


def _to_chosen_alone(chosen: float, rejected: float, margin: float, common: float) -> Probabilities:
    return _all_three(chosen * math.exp(common + margin), rejected * math.exp(common))


def _no_logarithms(chosen: float, rejected: float, margin: float, common: float) -> Probabilities:
    return _all_three(chosen + common + margin / 2, rejected + common - margin / 2)


def _common_forgotten(chosen: float, rejected: float, margin: float, common: float) -> Probabilities:
    return _after(chosen, rejected, margin, 0.0)


def _common_to_chosen_alone(chosen: float, rejected: float, margin: float, common: float) -> Probabilities:
    return _all_three(chosen * math.exp(common + margin / 2), rejected * math.exp(-margin / 2))


def _weights(name: str) -> tuple[float, float]:
    """A loss's weights at the place of the exercise."""
    place = (torch.tensor([value], dtype=torch.float64) for value in (-9, -14, -10, -12, 6, 9))
    d_w, d_l = get_loss(name).weights(PairLogps(*place))
    return float(d_w), float(d_l)


def _along(name: str) -> float:
    d_w, d_l = _weights(name)
    return d_l - d_w


def _against(name: str) -> float:
    return -_along(name)


def _sum_of_weights(name: str) -> float:
    d_w, d_l = _weights(name)
    return d_w + d_l


def _across(name: str) -> float:
    return -_sum_of_weights(name)


def _chosen_alone(name: str) -> float:
    return -_weights(name)[0]


def _ratio(name: str) -> float:
    d_w, d_l = _weights(name)
    return d_w / d_l if d_l else math.inf


_FOUR = math.log(4)
_COMMON: list[float] = [0.0, -math.log(16), math.log(10)]
_LOSSES: tuple[str, ...] = ("dpo", "ipo", "hinge", "sft", "rpo", "simpo")

_MISTAKES: list[tuple[Callable[[str], float], str]] = [
    (
        _against,
        "your answer has the wrong sign. One of the two weights is minus a derivative of the loss: which?",
    ),
    (_sum_of_weights, "you add the two weights. One of them is minus a derivative of the loss."),
    (_across, "that is the derivative across the diagonals, where chosen rises and rejected falls."),
    (_chosen_alone, "that is the derivative where chosen rises alone. Here both rise together."),
    (_ratio, "that is the ratio r of the weights. Asked is how fast the loss changes."),
]

CHECKS: dict[str, Check] = {
    "02.2": Check(
        right=_after,
        mistakes=[
            (
                _whole_margin,
                "your margin is twice the one that was asked for: both answers take the whole of it, in "
                "opposite directions.",
            ),
            (
                _exchanged,
                "in your policy the rejected answer pulls ahead: chosen and rejected are swapped.",
            ),
            (
                _to_chosen_alone,
                "your margin is right, but the mean of your two changes is not the common part: chosen takes "
                "all of the margin, and rejected none of it.",
            ),
            (_no_logarithms, "you add nats to probabilities. The changes are those of logarithms."),
            (_common_forgotten, "your three policies are one and the same: the common part is forgotten."),
            (
                _common_to_chosen_alone,
                "you give the common part to the chosen answer alone. It belongs to both answers.",
            ),
        ],
        inputs=[(0.04, 0.03, _FOUR, common) for common in _COMMON],
        praise="The check tried the margin log 4 with three common parts, and these are the chapter's A, B "
        "and C: one margin, one loss, three policies.",
    ),
    "02.3": Check(
        right=_along,
        mistakes=_MISTAKES,
        inputs=[(name,) for name in _LOSSES],
        praise="It is zero for DPO, IPO and the hinge loss, which see the margin alone, and negative for the "
        "other three: there a rise of both answers pays.",
    ),
}
