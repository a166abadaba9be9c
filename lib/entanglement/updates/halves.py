"""The backward pass in two halves over the groups of a batch: first the weights, then the gradient.

What ``passes.PairPass`` does for one group, for all groups of a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from entanglement.geometry import PairGeometry
from entanglement.updates.base import Work
from entanglement.updates.passes import PairPass, Vector

__all__ = ["batch_geometry", "descent", "first_half", "mean_gradients", "set_gradient"]


def first_half(
    work: Work, *, geometry: bool
) -> tuple[list[PairPass], torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Return the passes over all groups, the losses (B,), and the loss's weights (B,), float64 on the CPU.

    Args:
        work: the step.
        geometry: read a², b², c of each pair on the way.
    """
    found = [PairPass(work.model, batch, geometry=geometry) for batch in work.batches]
    chosen, rejected = (torch.cat([getattr(p, side) for p in found]) for side in ("chosen", "rejected"))
    logps = work.pair_logps(chosen, rejected)
    return found, work.finite(work.loss(logps)), work.weights(logps)


def set_gradient(model: nn.Module, gradient: Vector) -> None:
    """Put a gradient, by parameter name, into ``.grad``."""
    for name, parameter in model.named_parameters():
        if name in gradient:
            parameter.grad = gradient[name]


def descent(found: Sequence[PairPass], u_w: torch.Tensor, u_l: torch.Tensor) -> Vector:
    """Return −Σ (u_w g_w − u_l g_l)/B over all groups, which an optimizer descends."""
    sizes = [len(p.chosen) for p in found]
    n = len(u_w)
    parts = zip(found, u_w.split(sizes), u_l.split(sizes), strict=True)
    return _sum([p.gradient(-up / n, down / n) for p, up, down in parts])


def mean_gradients(found: Sequence[PairPass], d_w: torch.Tensor, d_l: torch.Tensor) -> tuple[Vector, Vector]:
    """Return Σ d_w g_w/B and Σ d_l g_l/B over all groups, by parameter name."""
    sizes = [len(p.chosen) for p in found]
    n = len(d_w)
    chosen = _sum([p.gradient(d / n, None) for p, d in zip(found, d_w.split(sizes), strict=True)])
    rejected = _sum([p.gradient(None, d / n) for p, d in zip(found, d_l.split(sizes), strict=True)])
    return chosen, rejected


def batch_geometry(
    found: Sequence[PairPass], d_w: torch.Tensor, d_l: torch.Tensor, metric: Mapping[str, torch.Tensor]
) -> PairGeometry:
    """Return the geometry of the two means Σ d_w g_w/B and Σ d_l g_l/B as that of one pair.

    Args:
        found: the passes over all groups.
        d_w, d_l: (B,) weights.
        metric: as in ``PairPass.geometry_in``.
    """
    chosen, rejected = mean_gradients(found, d_w, d_l)
    numbers = ((chosen, chosen), (rejected, rejected), (chosen, rejected))
    a2, b2, c = (torch.tensor([_inner(one, other, metric)]) for one, other in numbers)
    return PairGeometry(a2, b2, c)


def _sum(parts: Sequence[Vector]) -> Vector:
    total = dict(parts[0])
    for part in parts[1:]:
        for name in total:
            total[name] += part[name]  # every part is freshly made
    return total


def _inner(one: Vector, other: Vector, metric: Mapping[str, torch.Tensor]) -> float:
    total = 0.0
    for name in one:
        scaled = other[name] * metric[name] if name in metric else other[name]
        total += float((one[name] * scaled).sum(dtype=torch.float64))
    return total
