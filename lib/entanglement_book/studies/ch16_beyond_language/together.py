"""Training one network for several objectives at once, and what a step on one of them does to the others.

An objective is minus a loss, so that it rises where training succeeds. All gradients are rows of one matrix,
(k objectives, all parameters); their inner products are the geometry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import torch
from torch import nn

from entanglement.objectives import aggregate

__all__ = [
    "PASSES",
    "RULES",
    "Direction",
    "Losses",
    "gradient_rows",
    "passes",
    "plain_steps",
    "priorities",
    "train_together",
]

#: (network, rows of the training set) → the k losses, each a mean over the rows.
Losses = Callable[[nn.Module, torch.Tensor], torch.Tensor]
#: Gradients (k, P) → direction (P,).
Direction = Callable[[torch.Tensor], torch.Tensor]
#: Rules of ``entanglement.objectives.aggregate`` that are compared.
RULES: tuple[str, ...] = ("pcgrad", "mgda", "cagrad", "upgrad", "imtl-g")
#: How many forward passes a backward one costs.
PASSES = 2


def passes(objectives: int, *, rule: bool) -> int:
    """Return what a step costs, in forward passes: one backward pass, or with a rule one an objective."""
    return 1 + PASSES * (objectives if rule else 1)


def gradient_rows(net: nn.Module, losses: torch.Tensor) -> torch.Tensor:
    """Return the gradients of some losses (k,), (k, number of parameters); 0 where a loss does not reach."""
    parameters = list(net.parameters())
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        pairs = zip(found, parameters, strict=True)
        rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs]))
    return torch.stack(rows)


def priorities(jacobian: torch.Tensor) -> torch.Tensor:
    """Return the sum of gradients (k, P) that are ordered from the most important on: where one points
    against one before it, all that it has in common with those before is taken out of it first.

    To first order a step on the sum then changes the first objective at the rate of the first gradient alone,
    or faster.
    """
    kept: list[torch.Tensor] = []
    basis: list[torch.Tensor] = []
    for gradient in jacobian.double():
        if any(float(gradient @ before) < 0 for before in kept):
            for axis in basis:
                gradient = gradient - (gradient @ axis) * axis
        kept.append(gradient)
        rest = gradient
        for axis in basis:
            rest = rest - (rest @ axis) * axis
        if float(rest.norm()) > 1e-12:
            basis.append(rest / rest.norm())
    return torch.stack(kept).sum(0).to(jacobian.dtype)


def train_together(
    net: nn.Module,
    losses: Losses,
    rows: int,
    *,
    steps: int,
    lr: float,
    batch: int,
    seed: int,
    weights: Sequence[float] | str | Direction = (),
    optimizer: torch.optim.Optimizer | None = None,
) -> Iterator[int]:
    """Train with Adam; yield the number of steps done, before the first and after each.

    Args:
        net: is changed.
        losses: of the network on some rows.
        rows: of the training set.
        steps, lr, batch, seed: of the training; a batch is drawn anew from all rows at each step.
        weights: constants (k,), 1 each by default; or the name of a rule, which weighs anew at each step by
            the Gram matrix of the batch's gradients; or what makes a direction of the gradients themselves.
        optimizer: another one than Adam with its defaults.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = optimizer or torch.optim.Adam(net.parameters(), lr)
    for step in range(steps):
        drawn = torch.randint(rows, (batch,), generator=generator)
        yield step
        found = losses(net, drawn)
        optimizer.zero_grad()
        if isinstance(weights, str) or callable(weights):
            jacobian = gradient_rows(net, found)
            if isinstance(weights, str):
                gram = jacobian.double() @ jacobian.double().T
                whole = aggregate(gram, weights, seed=seed + step).to(jacobian.dtype) @ jacobian
            else:
                whole = weights(jacobian)
            start = 0
            for parameter in net.parameters():
                parameter.grad = whole[start : start + parameter.numel()].view_as(parameter).clone()
                start += parameter.numel()
        else:
            factors = torch.tensor(weights) if len(weights) else torch.ones_like(found)
            (factors * found).sum().backward()
        optimizer.step()
    yield steps


def plain_steps(
    net: nn.Module, losses: Losses, batches: Sequence[torch.Tensor], *, lr: float, task: int | None = None
) -> nn.Module:
    """Return a copy after plain gradient steps on one loss, or on the sum of all."""
    copy = deepcopy(net)
    optimizer = torch.optim.SGD(copy.parameters(), lr)
    for rows in batches:
        found = losses(copy, rows)
        optimizer.zero_grad()
        (found.sum() if task is None else found[task]).backward()
        optimizer.step()
    return copy
