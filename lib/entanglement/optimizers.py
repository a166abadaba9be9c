"""Optimizers by name, and which parameters they step."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from entanglement.checks import non_negative
from entanglement.registry import Registry
from entanglement.signatures import checked

__all__ = ["OPTIMIZERS", "OptimizerFactory", "make_optimizer", "trainable"]

OptimizerFactory = Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]

#: Functions of (parameters, lr).
OPTIMIZERS: Registry[OptimizerFactory] = Registry("optimizer")
OPTIMIZERS.add("adamw", lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0))
OPTIMIZERS.add("sgd", lambda parameters, lr: torch.optim.SGD(parameters, lr=lr))  # the theory's plain step


@checked()
def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that require gradients.

    Raises:
        ValueError: there are none.
    """
    found = [p for p in model.parameters() if p.requires_grad]
    if not found:
        raise ValueError("the model has no parameter that requires gradients; nothing can be trained.")
    return found


@checked(lr=non_negative)
def make_optimizer(optimizer: str | OptimizerFactory, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Return an optimizer of a model's trainable parameters.

    Args:
        optimizer: a name of ``OPTIMIZERS``, or a function of (parameters, lr).
        model: whose parameters are stepped.
        lr: learning rate.

    Raises:
        ValueError: an unknown name, or nothing to train.
    """
    make = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    return make(trainable(model), lr)
