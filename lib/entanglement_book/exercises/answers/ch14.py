"""Answers to the exercises of rewards in place of margins."""

from __future__ import annotations

import torch

from entanglement_book.exercises.checking import Check

__all__ = ["CHECKS"]

#: Rewards and gradients of three groups: the chapter's, one of four answers, and one with graded rewards.
_GROUPS = [
    (
        torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64),
        torch.tensor([[-1.0, 1.0], [2.0, 1.0], [2.0, -1.0]], dtype=torch.float64),
    ),
    (
        torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64),
        torch.tensor([[1.0, 2.0], [1.0, -1.0], [0.0, 1.0], [3.0, 1.0]], dtype=torch.float64),
    ),
    (
        torch.tensor([0.5, 2.0, -1.0, 1.0, 0.3], dtype=torch.float64),
        torch.tensor([[1.0, 0.0], [0.5, 1.5], [-1.0, 1.0], [2.0, 2.0], [0.0, -1.0]], dtype=torch.float64),
    ),
]


def _moved(advantages: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    return gradients @ gradients.T @ advantages


def _others(rewards: torch.Tensor) -> torch.Tensor:
    """The sum of what the other answers got, (k,)."""
    return rewards.sum() - rewards


def _right(rewards: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    return _moved(rewards - _others(rewards) / (len(rewards) - 1), gradients)


def _own_in_the_baseline(rewards: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    return _moved(rewards - rewards.mean(), gradients)


def _not_divided(rewards: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    return _moved(rewards - _others(rewards), gradients)


def _divided_by_all(rewards: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    return _moved(rewards - _others(rewards) / len(rewards), gradients)


def _turned(rewards: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    return -_right(rewards, gradients)


def _raw(rewards: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    return _moved(rewards, gradients)


def _own_pull(rewards: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    return gradients.square().sum(1) * (rewards - _others(rewards) / (len(rewards) - 1))


def _advantages(rewards: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    return rewards - _others(rewards) / (len(rewards) - 1)


CHECKS: dict[str, Check] = {
    "14.1": Check(
        _right,
        [
            (_own_in_the_baseline, "an answer's own reward stands in what was expected of it."),
            (_not_divided, "what the others got is added up, where their mean is asked for."),
            (_divided_by_all, "the sum over the others is divided by how many answers there are in all."),
            (_turned, "every sign is turned: an answer that got more than the others has to be pushed up."),
            (_raw, "these are the rates with the rewards as weights: nothing was expected."),
            (_own_pull, "each answer is moved by its own gradient only. What of the others' pulls?"),
            (_advantages, "these are the weights of the step. How far does it move each answer?"),
        ],
        inputs=_GROUPS,
        praise="A right answer falls wherever its row of the Gram matrix, weighted by the advantages of all, "
        "adds up to less than 0.",
    ),
}
