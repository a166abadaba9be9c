"""Parameters whose gradient is short, so that it is formed: what is added to the output, or scales it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from entanglement.gradients import inner
from entanglement.gradients.layers.base import Factors, Use, own_parameter

__all__ = ["Shift", "Vector", "with_bias"]


class Vector(Use):
    """A parameter of as many numbers as the output has at a position; its gradients are formed."""

    form = "vector"
    formed = True

    def join(self, parts: Sequence[Factors]) -> Factors:
        """Return the sum of the gradients."""
        total = parts[0].delta
        for part in parts[1:]:
            total = total + part.delta
        return Factors(self, None, total)

    def inner(self, factors: Factors) -> torch.Tensor:
        """Return the inner products of the gradients (n, R, p)."""
        return inner.by_vectors(factors.delta)


class Shift(Vector):
    """output = … + b: the gradient is Σ_t δ_t."""

    at_one_position = True

    def entered(self, dtype: torch.dtype) -> None:
        """Nothing is combined with it."""

    def factors(self, x: torch.Tensor | None, delta: torch.Tensor) -> Factors:
        """Return the gradients, (n, R, d_out)."""
        return Factors(self, None, delta.sum(2))

    def factors_at(self, x: torch.Tensor, delta: torch.Tensor) -> Factors:
        """Return the gradients, which at one position are δ."""
        return Factors(self, None, delta)

    def gradient(self, x: torch.Tensor | None, delta: torch.Tensor) -> torch.Tensor:
        """Return Σ_t δ_t, (r, d_out)."""
        return delta.sum(1).to(self.parameter.dtype)


def with_bias(module: nn.Module, uses: list[Use], kind: type[Shift] = Shift) -> list[Use]:
    """Return the uses and, where the module has a bias, its use."""
    bias = own_parameter(module, "bias")
    return uses if bias is None else [*uses, kind(bias)]
