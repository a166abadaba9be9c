"""Where the probability goes: one step on a softmax, and an accuracy without the drift of the scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from entanglement_book.exercises.checking import Check

Tensor = torch.Tensor
Scores = Sequence[float]
Three = tuple[float, float, float]


def _force(logits: Tensor, w: int, l: int, d_w: float, d_l: float) -> Tensor:  # noqa: E741
    e, p = torch.eye(len(logits), dtype=logits.dtype), logits.softmax(-1)
    return d_w * (e[w] - p) - d_l * (e[l] - p)


def _moved(logits: Tensor, delta: Tensor) -> Tensor:
    return (logits + delta).log_softmax(-1) - logits.log_softmax(-1)


def _step(logits: Tensor, w: int, l: int, d_w: float, d_l: float, tau: float) -> Tensor:  # noqa: E741
    return _moved(logits, tau * _force(logits, w, l, d_w, d_l))


def _logits_alone(logits: Tensor, w: int, l: int, d_w: float, d_l: float, tau: float) -> Tensor:  # noqa: E741
    return tau * _force(logits, w, l, d_w, d_l)


def _first_order(logits: Tensor, w: int, l: int, d_w: float, d_l: float, tau: float) -> Tensor:  # noqa: E741
    delta = tau * _force(logits, w, l, d_w, d_l)
    return delta - logits.softmax(-1) @ delta


def _corners_alone(logits: Tensor, w: int, l: int, d_w: float, d_l: float, tau: float) -> Tensor:  # noqa: E741
    """The gradient of the two logits, not of the two log-probabilities."""
    e = torch.eye(len(logits), dtype=logits.dtype)
    return _moved(logits, tau * (d_w * e[w] - d_l * e[l]))


def _exchanged(logits: Tensor, w: int, l: int, d_w: float, d_l: float, tau: float) -> Tensor:  # noqa: E741
    return _step(logits, l, w, d_w, d_l, tau)


def _both_pulled(logits: Tensor, w: int, l: int, d_w: float, d_l: float, tau: float) -> Tensor:  # noqa: E741
    return _step(logits, w, l, d_w, -d_l, tau)


def _probabilities(logits: Tensor, w: int, l: int, d_w: float, d_l: float, tau: float) -> Tensor:  # noqa: E741
    delta = tau * _force(logits, w, l, d_w, d_l)
    return (logits + delta).softmax(-1) - logits.softmax(-1)


def _two_tokens(logits: Tensor, w: int, l: int, d_w: float, d_l: float, tau: float) -> Tensor:  # noqa: E741
    """As if nothing happened to the others."""
    change = _step(logits, w, l, d_w, d_l, tau)
    kept = torch.zeros_like(change)
    kept[[w, l]] = change[[w, l]]
    return kept


def _middle(values: Scores, positive: Sequence[bool]) -> float:
    array, truth = np.asarray(values, float), np.asarray(positive)
    return float(array[truth].mean() + array[~truth].mean()) / 2


_LOGITS = torch.tensor([2.0, 1.0, 0.3, 0.0, -1.0], dtype=torch.float64)


def _shares(before: Scores, after: Scores, positive: Sequence[bool], shift: float) -> Three:
    truth, first, last = np.asarray(positive), np.asarray(before, float), np.asarray(after, float)
    return tuple(float(((s > 0) == truth).mean()) for s in (first, last, last - shift))  # type: ignore[return-value]


def _drift(before: Scores, after: Scores, positive: Sequence[bool]) -> float:
    return _middle(np.asarray(after, float) - np.asarray(before, float), positive)


def _accuracies(before: Scores, after: Scores, positive: Sequence[bool]) -> Three:
    return _shares(before, after, positive, _drift(before, after, positive))


def _added(before: Scores, after: Scores, positive: Sequence[bool]) -> Three:
    return _shares(before, after, positive, -_drift(before, after, positive))


def _of_all(before: Scores, after: Scores, positive: Sequence[bool]) -> Three:
    """The mean over all tweets, in which the more frequent kind counts more."""
    return _shares(before, after, positive, float(np.mean(np.asarray(after) - np.asarray(before))))


def _summed(before: Scores, after: Scores, positive: Sequence[bool]) -> Three:
    return _shares(before, after, positive, 2 * _drift(before, after, positive))


def _apart(before: Scores, after: Scores, positive: Sequence[bool]) -> Three:
    """Half the distance of the two means' changes: what was learned, not what drifted."""
    moved, truth = np.asarray(after, float) - np.asarray(before, float), np.asarray(positive)
    return _shares(before, after, positive, float(moved[truth].mean() - moved[~truth].mean()) / 2)


def _own_offset(before: Scores, after: Scores, positive: Sequence[bool]) -> Three:
    """The middle of the scores after training, and not what it moved by."""
    return _shares(before, after, positive, _middle(after, positive))


def _tweets() -> list[tuple[list[float], list[float], list[bool]]]:
    """The exercise's four tweets, and a set with more negative than positive ones."""
    random = np.random.default_rng(10)
    truth = np.arange(60) % 4 == 0
    before = np.where(truth, 1.0, -1.0) + random.normal(0, 1, 60)
    after = before + np.where(truth, 2.4, 0.6) + random.normal(0, 0.5, 60)
    return [
        ([1.0, -0.5, -1.0, 0.5], [4.0, 1.5, 1.0, 0.3], [True, True, False, False]),
        (before.tolist(), after.tolist(), truth.tolist()),
    ]


CHECKS: dict[str, Check] = {
    "10.2": Check(
        right=_step,
        mistakes=[
            (_logits_alone, "this is what the logits change by. Probabilities have to sum to one again."),
            (_first_order, "this is the first order of the step. Asked is the step itself."),
            (_corners_alone, "you move two logits only. The gradient of log p_v moves all of them: e_v − p."),
            (_exchanged, "your step raises the rejected token: w and l have changed places."),
            (_both_pulled, "your step pulls both tokens up. Rejected has the minus sign."),
            (_probabilities, "these are changes of the probabilities. Asked are those of their logarithms."),
            (_two_tokens, "the other tokens change as well: what two tokens gain or lose is theirs."),
        ],
        inputs=[
            (_LOGITS, 2, 3, 1.0, 1.0, 1.0),
            (_LOGITS, 2, 3, 0.0, 1.0, 2.0),
            (_LOGITS, 0, 4, 1.5, 0.5, 0.5),
        ],
        praise="Equal weights move all other tokens alike. A push alone gives to the likeliest of them.",
    ),
    "10.4": Check(
        right=_accuracies,
        mistakes=[
            (_added, "you add the drift where it is to be taken out."),
            (_of_all, "this drift is the mean over all tweets, in which the more frequent kind counts more."),
            (_summed, "your drift is the sum of the two means. The middle is halfway between them."),
            (_apart, "this is by how much the two kinds moved apart: what the model was to learn."),
            (_own_offset, "you take out where the middle is after training. Asked is by how much it moved."),
        ],
        inputs=_tweets(),
        praise="What is left of a change of accuracy then is no matter of where the line is drawn.",
    ),
}
