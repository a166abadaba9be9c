"""Requests: steps that move both log-probabilities of a pair by amounts asked for.

A step x_w g_w − x_l g_l changes (f_w, f_l) by (x_w a² − x_l c, x_w c − x_l b²). Two numbers asked for are two
equations for x_w and x_l, which have a solution unless the gradients are parallel. :func:`plan` solves them,
:func:`reach` takes the steps. ``decoupled.Decoupled`` does the same for all responses of a batch at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from entanglement.checks import between, positive_or_inf, shown, whole
from entanglement.geometry import PairGeometry, as_float64
from entanglement.logps import response_logps
from entanglement.pairs import PairBatch
from entanglement.signatures import checked
from entanglement.updates.passes import PairPass

__all__ = ["VERDICTS", "Plan", "Reached", "Verdict", "plan", "reach"]

Verdict = Literal["feasible", "negative weight", "over budget", "parallel"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

#: Beyond this |cosine| two gradients count as parallel.
PARALLEL = 1 - 1e-9


@checked()
@dataclass(frozen=True)
class Plan:
    """The step that, to first order, meets a target for both responses of each of B pairs.

    Attributes:
        x_w, x_l: (B,) weights of the step x_w g_w − x_l g_l, float64; nan for parallel gradients.
        length: (B,) its norm, the length of the shortest step that meets the target; inf if none does.
        verdicts: B words. "negative weight": a loss that raises chosen and lowers rejected responses cannot
            ask for this step; "over budget": the step is longer than allowed; "parallel": no step meets both
            targets.
    """

    x_w: torch.Tensor
    x_l: torch.Tensor
    length: torch.Tensor
    verdicts: tuple[Verdict, ...]


@checked(chosen=None, rejected=None, budget=positive_or_inf)
def plan(
    geometry: PairGeometry,
    chosen: float | torch.Tensor,
    rejected: float | torch.Tensor,
    *,
    nonnegative: bool = True,
    budget: float = math.inf,
) -> Plan:
    """Solve a² x_w − c x_l = chosen and c x_w − b² x_l = rejected for each pair.

    Args:
        geometry: of B pairs.
        chosen, rejected: changes asked for, nats; numbers or (B,).
        nonnegative: allow no negative weight (up to rounding), as for a loss with d_w, d_l ≥ 0.
        budget: longest step allowed, in the parameters' units.

    Raises:
        ValueError: a target that is not finite or has a wrong shape, or a budget that is not positive.
    """
    n = len(geometry)
    targets = []
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        target = as_float64(value, name)
        if target.shape not in ((), (n,)) or not bool(torch.isfinite(target).all()):
            raise ValueError(f"plan: {name}={shown(value)}; expected a finite number, or {n} of them.")
        targets.append(target.expand(n))
    t_w, t_l = targets
    a2, b2, c = geometry.chosen_sq, geometry.rejected_sq, geometry.inner
    apart = c.abs() < PARALLEL * (a2 * b2).sqrt()
    det = torch.where(apart, a2 * b2 - c.square(), torch.full_like(c, math.nan))
    x_w, x_l = (b2 * t_w - c * t_l) / det, (c * t_w - a2 * t_l) / det
    squared = x_w * t_w - x_l * t_l  # ‖u‖² = ⟨u, x_w g_w − x_l g_l⟩
    length = torch.where(apart, squared.clamp(min=0).sqrt(), torch.full_like(c, math.inf))
    # A weight counts as negative if its share of the step is more than rounding.
    small = 1e-9 * length.clamp(min=1e-300)
    negative = (x_w * a2.sqrt() < -small) | (x_l * b2.sqrt() < -small)
    verdicts: list[Verdict] = []
    for i in range(n):
        if not bool(apart[i]):
            verdicts.append("parallel")
        elif nonnegative and bool(negative[i]):
            verdicts.append("negative weight")
        else:
            verdicts.append("over budget" if float(length[i]) > budget else "feasible")
    return Plan(x_w, x_l, length, tuple(verdicts))


@dataclass(frozen=True)
class Reached:
    """What came of a target for one pair.

    Attributes:
        verdict: of the plan at the start; for "feasible", what was predicted, not what was found.
        met: whether both responses ended within the tolerance.
        chosen, rejected: what they changed by, nats.
        steps: taken.
        length: of the way, the sum of all steps' norms.
        planned: length of the first plan.
        path: (chosen, rejected) after each step, from (0, 0) on.
    """

    verdict: Verdict
    met: bool
    chosen: float
    rejected: float
    steps: int
    length: float
    planned: float
    path: tuple[tuple[float, float], ...]


def _add(model: nn.Module, step: dict[str, torch.Tensor], sign: float = 1.0) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in step:
                parameter.add_(step[name], alpha=sign)


@checked(
    budget=positive_or_inf,
    tolerance=between(0, 1, low_open=True, high_open=True),
    share=between(0, 1, low_open=True),
    max_steps=whole(1),
)
def reach(
    model: nn.Module,
    batch: PairBatch,
    chosen: float,
    rejected: float,
    *,
    nonnegative: bool = True,
    budget: float = math.inf,
    tolerance: float = 0.05,
    share: float = 0.7,
    max_steps: int = 12,
) -> Reached:
    """Move both responses of one pair to a target by plain steps, in place.

    Every step is planned anew for the part that is left, and goes ``share`` of the way: the gradients change
    under way, and what is overshot may need a weight that is not allowed.

    Args:
        model: in evaluation mode; its trainable parameters move.
        batch: one pair.
        chosen, rejected: changes asked for, nats.
        nonnegative, budget: as in ``plan``; the budget is for the whole way. A target whose verdict is not
            "feasible" is not tried, and the model stays as it is.
        tolerance: both must end within this share of the larger of the two targets.
        share: of the rest that a step asks for.
        max_steps: give up after so many.

    Raises:
        ValueError: not one pair, no target at all, or an argument out of range.
    """
    size = max(abs(chosen), abs(rejected))
    if len(batch) != 1:
        raise ValueError(f"reach: batch has {len(batch)} pairs; expected 1.")
    if not size > 0:
        raise ValueError(f"reach: chosen={chosen!r}, rejected={rejected!r}; expected some change.")
    start: tuple[float, float] | None = None
    path, walked = [(0.0, 0.0)], 0.0
    first: Plan | None = None
    for _ in range(max_steps):
        here = PairPass(model, batch)
        now = (float(here.chosen), float(here.rejected))
        if start is None:
            start = now
        else:
            path.append((now[0] - start[0], now[1] - start[1]))
        left = (chosen - path[-1][0], rejected - path[-1][1])
        if max(map(abs, left)) <= tolerance * size:
            break
        assert here.geometry is not None
        found = plan(here.geometry, *left, nonnegative=nonnegative, budget=budget - walked)
        first = first or found
        if found.verdicts[0] != "feasible":
            break
        _add(model, here.gradient(share * found.x_w, -share * found.x_l))
        walked += share * float(found.length)
    else:
        with torch.no_grad():
            end = [float(value) for value in response_logps(model, batch)]
        assert start is not None
        path.append((end[0] - start[0], end[1] - start[1]))
    assert first is not None
    miss = max(abs(chosen - path[-1][0]), abs(rejected - path[-1][1]))
    return Reached(
        first.verdicts[0],
        miss <= tolerance * size,
        *path[-1],
        len(path) - 1,
        walked,
        float(first.length),
        tuple(path),
    )
