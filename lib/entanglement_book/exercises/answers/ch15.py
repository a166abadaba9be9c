"""Answers to the exercises of ranking, contrast and generation."""

from __future__ import annotations

import torch

from entanglement_book.exercises.checking import Check

__all__ = ["CHECKS"]


def _gram(vectors: list[list[float]]) -> torch.Tensor:
    rows = torch.tensor(vectors, dtype=torch.float64)
    return rows @ rows.T


def _scores(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


_CHAPTERS = _gram([[1, 0, 0, 0], [0.8, 0.6, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
#: The chapter's list at its start; the same list late in a training; three candidates of different lengths.
_LISTS = [
    (_scores(0.0, 0.0, 0.0, 0.0), _CHAPTERS),
    (_scores(2.0, 1.5, -2.0, -3.0), _CHAPTERS),
    (_scores(-0.5, 1.0, 0.2), _gram([[1.0, 0.5], [2.0, -1.0], [0.5, 1.5]])),
]


def _weights(scores: torch.Tensor) -> torch.Tensor:
    """Minus the derivatives of −log softmax of the first score, (k,)."""
    return _first(scores) - torch.softmax(scores, dim=0)


def _first(scores: torch.Tensor) -> torch.Tensor:
    return torch.eye(len(scores), dtype=scores.dtype)[0]


def _right(scores: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    return gram @ _weights(scores)


def _turned(scores: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    return -_right(scores, gram)


def _best_alone(scores: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    return gram @ _first(scores)


def _equal_scores(scores: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    return gram @ _weights(torch.zeros_like(scores))


def _share_of_the_others(scores: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    others = torch.softmax(scores[1:], dim=0)
    return gram @ torch.cat([torch.ones(1, dtype=scores.dtype), -others])


def _own_pull(scores: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    return gram.diagonal() * _weights(scores)


def _weights_only(scores: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    return _weights(scores)


CHECKS: dict[str, Check] = {
    "15.1": Check(
        _right,
        [
            (_turned, "every sign is turned: a weight is minus the derivative of the loss."),
            (_best_alone, "nobody is pushed down: this is imitation of the best candidate."),
            (_equal_scores, "the weights are those of equal scores, whatever the scores are."),
            (_share_of_the_others, "the best candidate is missing below the fraction's bar."),
            (_own_pull, "each candidate is moved by its own gradient only. Who else pulls on it?"),
            (_weights_only, "these are the weights of the step. How far does it move each candidate?"),
        ],
        inputs=_LISTS,
        praise="At equal scores the copy rises at the rate 0.35 though its weight is −0.25: the best "
        "candidate carries it.",
    ),
}
