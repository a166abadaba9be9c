"""GradNorm along a training of tasks that share a trunk, and what it costs beside the step itself."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from entanglement.objectives.gradnorm import gradnorm
from entanglement_book.studies.ch16_beyond_language.fields import Shared
from entanglement_book.studies.ch16_beyond_language.together import Losses

__all__ = ["LearnedWeights", "extra_passes", "last_shared_layer"]


def last_shared_layer(net: nn.Module) -> torch.Tensor:
    """Return the weight of the last layer that all tasks share, where GradNorm looks at gradients.

    Raises:
        TypeError: a network whose tasks share no trunk.
    """
    if not isinstance(net, Shared):
        raise TypeError(f"net is {type(net).__name__}; expected Shared, with a trunk.")
    return [layer for layer in net.trunk.modules() if isinstance(layer, nn.Linear)][-1].weight


class LearnedWeights:
    """Weights by GradNorm, as ``train_together`` takes a direction of the gradients.

    Args:
        net: that is trained.
        losses: its losses on some rows.
        first: (k,) what the losses count from: those at chance.
        alpha: how much more a task pulls that lags.

    Attributes:
        weights: (k,) of the next step.
        used: those of each step so far.
    """

    def __init__(self, net: nn.Module, losses: Losses, first: torch.Tensor, alpha: float) -> None:
        self._losses, self.first, self.alpha = losses, first, alpha
        self.weights = torch.ones(len(first), dtype=torch.float64)
        self.used: list[torch.Tensor] = []
        self._now = first
        # Which columns of the gradients belong to the last shared layer.
        looked_at = last_shared_layer(net)
        parts = [torch.full((p.numel(),), p is looked_at) for p in net.parameters()]
        self._columns = torch.cat(parts)

    def losses(self, net: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        """Return the losses (k,), and keep their values for the weights."""
        found = self._losses(net, rows)
        self._now = found.detach()
        return found

    def __call__(self, jacobian: torch.Tensor) -> torch.Tensor:
        """Return the direction (P,) of gradients (k, P) by this step's weights, and learn the next ones."""
        used, norms = self.weights, jacobian[:, self._columns].norm(dim=1)
        self.used.append(used)
        self.weights = gradnorm(used, norms, self._now, self.first, alpha=self.alpha)
        return used.to(jacobian.dtype) @ jacobian


def extra_passes(net: nn.Module, losses: Losses, rows: torch.Tensor) -> float:
    """Return what the k gradients in the last shared layer cost, in forward passes, counted in operations."""
    layer = last_shared_layer(net)
    with FlopCounterMode(display=False) as forward:
        found = losses(net, rows)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(found.sum(), layer)
    # This goes through each head once, as k backward passes would, but makes the layer's product once only.
    more = (len(found) - 1) * 2 * len(rows) * layer.numel()
    return (backward.get_total_flops() + more) / forward.get_total_flops()
