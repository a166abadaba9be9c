"""Answers of one number: the two ratios at which answers turn, and the step clipped to the band."""

from __future__ import annotations

import torch

from entanglement.geometry import PairGeometry
from entanglement.updates import get_rule
from entanglement_book.exercises import Check

__all__ = ["CHECKS"]

Vectors = torch.Tensor
Ratios = tuple[float, float]


def _batches(seed: int) -> tuple[Vectors, ...]:
    """Gradients of some training and held-out pairs that share most of their length, and a diagonal."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shared, apart = 3 * noise(8), noise(8)
    sides = []
    for count in (6, 4):
        length, w, l = noise(count, 1).exp(), *(0.4 * noise(2, count, 8))  # noqa: E741
        sides += [length * (shared + w + apart / 2), 1.2 * length * (shared + l - apart / 2)]
    return (*sides, noise(8).exp())


def _turns(g_w: Vectors, g_l: Vectors, e_w: Vectors, e_l: Vectors, metric: Vectors) -> Ratios:
    w, l = metric * g_w.mean(0), metric * g_l.mean(0)  # noqa: E741
    up, down = e_w.mean(0), e_l.mean(0)
    return float(up @ l / (up @ w)), float(down @ l / (down @ w))


def _plain_turns(g_w: Vectors, g_l: Vectors, e_w: Vectors, e_l: Vectors, metric: Vectors) -> Ratios:
    return _turns(g_w, g_l, e_w, e_l, torch.ones_like(metric))


def _turns_swapped(g_w: Vectors, g_l: Vectors, e_w: Vectors, e_l: Vectors, metric: Vectors) -> Ratios:
    first, second = _turns(g_w, g_l, e_w, e_l, metric)
    return second, first


def _turns_upside_down(g_w: Vectors, g_l: Vectors, e_w: Vectors, e_l: Vectors, metric: Vectors) -> Ratios:
    first, second = _turns(g_w, g_l, e_w, e_l, metric)
    return 1 / first, 1 / second


def _training_turns(g_w: Vectors, g_l: Vectors, e_w: Vectors, e_l: Vectors, metric: Vectors) -> Ratios:
    return _turns(g_w, g_l, g_w, g_l, metric)


def _own_turns(g_w: Vectors, g_l: Vectors, e_w: Vectors, e_l: Vectors, metric: Vectors) -> Ratios:
    low, high = PairGeometry.from_vectors(e_w * metric.sqrt(), e_l * metric.sqrt()).band
    return float(low.mean()), float(high.mean())


#: a², b², c, d_w, d_l of a pair that falls, one that rises, one inside its band, and one without conflict.
_PAIRS = [(2, 9, 3, 1, 1), (9, 2, 3, 0.2, 0.1), (2, 3, 1.5, 0.3, 0.2), (1, 4, -1, 0.5, 0.2)]


def _by(rule: str, a2: float, b2: float, c: float, d_w: float, d_l: float) -> Ratios:
    *three, w, l = torch.tensor([[a2], [b2], [c], [d_w], [d_l]], dtype=torch.float64)  # noqa: E741
    u_w, u_l = get_rule(rule).weights(PairGeometry(three[0], three[1], three[2]), w, l)
    return float(u_w), float(u_l)


def _clipped(a2: float, b2: float, c: float, d_w: float, d_l: float) -> Ratios:
    return _by("band", a2, b2, c, d_w, d_l)


def _centered(a2: float, b2: float, c: float, d_w: float, d_l: float) -> Ratios:
    return _by("normalized", a2, b2, c, d_w, d_l)


def _clipped_swapped(a2: float, b2: float, c: float, d_w: float, d_l: float) -> Ratios:
    return _by("band", b2, a2, c, d_w, d_l)


def _one_weight_moved(a2: float, b2: float, c: float, d_w: float, d_l: float) -> Ratios:
    u_w, u_l = _clipped(a2, b2, c, d_w, d_l)
    return d_l * u_w / u_l, d_l


def _without_the_loss(a2: float, b2: float, c: float, d_w: float, d_l: float) -> Ratios:
    u_w, u_l = _clipped(a2, b2, c, d_w, d_l)
    return float((u_w / u_l) ** 0.5), float((u_l / u_w) ** 0.5)


CHECKS: dict[str, Check] = {
    "11.2": Check(
        right=_turns,
        mistakes=[
            (_plain_turns, "these are the ratios of a plain step; the optimizer multiplies it by P."),
            (_turns_swapped, "the order is wrong: first the ratio at which the chosen answer turns."),
            (_turns_upside_down, "upside down: r is the chosen answer's weight over the rejected one's."),
            (
                _training_turns,
                "here the training pairs' answers turn; the held-out ones were asked for.",
            ),
            (
                _own_turns,
                "this averages the bands of single pairs; a batch steps along mean gradients.",
            ),
        ],
        inputs=[_batches(seed) for seed in range(3)],
        tolerance=1e-5,
        praise="Between the two, held-out chosen answers rise and rejected ones fall, to first order.",
    ),
    "11.3": Check(
        right=_clipped,
        mistakes=[
            (_centered, "this goes to the band's center; clipping leaves alone what is inside."),
            (_clipped_swapped, "chosen and rejected are swapped in the band's two ends."),
            (_one_weight_moved, "the ratio is right, but the product of the weights is not the loss's."),
            (_without_the_loss, "the ratio is right, but the loss's own weights are gone."),
        ],
        inputs=_PAIRS,
        praise="A ratio inside stays; any other goes to the nearer end, where one answer does not move.",
    ),
}
