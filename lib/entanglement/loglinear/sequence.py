"""Sequences in the log-linear model: one shared output matrix W over frozen features h_t.

log π(y) = Σ_t log softmax(W h_t)[y_t], with gradient Σ_t (e_{y_t} − p_t) h_tᵀ. Concave in W, so steps are
exact and their defect is bounded (the theorem on frozen features). The tabular models are the same thing
with one-hot features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch

from entanglement.checks import one_of, whole
from entanglement.geometry import PairGeometry
from entanglement.loglinear._exact import as64, check_tokens, logp_change, range_sq, scores
from entanglement.signatures import checked

__all__ = ["GapTerms", "LogLinear"]


class GapTerms(NamedTuple):
    """a² − c (or b² − c) in the three parts of the theorem on the suffix's signs, each (B,); they sum to it.

    Attributes:
        token: ‖h_0‖²(1 − p_w + p_l), the differing token itself; never negative.
        cross_talk: X, the prefix's and suffix's pull on the two differing tokens through W.
        asymmetry: ⟨g, S_w − S_l⟩, what the two suffixes differ by.
    """

    token: torch.Tensor
    cross_talk: torch.Tensor
    asymmetry: torch.Tensor


@checked(weight=None, chosen_features=None, rejected_features=None)
@dataclass(frozen=True)
class LogLinear:
    """B pairs, each with a W of its own (or a shared one) that is stepped for that pair alone.

    Attributes:
        weight: (B, V, d) output matrices; (V, d) is repeated for every pair.
        chosen_features: (B, n_w, d) frozen states that predict the chosen tokens.
        chosen: (B, n_w) token ids.
        rejected_features: (B, n_l, d).
        rejected: (B, n_l).
    """

    weight: torch.Tensor
    chosen_features: torch.Tensor
    chosen: torch.Tensor
    rejected_features: torch.Tensor
    rejected: torch.Tensor

    def __post_init__(self) -> None:
        for side in ("chosen", "rejected"):
            if getattr(self, side).ndim != 2:
                raise ValueError(f"LogLinear: {side} is {tuple(getattr(self, side).shape)}; expected (B, T).")
        n = len(self.chosen)
        for name in ("weight", "chosen_features", "rejected_features"):
            object.__setattr__(self, name, as64(getattr(self, name), name))
        if self.weight.ndim == 2:
            object.__setattr__(self, "weight", self.weight.expand(n, -1, -1))
        if self.weight.ndim != 3 or len(self.weight) != n:
            raise ValueError(
                f"LogLinear: weight is {tuple(self.weight.shape)}; expected ({n}, V, d) or (V, d)."
            )
        _, vocab, dim = self.weight.shape
        for side in ("chosen", "rejected"):
            tokens, features = getattr(self, side), getattr(self, f"{side}_features")
            if len(tokens) != n or features.shape != (*tokens.shape, dim):
                raise ValueError(
                    f"LogLinear: {side} is {tuple(tokens.shape)} with {side}_features "
                    f"{tuple(features.shape)}; expected ({n}, T) and ({n}, T, {dim})."
                )
            check_tokens(tokens, vocab, side)

    def __len__(self) -> int:
        return len(self.chosen)

    def _side(self, side: str) -> tuple[torch.Tensor, torch.Tensor]:
        one_of("chosen", "rejected")("side", side)
        return getattr(self, f"{side}_features"), getattr(self, side)

    def logits(self, side: str) -> torch.Tensor:
        """(B, T, V) W h_t of the "chosen" or the "rejected" response."""
        return torch.einsum("btd,bvd->btv", self._side(side)[0], self.weight)

    def scores(self, side: str) -> torch.Tensor:
        """(B, T, V) e_{y_t} − p_t of a response."""
        return scores(self.logits(side).softmax(-1), self._side(side)[1])

    def token_logps(self, side: str) -> torch.Tensor:
        """(B, T) log π(y_t|…) of a response, nats."""
        logp = self.logits(side).log_softmax(-1)
        return logp.gather(-1, self._side(side)[1].unsqueeze(-1)).squeeze(-1)

    def logps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (log π_w, log π_l), each (B,), nats."""
        return self.token_logps("chosen").sum(-1), self.token_logps("rejected").sum(-1)

    # --- gradients and geometry ----------------------------------------------------------------------------

    def blocks(self, side: str) -> torch.Tensor:
        """(B, T, V, d) the token gradients (e_{y_t} − p_t) h_tᵀ of a response."""
        return torch.einsum("btv,btd->btvd", self.scores(side), self._side(side)[0])

    def gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (G_w, G_l), each (B, V, d): ∇_W log π of the two responses."""
        w, l = (  # noqa: E741
            torch.einsum("btv,btd->bvd", self.scores(side), self._side(side)[0])
            for side in ("chosen", "rejected")
        )
        return w, l

    def geometry(self) -> PairGeometry:
        """Return a², b², c from the gradient matrices."""
        g_w, g_l = (g.flatten(1) for g in self.gradients())
        return PairGeometry.from_vectors(g_w, g_l)

    def token_gram(self) -> torch.Tensor:
        """Return all inner products of token gradients in closed form, (B, N, N), chosen tokens first.

        Entry (s, t) is ⟨h_s, h_t⟩ (1[y_s = y_t] − p_s(y_t) − p_t(y_s) + ⟨p_s, p_t⟩).
        """
        h = torch.cat([self.chosen_features, self.rejected_features], dim=1)  # (B, N, d)
        y = torch.cat([self.chosen, self.rejected], dim=1)  # (B, N)
        p = torch.cat([self.logits("chosen"), self.logits("rejected")], dim=1).softmax(-1)  # (B, N, V)
        at = p.gather(-1, y.unsqueeze(1).expand(-1, y.shape[1], -1))  # (B, N, N): p_s(y_t)
        same = (y.unsqueeze(2) == y.unsqueeze(1)).double()
        return (h @ h.mT) * (same - at - at.mT + p @ p.mT)

    def closed_geometry(self) -> PairGeometry:
        """Return a², b², c as the double sums over token pairs (the boxed formula)."""
        gram, n = self.token_gram(), self.chosen.shape[1]
        return PairGeometry(
            gram[:, :n, :n].sum((1, 2)).clamp(min=0),
            gram[:, n:, n:].sum((1, 2)).clamp(min=0),
            gram[:, :n, n:].sum((1, 2)),
        )

    def gap_terms(self, position: int) -> tuple[GapTerms, GapTerms]:
        """Return a² − c and b² − c in the parts of the theorem on the suffix's signs.

        Args:
            position: where the one differing token stands. Up to there both responses have the same states,
                and before it the same tokens; after it the states may differ.

        Raises:
            ValueError: the responses do not have that form.
        """
        k = position
        same_states = torch.equal(self.chosen_features[:, : k + 1], self.rejected_features[:, : k + 1])
        if not same_states or not torch.equal(self.chosen[:, :k], self.rejected[:, :k]):
            raise ValueError(f"gap_terms: the responses differ before position {k}.")
        s_w, s_l = self.scores("chosen"), self.scores("rejected")
        if bool((self.chosen[:, k] == self.rejected[:, k]).any()):
            raise ValueError(f"gap_terms: chosen and rejected agree at position {k} in some pair.")
        h0 = self.chosen_features[:, k]  # (B, d)
        direction = s_w[:, k] - s_l[:, k]  # (B, V): e_w − e_l
        g_w, g_l = self.gradients()

        def tail(side: str) -> torch.Tensor:
            return torch.einsum(
                "btv,btd->bvd", self.scores(side)[:, k + 1 :], self._side(side)[0][:, k + 1 :]
            )

        suffix = tail("chosen") - tail("rejected")  # S_w − S_l

        def parts(g: torch.Tensor, score: torch.Tensor, sign: float) -> GapTerms:
            token = sign * h0.square().sum(-1) * (score[:, k] * direction).sum(-1)
            through = sign * torch.einsum("bvd,bv,bd->b", g, direction, h0)
            return GapTerms(token, through - token, sign * (g * suffix).sum((1, 2)))

        return parts(g_w, s_w, 1.0), parts(g_l, s_l, -1.0)

    # --- steps ---------------------------------------------------------------------------------------------

    def direction(self, d_w: float | torch.Tensor = 1.0, d_l: float | torch.Tensor = 1.0) -> torch.Tensor:
        """Return U = d_w G_w − d_l G_l, (B, V, d); weights are numbers or (B,)."""
        g_w, g_l = self.gradients()
        return as64(d_w, "d_w").reshape(-1, 1, 1) * g_w - as64(d_l, "d_l").reshape(-1, 1, 1) * g_l

    def _moved(self, side: str, update: torch.Tensor) -> torch.Tensor:
        """Return the logit changes δ_t = U h_t, (B, T, V)."""
        return torch.einsum("btd,bvd->btv", self._side(side)[0], update)

    def apply(self, update: torch.Tensor) -> Self:
        """Return the pairs with W + update, (B, V, d)."""
        return replace(self, weight=self.weight + update)

    @checked()
    def step(self, eta: float, d_w: float | torch.Tensor = 1.0, d_l: float | torch.Tensor = 1.0) -> Self:
        """Return the pairs after one gradient step of size eta, each on its own W."""
        return self.apply(eta * self.direction(d_w, d_l))

    def change_along(self, update: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the exact (Δ log π_w, Δ log π_l), each (B,), nats, when W moves by update, (B, V, d)."""
        w, l = (  # noqa: E741
            logp_change(self.logits(side), self._moved(side, update), self._side(side)[1]).sum(-1)
            for side in ("chosen", "rejected")
        )
        return w, l

    @checked()
    def change(
        self, eta: float, d_w: float | torch.Tensor = 1.0, d_l: float | torch.Tensor = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the exact (Δ log π_w, Δ log π_l), each (B,), nats, of ``step``: not a first-order value."""
        return self.change_along(eta * self.direction(d_w, d_l))

    @checked()
    def defect_bound(
        self, eta: float, d_w: float | torch.Tensor = 1.0, d_l: float | torch.Tensor = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the frozen-features theorem's bound on first-order minus exact change, each (B,), nats.

        0 ≤ η⟨g, U⟩ − Δ log π ≤ ⅛ Σ_t range(δ_t)², for either response and any step size.
        """
        update = eta * self.direction(d_w, d_l)
        w, l = (  # noqa: E741
            range_sq(self._moved(side, update)).sum(-1) / 8 for side in ("chosen", "rejected")
        )
        return w, l

    def smoothness(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (L_w, L_l), each (B,): ½ λ_max(Σ h_t h_tᵀ), a bound on ‖∇² log π‖."""
        w, l = (  # noqa: E741
            torch.linalg.eigvalsh(h.mT @ h)[:, -1] / 2 for h in (self.chosen_features, self.rejected_features)
        )
        return w, l

    def safe_step(
        self, d_w: float | torch.Tensor = 1.0, d_l: float | torch.Tensor = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the step sizes, each (B,), below which the chosen rises and the rejected falls, exactly.

        2(d_w a² − d_l c)/(L_w‖U‖²) for chosen (one step of a smooth model). The rejected side needs none
        (inf) when it falls to first order, because log π is concave; 0 where the first order already has the
        wrong sign.
        """
        up, down = self.geometry().rates(d_w, d_l)
        norm = self.direction(d_w, d_l).square().sum((1, 2))
        l_w, _ = self.smoothness()
        chosen = torch.where(up > 0, 2 * up / (l_w * norm), 0.0)
        return chosen, torch.where(down < 0, torch.inf, 0.0)

    # --- shapes --------------------------------------------------------------------------------------------

    def truncate(self, length: int) -> Self:
        """Return the pairs with only the first ``length`` tokens of each response."""
        whole(1, min(self.chosen.shape[1], self.rejected.shape[1]))("length", length, "truncate")
        return replace(
            self,
            chosen_features=self.chosen_features[:, :length],
            chosen=self.chosen[:, :length],
            rejected_features=self.rejected_features[:, :length],
            rejected=self.rejected[:, :length],
        )
