"""Responses of one token: the one-token theorem (frozen features), and trainable features.

With p = softmax(z) and s_i = e_i − p, every inner product is s_iᵀ K s_j, where K is the logit kernel: κI for
learnable logits (κ = 1) or a trained output matrix over frozen features (κ = ‖h‖²), ‖h‖²I + WWᵀ when the
features train too. All classes hold N independent instances at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from entanglement.checks import shown
from entanglement.geometry import PairGeometry
from entanglement.loglinear._exact import as64, check_tokens, logp_change, scores
from entanglement.signatures import checked

__all__ = ["OneToken", "TrainableOneToken"]

#: A weight d_w or d_l: one number, or one for each instance, (N,).
Weight = float | torch.Tensor


def _force(s_w: torch.Tensor, s_l: torch.Tensor, d_w: Weight, d_l: Weight) -> torch.Tensor:
    """d_w s_w − d_l s_l, (N, V)."""
    return as64(d_w, "d_w").reshape(-1, 1) * s_w - as64(d_l, "d_l").reshape(-1, 1) * s_l


def _check_tokens(chosen: torch.Tensor, rejected: torch.Tensor, shape: tuple[int, int], where: str) -> None:
    n, vocab = shape
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        check_tokens(value, vocab, name)
        if value.shape != (n,):
            raise ValueError(
                f"{where}: {name} must be ({n},) token ids below {vocab}; got {tuple(value.shape)}."
            )
    if bool((chosen == rejected).any()):
        raise ValueError(f"{where}: chosen and rejected are the same token in some instance.")


@checked(logits=None, kappa=None)
@dataclass(frozen=True)
class OneToken:
    """N one-token pairs with logit kernel κI (paper §4.1; the one-token theorem).

    Attributes:
        logits: (N, V) float64.
        chosen, rejected: (N,) token ids, different from each other.
        kappa: κ > 0, a number or (N,): 1 for learnable logits, ‖h‖² for z = Wh with W trained.
    """

    logits: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor
    kappa: torch.Tensor | float = 1.0

    def __post_init__(self) -> None:
        logits = as64(self.logits, "logits")
        if logits.ndim != 2:
            raise ValueError(f"OneToken: logits are {tuple(logits.shape)}; expected (N, V).")
        object.__setattr__(self, "logits", logits)
        _check_tokens(self.chosen, self.rejected, (logits.shape[0], logits.shape[1]), "OneToken")
        kappa = as64(self.kappa, "kappa")
        if kappa.shape not in ((), (logits.shape[0],)) or bool((kappa <= 0).any()):
            raise ValueError(f"OneToken: kappa={shown(self.kappa)}; expected numbers above 0, one or (N,).")
        object.__setattr__(self, "kappa", kappa.expand(logits.shape[0]))

    @classmethod
    def from_probs(
        cls, probs: torch.Tensor, chosen: int | torch.Tensor, rejected: int | torch.Tensor, kappa: float = 1.0
    ) -> OneToken:
        """Return the instances with these probabilities, (N, V), all above 0; one token id serves all."""
        p = as64(probs, "probs")
        n = len(p)
        return cls(p.log(), torch.as_tensor(chosen).expand(n), torch.as_tensor(rejected).expand(n), kappa)

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def probs(self) -> torch.Tensor:
        """(N, V) p = softmax(z)."""
        return self.logits.softmax(-1)

    @property
    def p_w(self) -> torch.Tensor:
        """(N,) probability of the chosen token."""
        return self.probs.gather(1, self.chosen.unsqueeze(1)).squeeze(1)

    @property
    def p_l(self) -> torch.Tensor:
        """(N,) probability of the rejected token."""
        return self.probs.gather(1, self.rejected.unsqueeze(1)).squeeze(1)

    def logps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (log p_w, log p_l), each (N,), nats."""
        logp = self.logits.log_softmax(-1)
        return (
            logp.gather(1, self.chosen.unsqueeze(1)).squeeze(1),
            logp.gather(1, self.rejected.unsqueeze(1)).squeeze(1),
        )

    def scores(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (s_w, s_l) = (e_w − p, e_l − p), each (N, V)."""
        p = self.probs
        return scores(p, self.chosen), scores(p, self.rejected)

    def geometry(self) -> PairGeometry:
        """Return a² = κ(1−2p_w+‖p‖²), b² = κ(1−2p_l+‖p‖²), c = κ(‖p‖²−p_w−p_l)."""
        # Summed from e − p: the expanded forms above are equal, and cancel when one probability is near 1.
        s_w, s_l = self.scores()
        kappa = torch.as_tensor(self.kappa)
        return PairGeometry(
            kappa * s_w.square().sum(-1), kappa * s_l.square().sum(-1), kappa * (s_w * s_l).sum(-1)
        )

    def kernel_geometry(self, kernel: torch.Tensor) -> PairGeometry:
        """Return s_wᵀKs_w, s_lᵀKs_l, s_wᵀKs_l for any logit kernel K, (V, V) or (N, V, V)."""
        s_w, s_l = self.scores()
        k = as64(kernel, "kernel").expand(len(self), self.logits.shape[1], self.logits.shape[1])
        k_w, k_l = torch.einsum("nuv,nv->nu", k, s_w), torch.einsum("nuv,nv->nu", k, s_l)
        return PairGeometry((s_w * k_w).sum(-1), (s_l * k_l).sum(-1), (s_w * k_l).sum(-1))

    def gaps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return its (ii): (a² − c, b² − c) = (κ(1−p_w+p_l), κ(1−p_l+p_w)), each (N,), at least 0."""
        rows = torch.arange(len(self))
        s_w, s_l = self.scores()
        not_w, not_l = (
            s_w[rows, self.chosen],
            s_l[rows, self.rejected],
        )  # 1 − p_w and 1 − p_l, to full precision
        return self.kappa * (not_w + self.p_l), self.kappa * (not_l + self.p_w)

    def _delta(self, eta: float, d_w: Weight, d_l: Weight) -> torch.Tensor:
        kappa = torch.as_tensor(self.kappa).unsqueeze(1)
        return eta * kappa * _force(*self.scores(), d_w, d_l)

    @checked(d_w=None, d_l=None)
    def change(self, eta: float, d_w: Weight = 1.0, d_l: Weight = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the exact (Δ log p_w, Δ log p_l), each (N,), nats, of one step of size eta.

        Weights are numbers or (N,).
        """
        delta = self._delta(eta, d_w, d_l)
        return logp_change(self.logits, delta, self.chosen), logp_change(self.logits, delta, self.rejected)

    @checked(d_w=None, d_l=None)
    def step(self, eta: float, d_w: Weight = 1.0, d_l: Weight = 1.0) -> OneToken:
        """Return the instances after one gradient step of size eta on the trained logits or output matrix."""
        return replace(self, logits=self.logits + self._delta(eta, d_w, d_l))


@checked(weight=None, features=None)
@dataclass(frozen=True)
class TrainableOneToken:
    """N one-token pairs with z = Wh where both W and h train: the one-token theorem no longer holds.

    Attributes:
        weight: (N, V, d) output matrices.
        features: (N, d).
        chosen, rejected: (N,) token ids.
    """

    weight: torch.Tensor
    features: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor

    def __post_init__(self) -> None:
        weight, features = as64(self.weight, "weight"), as64(self.features, "features")
        if weight.ndim != 3 or features.shape != (weight.shape[0], weight.shape[2]):
            raise ValueError(
                f"TrainableOneToken: weight is {tuple(weight.shape)}, features {tuple(features.shape)}; "
                "expected (N, V, d) and (N, d)."
            )
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "features", features)
        shape = (weight.shape[0], weight.shape[1])
        _check_tokens(self.chosen, self.rejected, shape, "TrainableOneToken")

    @classmethod
    def counterexample(cls) -> TrainableOneToken:
        """Return the smallest violation: V = 3, the rejected row points the chosen one's way and is longer.

        a² = 2.523, b² = 18.08, c = 4.801: a step lowers both log-probabilities.
        """
        weight = torch.tensor([[[3.0, 0.0], [6.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
        features = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
        return cls(weight, features, torch.tensor([0]), torch.tensor([1]))

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def logits(self) -> torch.Tensor:
        """(N, V) z = Wh."""
        return torch.einsum("nvd,nd->nv", self.weight, self.features)

    def frozen(self) -> OneToken:
        """Return the same instances with the features frozen (κ = ‖h‖²)."""
        return OneToken(self.logits, self.chosen, self.rejected, self.features.square().sum(-1))

    def logps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (log p_w, log p_l), each (N,), nats."""
        return self.frozen().logps()

    def kernel(self) -> torch.Tensor:
        """Return K = ‖h‖²I + WWᵀ, (N, V, V)."""
        eye = torch.eye(self.weight.shape[1], dtype=torch.float64)
        square = self.features.square().sum(-1)
        return square[:, None, None] * eye + torch.einsum("nud,nvd->nuv", self.weight, self.weight)

    def geometry(self) -> PairGeometry:
        """Return a², b², c over both W and h."""
        return self.frozen().kernel_geometry(self.kernel())

    def gaps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (a² − c, b² − c), each (N,), in closed form; either may be negative.

        a² − c = ‖h‖²(1−p_w+p_l) + ⟨W_w − W̄, W_w − W_l⟩ with W̄ = Σ p_v W_v; b² − c with w and l exchanged.
        """
        rows = torch.arange(len(self))
        w, l = self.weight[rows, self.chosen], self.weight[rows, self.rejected]  # noqa: E741
        frozen = self.frozen()
        mean = torch.einsum("nv,nvd->nd", frozen.probs, self.weight)
        gap_w, gap_l = frozen.gaps()
        return gap_w + ((w - mean) * (w - l)).sum(-1), gap_l + ((l - mean) * (l - w)).sum(-1)

    def direction(self, d_w: Weight = 1.0, d_l: Weight = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return d_w g_w − d_l g_l as its two blocks: of W, (N, V, d), and of h, (N, d)."""
        force = _force(*self.frozen().scores(), d_w, d_l)  # (N, V)
        return (
            torch.einsum("nv,nd->nvd", force, self.features),
            torch.einsum("nvd,nv->nd", self.weight, force),
        )

    def apply(self, weight: torch.Tensor | float, features: torch.Tensor | float) -> TrainableOneToken:
        """Return the instances with W + weight, (N, V, d), and h + features, (N, d)."""
        return replace(self, weight=self.weight + weight, features=self.features + features)

    def step(self, eta: float, d_w: Weight = 1.0, d_l: Weight = 1.0) -> TrainableOneToken:
        """Return the instances after one gradient step of size eta on W and h together."""
        weight, features = self.direction(d_w, d_l)
        return self.apply(eta * weight, eta * features)

    def change_along(
        self, weight: torch.Tensor | float, features: torch.Tensor | float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the exact (Δ log p_w, Δ log p_l), each (N,), nats, of ``apply``."""
        delta = self.apply(weight, features).logits - self.logits
        return logp_change(self.logits, delta, self.chosen), logp_change(self.logits, delta, self.rejected)

    def change(self, eta: float, d_w: Weight = 1.0, d_l: Weight = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the exact (Δ log p_w, Δ log p_l), each (N,), nats, of ``step``."""
        weight, features = self.direction(d_w, d_l)
        return self.change_along(eta * weight, eta * features)
