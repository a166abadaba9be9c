"""Embeddings: output = W[id], a linear map of one-hot vectors: ⟨x_s, x'_t⟩ is 1 where the ids agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from entanglement.gradients.inner import assemble, contract, sides
from entanglement.gradients.layers.base import EXAMPLES, LAYERS, Factors, Layer, Use, own_parameter

__all__ = ["Embedding", "Lookup", "by_embedding"]


def _same_ids(ids: torch.Tensor, i: int, j: int, padding_idx: int | None, dtype: torch.dtype) -> torch.Tensor:
    """Return (B, T, T): 1 where the ids of side i and of side j agree and get a gradient."""
    both = sides(ids, 0)
    alike = both[i][:, :, None] == both[j][:, None, :]
    if padding_idx is not None:  # PyTorch keeps that row of the embedding fixed
        alike &= (both[i] != padding_idx)[:, :, None]
    return alike.to(dtype)


def by_embedding(ids: torch.Tensor, delta: torch.Tensor, padding_idx: int | None = None) -> torch.Tensor:
    """Return the inner products of an embedding's gradients; ids (R, T), delta (n, R, T, d)."""
    deltas = sides(delta, 1)
    return assemble(
        lambda i, j: contract(_same_ids(ids, i, j, padding_idx, delta.dtype), deltas[:, i], deltas[:, j])
    )


class Lookup(Use):
    """output = W[id], W (V, d); ``padding_idx`` is the row that gets no gradient."""

    form = "embedding"

    def __init__(self, parameter: nn.Parameter, ids: torch.Tensor, padding_idx: int | None) -> None:
        super().__init__(parameter)
        self._ids = ids
        self.padding_idx = padding_idx

    def entered(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the ids, (R, T)."""
        return self._ids.flatten(1)

    def fits(self, other: Use) -> bool:
        """Whether both keep the same row fixed."""
        return isinstance(other, Lookup) and other.padding_idx == self.padding_idx

    def inner(self, factors: Factors) -> torch.Tensor:
        """Return the inner products of Σ_t onehot(id_t) ⊗ δ_t."""
        assert factors.x is not None
        return by_embedding(factors.x, factors.delta, self.padding_idx)

    def gradient(self, x: torch.Tensor | None, delta: torch.Tensor) -> torch.Tensor:
        """Return Σ_t onehot(id_t) ⊗ δ_t, (r, V, d)."""
        assert x is not None
        if self.padding_idx is not None:  # PyTorch keeps that row of the embedding fixed
            delta = delta.masked_fill((x == self.padding_idx)[..., None], 0.0)
        weight = self.parameter
        total = torch.zeros(len(x), *weight.shape, dtype=weight.dtype, device=weight.device)
        for row, (places, values) in enumerate(zip(x, delta, strict=True)):
            total[row].index_add_(0, places, values.to(total))
        return total


class Embedding(Layer):
    """``nn.Embedding`` that neither clips its rows nor counts its ids."""

    forwards = (nn.Embedding.forward,)

    def uses(self, module: nn.Module, x: torch.Tensor) -> list[Use]:
        """Return the use of the weight."""
        weight = own_parameter(module, "weight")
        plain = module.max_norm is None and not module.scale_grad_by_freq
        padding: Any = module.padding_idx
        return [] if weight is None or not plain else [Lookup(weight, x, padding)]

    def shared(self, x: torch.Tensor) -> bool:
        """Whether the whole batch shares the ids."""
        return x.ndim == 1 or (x.ndim == 2 and x.shape[0] == 1)


def _embeddings() -> Iterator[tuple[nn.Module, torch.Tensor]]:
    """Yield ids of each row, ids that all rows share, and a row that is kept fixed."""
    ids = torch.randint(0, 6, (4, 7))
    yield nn.Embedding(6, 3), ids
    yield nn.Embedding(6, 3, padding_idx=int(ids[0, 0])), ids
    yield nn.Embedding(6, 3), ids[0]
    yield nn.Embedding(6, 3), ids[:1]


LAYERS.add("Embedding", Embedding())
EXAMPLES.add("Embedding", _embeddings)
