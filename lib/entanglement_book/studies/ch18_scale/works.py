"""What is measured: five works on one batch."""

from __future__ import annotations

import copy

import torch
from torch import nn

from entanglement.auditing import plan_walk
from entanglement.auditing.walk import stepped
from entanglement.gradients import pair_geometry
from entanglement.losses import get_loss
from entanglement.optimizers import make_optimizer
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import quick_logps
from entanglement.updates import get_update
from entanglement_book.counting import Work

__all__ = ["WORKS", "prepare"]

#: The works by name, with what they are.
WORKS: dict[str, str] = {
    "step": "one DPO step with AdamW, the reference's pass included",
    "geometry": "the pair geometry",
    "logps": "the log-probabilities",
    "gradient": "the mean gradient of either side",
    "virtual": "a virtual step: moved, measured, undone",
}


def prepare(name: str, model: nn.Module, batch: PairBatch) -> Work:
    """Return a function that does a work once.

    Args:
        name: of ``WORKS``. "step" trains the model in place. "gradient" looks at two batches, the same one
            twice, since a direction is planned from two at least.
        model, batch: on which.

    Raises:
        ValueError: an unknown name.
    """
    loss = get_loss("dpo", beta=0.1)
    if name == "geometry":
        return lambda: pair_geometry(model, batch)
    if name == "logps":
        return lambda: _without_graph(model, batch)
    if name == "gradient":
        return lambda: plan_walk(model, [[batch], [batch]], loss)
    if name == "virtual":
        direction = {key: torch.full_like(p, 1e-6) for key, p in model.named_parameters()}

        def virtual() -> None:
            with stepped(model, direction, 1.0):
                _without_graph(model, batch)

        return virtual
    if name != "step":
        raise ValueError(f"work={name!r}; expected one of {', '.join(WORKS)}.")
    reference, update = copy.deepcopy(model), get_update("joint")
    update.begin(model)
    optimizer = make_optimizer("adamw", model, 1e-6)

    def step() -> None:
        known = _without_graph(reference, batch)
        update.step(model, optimizer, [batch], loss, known, max_grad_norm=1.0)

    return step


@torch.no_grad()
def _without_graph(model: nn.Module, batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
    return quick_logps(model, batch)
