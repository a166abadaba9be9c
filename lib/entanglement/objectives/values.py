"""What objectives of a model are, and their values on a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from entanglement.checks import shown
from entanglement.gradients.select import check_deterministic, measuring

__all__ = [
    "Objective",
    "Objectives",
    "Per",
    "as_functions",
    "check_state",
    "objective_values",
]

#: (model, batch) → one number an example, (B,), which is to be raised.
Objective = Callable[[nn.Module, Any], torch.Tensor]
#: At least two of them, or one function that returns (B, k).
Objectives = Sequence[Objective] | Objective
Per = Literal["example", "batch"]


def as_functions(objectives: Objectives) -> list[Objective]:
    """Return objectives as a list: of at least two functions, or of the one that returns all.

    Raises:
        ValueError: anything else.
    """
    if callable(objectives):
        return [objectives]
    found = list(objectives) if isinstance(objectives, Sequence) else []
    if len(found) < 2 or not all(callable(each) for each in found):
        raise ValueError(
            f"objectives={shown(objectives)}; expected at least two functions (model, batch) → (B,), or one "
            "that returns (B, k)."
        )
    return found


def check_state(model: nn.Module, per: Per, where: str) -> None:
    """Refuse a model that drops out at random or, example by example, one that normalizes over the batch.

    Raises:
        ValueError: naming the module.
    """
    norms = [(n, m) for n, m in model.named_modules() if isinstance(m, _BatchNorm) and m.training]
    if per == "example" and norms:
        raise ValueError(
            f"{where}: {norms[0][0] or 'the model itself'} normalizes over the batch in training mode, so an "
            "example's objective looks at the others; call model.eval() first, or measure with per='batch'."
        )
    try:
        for _, module in norms:
            module.training = False
        check_deterministic(model, where)
    finally:
        for _, module in norms:
            module.training = True


def objective_values(
    functions: Sequence[Objective], model: nn.Module, batch: Any, per: Per, where: str
) -> list[torch.Tensor]:
    """Return the values of the k objectives, (B,) each by example or (1,) by batch, with their graphs.

    Raises:
        ValueError: a value that is no tensor of floating point, of another shape, not finite, or that depends
            on no parameter of the model.
    """
    parts = [_value(function, n, model, batch, where) for n, function in enumerate(functions, start=1)]
    if len(parts) == 1:
        shape, (value,) = tuple(parts[0].shape), parts
        if per == "batch":
            value = value.mean(dim=0, keepdim=True) if value.ndim == 2 else value[None]
        if value.ndim != 2 or value.shape[1] < 2 or len(value) < 1:
            form = "(B, k)" + (" or (k,)" if per == "batch" else "")
            raise ValueError(
                f"{where}: the objectives have shape {shape}; expected {form} with k of at least 2."
            )
        parts = list(value.unbind(1))
    else:
        first = parts[0]
        for number, part in enumerate(parts, start=1):
            fits = part.ndim == 1 and len(part) > 0 and part.shape == first.shape
            if not fits and not (per == "batch" and part.ndim <= 1 and part.numel()):
                raise ValueError(
                    f"{where}: objective {number} has shape {tuple(part.shape)}; expected "
                    f"{tuple(first.shape) if first.ndim == 1 else '(B,)'}, one number an example."
                )
        if per == "batch":
            parts = [part.mean()[None] for part in parts]
    for number, part in enumerate(parts, start=1):
        bad = ~torch.isfinite(part.detach())
        if bool(bad.any()):
            whose = "" if per == "batch" else f" for example {int(bad.nonzero()[0])}"
            raise ValueError(f"{where}: the value of objective {number}{whose} is not finite.")
    return parts


def _value(function: Objective, number: int, model: nn.Module, batch: Any, where: str) -> torch.Tensor:
    value = function(model, batch)
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        raise ValueError(
            f"{where}: objective {number} returned {shown(value)}; expected a tensor of floating point."
        )
    if not value.requires_grad:
        # Of none of the selected parameters: a gradient of zero. Of none at all: a mistake.
        every = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
        with measuring(model, every):
            detached = not function(model, batch).requires_grad
        if detached:
            raise ValueError(
                f"{where}: objective {number} depends on no parameter of the model (detached, or under "
                "no_grad)."
            )
    return value
