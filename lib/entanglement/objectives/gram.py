"""The geometry of k objectives: the inner products of their gradients, and what follows to first order.

An objective is a number that is to be *raised*; a loss enters with its sign turned. With g_i the gradient of
objective i and G_ij = ⟨g_i, g_j⟩, a step of size η along u = Σ_j w_j g_j changes objective i to first order
by

    δf_i = η Σ_j w_j G_ij = η (G w)_i.

Pure arithmetic: no model. A pair is the case k = 2 with the objectives log π_w and −log π_l, so that
G_12 = −c, and what is asked here of both is Condition 1 (paper §3.2, arXiv 2410.13828). The theorem on
objectives of the book's proofs has the general case; the shortest mixture is MGDA's (Désidéri 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from entanglement.checks import non_empty, non_negative, shown, whole
from entanglement.geometry import CAUCHY_SCHWARZ_TOLERANCE, TIE, Numbers, PairGeometry, as_float64
from entanglement.objectives.cone import shortest_mixture
from entanglement.signatures import checked

__all__ = ["ObjectiveGeometry"]

#: Unit gradients whose shortest mixture has a square below this point nowhere together: that is rounding.
TOUCHING = 1e-12


@checked(gram=None)
@dataclass(frozen=True)
class ObjectiveGeometry:
    """Inner products of the gradients of k ≥ 2 objectives, of B examples or of one batch as a whole (B = 1).

    Weights are one number for all, (k,), or (B, k).

    Attributes:
        gram: (B, k, k) float64, G_ij = ⟨∇f_i, ∇f_j⟩; (k, k) is taken as B = 1.
        names: of the objectives, k different texts; "objective 1", … where none are given.

    Raises:
        ValueError: a gram that is not square and symmetric, or that no gradients can have: a negative square,
            a product beyond that of the norms (Cauchy–Schwarz), a negative eigenvalue. What is no more than
            rounding in float32 is put right.
    """

    gram: torch.Tensor
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        gram = as_float64(self.gram, "gram")
        gram = gram[None] if gram.ndim == 2 else gram
        if gram.ndim != 3 or gram.shape[1] != gram.shape[2] or gram.shape[1] < 2:
            raise ValueError(
                f"ObjectiveGeometry: gram is {tuple(gram.shape)}; expected (B, k, k) with k of at least 2."
            )
        k = gram.shape[1]
        names = tuple(self.names) or tuple(f"objective {i + 1}" for i in range(k))
        if len(set(names)) != k or len(names) != k or not all(isinstance(n, str) and n for n in names):
            raise ValueError(f"ObjectiveGeometry: names={shown(self.names)}; expected {k} different texts.")
        object.__setattr__(self, "names", names)
        self._refuse(~torch.isfinite(gram), gram, "a finite number")
        squares = gram.diagonal(dim1=1, dim2=2)
        self._refuse(torch.diag_embed(squares < 0), gram, "a squared norm, at least 0")
        norms = squares.sqrt()
        bound = norms[:, :, None] * norms[:, None, :]
        slack = CAUCHY_SCHWARZ_TOLERANCE * bound + torch.finfo(torch.float64).tiny
        self._refuse((gram - gram.mT).abs() > slack, gram, "the same in both orders")
        gram = (gram + gram.mT) / 2
        self._refuse(gram.abs() > bound + slack, gram, "at most the product of the norms (Cauchy–Schwarz)")
        gram = torch.diagonal_scatter(gram.clamp(-bound, bound), squares, dim1=1, dim2=2)
        object.__setattr__(self, "gram", gram)
        unit = torch.nan_to_num(self.cosine)
        low = torch.linalg.eigvalsh(unit)[:, 0] if len(unit) else torch.zeros(0)
        if bool((low < -k * CAUCHY_SCHWARZ_TOLERANCE).any()):
            example = int(low.argmin())
            raise ValueError(
                f"ObjectiveGeometry: gram of example {example} has the eigenvalue {float(low[example]):.3g} "
                "in units of the norms; expected none below 0."
            )

    def _refuse(self, bad: torch.Tensor, gram: torch.Tensor, expected: str) -> None:
        if bool(bad.any()):
            b, i, j = (int(n) for n in bad.nonzero()[0])
            which = f"of {self.names[i]!r}" if i == j else f"of {self.names[i]!r} and {self.names[j]!r}"
            value = float(gram[b, i, j])
            raise ValueError(
                f"ObjectiveGeometry: gram {which}, example {b}, is {value!r}; expected {expected}."
            )

    @classmethod
    def from_vectors(cls, vectors: Numbers, names: tuple[str, ...] = ()) -> ObjectiveGeometry:
        """Return the geometry of gradients given as vectors, (k, P) or (B, k, P)."""
        g = as_float64(vectors, "vectors")
        if g.ndim not in (2, 3):
            raise ValueError(f"from_vectors: vectors is {tuple(g.shape)}; expected (k, P) or (B, k, P).")
        return cls(g @ g.mT, names)

    @classmethod
    def from_pairs(cls, pairs: PairGeometry) -> ObjectiveGeometry:
        """Return preference pairs as two objectives, log π_w and −log π_l: G = [[a², −c], [−c, b²]]."""
        rows = [[pairs.chosen_sq, -pairs.inner], [-pairs.inner, pairs.rejected_sq]]
        gram = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
        return cls(gram, ("chosen up", "rejected down"))

    @classmethod
    def cat(cls, parts: Sequence[ObjectiveGeometry]) -> ObjectiveGeometry:
        """Return the examples of several geometries of the same objectives as one."""
        if not parts or any(part.names != parts[0].names for part in parts):
            raise ValueError("ObjectiveGeometry.cat: expected at least one part, all of the same objectives.")
        return cls(torch.cat([part.gram for part in parts]), parts[0].names)

    def __len__(self) -> int:
        return len(self.gram)

    @property
    def k(self) -> int:
        """How many objectives."""
        return self.gram.shape[1]

    def place(self, objective: int | str) -> int:
        """Return the place of an objective that is given by place (from 0) or by name."""
        if isinstance(objective, str):
            if objective not in self.names:
                raise ValueError(f"objective {objective!r} is not known; expected one of {self.names}.")
            return self.names.index(objective)
        whole(0, self.k - 1)("objective", objective)
        return int(objective)

    # --- the shape ------------------------------------------------------------------------------------------

    @property
    def norms(self) -> torch.Tensor:
        """(B, k) norms of the gradients."""
        return self.gram.diagonal(dim1=1, dim2=2).sqrt()

    @property
    def cosine(self) -> torch.Tensor:
        """(B, k, k) cosines; nan in the row and column of a zero gradient."""
        n = self.norms
        rho = (self.gram / n[:, :, None] / n[:, None, :]).clamp(-1.0, 1.0)
        zero = n == 0
        return torch.where(zero[:, :, None] | zero[:, None, :], torch.nan, rho)

    def pair(self, i: int | str, j: int | str) -> PairGeometry:
        """Return two objectives as pairs: f_i is what a margin raises, −f_j what it lowers; so c = −G_ij.

        With weights d_w = w_i and d_l = w_j all of its answers hold: "chosen falls" is "i falls", "rejected
        rises" is "j falls", and Condition 1 is "neither falls under equal weights".
        """
        a, b = self.place(i), self.place(j)
        if a == b:
            raise ValueError(f"pair: i={i!r} and j={j!r}; expected two different objectives.")
        return PairGeometry(self.gram[:, a, a], self.gram[:, b, b], -self.gram[:, a, b])

    def band(self, i: int | str, j: int | str) -> tuple[torch.Tensor, torch.Tensor]:
        """(low, high), each (B,): the w_i/w_j > 0 with which neither falls, all other weights being 0."""
        return self.pair(i, j).band

    # --- what a step does -----------------------------------------------------------------------------------

    def _weights(self, weights: Numbers, where: str) -> torch.Tensor:
        w = as_float64(weights, "weights")
        if w.ndim > 2 or (w.ndim and w.shape[-1] != self.k) or (w.ndim == 2 and len(w) != len(self)):
            raise ValueError(
                f"{where}: weights has shape {tuple(w.shape)}; expected one number, ({self.k},) or "
                f"({len(self)}, {self.k})."
            )
        if not bool(torch.isfinite(w).all()):
            raise ValueError(f"{where}: weights has a value that is not finite.")
        return w.expand(len(self), self.k)

    def pulls(self, weights: Numbers = 1.0) -> torch.Tensor:
        """(B, k, k) w_j G_ij: what objective j's share of a unit step does to objective i."""
        return self.gram * self._weights(weights, "pulls")[:, None, :]

    def rates(self, weights: Numbers = 1.0) -> torch.Tensor:
        """(B, k) G w: the change of each objective per unit step along Σ_j w_j g_j; 0 for a near tie."""
        pulls = self.pulls(weights)
        total = pulls.sum(dim=2)
        tie = total.abs() <= TIE * pulls.abs().amax(dim=2)
        return torch.where(tie, torch.zeros_like(total), total)

    def predicted_change(self, weights: Numbers, lr: float) -> torch.Tensor:
        """(B, k) first-order change of each objective, in its own unit, by a step of size ``lr``."""
        non_negative("lr", lr, "predicted_change")
        return float(lr) * self.rates(weights)

    def rises(self, weights: Numbers = 1.0) -> torch.Tensor:
        """(B, k) bool: which objectives rise; an exact tie does not."""
        return self.rates(weights) > 0

    def dragged(self, weights: Numbers = 1.0) -> torch.Tensor:
        """(B, k) bool: which objectives fall though their own weight is positive."""
        return (self._weights(weights, "dragged") > 0) & (self.rates(weights) < 0)

    def step_norm(self, weights: Numbers = 1.0) -> torch.Tensor:
        """(B,) length √(wᵀ G w) of Σ_j w_j g_j."""
        w = self._weights(weights, "step_norm")
        return torch.einsum("bi,bij,bj->b", w, self.gram, w).clamp(min=0).sqrt()

    # --- what a step can do ---------------------------------------------------------------------------------

    @property
    def condition(self) -> torch.Tensor:
        """(B, k) bool, Condition 1 for k objectives: which do not fall under the plain sum, Σ_j G_ij ≥ 0.

        All of two objectives log π_w, −log π_l: c ≤ min(a², b²).
        """
        return self.rates() >= 0

    def _mixtures(self, *, unit: bool) -> torch.Tensor:
        """(B, k) weights of the shortest mixture of the gradients, or of their directions."""
        found = torch.zeros(len(self), self.k, dtype=torch.float64)
        for b, (cosine, norms) in enumerate(zip(self.cosine, self.norms, strict=True)):
            zero = norms == 0
            if bool(zero.any()):  # already the shortest there is
                found[b] = zero / zero.sum()
                continue
            lengths = torch.ones_like(norms) if unit else norms
            found[b] = torch.from_numpy(shortest_mixture(cosine.numpy(), lengths.numpy()))
        return found

    @property
    def shortest(self) -> torch.Tensor:
        """(B, k) weights, at least 0 and of sum 1, of the shortest Σ_j w_j g_j: those of MGDA.

        Stepping along it raises every objective by at least the square of its length, per unit step. Its
        length (``step_norm``) is 0 exactly if no direction raises all objectives.
        """
        return self._mixtures(unit=False)

    @property
    def can_all_rise(self) -> torch.Tensor:
        """(B,) bool: whether some direction, and so some w ≥ 0, raises all objectives at once.

        Decided by the directions of the gradients, whatever their lengths; False where a gradient is zero.
        """
        w = self._mixtures(unit=True)
        square = torch.einsum("bi,bij,bj->b", w, torch.nan_to_num(self.cosine), w)
        return (square > TOUCHING) & (self.norms > 0).all(dim=1)

    @checked(index=non_empty)
    def select(self, index: Sequence[int]) -> ObjectiveGeometry:
        """Return the geometry of some of the examples, by place."""
        whole_place = whole(0, len(self) - 1)
        for place in index:
            whole_place("index", place)
        return ObjectiveGeometry(self.gram[torch.as_tensor(list(index))], self.names)
