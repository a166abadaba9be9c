"""A shared suffix: when the chosen answer falls in the smallest example, and which weights prevent it."""

from __future__ import annotations

import math

import torch

from entanglement_book.exercises.checking import Check
from entanglement_book.studies.ch07_suffix.study import one_shared_token

Pair = tuple[float, float]


def _gradient(first: int, n: int, length: float, vocab: int) -> torch.Tensor:
    """The gradient of a response with W = 0 and orthogonal states, (V, n + 1): one column a state."""
    e = torch.eye(vocab, dtype=torch.float64)
    p = torch.full((vocab,), 1 / vocab, dtype=torch.float64)
    return torch.stack([e[first] - p] + n * [length * (e[0] - p)], dim=1)


def _gap(n: int, t: float, t_rejected: float, vocab: int) -> float:
    g_w, g_l = _gradient(0, n, t, vocab), _gradient(1, n, t_rejected, vocab)
    return float((g_w * (g_w - g_l)).sum())


def _gap_of_rejected(n: int, t: float, t_rejected: float, vocab: int) -> float:
    return _gap(n, t_rejected, t, vocab)


def _gap_of_two_tokens(n: int, t: float, t_rejected: float, vocab: int) -> float:
    """The chapter's formula, whatever the vocabulary."""
    return _gap(n, t, t_rejected, 2)


def _gap_of_suffix(n: int, t: float, t_rejected: float, vocab: int) -> float:
    """Without the differing token."""
    s_w, s_l = _gradient(0, n, t, vocab)[:, 1:], _gradient(1, n, t_rejected, vocab)[:, 1:]
    return float((s_w * (s_w - s_l)).sum())


def _gap_in_one_state(n: int, t: float, t_rejected: float, vocab: int) -> float:
    """All shared tokens predicted from one and the same state."""
    return _gap(1, n * t, n * t_rejected, vocab)


def _gap_of_means(n: int, t: float, t_rejected: float, vocab: int) -> float:
    """Means over tokens in place of sums."""
    return _gap(n, t, t_rejected, vocab) / (n + 1) ** 2


def _shape(n: int, t: float, t_rejected: float) -> tuple[float, float, float]:
    """a², b² and c of the smallest pair with n shared tokens."""
    g = one_shared_token(math.sqrt(n) * t, math.sqrt(n) * t_rejected).geometry()
    return float(g.chosen_sq), float(g.rejected_sq), float(g.inner)


def _band(n: int, t: float, t_rejected: float) -> Pair:
    a2, b2, c = _shape(n, t, t_rejected)
    return c / a2, b2 / c


def _upside_down(n: int, t: float, t_rejected: float) -> Pair:
    low, high = _band(n, t, t_rejected)
    return 1 / high, 1 / low


def _equal_norms(n: int, t: float, t_rejected: float) -> Pair:
    a2, b2, c = _shape(n, t, t_rejected)
    rho = c / math.sqrt(a2 * b2)
    return rho, 1 / rho


def _of_norms(n: int, t: float, t_rejected: float) -> Pair:
    a2, b2, c = _shape(n, t, t_rejected)
    return c / math.sqrt(a2), math.sqrt(b2) / c


def _of_suffix(n: int, t: float, t_rejected: float) -> Pair:
    """The band of the suffix blocks alone, which is one point."""
    return t_rejected / t, t_rejected / t


CHECKS: dict[str, Check] = {
    "07.2": Check(
        right=_gap,
        mistakes=[
            (_gap_of_rejected, "this is b² − c, which tells about rejected. Asked is a² − c."),
            (
                _gap_of_two_tokens,
                "right for a vocabulary of two. How long is e_y − p if p is uniform on V tokens?",
            ),
            (_gap_of_suffix, "the differing token is missing. It pulls the two answers apart."),
            (
                _gap_in_one_state,
                "you let all shared tokens have the same state. States that are orthogonal to each other "
                "have blocks that are orthogonal to each other.",
            ),
            (
                _gap_of_means,
                "these are gradients of means over tokens. The log-probability of an answer is a sum.",
            ),
        ],
        inputs=[(1, 2.0, 2.0, 2), (5, 1.0, 1.25, 60), (3, 2.0, 1.0, 4), (12, 1.0, 1.25, 3)],
        praise="The shared length alone changes nothing; n times a difference of the lengths does.",
    ),
    "07.6": Check(
        right=_band,
        mistakes=[
            (_upside_down, "your ratio stands on its head: r is d_w/d_l, and here rejected is the longer."),
            (
                _equal_norms,
                "this is the band of two gradients of equal length, with its center at 1. These two have the "
                "norm ratio b/a.",
            ),
            (
                _of_norms,
                "your quotients contain norms. The changes of the log-probabilities contain their squares.",
            ),
            (
                _of_suffix,
                "this is the suffix alone, as if the suffix were without end. The differing token gives the "
                "band its width.",
            ),
        ],
        inputs=[(2, 1.0, 1.25), (8, 1.0, 1.25), (128, 1.0, 1.25), (3, 2.0, 3.0)],
        praise="The longer the suffix, the narrower the band. It closes around the suffix's own ratio t′/t.",
    ),
}
