"""Where each answer turns: the ratio r of the two weights at which a training leaves one answer where it was.

A loss of the margin steps along √r Ḡ_w − Ḡ_l/√r, where Ḡ_w and Ḡ_l are the mean gradients of the chosen and
the rejected responses and r = d_w/d_l. Which of the two answers then rises and which falls depends on r, by
parts in a thousand where responses share most of their tokens. Two ways to know the turning points before
training, of which the second is the small-step limit of the first:

- a *virtual step*: the step is taken whole, held-out responses are measured, and the step is undone;
- the inner products of the mean gradients with those of the held-out responses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from scipy.optimize import brentq
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.batches import grouped_logps, length_groups
from entanglement.checks import non_empty, positive
from entanglement.gradients.select import check_deterministic, fused_activations
from entanglement.optimizers import trainable
from entanglement.pairs import PreferencePair
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked

__all__ = [
    "MeanGradients",
    "OutOfReach",
    "Turns",
    "VirtualStep",
    "first_order_turns",
    "mean_gradients",
    "turning_point",
    "turns",
    "virtual_step",
]

Gradient = dict[str, torch.Tensor]
Direction = Literal["plain", "sign"]
#: A turning point is looked for between 1/_WIDEST and _WIDEST.
_WIDEST = 64.0
#: The length of a step is found within this share of it.
_CLOSE = 0.01


class OutOfReach(ValueError):  # noqa: N818 - what the margin is
    """No step along a direction gains the margin that was asked for."""


@checked()
@dataclass(frozen=True)
class MeanGradients:
    """The mean gradients of some pairs' responses, by parameter name: Σ g_w/B and Σ g_l/B."""

    chosen: Gradient
    rejected: Gradient

    @checked(ratio=positive)
    def along(self, ratio: float, direction: Direction = "plain") -> Gradient:
        """Return a step of length 1 along √r Ḡ_w − Ḡ_l/√r, or along its sign, which is AdamW's first step.

        Args:
            ratio: r = d_w/d_l.
            direction: of which optimizer.
        """
        root = ratio**0.5
        step = {name: root * self.chosen[name] - self.rejected[name] / root for name in self.chosen}
        if direction == "sign":
            step = {name: part.sign() for name, part in step.items()}
        length = float(torch.stack([part.double().square().sum() for part in step.values()]).sum().sqrt())
        if length == 0:
            raise ValueError(f"ratio={ratio}: the two mean gradients cancel, so there is no direction.")
        return {name: part / length for name, part in step.items()}


@dataclass(frozen=True)
class VirtualStep:
    """The mean changes of held-out responses under one step, nats."""

    chosen: float
    rejected: float

    @property
    def margin(self) -> float:
        """The change of log π_w − log π_l."""
        return self.chosen - self.rejected


@dataclass(frozen=True)
class Turns:
    """The ratios r at which the mean held-out response stays: above it, that response rises.

    Attributes:
        chosen, rejected: the two ratios; nan where there is none between 1/64 and 64.
        length: of the virtual step at r = 1; nan in the small-step limit.
        margin: what that step gains, nats.
    """

    chosen: float
    rejected: float
    length: float
    margin: float


@checked(pairs=non_empty)
def mean_gradients(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    append_eos: bool = False,
) -> MeanGradients:
    """Return the mean gradients of the chosen and of the rejected responses, by two backward passes a group.

    Args:
        model: in evaluation mode; its trainable parameters count. ``.grad`` is left as it was.
        tokenizer: the model's.
        pairs: over which the mean is taken.
        append_eos: as in ``collate``.

    Raises:
        ValueError: active dropout, no trainable parameter, or a gradient that is not finite.
    """
    check_deterministic(model, "mean_gradients")
    trainable(model)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sums = [{name: torch.zeros_like(p) for name, p in named.items()} for _ in range(2)]
    with fused_activations(model):
        for batch in length_groups(model, tokenizer, pairs, append_eos)[1]:
            sides = quick_logps(model, batch)
            for side, (logps, total) in enumerate(zip(sides, sums, strict=True)):
                found = torch.autograd.grad(
                    logps.sum() / len(pairs), list(named.values()), retain_graph=side == 0, allow_unused=True
                )
                for name, part in zip(named, found, strict=True):
                    if part is not None:
                        total[name] += part
    for total in sums:
        for name, part in total.items():
            if not bool(torch.isfinite(part).all()):
                raise ValueError(f"mean_gradients: the mean gradient of {name} is not finite.")
    return MeanGradients(*sums)


@torch.no_grad()
def _mean_logps(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair], append_eos: bool
) -> tuple[float, float]:
    logps = grouped_logps(model, tokenizer, pairs, append_eos)
    return float(logps.chosen.double().mean()), float(logps.rejected.double().mean())


@checked(pairs=non_empty, length=positive)
def virtual_step(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    step: Mapping[str, torch.Tensor],
    length: float,
    *,
    append_eos: bool = False,
) -> VirtualStep:
    """Return what a step would do to held-out responses; the model is left as it was, to the bit.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        pairs: held-out.
        step: parameter name → direction.
        length: by which ``step`` is multiplied.
        append_eos: as in ``collate``.

    Raises:
        ValueError: ``step`` names no parameter, or has another shape.
    """
    _check_step(model, step)
    before = _mean_logps(model, tokenizer, pairs, append_eos)
    return _moved(model, tokenizer, pairs, step, length, append_eos, before)


def _check_step(model: nn.Module, step: Mapping[str, torch.Tensor]) -> None:
    named = dict(model.named_parameters())
    for name, part in step.items():
        if name not in named or part.shape != named[name].shape:
            expected = tuple(named[name].shape) if name in named else "a parameter's name"
            raise ValueError(f"step[{name!r}] has shape {tuple(part.shape)}; expected {expected}.")


def _moved(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    step: Mapping[str, torch.Tensor],
    length: float,
    append_eos: bool,
    before: tuple[float, float],
) -> VirtualStep:
    """Take a step, measure what has changed since ``before``, and undo it."""
    named = dict(model.named_parameters())
    kept = {name: named[name].detach().clone() for name in step}
    try:
        with torch.no_grad():
            for name, part in step.items():
                named[name].add_(part, alpha=length)
        after = _mean_logps(model, tokenizer, pairs, append_eos)
    finally:
        with torch.no_grad():
            for name, part in kept.items():
                named[name].copy_(part)
    return VirtualStep(after[0] - before[0], after[1] - before[1])


@checked(pairs=non_empty, length=positive, margin=positive)
def turns(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    gradients: MeanGradients,
    pairs: Sequence[PreferencePair],
    *,
    direction: Direction = "plain",
    length: float | None = None,
    margin: float | None = None,
    append_eos: bool = False,
) -> Turns:
    """Return where the held-out answers turn under a virtual step.

    Args:
        model: in evaluation mode, where training is to start; left as it was.
        tokenizer: the model's.
        gradients: mean gradients of the training pairs.
        pairs: held-out.
        direction: "plain" for a plain optimizer, "sign" for AdamW and its like.
        length: of the step; or
        margin: that the step at r = 1 is to gain on the held-out pairs, nats, as the training will.
        append_eos: as in ``collate``.

    Raises:
        ValueError: not one of ``length`` and ``margin``.
        OutOfReach: a margin that no step along this direction gains.
    """
    if (length is None) == (margin is None):
        raise ValueError(f"length={length} and margin={margin}: expected one of the two.")

    _check_step(model, gradients.chosen)
    before = _mean_logps(model, tokenizer, pairs, append_eos)

    @cache  # the two answers' turning points are looked for at the same ratios
    def at(ratio: float, length: float) -> VirtualStep:
        step = gradients.along(ratio, direction)
        return _moved(model, tokenizer, pairs, step, length, append_eos, before)

    if length is None:
        assert margin is not None
        length = _length_for(lambda long: at(1.0, long).margin, margin)
    size = length
    chosen, rejected = _turn(lambda r: at(r, size).chosen), _turn(lambda r: at(r, size).rejected)
    return Turns(chosen, rejected, size, at(1.0, size).margin)


def _length_for(gain: Callable[[float], float], margin: float) -> float:
    """Return the length of a step that gains a margin: doubled until it does, then narrowed down."""
    low, high, before = 0.0, 1e-3, 0.0
    while (found := gain(high)) < margin:
        if found <= before:  # curvature has won, or there was nothing to gain
            raise OutOfReach(f"margin={margin}: no step along this direction gains that much.")
        low, high, before = high, 2 * high, found
    return float(brentq(lambda length: gain(length) - margin, low, high, rtol=_CLOSE))


@checked()
def turning_point(change: Callable[[float], float]) -> float:
    """Return the ratio between 1/64 and 64 at which a change that grows with it is zero; nan if none is.

    Args:
        change: ratio → change of a response, nats.
    """
    return _turn(change)


def _turn(change: Callable[[float], float]) -> float:
    """Return the ratio at which a change is zero, nan if there is none: the interval is widened from 1."""
    here = change(1.0)
    if here == 0:
        return 1.0
    # Falling at r = 1: it rises for a larger ratio. Each round looks four times as far, on the log scale.
    inner, reach = 1.0, 2.0**0.01
    while reach < _WIDEST:
        outer = reach if here < 0 else 1 / reach
        if change(outer) * here <= 0:
            return float(brentq(change, *sorted((inner, outer)), xtol=3e-5, rtol=3e-5))
        inner, reach = outer, reach**4
    return float("nan")


@checked()
def first_order_turns(
    gradients: MeanGradients,
    held_out: MeanGradients,
    *,
    metric: Mapping[str, torch.Tensor] | None = None,
) -> Turns:
    """Return the small-step limit of ``turns`` for a plain step: the band of the mean gradients.

    With E_w, E_l the held-out means, the chosen answer turns at ⟨E_w, Ḡ_l⟩/⟨E_w, Ḡ_w⟩ and the rejected one at
    ⟨E_l, Ḡ_l⟩/⟨E_l, Ḡ_w⟩.

    Args:
        gradients: mean gradients of the training pairs.
        held_out: of the held-out pairs.
        metric: parameter name → positive diagonal that multiplies the step; 1 where there is none.
    """

    def inner(one: Gradient, other: Gradient) -> float:
        total = 0.0
        for name, part in one.items():
            scaled = other[name] * metric[name] if metric is not None and name in metric else other[name]
            total += float((part * scaled).sum(dtype=torch.float64))
        return total

    ends = []
    for mean in (held_out.chosen, held_out.rejected):
        up, down = inner(mean, gradients.chosen), inner(mean, gradients.rejected)
        ends.append(down / up if up * down > 0 else float("nan"))
    return Turns(ends[0], ends[1], float("nan"), float("nan"))
