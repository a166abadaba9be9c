"""One step of an optimizer on a loss, with the checks that every loop makes."""

from __future__ import annotations

import math

import torch
from torch import nn

from entanglement.checks import positive, whole
from entanglement.optimizers import trainable
from entanglement.signatures import checked
from entanglement.updates.base import NotFinite

__all__ = ["step_on"]


@checked(max_grad_norm=positive, step=whole(0))
def step_on(
    model: nn.Module,
    stepper: torch.optim.Optimizer,
    loss: torch.Tensor,
    max_grad_norm: float | None,
    step: int,
) -> float:
    """Descend a loss by one step, and return the gradient's norm before clipping.

    Args:
        model: whose trainable parameters move.
        stepper: the optimizer of these.
        loss: (), with a graph.
        max_grad_norm: gradients are clipped to this norm; None for no clipping.
        step: its number, for the message.

    Raises:
        ValueError: a loss that is not one number, or has no graph.
        NotFinite: the loss, the gradient or a parameter is not finite; before a step that would spread it.
    """
    if loss.ndim or not loss.requires_grad:
        raise ValueError(f"loss has shape {tuple(loss.shape)}; expected one number with a graph.")
    stepper.zero_grad(set_to_none=True)
    loss.backward()
    parameters = trainable(model)
    limit = math.inf if max_grad_norm is None else max_grad_norm
    norm = float(nn.utils.clip_grad_norm_(parameters, limit))
    found = {"loss": float(loss.detach()), "gradient's norm": norm}
    if all(map(math.isfinite, found.values())):
        stepper.step()
        found["norm of the parameters"] = float(nn.utils.get_total_norm(parameters))
    for name, value in found.items():
        if not math.isfinite(value):
            raise NotFinite(f"step {step}: the {name} is {value}; lower the learning rate.")
    return norm
