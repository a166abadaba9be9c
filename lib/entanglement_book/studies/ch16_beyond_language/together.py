"""Training one network for several objectives at once, and what a step on one of them does to the others.

An objective is minus a loss, so that it rises where training succeeds. All gradients are rows of one matrix,
(k objectives, all parameters); their inner products are the geometry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import torch
from torch import nn

from entanglement.archive import DataError

__all__ = [
    "PASSES",
    "RULES",
    "Losses",
    "gradient_rows",
    "passes",
    "plain_steps",
    "rule_weights",
    "task_rows",
    "train_together",
]

#: (network, rows of the training set) → the k losses, each a mean over the rows.
Losses = Callable[[nn.Module, torch.Tensor], torch.Tensor]
#: Rules of torchjd by the names of their classes there: k gradients → the weights of their sum.
RULES: dict[str, str] = {
    "pcgrad": "PCGradWeighting",
    "mgda": "MGDAWeighting",
    "upgrad": "UPGradWeighting",
    "cagrad": "CAGradWeighting",
    "imtl-g": "IMTLGWeighting",
}
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


def rule_weights(rule: str, seed: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a rule of torchjd: Gram matrix (k, k) → weights (k,).

    Raises:
        ValueError: an unknown rule.
        DataError: torchjd is not installed.
    """
    if rule not in RULES:
        raise ValueError(f"rule={rule!r}; expected one of {', '.join(RULES)}.")
    try:
        from torchjd import aggregation
    except ImportError as error:
        raise DataError("the package 'torchjd' is not installed; install requirements.lock.") from error
    kind = getattr(aggregation, RULES[rule])
    made = kind(c=0.5) if rule == "cagrad" else kind()
    if rule != "pcgrad":
        return made
    generator = torch.Generator().manual_seed(seed)

    def drawn(gram: torch.Tensor) -> torch.Tensor:
        # PCGrad takes the other objectives in random order, from the global generator: here from its own.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            return made(gram)

    return drawn


def train_together(
    net: nn.Module,
    losses: Losses,
    rows: int,
    *,
    steps: int,
    lr: float,
    batch: int,
    seed: int,
    weights: Sequence[float] | Callable[[torch.Tensor], torch.Tensor] = (),
    first: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
) -> Iterator[int]:
    """Train with Adam; yield the number of steps done, before the first and after each.

    Args:
        net: is changed.
        losses: of the network on some rows.
        rows: of the training set.
        steps, lr, batch, seed: of the training; a batch is drawn anew from all rows at each step.
        weights: constants (k,), 1 each by default, or a rule that takes the Gram matrix.
        first: steps that were done before: their batches are drawn and left out.
        optimizer: that did them.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = optimizer or torch.optim.Adam(net.parameters(), lr)
    for step in range(steps):
        drawn = torch.randint(rows, (batch,), generator=generator)
        if step < first:
            continue
        yield step
        found = losses(net, drawn)
        optimizer.zero_grad()
        if callable(weights):
            jacobian = gradient_rows(net, found)
            whole = weights(jacobian @ jacobian.T) @ jacobian
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


def task_rows(names: Sequence[str], values: torch.Tensor) -> list[dict[str, float | str]]:
    """Return one row an ordered pair of tasks: by (which is stepped on), task, and the value (k, k) of the
    second in the column of the first.
    """
    return [
        {"task": one, "by": other, "value": float(values[i, j])}
        for i, one in enumerate(names)
        for j, other in enumerate(names)
    ]
