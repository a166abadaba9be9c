"""The geometry of one pair, token by token: all inner products of ∇ log π(y_t | x, y_<t)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from entanglement.geometry import PairGeometry
from entanglement.signatures import checked

__all__ = ["TokenGeometry"]


@checked()
@dataclass(frozen=True)
class TokenGeometry:
    """Inner products between the token gradients of one pair; chosen tokens first, then rejected; N = n_w +
    n_l.

    Attributes:
        gram: (N, N) float64, ⟨∇ log π(y_s|…), ∇ log π(y_t|…)⟩.
        logps: (N,) float64, log π(y_t|…), nats.
        token_ids: (N,) vocabulary ids of the response tokens.
        positions: (N,) place of each token in its own sequence, prompt included, counted from 0.
        n_chosen: n_w.
        id: the pair's name.
    """

    gram: torch.Tensor
    logps: torch.Tensor
    token_ids: torch.Tensor
    positions: torch.Tensor
    n_chosen: int
    id: str = ""

    def __post_init__(self) -> None:
        n = len(self.token_ids)
        if self.gram.shape != (n, n) or len(self.positions) != n or len(self.logps) != n:
            raise ValueError(
                f"TokenGeometry: gram is {tuple(self.gram.shape)}, with {n} token_ids, {len(self.positions)} "
                f"positions and {len(self.logps)} logps; expected (N, N), (N,), (N,), (N,)."
            )
        if not 0 < self.n_chosen < n:
            raise ValueError(f"TokenGeometry: n_chosen={self.n_chosen}; expected between 1 and {n - 1}.")

    @property
    def n_rejected(self) -> int:
        """n_l."""
        return len(self.token_ids) - self.n_chosen

    @property
    def side(self) -> list[Literal["chosen", "rejected"]]:
        """Which response each of the N tokens belongs to."""
        return ["chosen" if i < self.n_chosen else "rejected" for i in range(len(self.token_ids))]

    @property
    def offsets(self) -> torch.Tensor:
        """(N,) place of each token in its response, counted from 0."""
        return torch.cat([torch.arange(self.n_chosen), torch.arange(self.n_rejected)])

    @property
    def norms(self) -> torch.Tensor:
        """(N,) norms of the token gradients."""
        return self.gram.diagonal().clamp(min=0).sqrt()

    @property
    def cosine(self) -> torch.Tensor:
        """(N, N) cosines; nan in the row and column of a zero gradient."""
        size = self.norms
        zero = size == 0
        rho = (self.gram / size[:, None] / size[None, :]).clamp(-1.0, 1.0)
        return torch.where(zero[:, None] | zero[None, :], torch.nan, rho)

    @property
    def chosen(self) -> torch.Tensor:
        """(n_w, n_w) inner products among chosen tokens; they sum to a²."""
        return self.gram[: self.n_chosen, : self.n_chosen]

    @property
    def rejected(self) -> torch.Tensor:
        """(n_l, n_l) inner products among rejected tokens; they sum to b²."""
        return self.gram[self.n_chosen :, self.n_chosen :]

    @property
    def cross(self) -> torch.Tensor:
        """(n_w, n_l) inner products of chosen with rejected tokens; they sum to c."""
        return self.gram[: self.n_chosen, self.n_chosen :]

    @property
    def cross_cosine(self) -> torch.Tensor:
        """(n_w, n_l) cosines of chosen with rejected tokens: the paper's heat map."""
        return self.cosine[: self.n_chosen, self.n_chosen :]

    def pair(self) -> PairGeometry:
        """Return the geometry of the whole responses: sums of the three blocks."""
        # A square that cancels to rounding below zero is zero.
        a2, b2 = self.chosen.sum().clamp(min=0), self.rejected.sum().clamp(min=0)
        return PairGeometry(a2, b2, self.cross.sum(), (self.id,) if self.id else ())
