"""Sentiment with a small GPT-2: the account of a step, and two runs at the same margin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from entanglement_book.exercises.checking import Check

Terms = list[torch.Tensor]


def _split(
    g: torch.Tensor, own: torch.Tensor, plain: torch.Tensor, step: torch.Tensor, total: float, s: torch.Tensor
) -> Terms:
    """The four terms for a plain step of length s."""
    return [s * (g @ own), s * (g @ (plain - own)), g @ (step - s * plain), total - g @ step]


def _account(
    g: torch.Tensor, own: torch.Tensor, plain: torch.Tensor, step: torch.Tensor, total: float
) -> Terms:
    return _split(g, own, plain, step, total, step.norm() / plain.norm())


def _squared(
    g: torch.Tensor, own: torch.Tensor, plain: torch.Tensor, step: torch.Tensor, total: float
) -> Terms:
    return _split(g, own, plain, step, total, step.square().sum() / plain.square().sum())


def _upside_down(
    g: torch.Tensor, own: torch.Tensor, plain: torch.Tensor, step: torch.Tensor, total: float
) -> Terms:
    return _split(g, own, plain, step, total, plain.norm() / step.norm())


def _unscaled(
    g: torch.Tensor, own: torch.Tensor, plain: torch.Tensor, step: torch.Tensor, total: float
) -> Terms:
    return _split(g, own, plain, step, total, torch.ones(()))


def _own_twice(
    g: torch.Tensor, own: torch.Tensor, plain: torch.Tensor, step: torch.Tensor, total: float
) -> Terms:
    first, _, turn, curvature = _account(g, own, plain, step, total)
    return [first, step.norm() / plain.norm() * (g @ plain), turn, curvature]


def _whole_step(
    g: torch.Tensor, own: torch.Tensor, plain: torch.Tensor, step: torch.Tensor, total: float
) -> Terms:
    first, others, _, curvature = _account(g, own, plain, step, total)
    return [first, others, g @ step, curvature]


def _bent_the_other_way(
    g: torch.Tensor, own: torch.Tensor, plain: torch.Tensor, step: torch.Tensor, total: float
) -> Terms:
    *others, curvature = _account(g, own, plain, step, total)
    return [*others, -curvature]


def _beyond_the_plain_step(
    g: torch.Tensor, own: torch.Tensor, plain: torch.Tensor, step: torch.Tensor, total: float
) -> Terms:
    first, others, turn, _ = _account(g, own, plain, step, total)
    return [first, others, turn, total - first - others]


def _steps() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float]]:
    """Three steps on a made-up model of six parameters; the second is a plain one."""
    random = torch.Generator().manual_seed(8)
    tried = []
    for kind in range(3):
        g, own, others, earlier = torch.randn(4, 6, generator=random, dtype=torch.float64)
        plain = own / 4 + 3 * others / 4
        step = 0.5 * plain if kind == 1 else 0.3 * plain + 0.7 * earlier
        tried.append((g, own / 4, plain, step, float(g @ step - 0.4 * step.square().sum())))
    return tried


Run = Sequence[float]


def _at_margin(wanted: float, margin: Run, chosen: Run) -> float:
    return float(np.interp(wanted, margin, chosen))


def _at_the_end(wanted: float, margin: Run, chosen: Run) -> float:
    return float(chosen[-1])


def _at_the_nearest(wanted: float, margin: Run, chosen: Run) -> float:
    return float(chosen[int(np.abs(np.asarray(margin) - wanted).argmin())])


def _at_the_next(wanted: float, margin: Run, chosen: Run) -> float:
    return float(chosen[int(np.searchsorted(margin, wanted))])


def _in_proportion(wanted: float, margin: Run, chosen: Run) -> float:
    return float(chosen[-1]) * wanted / float(margin[-1])


def _a_nat_of_margin(wanted: float, margin: Run, chosen: Run) -> float:
    return _at_margin(wanted, margin, chosen) / wanted


def _margin_along_chosen(wanted: float, margin: Run, chosen: Run) -> float:
    return float(np.interp(wanted, chosen, margin))


_USUAL = ([0.0, 0.380, 0.680, 0.970], [0.0, -0.123, -0.199, -0.172])
_FOUR_TIMES = ([0.0, 1.421, 2.564, 3.548], [0.0, -0.446, -0.483, -0.699])

CHECKS: dict[str, Check] = {
    "08.3": Check(
        right=_account,
        mistakes=[
            (_squared, "your s is a quotient of squared norms. A length is a norm."),
            (
                _upside_down,
                "your quotient of lengths stands on its head: s times the plain step is to be as long "
                "as the step.",
            ),
            (
                _unscaled,
                "you compare with the plain step as it is, at rate 1. It is to be as long as the step.",
            ),
            (
                _own_twice,
                "your terms sum to more than the total: the own pair is among the other pairs, too.",
            ),
            (
                _whole_step,
                "your third term is the whole step taken. The turn is what is left of it when the plain step "
                "has been taken off.",
            ),
            (
                _bent_the_other_way,
                "your terms do not sum to the total. Curvature is what was measured less what the first "
                "order says.",
            ),
            (
                _beyond_the_plain_step,
                "your curvature is measured from the plain step, so the turn is in it as well.",
            ),
        ],
        inputs=_steps(),
        praise="The four sum to what was measured. How they share it between them depends on s.",
    ),
    "08.4": Check(
        right=_at_margin,
        mistakes=[
            (_at_the_end, "this is the end of the run, whatever margin it has gained by then."),
            (_at_the_nearest, "you take the nearest measured moment. Draw a line between the two around it."),
            (
                _at_the_next,
                "you take the first measured moment that has gained enough, and it has gained more.",
            ),
            (
                _in_proportion,
                "you draw one line from the beginning to the end. The moments between them were measured.",
            ),
            (_a_nat_of_margin, "this is the change for each nat of margin. Asked is the change itself."),
            (_margin_along_chosen, "you look the margin up among the chosen answer's changes."),
        ],
        inputs=[(0.5, *_USUAL), (0.9, *_USUAL), (0.9, *_FOUR_TIMES), (2.0, *_FOUR_TIMES)],
        praise="At equal margin two runs differ by their way, and no longer by how far they went.",
    ),
}
