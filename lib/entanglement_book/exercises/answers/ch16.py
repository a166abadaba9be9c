"""Answers to the exercises of beyond language."""

from __future__ import annotations

import torch

from entanglement_book.exercises.checking import Check

__all__ = ["CHECKS"]


def _vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


#: The chapter's two tasks; a conflict that the mean survives; no conflict with very different lengths.
_TASKS = [
    (_vector(1.0, 0.0), _vector(-2.0, 1.0)),
    (_vector(2.0, 0.0), _vector(-1.0, 3.0)),
    (_vector(1.0, 0.5), _vector(4.0, 1.0)),
]


def _mean(g1: torch.Tensor, g2: torch.Tensor) -> torch.Tensor:
    return (g1 + g2) / 2


def _share(g1: torch.Tensor, g2: torch.Tensor) -> torch.Tensor:
    """Weight of the first gradient at the point of the line through both that is nearest to 0."""
    return (g2 @ g2 - g1 @ g2) / ((g1 - g2) @ (g1 - g2))


def _mgda(g1: torch.Tensor, g2: torch.Tensor) -> torch.Tensor:
    share = _share(g1, g2).clip(0, 1)
    return share * g1 + (1 - share) * g2


def _without(g: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A gradient less its part along the other one."""
    return g - (g @ other) / (other @ other) * other


def _cleared(g: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return _without(g, other) if g @ other < 0 else g


def _pcgrad(g1: torch.Tensor, g2: torch.Tensor) -> torch.Tensor:
    return _cleared(g1, g2) + _cleared(g2, g1)


def _right(g1: torch.Tensor, g2: torch.Tensor) -> list[torch.Tensor]:
    return [_mean(g1, g2), _mgda(g1, g2), _pcgrad(g1, g2)]


def _not_clipped(g1: torch.Tensor, g2: torch.Tensor) -> list[torch.Tensor]:
    share = _share(g1, g2)
    return [_mean(g1, g2), share * g1 + (1 - share) * g2, _pcgrad(g1, g2)]


def _shares_swapped(g1: torch.Tensor, g2: torch.Tensor) -> list[torch.Tensor]:
    share = _share(g2, g1).clip(0, 1)
    return [_mean(g1, g2), share * g1 + (1 - share) * g2, _pcgrad(g1, g2)]


def _sign_of_c(g1: torch.Tensor, g2: torch.Tensor) -> list[torch.Tensor]:
    share = ((g2 @ g2 + g1 @ g2) / ((g1 + g2) @ (g1 + g2))).clip(0, 1)
    return [_mean(g1, g2), share * g1 + (1 - share) * g2, _pcgrad(g1, g2)]


def _always_cleared(g1: torch.Tensor, g2: torch.Tensor) -> list[torch.Tensor]:
    return [_mean(g1, g2), _mgda(g1, g2), _without(g1, g2) + _without(g2, g1)]


def _one_after_the_other(g1: torch.Tensor, g2: torch.Tensor) -> list[torch.Tensor]:
    first = _cleared(g1, g2)
    return [_mean(g1, g2), _mgda(g1, g2), first + _cleared(g2, first)]


def _own_square(g1: torch.Tensor, g2: torch.Tensor) -> list[torch.Tensor]:
    c = (g1 @ g2).clip(max=0)
    return [_mean(g1, g2), _mgda(g1, g2), g1 - c / (g1 @ g1) * g2 + g2 - c / (g2 @ g2) * g1]


def _half(g1: torch.Tensor, g2: torch.Tensor) -> list[torch.Tensor]:
    return [_mean(g1, g2), _mgda(g1, g2), _pcgrad(g1, g2) / 2]


CHECKS: dict[str, Check] = {
    "16.1": Check(
        _right,
        [
            (_not_clipped, "MGDA's step is no mixture here: in one of the tries a weight is negative."),
            (
                _shares_swapped,
                "MGDA's two weights are swapped: which gradient should the shortest mixture lean to?",
            ),
            (_sign_of_c, "MGDA has a sign of the inner product wrong: both objectives are to be raised."),
            (_always_cleared, "PCGrad takes something out of gradients that do not conflict."),
            (_one_after_the_other, "PCGrad holds the second gradient against the first as it was changed."),
            (_own_square, "PCGrad takes out too much or too little: by whose squared length do you divide?"),
            (_half, "PCGrad's direction is right. It is the sum of the two, and yours is their mean."),
        ],
        inputs=_TASKS,
        praise="In the chapter's example, where the mean lowers the first task, both rules raise both. Where "
        "gradients do not conflict, PCGrad's step is the plain sum.",
    ),
}
