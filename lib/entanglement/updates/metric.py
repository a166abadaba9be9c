"""The metric of an optimizer: what it multiplies a gradient by, coordinate by coordinate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from entanglement.checks import Check
from entanglement.signatures import checked

__all__ = ["planned_step", "preconditioner"]


def _adam(state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
    squares = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
    return 1 / (squares.sqrt() + group["eps"])


def _rmsprop(state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
    return 1 / (state["square_avg"].sqrt() + group["eps"])


def _adagrad(state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
    return 1 / (state["sum"].sqrt() + group["eps"])


_OPTIMIZER = Check(
    "an optimizer of torch, also in accelerate's wrapper",
    lambda v: isinstance(getattr(v, "optimizer", v), torch.optim.Optimizer),
)
_DIAGONALS = {
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
    torch.optim.RMSprop: _rmsprop,
    torch.optim.Adagrad: _adagrad,
}


@checked()
def preconditioner(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return P > 0 by parameter name, as it stands after the optimizer's last step.

    A parameter that the optimizer has not yet stepped has no entry; for plain SGD, momentum or not, there is
    none at all. Momentum is no part of the metric: what it carries over from earlier steps is not the present
    gradient's.

    Raises:
        ValueError: an optimizer whose diagonal is not known.
    """
    if isinstance(optimizer, torch.optim.SGD):
        return {}
    kind = next((kind for kind in _DIAGONALS if isinstance(optimizer, kind)), None)
    if kind is None:
        known = ", ".join(["SGD", *(kind.__name__ for kind in _DIAGONALS)])
        raise ValueError(
            f"metric='optimizer': the metric of {type(optimizer).__name__} is not known; expected {known}."
        )
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = optimizer.state.get(p)
            if state:
                found[names[id(p)]] = _DIAGONALS[kind](state, group)
    return found


@checked(optimizer=_OPTIMIZER)
@torch.no_grad()
def planned_step(optimizer: Any) -> dict[nn.Parameter, torch.Tensor] | None:
    """Return what an optimizer will add to each parameter, from the gradients that lie there.

    Args:
        optimizer: Adam, AdamW (decay left out, which is no gradient's doing) or SGD, also wrapped by
            accelerate.

    Returns:
        Parameter → its step; None for an optimizer that is not known.
    """
    inner = getattr(optimizer, "optimizer", optimizer)
    found: dict[nn.Parameter, torch.Tensor] = {}
    for group in inner.param_groups:
        for p in group["params"]:
            if p.grad is None:
                continue
            state, g = inner.state.get(p, {}), p.grad
            if isinstance(inner, torch.optim.Adam | torch.optim.AdamW) and not group.get("amsgrad"):
                beta1, beta2 = group["betas"]
                step = float(state.get("step", 0.0)) + 1
                mean = beta1 * state["exp_avg"] + (1 - beta1) * g if state else (1 - beta1) * g
                square = beta2 * state["exp_avg_sq"] + (1 - beta2) * g * g if state else (1 - beta2) * g * g
                root = (square / (1 - beta2**step)).sqrt() + group["eps"]
                found[p] = -group["lr"] * mean / (1 - beta1**step) / root
            elif isinstance(inner, torch.optim.SGD) and not group.get("nesterov"):
                kept = state.get("momentum_buffer")
                moved = g if kept is None else group["momentum"] * kept + (1 - group["dampening"]) * g
                found[p] = -group["lr"] * moved
            else:
                return None
    return found
