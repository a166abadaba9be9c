"""Inner products of gradients that are never formed.

The weight gradient of a linear map over one sequence is a sum of outer products, G = Σ_t δ_t ⊗ x_t, with x_t
what enters at position t and δ_t = ∂f/∂(output at t). Hence

    ⟨G, G'⟩ = Σ_{s,t} ⟨x_s, x'_t⟩ ⟨δ_s, δ'_t⟩,

two small matrices multiplied entry by entry, instead of two gradients of the weight's size. An embedding is a
linear map of one-hot vectors, so ⟨x_s, x'_t⟩ is 1 where the ids agree. Norms and biases have short gradients,
which are formed. Source: the norms of this trick are known from differentially private training (Goodfellow,
arXiv 1510.01799; Li et al., arXiv 2110.05679); here are the inner products as well.

Shapes, everywhere below: R = 2B rows, chosen 0..B−1 and rejected B..2B−1; n examples a row (1 for whole
responses; token gradients of a row are several); T positions. A result is (B, 2n, 2n), float64: within pair b
the n chosen examples come first, then the n rejected ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = [
    "by_embedding",
    "by_linear",
    "by_vectors",
    "linear_with_embedding",
    "one_position",
    "one_position_with_embedding",
]

_FORMED = 1 << 24  # numbers of formed gradients held at a time


def _sides(value: torch.Tensor, dim: int) -> torch.Tensor:
    """Split the R rows at ``dim`` into (2, B)."""
    return value.unflatten(dim, (2, value.shape[dim] // 2))


def _assemble(block: Callable[[int, int], torch.Tensor]) -> torch.Tensor:
    """Return (B, 2n, 2n) from blocks (i, j) ↦ (B, n, n), of which (1, 0) is the transpose of (0, 1)."""
    ww, wl, ll = block(0, 0), block(0, 1), block(1, 1)
    return torch.cat([torch.cat([ww, wl], dim=2), torch.cat([wl.transpose(1, 2), ll], dim=2)], dim=1)


def by_vectors(vectors: torch.Tensor) -> torch.Tensor:
    """Return the inner products of formed gradients, (n, R, p)."""
    v = _sides(vectors, 1).permute(2, 1, 0, 3).flatten(1, 2).double()  # (B, 2n, p)
    return (v @ v.transpose(1, 2)).cpu()


def _contract(alike: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return Σ_{s,t} alike[b,s,t] ⟨left[k,b,s], right[m,b,t]⟩, (B, n, n); left, right (n, B, T, d)."""
    if len(left) == 1:
        products = left[0] @ right[0].transpose(1, 2)  # (B, T, T)
        return (alike * products).sum((1, 2), dtype=torch.float64)[:, None, None].cpu()
    # Moving `alike` to one side first costs n T² d + n² T d instead of n² T² d.
    moved = alike @ right  # (n, B, T, d)
    left, moved = (v.transpose(0, 1).flatten(2) for v in (left, moved))  # (B, n, T d)
    return (left @ moved.transpose(1, 2)).double().cpu()


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
        return _by_forming(x, delta)
    xs, deltas = _sides(x, 0), _sides(delta, 1)
    return _assemble(lambda i, j: _contract(xs[i] @ xs[j].transpose(1, 2), deltas[:, i], deltas[:, j]))


def _by_forming(x: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """Return the same by forming the gradients, a few pairs at a time: cheaper for small weights."""
    n, pairs = len(delta), x.shape[0] // 2
    xs, deltas = _sides(x, 0), _sides(delta, 1)  # (2, B, T, d_in), (n, 2, B, T, d_out)
    step = max(1, _FORMED // (2 * n * x.shape[2] * delta.shape[3]))
    parts = []
    for start in range(0, pairs, step):
        some = slice(start, start + step)
        grads = deltas[:, :, some].transpose(3, 4) @ xs[:, some]  # (n, 2, b, d_out, d_in)
        flat = grads.permute(2, 1, 0, 3, 4).flatten(3).flatten(1, 2)  # (b, 2n, d_out d_in)
        parts.append((flat @ flat.transpose(1, 2)).double().cpu())
    return torch.cat(parts)


def _same_ids(ids: torch.Tensor, i: int, j: int, padding_idx: int | None, dtype: torch.dtype) -> torch.Tensor:
    """Return (B, T, T): 1 where the ids of side i and of side j agree and get a gradient."""
    sides = _sides(ids, 0)
    alike = sides[i][:, :, None] == sides[j][:, None, :]
    if padding_idx is not None:  # PyTorch keeps that row of the embedding fixed
        alike &= (sides[i] != padding_idx)[:, :, None]
    return alike.to(dtype)


def by_embedding(ids: torch.Tensor, delta: torch.Tensor, padding_idx: int | None = None) -> torch.Tensor:
    """Return the inner products of an embedding's gradients; ids (R, T), delta (n, R, T, d)."""
    deltas = _sides(delta, 1)
    return _assemble(
        lambda i, j: _contract(_same_ids(ids, i, j, padding_idx, delta.dtype), deltas[:, i], deltas[:, j])
    )


def linear_with_embedding(
    x: torch.Tensor,
    delta: torch.Tensor,
    ids: torch.Tensor,
    embedded: torch.Tensor,
    padding_idx: int | None = None,
) -> torch.Tensor:
    """Return the cross terms of one weight used as output matrix and as embedding, both orders added.

    ⟨δ_s ⊗ x_s, onehot(id_t) ⊗ ε_t⟩ = δ_s[id_t] ⟨x_s, ε_t⟩.

    Args:
        x: (R, S, d) what enters the output matrix.
        delta: (n, R, S, V) its output gradients.
        ids: (R, T) what enters the embedding.
        embedded: (n, R, T, d) its output gradients ε.
        padding_idx: of the embedding.
    """
    xs, deltas, sides, eps = _sides(x, 0), _sides(delta, 1), _sides(ids, 0), _sides(embedded, 1)
    n, s = len(delta), x.shape[1]

    def ordered(i: int, j: int) -> torch.Tensor:
        """Output matrix on side i, embedding on side j: (B, n, n)."""
        where = sides[j][None, :, None, :].expand(n, -1, s, -1)  # (n, B, S, T)
        picked = deltas[:, i].gather(3, where)
        if padding_idx is not None:
            picked = picked * (where != padding_idx)
        near = xs[i] @ eps[:, j].transpose(2, 3)  # (n, B, S, T)
        left, right = (v.transpose(0, 1).flatten(2) for v in (picked, near))  # (B, n, S T)
        return (left.double() @ right.double().transpose(1, 2)).cpu()

    return _assemble(lambda i, j: ordered(i, j) + ordered(j, i).transpose(1, 2))


def one_position(x: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """Return the inner products where every example has one position only, G = δ ⊗ x.

    Args:
        x: (n, R, d_in).
        delta: (n, R, d_out).
    """
    xs, deltas = (_sides(v, 1).permute(2, 1, 0, 3).flatten(1, 2) for v in (x, delta))  # (B, 2n, d)
    alike, products = (v @ v.transpose(1, 2) for v in (xs, deltas))
    return (alike.double() * products.double()).cpu()


def one_position_with_embedding(
    x: torch.Tensor,
    delta: torch.Tensor,
    ids: torch.Tensor,
    embedded: torch.Tensor,
    padding_idx: int | None = None,
) -> torch.Tensor:
    """Return ``linear_with_embedding`` where every example has one position in the output matrix.

    x (n, R, d) and delta (n, R, V) as in ``one_position``; ids (R, T) and embedded (n, R, T, d) as in
    ``linear_with_embedding``.
    """
    xs, deltas, sides, eps = _sides(x, 1), _sides(delta, 1), _sides(ids, 0), _sides(embedded, 1)
    n = len(x)

    def ordered(i: int, j: int) -> torch.Tensor:
        where = sides[j].expand(n, -1, -1)  # (n, B, T)
        picked = deltas[:, i].gather(2, where)
        if padding_idx is not None:
            picked = picked * (where != padding_idx)
        near = torch.einsum("kbd,mbtd->bkmt", xs[:, i], eps[:, j])
        return torch.einsum("kbt,bkmt->bkm", picked.double(), near.double()).cpu()

    return _assemble(lambda i, j: ordered(i, j) + ordered(j, i).transpose(1, 2))
