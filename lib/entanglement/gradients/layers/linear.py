"""Linear maps: ``nn.Linear``, output = x Wᵀ, and GPT-2's ``Conv1D``, output = x W.

The gradient over one sequence is a sum of outer products, G = Σ_t δ_t ⊗ x_t, and

    ⟨G, G'⟩ = Σ_{s,t} ⟨x_s, x'_t⟩ ⟨δ_s, δ'_t⟩,

two small matrices multiplied entry by entry. A small weight's gradients are cheaper to form.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from entanglement.gradients.inner import assemble, contract, sides
from entanglement.gradients.layers.base import EXAMPLES, LAYERS, Factors, Layer, Use, own_parameter
from entanglement.gradients.layers.bias import with_bias

__all__ = ["LinearMap", "Matrix", "TransposedMatrix", "by_forming", "by_linear", "one_position"]

_FORMED = 1 << 24  # numbers of formed gradients held at a time


def by_linear(x: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """Return the inner products of G = Σ_t δ_t ⊗ x_t.

    Args:
        x: (R, T, d_in).
        delta: (n, R, T, d_out).
    """
    n, _, positions, d_out = delta.shape
    d_in = x.shape[2]
    pairwise = 3 * positions**2 * (d_in + n * d_out) + 3 * (n * n * positions * d_out if n > 1 else 0)
    formed = 2 * n * positions * d_in * d_out + 3 * n * n * d_in * d_out
    if formed < pairwise:
        return by_forming(x, delta)
    xs, deltas = sides(x, 0), sides(delta, 1)
    return assemble(lambda i, j: contract(xs[i] @ xs[j].transpose(1, 2), deltas[:, i], deltas[:, j]))


def by_forming(x: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """Return the same by forming the gradients, a few pairs at a time: cheaper for small weights."""
    n, pairs = len(delta), x.shape[0] // 2
    xs, deltas = sides(x, 0), sides(delta, 1)  # (2, B, T, d_in), (n, 2, B, T, d_out)
    step = max(1, _FORMED // (2 * n * x.shape[2] * delta.shape[3]))
    parts = []
    for start in range(0, pairs, step):
        some = slice(start, start + step)
        grads = deltas[:, :, some].transpose(3, 4) @ xs[:, some]  # (n, 2, b, d_out, d_in)
        flat = grads.permute(2, 1, 0, 3, 4).flatten(3).flatten(1, 2)  # (b, 2n, d_out d_in)
        parts.append((flat @ flat.transpose(1, 2)).double().cpu())
    return torch.cat(parts)


def one_position(x: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """Return the inner products where every example has one position only, G = δ ⊗ x.

    Args:
        x: (n, R, d_in).
        delta: (n, R, d_out).
    """
    xs, deltas = (sides(v, 1).permute(2, 1, 0, 3).flatten(1, 2) for v in (x, delta))  # (B, 2n, d)
    alike, products = (v @ v.transpose(1, 2) for v in (xs, deltas))
    return (alike.double() * products.double()).cpu()


class Matrix(Use):
    """output = x Wᵀ, W (d_out, d_in)."""

    form = "matrix"
    at_one_position = True

    def __init__(self, parameter: nn.Parameter, x: torch.Tensor) -> None:
        super().__init__(parameter)
        self._x = x

    def entered(self, dtype: torch.dtype) -> torch.Tensor:
        """Return x, (R, T, d_in)."""
        return self._x.detach().to(dtype).flatten(1, -2)

    def factors_at(self, x: torch.Tensor, delta: torch.Tensor) -> Factors:
        """Return x (n, R, d_in) and delta (n, R, d_out) as factors."""
        return Factors(self, x, delta, one_position=True)

    def inner(self, factors: Factors) -> torch.Tensor:
        """Return the inner products of G = Σ_t δ_t ⊗ x_t."""
        assert factors.x is not None
        return (one_position if factors.one_position else by_linear)(factors.x, factors.delta)

    def inner_of_shared(
        self, x: torch.Tensor | None, chosen: torch.Tensor, rejected: torch.Tensor
    ) -> torch.Tensor:
        """Return the inner products of pairs that read the same x: ⟨x_s, x_t⟩ is needed once."""
        assert x is not None
        pairs, positions, d_in = x.shape
        d_out = chosen.shape[2]
        if 4 * positions * d_in * d_out < positions**2 * (d_in + 3 * d_out):  # cheaper to form the gradients
            both = torch.stack([(side.transpose(1, 2) @ x).flatten(1) for side in (chosen, rejected)], dim=1)
            return (both @ both.transpose(1, 2)).double().cpu()
        alike = x @ x.transpose(1, 2)  # (B, T, T)
        gram = torch.zeros(pairs, 2, 2, dtype=torch.float64)
        for i, j, one, other in (
            (0, 0, chosen, chosen),
            (1, 1, rejected, rejected),
            (0, 1, chosen, rejected),
        ):
            moved = alike @ other  # (B, T, d_out)
            gram[:, i, j] = gram[:, j, i] = (one * moved).sum((1, 2), dtype=torch.float64).cpu()
        return gram

    def gradient(self, x: torch.Tensor | None, delta: torch.Tensor) -> torch.Tensor:
        """Return Σ_t δ_t ⊗ x_t, (r, d_out, d_in)."""
        assert x is not None
        return (delta.transpose(1, 2) @ x).to(self.parameter.dtype)


class TransposedMatrix(Matrix):
    """output = x W, W (d_in, d_out). The inner products are the same; a tie to an embedding has no rule."""

    form = "transposed matrix"

    def gradient(self, x: torch.Tensor | None, delta: torch.Tensor) -> torch.Tensor:
        """Return Σ_t x_t ⊗ δ_t, (r, d_in, d_out)."""
        assert x is not None
        return (x.transpose(1, 2) @ delta).to(self.parameter.dtype)


class LinearMap(Layer):
    """``nn.Linear`` or ``Conv1D``."""

    forwards = (nn.Linear.forward, Conv1D.forward)

    def uses(self, module: nn.Module, x: torch.Tensor) -> list[Use]:
        """Return the use of the weight, and of the bias."""
        weight = own_parameter(module, "weight")
        kind = Matrix if type(module).forward is nn.Linear.forward else TransposedMatrix
        return with_bias(module, [] if weight is None else [kind(weight, x)])


def _linear_maps() -> Iterator[tuple[nn.Module, torch.Tensor]]:
    """Yield both classes, small (formed) and large (not formed), with several dimensions of positions."""
    for bias in (True, False):
        yield nn.Linear(3, 4, bias=bias), torch.randn(4, 5, 3)
    yield nn.Linear(30, 40), torch.randn(4, 3, 30)
    yield nn.Linear(3, 4), torch.randn(4, 2, 3, 3)
    yield Conv1D(4, 3), torch.randn(4, 5, 3)
    yield Conv1D(40, 30), torch.randn(4, 3, 30)


LAYERS.add("Linear", LinearMap())
LAYERS.add("Conv1D", LinearMap())
EXAMPLES.add("Linear", _linear_maps)
EXAMPLES.add("Conv1D", _linear_maps)
