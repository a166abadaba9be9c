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

from entanglement.checks import non_empty, positive, whole
from entanglement.gradients.select import check_deterministic, fused_activations
from entanglement.logps import PairLogps, model_device
from entanglement.losses import Loss
from entanglement.optimizers import trainable
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked

__all__ = [
    "Gradient",
    "Half",
    "Optimizer",
    "Walk",
    "length_of",
    "plan_walk",
    "stepped",
]

Gradient = dict[str, torch.Tensor]
Optimizer = Literal["adamw", "sgd"]
#: Which batches: all, or every other one.
Half = Literal["all", "even", "odd"]
_EPS = 1e-8  # AdamW's
_SIDES = ("even.chosen", "even.rejected", "odd.chosen", "odd.rejected")


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


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@checked(max_grad_norm=positive)
def batch_gradients(
    model: nn.Module,
    batches: Sequence[tuple[int, Sequence[PairBatch]]],
    loss: Loss,
    max_grad_norm: float | None = 1.0,
) -> Iterator[tuple[int, Gradient, Gradient, float]]:
    """Yield the gradients of batches, one after the other.

    Args:
        model: as training will find it, in evaluation mode; it is its own reference.
        batches: (place in the run, groups of pairs) each.
        loss: of the run.
        max_grad_norm: at which a batch's gradient is clipped; None for no clipping.

    Yields:
        The place, the batch's means of d_w g_w and of d_l g_l, and by what clipping multiplies both.

    Raises:
        ValueError: active dropout, nothing to train, or a gradient that is not finite.
    """
    check_deterministic(model, "plan_walk")
    trainable(model)
    named = _trained(model)
    with fused_activations(model):
        for k, groups in batches:
            chosen, rejected = _side_gradients(model, named, groups, loss)
            length = length_of({name: chosen[name] - rejected[name] for name in named})
            if length != length or length == float("inf"):
                raise ValueError(f"plan_walk: the gradient of batch {k + 1} is not finite.")
            factor = 1.0 if max_grad_norm is None else min(1.0, max_grad_norm / max(length, 1e-30))
            yield k, chosen, rejected, factor


@checked(batches=whole(2))
class Sums:
    """What is summed over a run's batches, and the walk that it makes.

    Args:
        model: whose trainable parameters count.
        batches: of the run, at least two, of which the even and the odd ones make a half each.
        optimizer: "adamw" or "sgd".

    Attributes:
        tensors: by what they sum and the parameter's name; they can be kept, and added over processes.

    Raises:
        ValueError: fewer than two batches, of which each makes a half.
    """

    def __init__(self, model: nn.Module, batches: int, optimizer: Optimizer) -> None:
        self.batches = batches
        kinds = [*_SIDES, "squares"] if optimizer == "adamw" else _SIDES
        self.tensors = {
            f"{kind}.{name}": torch.zeros_like(p) for kind in kinds for name, p in _trained(model).items()
        }

    @torch.no_grad()
    def add(self, place: int, chosen: Gradient, rejected: Gradient, factor: float) -> None:
        """Add a batch of ``batch_gradients``."""
        half = place % 2
        count = self.batches // 2 if half else self.batches - self.batches // 2
        for kind, found in zip(_SIDES[2 * half : 2 * half + 2], (chosen, rejected), strict=True):
            for name, part in found.items():
                self.tensors[f"{kind}.{name}"] += part * (factor / count)
        for name, part in chosen.items():
            if f"squares.{name}" in self.tensors:
                whole = (part - rejected[name]) * factor
                self.tensors[f"squares.{name}"] += whole.square() / self.batches

    def walk(self) -> Walk:
        """Return the walk of all batches that were added."""
        sides = [self._of(kind) for kind in _SIDES]
        scale = {name: 1 / (square.sqrt() + _EPS) for name, square in self._of("squares").items()}
        return Walk((sides[0], sides[2]), (sides[1], sides[3]), scale, self.batches)

    def _of(self, kind: str) -> Gradient:
        start = f"{kind}."
        return {
            name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)
        }


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
    sums = Sums(model, len(batches), optimizer)
    for one in batch_gradients(model, list(enumerate(batches)), loss, max_grad_norm):
        sums.add(*one)
    return sums.walk()


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
