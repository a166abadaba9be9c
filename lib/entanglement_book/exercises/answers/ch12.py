"""Answers of which tokens matter: a linear program over token gradients, and a table of fallen answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from entanglement_book.exercises import Check

__all__ = ["CHECKS"]

Array = NDArray[np.float64]
Counted = tuple[Array, float, float]


def _tokens(seed: int) -> tuple[Array, Array]:
    """Token gradients of a pair that falls: one differing token, six shared ones, longer in the rejected."""
    drawn = np.random.default_rng(seed)
    first, shared = drawn.normal(size=(2, 10)), drawn.normal(size=(6, 10)) + 1
    w, l = shared + 0.3 * drawn.normal(size=(2, 6, 10))  # noqa: E741
    return np.vstack([first[:1], w]), np.vstack([first[1:], 1.5 * l])


def _program(tokens_w: Array, tokens_l: Array, *, sign: float = -1.0, limits: float = 1.0) -> float:
    """The largest margin's rate; the limits are kept (1), forgotten (0) or turned round (-1)."""
    g_w, g_l = tokens_w.sum(0), tokens_l.sum(0)
    moves = np.concatenate([tokens_w, sign * tokens_l])
    gain = moves @ (g_w - g_l)
    rows = np.stack([-moves @ g_w, moves @ g_l])
    found = linprog(-gain, A_ub=limits * rows, b_ub=[0, 0], bounds=(0, 1))
    return float(gain @ found.x)


def _best_margin(tokens_w: Array, tokens_l: Array) -> float:
    return _program(tokens_w, tokens_l)


def _no_limits(tokens_w: Array, tokens_l: Array) -> float:
    return _program(tokens_w, tokens_l, limits=0.0)


def _limits_turned(tokens_w: Array, tokens_l: Array) -> float:
    return _program(tokens_w, tokens_l, limits=-1.0)


def _rejected_added(tokens_w: Array, tokens_l: Array) -> float:
    return _program(tokens_w, tokens_l, sign=1.0)


def _all_tokens(tokens_w: Array, tokens_l: Array) -> float:
    return float(np.sum((tokens_w.sum(0) - tokens_l.sum(0)) ** 2))


def _pairs(seed: int) -> tuple[Array, Array, Array]:
    """Labels' log-probabilities before training, and the change of the chosen answer, of some pairs."""
    drawn = np.random.default_rng(seed)
    label_w = np.log(drawn.uniform(0.2, 0.9, size=60))
    label_l = np.log(drawn.uniform(0.1, 0.7, size=60))
    return label_w, label_l, drawn.normal(-0.05 + 0.1 * (label_w - label_l), 0.15)


def _shares(label_w: Array, label_l: Array, change: Array, *, tolerance: float = 0.05) -> Counted:
    wrong, fell = label_w < label_l, change < -tolerance
    cells = np.array([[np.mean(one & two) for two in (fell, ~fell)] for one in (wrong, ~wrong)])
    return cells, float(wrong[fell].mean()), float(wrong.mean())


def _wrong_way_round(label_w: Array, label_l: Array, change: Array) -> Counted:
    cells, _, wrong = _shares(label_w, label_l, change)
    return cells, float(cells[0, 0] / cells[0].sum()), wrong


def _of_all(label_w: Array, label_l: Array, change: Array) -> Counted:
    cells, _, wrong = _shares(label_w, label_l, change)
    return cells, float(cells[0, 0]), wrong


def _any_fall(label_w: Array, label_l: Array, change: Array) -> Counted:
    return _shares(label_w, label_l, change, tolerance=0.0)


def _right_for_wrong(label_w: Array, label_l: Array, change: Array) -> Counted:
    return _shares(label_l, label_w, change)


def _rows(label_w: Array, label_l: Array, change: Array) -> Counted:
    cells, among, wrong = _shares(label_w, label_l, change)
    return cells / cells.sum(1, keepdims=True), among, wrong


def _columns(label_w: Array, label_l: Array, change: Array) -> Counted:
    cells, among, wrong = _shares(label_w, label_l, change)
    return cells.T, among, wrong


CHECKS: dict[str, Check] = {
    "12.2": Check(
        right=_best_margin,
        mistakes=[
            (_no_limits, "nothing keeps the two answers: the limits on their rates do not act."),
            (_limits_turned, "the limits have the wrong sign: linprog keeps A_ub @ m at or below b_ub."),
            (_rejected_added, "rejected tokens enter the step with a minus."),
            (_all_tokens, "this is the margin's rate with all weights 1, which is DPO's step."),
        ],
        inputs=[_tokens(seed) for seed in range(3)],
        praise="It is less than DPO's rate, since DPO lowers these chosen answers.",
    ),
    "12.4": Check(
        right=_shares,
        mistakes=[
            (
                _wrong_way_round,
                "the wrong way round: of the answers with a wrong label, this share fell. Which share of the "
                "fallen ones had a wrong label?",
            ),
            (_of_all, "you divided by all pairs; the first of the two shares is among those that fell."),
            (_any_fall, "every loss counts as a fall here; the chapter allows a twentieth of a nat."),
            (_right_for_wrong, "turned round: a label is wrong where the rejected one is likelier."),
            (_rows, "the rows of your cells add up to 1; the cells are shares of all pairs."),
            (_columns, "rows and columns of your cells are swapped: wrong and right labels are the rows."),
        ],
        inputs=[_pairs(seed) for seed in range(3)],
        praise="Were the two shares equal, falling would have nothing to do with the label.",
    ),
}
