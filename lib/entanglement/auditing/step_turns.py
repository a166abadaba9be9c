"""At which ratio of the two weights the responses of a probe would turn, at one step of a run.

The step is not the run's own, whose two sides no callback sees, but the one that the optimizer would take on
the probe's pairs in its place: as long, and in the metric that AdamW's second moments give when the probe's
gradient has been added to them. Its momentum is left out, for it does not know a ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from entanglement.auditing.rehearsal import response_table
from entanglement.auditing.walk import Gradient, Walk, length_of, plan_walk
from entanglement.checks import Check, non_empty, positive
from entanglement.losses import Loss
from entanglement.pairs import PairBatch
from entanglement.signatures import checked

__all__ = ["probe_walk", "step_turns"]

#: Ratios beyond this, and below one over it, are none.
_WIDEST = 64.0
#: Nats by which either side alone must move its responses for a step to be told from rounding (float32).
_SEEN = 0.02
#: Two ratios nearer than this (on the log scale) do not tell a line.
_APART = 0.01
_HALVES = Check("two batches of pairs", lambda v: len(v) == 2 and all(len(half) for half in v), besides=True)
_OPTIMIZER = Check(
    "an optimizer of torch, also in accelerate's wrapper",
    lambda v: isinstance(getattr(v, "optimizer", v), torch.optim.Optimizer),
)


def _scales(optimizer: Any, named: Mapping[str, nn.Parameter], gradient: Gradient) -> Gradient:
    """Return by what AdamW would multiply this gradient, were it the next one; nothing for other optimizers.

    Without the gradient itself in the second moments, a coordinate that no batch has touched yet (the
    embedding of a word, say) would count 1/ε times.
    """
    inner = getattr(optimizer, "optimizer", optimizer)
    if not isinstance(inner, torch.optim.Adam | torch.optim.AdamW):
        return {}
    options = {p: group for group in inner.param_groups for p in group["params"]}
    found = {}
    for name, part in gradient.items():
        group = options.get(named[name])
        if group is None:
            continue
        state = inner.state.get(named[name], {})
        beta2, step = group["betas"][1], float(state.get("step", 0.0)) + 1
        square = (1 - beta2) * part * part
        if state:
            square = square + beta2 * state["exp_avg_sq"]
        found[name] = 1 / ((square / (1 - beta2**step)).sqrt() + group["eps"])
    return found


@checked(optimizer=_OPTIMIZER, halves=_HALVES, max_grad_norm=positive)
def probe_walk(
    model: nn.Module,
    optimizer: Any,
    halves: Sequence[Sequence[PairBatch]],
    loss: Loss,
    max_grad_norm: float | None = 1.0,
) -> Walk:
    """Return the direction in which the optimizer would step on a probe, as it stands.

    Args:
        model: in evaluation mode; it is its own reference.
        optimizer: AdamW, Adam or SGD, also wrapped by accelerate.
        halves: the probe's pairs as two batches.
        loss: of the run.
        max_grad_norm: at which the run clips.
    """
    walk = plan_walk(model, halves, loss, optimizer="sgd", max_grad_norm=max_grad_norm)
    return replace(walk, scale=_scales(optimizer, dict(model.named_parameters()), walk.along()))


def _inner(walk: Walk, one: Sequence[Gradient], other: Sequence[Gradient]) -> float:
    """Return the inner product of two mean gradients in the walk's metric."""
    total = 0.0
    for name in one[0]:
        a, b = (side[0][name].double() + side[1][name].double() for side in (one, other))
        product = a * b * walk.scale[name].double() if name in walk.scale else a * b
        total += float(product.sum()) / 4
    return total


def _root(guess: float, at_one: float, at_guess: float) -> float:
    """Return the zero of √r A − B/√r, which is ``at_one`` at 1 and ``at_guess`` at ``guess``."""
    root = guess**0.5
    up = (at_guess - at_one / root) / (root - 1 / root)
    down = up - at_one
    return down / up if up * down > 0 else float("nan")


@checked(groups=non_empty, length=positive)
def step_turns(
    model: nn.Module, walk: Walk, groups: Sequence[PairBatch], length: float
) -> tuple[float, float]:
    """Return at which ratios the mean chosen and the mean rejected response of a probe turn.

    A step along √r Ḡ_w − Ḡ_l/√r moves a response by √r A − B/√r. The ratio B/A that the inner products of
    the mean gradients give is a first guess; one step at r = 1 and one at each guess, taken, measured and
    undone, then give A and B as they are over the whole length of the step. Where the step is too short to be
    measured, by A or B less than 0.02 nats or because parameters are of less than float32, the guess is the
    answer: it is the limit of short steps.

    Args:
        model: in evaluation mode; left as it was, to the bit.
        walk: of ``probe_walk`` over these groups.
        groups: of the probe.
        length: of the run's step at hand, Euclidean, over all parameters.

    Returns:
        Two ratios, by which the loss's d_w/d_l is multiplied; above it, that response rises. nan where there
        is none between 1/64 and 64.
    """
    sides = (walk.chosen, walk.rejected)
    up, cross, down = (_inner(walk, *two) for two in ((sides[0],) * 2, sides, (sides[1],) * 2))
    nothing = float("nan")
    found = [cross / up if cross > 0 < up else nothing, down / cross if cross > 0 else nothing]
    size = length_of(walk.along())
    exact = all(p.dtype in (torch.float32, torch.float64) for p in model.parameters())
    if exact and size > 0 and length / size * min(up, down) > _SEEN:
        before = response_table(model, groups)

        def moved(ratio: float) -> torch.Tensor:
            after = response_table(model, groups, walk.along(ratio), length / size)
            return (after - before).mean(dim=0)

        at_one = moved(1.0)
        for k, guess in enumerate(found):
            if guess == guess and 1 / _WIDEST < guess < _WIDEST:
                near = guess if abs(guess - 1) > _APART else 1 + (_APART if guess >= 1 else -_APART)
                there = moved(near)
                found[k] = _root(near, float(at_one[k]), float(there[k]))
    chosen, rejected = (r if 1 / _WIDEST < r < _WIDEST else nothing for r in found)
    return chosen, rejected
