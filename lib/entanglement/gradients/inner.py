"""Inner products of gradients that are never formed: the arithmetic that all kinds of layers share.

The weight gradient of a linear map over one sequence is a sum of outer products, G = Σ_t δ_t ⊗ x_t, with x_t
what enters at position t and δ_t = ∂f/∂(output at t). Hence

    ⟨G, G'⟩ = Σ_{s,t} ⟨x_s, x'_t⟩ ⟨δ_s, δ'_t⟩,

two small matrices multiplied entry by entry, instead of two gradients of the weight's size. Each kind of
layer says in its own file (``layers``) what its x and δ are. Source: the norms of this trick are known from
differentially private training (Goodfellow, arXiv 1510.01799; Li et al., arXiv 2110.05679); here are the
inner products as well.

Shapes, everywhere: R = 2B rows, chosen 0..B−1 and rejected B..2B−1; n examples a row (1 for whole
responses; token gradients of a row are several); T positions. A result is (B, 2n, 2n), float64: within pair b
the n chosen examples come first, then the n rejected ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["assemble", "by_vectors", "contract", "sides"]


def sides(value: torch.Tensor, dim: int) -> torch.Tensor:
    """Split the R rows at ``dim`` into (2, B)."""
    return value.unflatten(dim, (2, value.shape[dim] // 2))


def assemble(block: Callable[[int, int], torch.Tensor]) -> torch.Tensor:
    """Return (B, 2n, 2n) from blocks (i, j) ↦ (B, n, n), of which (1, 0) is the transpose of (0, 1)."""
    ww, wl, ll = block(0, 0), block(0, 1), block(1, 1)
    return torch.cat([torch.cat([ww, wl], dim=2), torch.cat([wl.transpose(1, 2), ll], dim=2)], dim=1)


def by_vectors(vectors: torch.Tensor) -> torch.Tensor:
    """Return the inner products of formed gradients, (n, R, p)."""
    v = sides(vectors, 1).permute(2, 1, 0, 3).flatten(1, 2).double()  # (B, 2n, p)
    return (v @ v.transpose(1, 2)).cpu()


def contract(alike: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return Σ_{s,t} alike[b,s,t] ⟨left[k,b,s], right[m,b,t]⟩, (B, n, n); left, right (n, B, T, d)."""
    if len(left) == 1:
        products = left[0] @ right[0].transpose(1, 2)  # (B, T, T)
        return (alike * products).sum((1, 2), dtype=torch.float64)[:, None, None].cpu()
    # Moving `alike` to one side first costs n T² d + n² T d instead of n² T² d.
    moved = alike @ right  # (n, B, T, d)
    left, moved = (v.transpose(0, 1).flatten(2) for v in (left, moved))  # (B, n, T d)
    return (left @ moved.transpose(1, 2)).double().cpu()
