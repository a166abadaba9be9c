"""Norms: the output is the normalized input times a weight (plus a bias); the gradients are short."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from entanglement.gradients.layers.base import EXAMPLES, LAYERS, Factors, Layer, Use, own_parameter
from entanglement.gradients.layers.bias import Vector, with_bias

__all__ = ["LayerNorm", "RMSNorm", "Scale"]


class Scale(Vector):
    """output = w ⊙ x̂ (+ …): the gradient is Σ_t δ_t ⊙ x̂_t. ``normalized`` computes x̂ when it is needed."""

    def __init__(self, parameter: nn.Parameter, normalized: Callable[[], torch.Tensor]) -> None:
        super().__init__(parameter)
        self._normalized = normalized

    def entered(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the normalized input, (R, T, d)."""
        return self._normalized().detach().to(dtype).flatten(1, -2)

    def factors(self, x: torch.Tensor | None, delta: torch.Tensor) -> Factors:
        """Return the gradients, (n, R, d)."""
        assert x is not None
        return Factors(self, None, (delta * x).sum(2))

    def gradient(self, x: torch.Tensor | None, delta: torch.Tensor) -> torch.Tensor:
        """Return Σ_t δ_t ⊙ x̂_t, (r, d)."""
        assert x is not None
        return (delta * x).sum(1).to(self.parameter.dtype)


class LayerNorm(Layer):
    """``nn.LayerNorm`` over the last dimension."""

    forwards = (nn.LayerNorm.forward,)

    def uses(self, module: nn.Module, x: torch.Tensor) -> list[Use]:
        """Return the uses of weight and bias."""
        weight = own_parameter(module, "weight")
        shape: Any = module.normalized_shape
        eps: Any = module.eps
        if len(shape) != 1:
            return []
        uses: list[Use] = []
        if weight is not None:
            uses = [Scale(weight, lambda: functional.layer_norm(x.detach(), shape, None, None, eps))]
        return with_bias(module, uses)


def _rms_normalized(x: torch.Tensor, eps: float | None) -> torch.Tensor:
    wide = x if x.dtype == torch.float64 else x.float()
    return functional.rms_norm(wide, wide.shape[-1:], None, eps)


def _eps(module: nn.Module) -> Any:
    return getattr(module, "variance_epsilon", getattr(module, "eps", None))


class RMSNorm(Layer):
    """``nn.RMSNorm`` over the last dimension, and the classes of that name that model families bring."""

    forwards = (nn.RMSNorm.forward,)

    def __init__(self) -> None:
        self._tried: dict[Any, bool] = {}

    def covers(self, module: nn.Module) -> bool:
        """Whether the module is PyTorch's, or scales the normalized input by (a constant plus) its weight.

        Every model family brings a class of its own. Whether it computes what the rule says is tried once
        for each class, on random numbers.
        """
        if super().covers(module):
            return True
        if set(module._parameters) != {"weight"}:
            return False
        weight, eps = module._parameters["weight"], _eps(module)
        if weight is None or weight.ndim != 1 or not isinstance(eps, float):
            return False
        forward = type(module).forward
        if forward not in self._tried:
            draw = torch.Generator().manual_seed(0)
            x = torch.randn(2, 3, len(weight), generator=draw).to(weight)
            other = torch.randn(len(weight), generator=draw).to(weight)
            with torch.no_grad():
                out = functional_call(module, {"weight": other}, (x,))
                offset = out.double() / _rms_normalized(x, eps).double() - other.double()
            # The constant is 0 for most and 1 for some; in half precision a division by little is rough.
            spread = (offset - offset.median()).abs().quantile(0.9)
            allowed = 1e-4 if torch.finfo(weight.dtype).eps < 1e-5 else 3e-2
            self._tried[forward] = bool(spread < allowed)
        return self._tried[forward]

    def uses(self, module: nn.Module, x: torch.Tensor) -> list[Use]:
        """Return the use of the weight."""
        weight = own_parameter(module, "weight")
        if weight is None or weight.ndim != 1:
            return []
        return [Scale(weight, lambda: _rms_normalized(x.detach(), _eps(module)))]


def _layer_norms() -> Iterator[tuple[nn.Module, torch.Tensor]]:
    """Yield it with and without a bias."""
    yield nn.LayerNorm(6), torch.randn(4, 5, 6)
    yield nn.LayerNorm(6, bias=False), torch.randn(4, 2, 3, 6)


LAYERS.add("LayerNorm", LayerNorm())
EXAMPLES.add("LayerNorm", _layer_norms)


def _rms_norms() -> Iterator[tuple[nn.Module, torch.Tensor]]:
    """Yield PyTorch's."""
    yield nn.RMSNorm(6), torch.randn(4, 5, 6)
    yield nn.RMSNorm(6, eps=0.3), torch.randn(4, 2, 3, 6)


LAYERS.add("RMSNorm", RMSNorm())
EXAMPLES.add("RMSNorm", _rms_norms)
