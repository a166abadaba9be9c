"""Convolutions: a linear map of patches. What enters at an output position is the patch that it looks at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from entanglement.gradients.inner import sides
from entanglement.gradients.layers.base import EXAMPLES, LAYERS, Factors, Layer, Use, own_parameter
from entanglement.gradients.layers.bias import Shift, with_bias
from entanglement.gradients.layers.linear import by_linear

__all__ = ["ChannelShift", "Convolution", "Filters"]


def _channels_last(delta: torch.Tensor) -> torch.Tensor:
    """Return (n, R, C, *places) as (n, R, places, C)."""
    return delta.flatten(3).transpose(2, 3)


def _padding(module: nn.Module) -> list[int]:
    """Return how many zeros stand before and after, last dimension first, as ``functional.pad`` takes it."""
    padding: Any = module.padding
    kernel: Any = module.kernel_size
    dilation: Any = module.dilation
    if padding == "valid":
        return [0, 0] * len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    return [side for amount in reversed(padding) for side in (amount, amount)]


class Filters(Use):
    """output = filters on patches: W (C_out, C_in / groups, *kernel).

    With ``groups``, each part of the output channels looks at its own part of the input channels; the parts'
    gradients lie side by side in W, and their inner products add up.
    """

    form = "filters"

    def __init__(self, parameter: nn.Parameter, module: nn.Module, x: torch.Tensor) -> None:
        super().__init__(parameter)
        self.groups: Any = module.groups
        self._module = module
        self._x = x

    def entered(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the patches, (R, places, C_in · kernel): as many copies of x as the kernel has places."""
        module: Any = self._module
        x = functional.pad(self._x.detach().to(dtype), _padding(module))
        shape = [module.kernel_size, module.dilation, module.stride]
        if x.ndim == 3:  # one dimension: an image of one line
            x, shape = x.unsqueeze(2), [(1, *some) for some in shape]
        kernel, dilation, stride = shape
        return functional.unfold(x, kernel, dilation=dilation, stride=stride).transpose(1, 2)

    def positions(self, delta: torch.Tensor) -> torch.Tensor:
        """Return gradients at the output, (n, R, C_out, *places), as (n, R, places, C_out)."""
        return _channels_last(delta)

    def fits(self, other: Use) -> bool:
        """Whether both divide the channels into the same groups."""
        return isinstance(other, Filters) and other.groups == self.groups

    def inner(self, factors: Factors) -> torch.Tensor:
        """Return the inner products of each group's Σ_t δ_t ⊗ patch_t, added up."""
        x, delta = factors.x, factors.delta
        assert x is not None
        if self.groups == 1:
            return by_linear(x, delta)
        # Each group as if it were a pair of its own.
        xs = sides(x, 0).unflatten(-1, (self.groups, -1)).movedim(-2, 2)  # (2, B, G, T, d_in)
        deltas = sides(delta, 1).unflatten(-1, (self.groups, -1)).movedim(-2, 3)  # (n, 2, B, G, T, d_out)
        each = by_linear(xs.flatten(0, 2), deltas.flatten(1, 3))  # (B G, 2n, 2n)
        return each.unflatten(0, (-1, self.groups)).sum(1)

    def gradient(self, x: torch.Tensor | None, delta: torch.Tensor) -> torch.Tensor:
        """Return Σ_t δ_t ⊗ patch_t, (r, C_out, C_in / groups, *kernel)."""
        assert x is not None
        grouped = x.unflatten(-1, (self.groups, -1)).transpose(1, 2)  # (r, G, T, d_in)
        deltas = delta.unflatten(-1, (self.groups, -1)).transpose(1, 2)  # (r, G, T, d_out)
        weight = self.parameter
        return (deltas.transpose(2, 3) @ grouped).reshape(len(x), *weight.shape).to(weight.dtype)


class ChannelShift(Shift):
    """A bias of channels, which stand before the places."""

    def positions(self, delta: torch.Tensor) -> torch.Tensor:
        """Return gradients at the output, (n, R, C_out, *places), as (n, R, places, C_out)."""
        return _channels_last(delta)


class Convolution(Layer):
    """``nn.Conv1d`` and ``nn.Conv2d``: any stride, dilation and groups, padded with zeros or not at all."""

    forwards = (nn.Conv1d.forward, nn.Conv2d.forward)

    def covers(self, module: nn.Module) -> bool:
        """Whether the module is PyTorch's own and pads with zeros."""
        kind: Any = type(module)
        plain = (nn.Conv1d._conv_forward, nn.Conv2d._conv_forward)
        if not super().covers(module) or kind._conv_forward not in plain or "_conv_forward" in vars(module):
            return False
        return module.padding_mode == "zeros"

    def uses(self, module: nn.Module, x: torch.Tensor) -> list[Use]:
        """Return the uses of filters and bias; x must have a dimension of rows."""
        kernel: Any = module.kernel_size
        if x.ndim != len(kernel) + 2:
            return []
        weight = own_parameter(module, "weight")
        return with_bias(module, [] if weight is None else [Filters(weight, module, x)], ChannelShift)


def _convolutions() -> Iterator[tuple[nn.Module, torch.Tensor]]:
    """Yield both dimensions with every option, alone and together."""
    line, image = torch.randn(4, 6, 11), torch.randn(4, 6, 7, 8)
    every: tuple[dict[str, Any], ...] = (
        {},
        {"bias": False},
        {"stride": 2},
        {"padding": 2},
        {"dilation": 2},
        {"groups": 3},
        {"groups": 6},
        {"padding": "same", "dilation": 3},
        {"padding": "valid"},
        {"stride": 2, "padding": 3, "dilation": 2, "groups": 2},
    )
    for options in every:
        yield nn.Conv1d(6, 12, 2, **options), line
        yield nn.Conv2d(6, 12, (2, 3), **options), image
    yield nn.Conv2d(6, 4, (1, 3), stride=(2, 1), padding=(0, 1), dilation=(1, 2)), image
    yield nn.Conv1d(16, 24, 3), torch.randn(4, 16, 5)


LAYERS.add("Conv1d", Convolution())
LAYERS.add("Conv2d", Convolution())
EXAMPLES.add("Conv1d", _convolutions)
EXAMPLES.add("Conv2d", _convolutions)
