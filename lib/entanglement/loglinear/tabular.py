"""Tabular models: independent logits for every context. A context is a prefix, or only a position.

Both are the log-linear model with one-hot features: column k of W holds the logits of context k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch

from entanglement.checks import non_negative, whole
from entanglement.geometry import PairGeometry
from entanglement.loglinear.sequence import LogLinear
from entanglement.signatures import checked

__all__ = ["PositionTabular", "PrefixTabular", "PrefixTerms"]


def _one_hot(contexts: torch.Tensor, n_contexts: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(contexts, n_contexts).double()


def _logits(shape: tuple[int, int, int], scale: float, generator: torch.Generator | None) -> torch.Tensor:
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def _first_difference(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """(B,) first position at which the responses differ.

    Raises:
        ValueError: in some pair one response is the start of the other (end both with an end-of-sequence
            token).
    """
    n = min(chosen.shape[1], rejected.shape[1])
    differs = chosen[:, :n] != rejected[:, :n]
    if not bool(differs.any(dim=1).all()):
        bad = int((~differs.any(dim=1)).nonzero()[0])
        raise ValueError(
            f"pair {bad}: one response is a prefix of the other; expected them to differ somewhere."
        )
    return differs.int().argmax(dim=1)


class PrefixTerms(NamedTuple):
    """The pieces of the prefix-tabular theorem, each (B,).

    Attributes:
        shared: S, sum of ‖e_y − p‖² over the shared prefix.
        gamma: γ_0 = ‖p‖² − p_w − p_l at the first difference.
        alpha_w: α_0 = 1 − 2p_w + ‖p‖² there.
        alpha_l: 1 − 2p_l + ‖p‖² there.
        after_w: A_w, the same sum over what follows the first difference in the chosen response.
        after_l: A_l, in the rejected one.
        p_w, p_l: probabilities of the two tokens at the first difference.
    """

    shared: torch.Tensor
    gamma: torch.Tensor
    alpha_w: torch.Tensor
    alpha_l: torch.Tensor
    after_w: torch.Tensor
    after_l: torch.Tensor
    p_w: torch.Tensor
    p_l: torch.Tensor

    def geometry(self) -> PairGeometry:
        """Return c = S + γ_0, a² = S + α_0 + A_w, b² = S + α_l + A_l."""
        return PairGeometry(
            self.shared + self.alpha_w + self.after_w,
            self.shared + self.alpha_l + self.after_l,
            self.shared + self.gamma,
        )

    def gaps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (a² − c, b² − c) = (1 − p_w + p_l + A_w, 1 − p_l + p_w + A_l), each above 0."""
        return 1 - self.p_w + self.p_l + self.after_w, 1 - self.p_l + self.p_w + self.after_l


@checked(weight=None, chosen_features=None, rejected_features=None)
@dataclass(frozen=True)
class PrefixTabular(LogLinear):
    """Independent logits for every prefix: the shared prefix is one, the rest is apart.

    Contexts are numbered 0..n_w−1 along the chosen response; the rejected response uses the same ones up to
    and including the first difference, then n_w, n_w + 1, ….
    """

    @classmethod
    @checked(vocab=whole(1), scale=non_negative)
    def build(
        cls,
        chosen: torch.Tensor,
        rejected: torch.Tensor,
        vocab: int,
        *,
        scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Return the model of B pairs of token ids, (B, n_w) and (B, n_l), with normal logits of that scale.

        Raises:
            ValueError: one response is a prefix of the other.
        """
        first = _first_difference(chosen, rejected).unsqueeze(1)
        n_w, n_l = chosen.shape[1], rejected.shape[1]
        at_w, at_l = torch.arange(n_w).expand_as(chosen), torch.arange(n_l).expand_as(rejected)
        at_l = torch.where(at_l <= first, at_l, n_w + at_l - first - 1)
        weight = _logits((len(chosen), vocab, n_w + n_l), scale, generator)
        return cls(weight, _one_hot(at_w, n_w + n_l), chosen, _one_hot(at_l, n_w + n_l), rejected)

    @property
    def first_difference(self) -> torch.Tensor:
        """(B,) the position at which the two responses part."""
        return _first_difference(self.chosen, self.rejected)

    def terms(self) -> PrefixTerms:
        """Return the pieces of the prefix-tabular theorem, computed from the probabilities alone."""
        k = self.first_difference
        rows = torch.arange(len(self))
        p = self.logits("chosen")[rows, k].softmax(-1)  # (B, V) at the first difference
        p_w = p[rows, self.chosen[rows, k]]
        p_l = p[rows, self.rejected[rows, k]]
        square = p.square().sum(-1)
        norms = {side: self.scores(side).square().sum(-1) for side in ("chosen", "rejected")}  # (B, T)

        def total(side: str, after: bool) -> torch.Tensor:
            at = torch.arange(norms[side].shape[1])
            wanted = at > k.unsqueeze(1) if after else at < k.unsqueeze(1)
            return (norms[side] * wanted).sum(-1)

        return PrefixTerms(
            shared=total("chosen", after=False),
            gamma=square - p_w - p_l,
            alpha_w=1 - 2 * p_w + square,
            alpha_l=1 - 2 * p_l + square,
            after_w=total("chosen", after=True),
            after_l=total("rejected", after=True),
            p_w=p_w,
            p_l=p_l,
        )


@checked(weight=None, chosen_features=None, rejected_features=None)
@dataclass(frozen=True)
class PositionTabular(LogLinear):
    """Independent logits for every position, whatever came before (the position-tabular theorem)."""

    @classmethod
    @checked(vocab=whole(1), scale=non_negative)
    def build(
        cls,
        chosen: torch.Tensor,
        rejected: torch.Tensor,
        vocab: int,
        *,
        scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Return the model of B pairs of token ids, (B, n_w) and (B, n_l), with normal logits."""
        n_w, n_l = chosen.shape[1], rejected.shape[1]
        n = max(n_w, n_l)
        weight = _logits((len(chosen), vocab, n), scale, generator)
        at_w, at_l = torch.arange(n_w).expand_as(chosen), torch.arange(n_l).expand_as(rejected)
        return cls(weight, _one_hot(at_w, n), chosen, _one_hot(at_l, n), rejected)
