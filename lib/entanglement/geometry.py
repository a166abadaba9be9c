"""The geometry of a pair: three numbers, and everything that follows from them to first order.

With g_w = ∇ log π(y_w|x) and g_l = ∇ log π(y_l|x), the numbers are a² = ‖g_w‖², b² = ‖g_l‖², c = ⟨g_w, g_l⟩.
A gradient step of size η on a loss with weights d_w, d_l moves θ by η (d_w g_w − d_l g_l), so to first order

    δ log π_w = η (d_w a² − d_l c),        δ log π_l = η (d_w c − d_l b²).

Pure arithmetic: no model, no loss name. Source: paper §3.2 (arXiv 2410.13828); the band is a theorem
of the book's proofs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from entanglement.checks import device, non_negative, shown
from entanglement.signatures import checked

__all__ = ["CASES", "Case", "PairGeometry", "as_float64"]

Case = Literal["ideal", "both_down", "both_up", "reversed", "equal"]
#: What a step can do to a pair, in the order in which tables and figures show it. ("equal" is none: there is
#: nothing to choose between.)
CASES: tuple[Case, ...] = ("ideal", "both_down", "both_up", "reversed")

Numbers = torch.Tensor | float | Sequence[float]

#: |c| may exceed ab by this relative amount (float32 models round); beyond it something is wrong.
CAUCHY_SCHWARZ_TOLERANCE = 1e-3
#: Norms below this have squares that underflow.
UNDERFLOW = torch.finfo(torch.float64).tiny ** 0.5
#: Two float64 products closer than this, relatively, are a tie: that is their own rounding error.
TIE = 16 * torch.finfo(torch.float64).eps


@checked(value=None, device=device)
def as_float64(value: Numbers, name: str, *, device: str | None = "cpu") -> torch.Tensor:
    """Return a number, a list of them or a tensor as a float64 tensor without its graph.

    Args:
        value: as it was given.
        name: of the argument, for the message.
        device: where it is wanted; None for where it is.

    Raises:
        ValueError: no numbers.
    """
    try:
        # The dtype is said at once: a list of numbers would otherwise pass through float32.
        found = torch.as_tensor(value, dtype=torch.float64, device=device).detach()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        found = None
    if found is None or isinstance(value, bool):
        raise ValueError(f"{name}={shown(value)}; expected numbers.")
    return found


def _difference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return x − y, and exactly 0 where they agree up to rounding, so that a tie has no sign."""
    gap = x - y
    return torch.where(gap.abs() <= TIE * torch.maximum(x.abs(), y.abs()), torch.zeros_like(gap), gap)


@checked(chosen_sq=None, rejected_sq=None, inner=None)
@dataclass(frozen=True)
class PairGeometry:
    """a², b² and c of B pairs, float64 on the CPU, each (B,).

    Attributes:
        chosen_sq: a² = ‖g_w‖².
        rejected_sq: b² = ‖g_l‖².
        inner: c = ⟨g_w, g_l⟩. A value beyond ±ab by no more than rounding is set to ±ab.
        ids: names of the pairs, for messages; may be empty.
        identical: which pairs have two responses of the same tokens; empty for none. Their three numbers are
            the same, and a pair of different responses whose numbers are the same is none of them.

    Raises:
        ValueError: shapes differ, a value is not finite, a square is negative, or c is beyond ±ab. The
            message names the pair.
    """

    chosen_sq: torch.Tensor
    rejected_sq: torch.Tensor
    inner: torch.Tensor
    ids: tuple[str, ...] = ()
    identical: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        for name in ("chosen_sq", "rejected_sq", "inner"):
            value = as_float64(getattr(self, name), name)
            object.__setattr__(self, name, value.reshape(1) if value.ndim == 0 else value)
        shapes = {n: tuple(getattr(self, n).shape) for n in ("chosen_sq", "rejected_sq", "inner")}
        if len(set(shapes.values())) != 1 or self.inner.ndim != 1:
            raise ValueError(f"PairGeometry: got shapes {shapes}; expected three of the same shape (B,).")
        if self.ids and len(self.ids) != len(self.inner):
            raise ValueError(f"PairGeometry: got {len(self.ids)} ids for {len(self.inner)} pairs.")
        if self.identical and len(self.identical) != len(self.inner):
            raise ValueError(
                f"PairGeometry: identical has {len(self.identical)} entries for {len(self.inner)} pairs."
            )
        for name in shapes:
            value = getattr(self, name)
            self._refuse(~torch.isfinite(value), name, value, "a finite number")
        for name in ("chosen_sq", "rejected_sq"):
            value = getattr(self, name)
            self._refuse(value < 0, name, value, "a squared norm, at least 0")
        a, b = self.chosen_sq.sqrt(), self.rejected_sq.sqrt()
        bound = a * b
        # A norm below √tiny has a square that underflows; then the bound is 0 and c need not be.
        slack = CAUCHY_SCHWARZ_TOLERANCE * bound + UNDERFLOW * torch.maximum(a, b)
        too_large = self.inner.abs() > bound + slack
        self._refuse(too_large, "inner", self.inner, "at most the product of the norms (Cauchy–Schwarz)")
        object.__setattr__(self, "inner", self.inner.clamp(-bound, bound))

    def _refuse(self, bad: torch.Tensor, name: str, value: torch.Tensor, expected: str) -> None:
        if bool(bad.any()):
            i = int(bad.nonzero()[0])
            who = self.ids[i] if self.ids else f"pair {i}"
            raise ValueError(f"PairGeometry: {name} of {who} is {float(value[i])!r}; expected {expected}.")

    @classmethod
    def from_vectors(cls, g_w: Numbers, g_l: Numbers, ids: tuple[str, ...] = ()) -> PairGeometry:
        """Return the geometry of gradients given as vectors, (D,) for one pair or (B, D)."""
        w, l = torch.atleast_2d(as_float64(g_w, "g_w")), torch.atleast_2d(as_float64(g_l, "g_l"))  # noqa: E741
        if w.shape != l.shape or w.ndim != 2:
            raise ValueError(
                f"from_vectors: g_w is {tuple(w.shape)}, g_l is {tuple(l.shape)}; expected the same (B, D)."
            )
        return cls((w * w).sum(1), (l * l).sum(1), (w * l).sum(1), ids)

    @classmethod
    def cat(cls, parts: Sequence[PairGeometry]) -> PairGeometry:
        """Return the pairs of several geometries as one."""
        if not parts:
            raise ValueError("PairGeometry.cat: got no parts; expected at least one.")
        ids = tuple(name for part in parts for name in part.ids)
        same = tuple(one for part in parts for one in part.identical or (False,) * len(part))
        return cls(
            torch.cat([part.chosen_sq for part in parts]),
            torch.cat([part.rejected_sq for part in parts]),
            torch.cat([part.inner for part in parts]),
            ids if all(part.ids for part in parts) else (),
            same if any(same) else (),
        )

    def __len__(self) -> int:
        return len(self.inner)

    def select(self, index: int | Sequence[int] | torch.Tensor) -> PairGeometry:
        """Return the geometry of some of the pairs (positions, or a (B,) boolean mask)."""
        wanted, n = torch.as_tensor(index), len(self)
        if wanted.dtype == torch.bool:
            good = wanted.shape == (n,)
        else:
            good = not wanted.is_floating_point() and not bool(((wanted < 0) | (wanted >= n)).any())
        if not good and wanted.numel():
            raise ValueError(f"index={shown(index)}; expected places from 0 to {n - 1}, or a mask of {n}.")
        where = torch.arange(n)[wanted if wanted.dtype == torch.bool else wanted.long()].reshape(-1)
        ids = tuple(self.ids[i] for i in where.tolist()) if self.ids else ()
        same = tuple(self.identical[i] for i in where.tolist()) if self.identical else ()
        return PairGeometry(self.chosen_sq[where], self.rejected_sq[where], self.inner[where], ids, same)

    # --- the shape of the pair ------------------------------------------------------------------------------

    @property
    def cosine(self) -> torch.Tensor:
        """(B,) ρ = c/(ab) in [−1, 1]; nan where a gradient is zero."""
        zero = (self.chosen_sq == 0) | (self.rejected_sq == 0)
        rho = (self.inner / self.chosen_sq.sqrt() / self.rejected_sq.sqrt()).clamp(-1.0, 1.0)
        return torch.where(zero, torch.nan, rho)

    @property
    def norm_ratio(self) -> torch.Tensor:
        """(B,) b/a; inf where only g_w is zero, nan where both are."""
        return self.rejected_sq.sqrt() / self.chosen_sq.sqrt()

    @property
    def distance_sq(self) -> torch.Tensor:
        """(B,) ‖g_w − g_l‖² = a² + b² − 2c, at least 0."""
        return (self.chosen_sq + self.rejected_sq - 2 * self.inner).clamp(min=0.0)

    @property
    def band(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(low, high), each (B,): the r = d_w/d_l > 0 with which chosen does not fall nor rejected rise.

        The band theorem: [c/a², b²/c] for c > 0, with geometric center b/a, and a single point for parallel
        gradients. For c ≤ 0, which includes a zero gradient, every r > 0 works: (0, inf).
        """
        positive = self.inner > 0
        low = torch.where(positive, self.inner / self.chosen_sq, 0.0)
        high = torch.where(positive, self.rejected_sq / self.inner, torch.inf)
        return low, torch.maximum(low, high)  # rounding may cross the ends of a one-point band

    # --- the paper's condition ------------------------------------------------------------------------------

    @property
    def condition(self) -> torch.Tensor:
        """(B,) bool, Condition 1: c ≤ min(a², b²). For d_w = d_l > 0 it is the same as case "ideal"."""
        return _difference(self.inner, torch.minimum(self.chosen_sq, self.rejected_sq)) <= 0

    @property
    def condition_ratio(self) -> torch.Tensor:
        """(B,) c / min(a², b²); Condition 1 is "at most 1". nan where a gradient is zero."""
        return self.inner / torch.minimum(self.chosen_sq, self.rejected_sq)

    @property
    def authors_ratio(self) -> torch.Tensor:
        """(B,) c / a², what the authors' published script divides by (its minimum is of a² with itself).

        It sees "chosen falls" and misses every "rejected rises".
        """
        return self.inner / self.chosen_sq

    # --- what a step does -----------------------------------------------------------------------------------

    def _weights(self, d_w: Numbers, d_l: Numbers, where: str) -> tuple[torch.Tensor, torch.Tensor]:
        weights = []
        for name, value in (("d_w", d_w), ("d_l", d_l)):
            w = as_float64(value, name)
            if w.ndim > 1 or (w.ndim == 1 and len(w) != len(self)):
                raise ValueError(
                    f"{where}: {name} has shape {tuple(w.shape)}; expected one number or ({len(self)},)."
                )
            if not bool(torch.isfinite(w).all()):
                raise ValueError(f"{where}: {name} has a value that is not finite.")
            weights.append(w.expand(len(self)))
        return weights[0], weights[1]

    def rates(self, d_w: Numbers = 1.0, d_l: Numbers = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (d_w a² − d_l c, d_w c − d_l b²), each (B,): change per unit step; 0 for a near tie."""
        w, l = self._weights(d_w, d_l, "rates")  # noqa: E741
        return (
            _difference(w * self.chosen_sq, l * self.inner),
            _difference(w * self.inner, l * self.rejected_sq),
        )

    def predicted_change(
        self, lr: float, d_w: Numbers = 1.0, d_l: Numbers = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first-order (Δ log π_w, Δ log π_l), each (B,), nats, of a plain step on the pair alone.

        Args:
            lr: step size η, finite and at least 0.
            d_w, d_l: the loss's weights, numbers or (B,).
        """
        non_negative("lr", lr, "predicted_change")
        step = float(lr)
        up, down = self.rates(d_w, d_l)
        return step * up, step * down

    def margin_change(self, lr: float, d_w: Numbers = 1.0, d_l: Numbers = 1.0) -> torch.Tensor:
        """Return the first-order change of log π_w − log π_l, (B,), nats: η (d_w a² + d_l b² − (d_w + d_l)
        c).
        """
        chosen, rejected = self.predicted_change(lr, d_w, d_l)
        return chosen - rejected

    def case(self, d_w: Numbers = 1.0, d_l: Numbers = 1.0) -> list[Case]:
        """Return what happens to each pair to first order, a list of B strings.

        "both_down": chosen falls and rejected does not rise. "both_up": rejected rises and chosen does not
        fall. "reversed": chosen falls and rejected rises; only a negative weight can do that.
        "ideal": neither. To fall is to change by less than 0, to rise by more: an exact tie is neither.
        "equal", whatever the weights: the two responses are ``identical``, and no step changes the margin.
        """
        chosen, rejected = self.rates(d_w, d_l)
        names: dict[tuple[bool, bool], Case] = {
            (False, False): "ideal",
            (True, False): "both_down",
            (False, True): "both_up",
            (True, True): "reversed",
        }
        falls, rises = (chosen < 0).tolist(), (rejected > 0).tolist()
        found = zip(self.identical or [False] * len(self), falls, rises, strict=True)
        return ["equal" if same else names[fall, rise] for same, fall, rise in found]

    def case_shares(self, d_w: Numbers = 1.0, d_l: Numbers = 1.0) -> dict[Case, float]:
        """Return the share of the pairs in each case: of ``CASES``, and of "equal" if some are."""
        cases = self.case(d_w, d_l)
        names: tuple[Case, ...] = (*CASES, "equal") if "equal" in cases else CASES
        return {name: cases.count(name) / max(len(cases), 1) for name in names}
