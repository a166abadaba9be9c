"""The direction in which a run will walk, from the mean gradients of its own rows before it begins.

A held-out response i moves by η⟨g_i, D⟩ to first order when the optimizer steps along D. For plain steps D is
the mean gradient of the loss, √r Ḡ_w − Ḡ_l/√r at a ratio r of the two weights; AdamW divides each coordinate
by the root of the mean square of the batches' gradients. What a pair's own gradients say of it is no part of
this: other pairs do most of the moving.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from entanglement.checks import non_empty, positive
from entanglement.gradients.select import check_deterministic, fused_activations
from entanglement.logps import PairLogps, model_device
from entanglement.losses import Loss
from entanglement.optimizers import trainable
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked

__all__ = ["Gradient", "Half", "Optimizer", "Walk", "length_of", "plan_walk", "stepped"]

Gradient = dict[str, torch.Tensor]
Optimizer = Literal["adamw", "sgd"]
#: Which batches: all, or every other one.
Half = Literal["all", "even", "odd"]
_EPS = 1e-8  # AdamW's


@checked()
@dataclass(frozen=True)
class Walk:
    """The mean gradients of a run's rows, by parameter name, and what its optimizer makes of them.

    Attributes:
        chosen, rejected: (even, odd) batches' means of d_w g_w and of d_l g_l.
        scale: what the optimizer multiplies a gradient by; empty for plain steps.
        batches: how many were looked at.
    """

    chosen: tuple[Gradient, Gradient]
    rejected: tuple[Gradient, Gradient]
    scale: Gradient
    batches: int

    @checked(ratio=positive)
    def along(self, ratio: float = 1.0, half: Half = "all") -> Gradient:
        """Return what one step at rate 1 adds to the parameters.

        Args:
            ratio: by which the loss's own d_w/d_l is multiplied, at the same product of the two.
            half: of the batches.
        """
        root = ratio**0.5
        which = {"all": (0, 1), "even": (0,), "odd": (1,)}[half]
        step = {}
        for name in self.chosen[0]:
            parts = [self.chosen[k][name] * root - self.rejected[k][name] / root for k in which]
            step[name] = sum(parts[1:], parts[0]) / len(parts)
            if name in self.scale:
                step[name] = step[name] * self.scale[name]
        return step


@checked(gradient=non_empty)
def length_of(gradient: Mapping[str, torch.Tensor]) -> float:
    """Return the Euclidean length of a gradient or a step, over all parameters."""
    return float(torch.stack([part.double().square().sum() for part in gradient.values()]).sum().sqrt())


def _side_gradients(
    model: nn.Module, named: Mapping[str, nn.Parameter], groups: Sequence[PairBatch], loss: Loss
) -> tuple[Gradient, Gradient]:
    """Return the means of d_w g_w and of d_l g_l over the pairs of one batch."""
    total = sum(len(group) for group in groups)
    sides = tuple({name: torch.zeros_like(p) for name, p in named.items()} for _ in range(2))
    device = model_device(model)
    for group in groups:
        logps = quick_logps(model, group)
        before = [side.detach() for side in logps]  # the reference is the model as it is
        lengths = (group.chosen_len.to(device), group.rejected_len.to(device))
        weights = loss.weights(PairLogps(before[0], before[1], before[0], before[1], *lengths))
        for k, (side, weight) in enumerate(zip(logps, weights, strict=True)):
            found = torch.autograd.grad(
                (side * weight).sum() / total, list(named.values()), retain_graph=k == 0, allow_unused=True
            )
            for name, part in zip(named, found, strict=True):
                if part is not None:
                    sides[k][name] += part
    return sides[0], sides[1]


@checked(batches=non_empty, max_grad_norm=positive)
def plan_walk(
    model: nn.Module,
    batches: Sequence[Sequence[PairBatch]],
    loss: Loss,
    *,
    optimizer: Optimizer = "adamw",
    max_grad_norm: float | None = 1.0,
) -> Walk:
    """Return the direction of a run before it begins, by two backward passes over its rows.

    Args:
        model: as training will find it, in evaluation mode; its trainable parameters count, and ``.grad`` is
            left as it was. It is its own reference.
        batches: the run's batches, at least two, each as groups of pairs.
        loss: of the run.
        optimizer: "adamw" or "sgd".
        max_grad_norm: at which a batch's gradient is clipped; None for no clipping.

    Raises:
        ValueError: fewer than two batches, active dropout, nothing to train, or a gradient that is not
            finite.
    """
    if len(batches) < 2:
        raise ValueError(f"batches: got {len(batches)}; expected at least two, of which each makes a half.")
    check_deterministic(model, "plan_walk")
    trainable(model)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    counts = (len(batches) - len(batches) // 2, len(batches) // 2)
    halves = [[{name: torch.zeros_like(p) for name, p in named.items()} for _ in range(2)] for _ in range(2)]
    squares = {name: torch.zeros_like(p) for name, p in named.items()} if optimizer == "adamw" else {}
    with fused_activations(model):
        for k, groups in enumerate(batches):
            chosen, rejected = _side_gradients(model, named, groups, loss)
            whole = {name: chosen[name] - rejected[name] for name in named}
            length = length_of(whole)
            if length != length or length == float("inf"):
                raise ValueError(f"plan_walk: the gradient of batch {k + 1} is not finite.")
            factor = 1.0 if max_grad_norm is None else min(1.0, max_grad_norm / max(length, 1e-30))
            for side, found in zip(halves[k % 2], (chosen, rejected), strict=True):
                for name, part in found.items():
                    side[name] += part * (factor / counts[k % 2])
            for name, square in squares.items():
                square += (whole[name] * factor).square() / len(batches)
    scale = {name: 1 / (square.sqrt() + _EPS) for name, square in squares.items()}
    (even_w, even_l), (odd_w, odd_l) = halves
    return Walk((even_w, odd_w), (even_l, odd_l), scale, len(batches))


@contextmanager
@checked()
def stepped(model: nn.Module, step: Mapping[str, torch.Tensor], length: float) -> Iterator[None]:
    """Move the parameters by ``length`` times a step while the context lasts; then they are as before, to
    the bit.
    """
    named = dict(model.named_parameters())
    kept = {name: named[name].detach().clone() for name in step}
    try:
        with torch.no_grad():
            for name, part in step.items():
                named[name].add_(part, alpha=length)
        yield
    finally:
        with torch.no_grad():
            for name, part in kept.items():
                named[name].copy_(part)
