"""The walk of a run, gathered batch by batch: it can be stopped and gone on with, and split over processes.

Beside the sums stands a sketch of every batch's gradient, from which is told whether one direction is most of
what the batches have.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from entanglement.auditing.kept import Kept
from entanglement.auditing.several import ALONE, Processes
from entanglement.auditing.walk import Gradient, Optimizer, Sums, Walk, batch_gradients
from entanglement.checks import finite_tensor, non_empty, positive
from entanglement.losses import Loss
from entanglement.pairs import PairBatch
from entanglement.signatures import checked

__all__ = ["KEEP_EVERY", "gathered_walk", "shared_direction", "sketch"]

#: Seconds of work that a killed audit may lose. Keeping takes as long as writing five gradients.
KEEP_EVERY = 60.0
#: Numbers of a sketch. Cosines are read off it to about 1/√SKETCH.
SKETCH = 1024


@checked(gradient=non_empty)
def sketch(gradient: Gradient) -> torch.Tensor:
    """Return SKETCH sums of a gradient's numbers with random signs, always the same ones; float64, CPU.

    Inner products of sketches are, in expectation, those of the gradients (Charikar et al. 2002).
    """
    draw = torch.Generator().manual_seed(0)
    found = torch.zeros(SKETCH, dtype=torch.float64)
    for part in gradient.values():
        signs = torch.randint(0, 2, (part.numel(),), generator=draw, dtype=torch.int8).mul_(2).sub_(1)
        values = part.detach().reshape(-1).cpu() * signs
        rest = -len(values) % SKETCH
        found += torch.nn.functional.pad(values, (0, rest)).view(-1, SKETCH).sum(dim=0).double()
    return found


@checked(batches=non_empty, max_grad_norm=positive)
def gathered_walk(
    model: nn.Module,
    batches: Sequence[Sequence[PairBatch]],
    loss: Loss,
    *,
    optimizer: Optimizer = "adamw",
    max_grad_norm: float | None = 1.0,
    kept: Kept | None = None,
    processes: Processes = ALONE,
) -> tuple[Walk, torch.Tensor]:
    """Return what ``plan_walk`` does, and a sketch of every batch's gradient.

    Args:
        model: as training will find it, in evaluation mode; its trainable parameters count.
        batches: the run's batches, at least two, each as groups of pairs.
        loss: of the run.
        optimizer: "adamw" or "sgd".
        max_grad_norm: at which a batch's gradient is clipped; None for no clipping.
        kept: where the sums go from time to time, and from where they are taken up again.
        processes: among which the batches are split; without ``kept`` where they are several.

    Returns:
        The walk, and (batches, SKETCH) float64.

    Raises:
        ValueError: as ``plan_walk``.
    """
    kept, device = kept or Kept(), next(model.parameters()).device
    sums, done = Sums(model, len(batches), optimizer), 0
    sketches = torch.zeros(len(batches), SKETCH, dtype=torch.float64)
    if (found := kept.tensors("walk")) is not None:
        sums.tensors, done = {name: value.to(device) for name, value in found[0].items()}, found[1]["done"]
        sketches = sums.tensors.pop("sketches").cpu()

    def keep() -> None:
        kept.keep_tensors("walk", sums.tensors | {"sketches": sketches}, {"done": done})

    before, last = done, time.monotonic()
    mine = ((k, batches[k]) for k in processes.mine(range(len(batches))) if k >= before)
    for k, chosen, rejected, factor in batch_gradients(model, mine, loss, max_grad_norm):
        sums.add(k, chosen, rejected, factor)
        sketches[k] = factor * sketch({name: part - rejected[name] for name, part in chosen.items()})
        done = k + 1
        if time.monotonic() - last >= KEEP_EVERY:
            keep()
            last = time.monotonic()
    if done != before:
        keep()
    processes.add(sums.tensors | {"sketches": sketches})
    return sums.walk(), sketches


@checked(sketches=finite_tensor("n", "SKETCH"))
def shared_direction(sketches: torch.Tensor) -> dict[str, Any]:
    """Return how far the batches pull along one direction, and whether all the same way.

    Args:
        sketches: (n, SKETCH), a batch's gradient each.

    Returns:
        batches: how many; share: of the sum of the squared lengths, every batch's taken as 1, that lies along
        the direction which has most of it; 1/n for batches that have nothing in common, 1 for those that
        differ by sign and length only; against: share of the batches that pull along it the other way.
    """
    unit = sketches.double() / sketches.double().norm(dim=1, keepdim=True).clamp(min=1e-300)
    values, vectors = torch.linalg.eigh(unit @ unit.T)
    ups = int((vectors[:, -1] > 0).sum())
    return {
        "batches": len(sketches),
        "share": float((values[-1] / values.sum().clamp(min=1e-300)).clamp(0, 1)),
        "against": min(ups, len(sketches) - ups) / len(sketches),
    }
