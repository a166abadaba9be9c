"""Two steps in place of one: on the chosen responses, and on the rejected ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from entanglement.gradients.select import fused_activations
from entanglement.logps import model_device, row_logps
from entanglement.pairs import PairBatch
from entanglement.signatures import checked
from entanglement.updates.base import UPDATES, Declared, StepReport, Update, Work

__all__ = ["Split"]


@checked()
@dataclass
class Split(Update):
    """A step on the chosen responses and one on the rejected ones, whose gradient is taken at the new place.

    The weights d_w, d_l are those before both. To first order this is the loss's own step; what differs is of
    second order (the book's appendix: it takes away a reward for ⟨g_w, g_l⟩ that the joint step carries). The
    optimizer steps twice.

    Attributes:
        order: "chosen", "rejected": which comes first; or "random", a coin at every step.
        seed: of the coin.
    """

    order: Literal["chosen", "rejected", "random"] = "random"
    seed: int = 0
    _coin: random.Random = field(default_factory=random.Random, init=False, repr=False)

    def __post_init__(self) -> None:
        self._coin.seed(int(self.seed))

    def begin(self, model: nn.Module) -> None:
        """Start the coin anew."""
        self._coin.seed(int(self.seed))

    def gradients(self, work: Work) -> Iterator[StepReport]:
        """See :class:`~entanglement.updates.base.Update`."""
        first = self._coin.choice((0, 1)) if self.order == "random" else int(self.order == "rejected")
        model, batches = work.model, work.batches
        with fused_activations(model):
            here = self._side(model, batches, first)
            with torch.no_grad():
                other = self._side(model, batches, 1 - first)
            both = (here.detach(), other) if first == 0 else (other, here.detach())
            logps = work.pair_logps(*both)
            losses = work.finite(work.loss(logps))
            weights = work.loss.weights(logps)
            d_w, d_l = (d.double().cpu() for d in weights)
            report = StepReport(losses, d_w, d_l, d_w, d_l)
            for side in (first, 1 - first):
                rows = here if side == first else self._side(model, batches, side)
                sign = -1 if side == 0 else 1
                (sign * weights[side] * rows).mean().backward()
                yield report

    def _side(self, model: nn.Module, batches: Sequence[PairBatch], side: int) -> torch.Tensor:
        """Return log π of one side's responses, (B,)."""
        parts = []
        for batch in batches:
            some = batch.to(model_device(model))
            n = len(some)
            rows = slice(side * n, (side + 1) * n)
            parts.append(
                row_logps(
                    model, some.input_ids[rows], some.attention_mask[rows], some.position_ids[rows],
                    some.response_mask[rows],
                ).sum(1)
            )  # fmt: skip
        return torch.cat(parts)


UPDATES.add("split", Declared(title="split", make=Split))
