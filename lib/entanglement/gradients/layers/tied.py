"""One weight as output matrix and as embedding: its gradient is the sum of both, with cross terms.

⟨δ_s ⊗ x_s, onehot(id_t) ⊗ ε_t⟩ = δ_s[id_t] ⟨x_s, ε_t⟩.
"""

from __future__ import annotations

import torch

from entanglement.gradients.inner import assemble, sides
from entanglement.gradients.layers.base import TIES, Factors
from entanglement.gradients.layers.embedding import Lookup

__all__ = ["linear_with_embedding"]


def linear_with_embedding(
    x: torch.Tensor,
    delta: torch.Tensor,
    ids: torch.Tensor,
    embedded: torch.Tensor,
    padding_idx: int | None = None,
    *,
    one_position: bool = False,
) -> torch.Tensor:
    """Return the cross terms of one weight used as output matrix and as embedding, both orders added.

    Args:
        x: (R, S, d) what enters the output matrix; (n, R, d) where every example has one position there.
        delta: (n, R, S, V) its output gradients; then (n, R, V).
        ids: (R, T) what enters the embedding.
        embedded: (n, R, T, d) its output gradients ε.
        padding_idx: of the embedding.
        one_position: whether every example has one position in the output matrix.
    """
    if one_position:
        x, delta = x.unsqueeze(2), delta.unsqueeze(2)  # (n, R, 1, d), (n, R, 1, V)
    xs, deltas = sides(x, 1 if one_position else 0), sides(delta, 1)
    places, eps = sides(ids, 0), sides(embedded, 1)
    n, s = len(delta), delta.shape[2]

    def ordered(i: int, j: int) -> torch.Tensor:
        """Output matrix on side i, embedding on side j: (B, n, n)."""
        where = places[j][None, :, None, :].expand(n, -1, s, -1)  # (n, B, S, T)
        picked = deltas[:, i].gather(3, where)
        if padding_idx is not None:
            picked = picked * (where != padding_idx)
        left = picked.transpose(0, 1).flatten(2).double()  # (B, n, S T)
        if one_position:  # each example has its own x, so ⟨x, ε⟩ has a dimension for both examples
            near = torch.einsum("kbd,mbtd->bkmt", xs[:, i, :, 0], eps[:, j])
            return torch.einsum("bkt,bkmt->bkm", left, near.double()).cpu()
        right = (xs[i] @ eps[:, j].transpose(2, 3)).transpose(0, 1).flatten(2)  # (B, n, S T)
        return (left @ right.double().transpose(1, 2)).cpu()

    return assemble(lambda i, j: ordered(i, j) + ordered(j, i).transpose(1, 2))


def _cross_terms(embedding: Factors, matrix: Factors) -> torch.Tensor:
    assert isinstance(embedding.use, Lookup) and embedding.x is not None and matrix.x is not None
    return linear_with_embedding(
        matrix.x,
        matrix.delta,
        embedding.x,
        embedding.delta,
        embedding.use.padding_idx,
        one_position=matrix.one_position,
    )


TIES.add("embedding and matrix", _cross_terms)
