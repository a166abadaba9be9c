"""The readable reference: every objective's gradient of every example, formed as a whole by autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from entanglement.gradients.select import Parameters, measuring, select_parameters
from entanglement.objectives.values import Objectives, Per, as_functions, check_state, objective_values
from entanglement.signatures import checked

__all__ = ["objective_gradients"]


@checked(objectives=None, batch=None)
def objective_gradients(
    model: nn.Module,
    objectives: Objectives,
    batch: Any,
    parameters: Parameters = "all",
    *,
    per: Per = "example",
) -> torch.Tensor:
    """Return the gradients themselves, (B, k, P), or (1, k, P) by batch: slow, for tests and small models.

    Arguments and errors are those of ``objective_geometry``; P counts the selected parameters in the order of
    ``select_parameters``. The result is in float64, computed in the model's own.
    """
    where = "objective_gradients"
    functions = as_functions(objectives)
    check_state(model, per, where)
    selected = select_parameters(model, parameters)
    with measuring(model, selected):
        values = torch.stack(objective_values(functions, model, batch, per, where), dim=1)
        rows = []
        for value in values.flatten():
            found: tuple[torch.Tensor | None, ...] = (None,) * len(selected)
            if value.requires_grad:
                found = torch.autograd.grad(
                    value, list(selected.values()), retain_graph=True, allow_unused=True
                )
            pairs = zip(selected.values(), found, strict=True)
            rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs]))
    return torch.stack(rows).unflatten(0, tuple(values.shape)).double().cpu()
