"""The metric of an optimizer: what it multiplies a gradient by, coordinate by coordinate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from entanglement.signatures import checked

__all__ = ["preconditioner"]


def _adam(state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
    squares = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
    return 1 / (squares.sqrt() + group["eps"])


def _rmsprop(state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
    return 1 / (state["square_avg"].sqrt() + group["eps"])


def _adagrad(state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
    return 1 / (state["sum"].sqrt() + group["eps"])


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
