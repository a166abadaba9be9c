"""Which weights a pair's two gradients get in a step: arithmetic on three numbers and the loss's weights.

A step on a loss with weights d_w, d_l goes along d_w g_w − d_l g_l. A rule replaces the two weights by
others, u_w and u_l, computed from the pair's a², b², c. What is lost of the loss is its ratio: the rules that
set a ratio keep the geometric mean √(d_w d_l), so a pair whose loss is nearly settled still moves little.

Sources: paper §5.1 (arXiv 2410.13828) for "normalized"; the book's proofs for "band"; Yu et al.
2020 (arXiv 2001.06782) for PCGrad; Désidéri 2012 for MGDA. The table of the book's appendix has them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from entanglement.geometry import PairGeometry

__all__ = ["RULES", "Rule", "balanced", "get_rule"]

Weights = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Rule:
    """How a pair's geometry and the loss's weights become the weights of a step.

    Attributes:
        name: in the registry.
        title: as the book writes it.
        function: (geometry, d_w, d_l, **options) → (u_w, u_l), each (B,), float64.
        safe: whether, to first order, the pair's own plain step then lowers no chosen and raises no rejected
            response, whatever the geometry, for d_w, d_l > 0.
        needs_geometry: whether it looks at the geometry at all.
        options: names of the options and their defaults.
    """

    name: str
    title: str
    function: Callable[..., Weights]
    safe: bool
    needs_geometry: bool = True
    options: Mapping[str, float] = field(default_factory=dict)

    def weights(self, geometry: PairGeometry | None, d_w: torch.Tensor, d_l: torch.Tensor) -> Weights:
        """Return (u_w, u_l), each (B,), float64 on the CPU.

        Args:
            geometry: of B pairs; None for a rule that does not need it.
            d_w, d_l: (B,) the loss's own weights, −∂L/∂log π_w and ∂L/∂log π_l.

        Raises:
            ValueError: no geometry for a rule that needs it, or shapes that do not fit.
        """
        w, l = (torch.as_tensor(d).detach().double().cpu() for d in (d_w, d_l))  # noqa: E741
        if w.shape != l.shape or w.ndim != 1:
            raise ValueError(
                f"{self.name}: d_w is {tuple(w.shape)}, d_l is {tuple(l.shape)}; expected the same (B,)."
            )
        if not self.needs_geometry:
            return w, l
        if geometry is None or len(geometry) != len(w):
            have = "no geometry" if geometry is None else f"the geometry of {len(geometry)} pairs"
            raise ValueError(f"{self.name}: got {have} for {len(w)} pairs.")
        return self.function(geometry, w, l, **self.options)


def balanced(d_w: torch.Tensor, d_l: torch.Tensor, ratio: torch.Tensor) -> Weights:
    """Return the weights with u_w/u_l = ratio and u_w u_l = d_w d_l.

    Where a weight is not positive, or the ratio is not a positive number, there is nothing to balance: the
    loss's own weights stay.
    """
    possible = (d_w > 0) & (d_l > 0) & torch.isfinite(ratio) & (ratio > 0)
    mean = (d_w.clamp(min=0) * d_l.clamp(min=0)).sqrt()
    root = torch.where(possible, ratio, torch.ones_like(ratio)).sqrt()
    return torch.where(possible, mean * root, d_w), torch.where(possible, mean / root, d_l)


def _joint(geometry: PairGeometry, d_w: torch.Tensor, d_l: torch.Tensor) -> Weights:
    return d_w, d_l


def _normalized(geometry: PairGeometry, d_w: torch.Tensor, d_l: torch.Tensor) -> Weights:
    """√(d_w d_l a b) (ĝ_w − ĝ_l): the ratio b/a, the band's center."""
    return balanced(d_w, d_l, geometry.norm_ratio)


def _band(geometry: PairGeometry, d_w: torch.Tensor, d_l: torch.Tensor, slack: float) -> Weights:
    """The loss's own ratio, clipped to the band, whose ends are drawn toward its center by ``slack``."""
    low, high = geometry.band
    center = geometry.norm_ratio
    # On the log scale, so that slack = 1 is the center. Without conflict the band is all of (0, inf).
    narrow = geometry.inner > 0
    low = torch.where(narrow, low ** (1 - slack) * center**slack, low)
    high = torch.where(narrow, high ** (1 - slack) * center**slack, high)
    own = d_w / d_l
    return balanced(d_w, d_l, torch.minimum(torch.maximum(own, low), high))


def _pcgrad(geometry: PairGeometry, d_w: torch.Tensor, d_l: torch.Tensor) -> Weights:
    """Each of d_w g_w and −d_l g_l loses its part along the other one, where they conflict."""
    conflict = (d_w * d_l * geometry.inner > 0) & (geometry.chosen_sq > 0) & (geometry.rejected_sq > 0)
    inner = torch.where(conflict, geometry.inner, torch.zeros_like(geometry.inner))
    chosen_sq = torch.where(conflict, geometry.chosen_sq, torch.ones_like(inner))
    rejected_sq = torch.where(conflict, geometry.rejected_sq, torch.ones_like(inner))
    return d_w + d_l * inner / chosen_sq, d_l + d_w * inner / rejected_sq


def _mgda(geometry: PairGeometry, d_w: torch.Tensor, d_l: torch.Tensor) -> Weights:
    """Twice the shortest mixture λ d_w g_w − (1−λ) d_l g_l: then both gain equally, as weighed by the loss.

    The factor of two makes λ = ½ the loss's own step.
    """
    first, second = d_w.square() * geometry.chosen_sq, d_l.square() * geometry.rejected_sq
    cross = d_w * d_l * geometry.inner
    total = first + second + 2 * cross
    share = torch.where(total > 0, (second + cross) / total, torch.full_like(total, 0.5)).clamp(0, 1)
    return 2 * share * d_w, 2 * (1 - share) * d_l


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("joint", "the loss itself", _joint, safe=False, needs_geometry=False),
        Rule("normalized", "normalized gradients", _normalized, safe=True),
        Rule("band", "clipped to the band", _band, safe=True, options={"slack": 0.0}),
        Rule("pcgrad", "PCGrad", _pcgrad, safe=True),
        Rule("mgda", "MGDA", _mgda, safe=True),
    )
}


def get_rule(name: str, **options: float) -> Rule:
    """Return a rule, with options in place of its defaults.

    Args:
        name: one of ``RULES``.
        options: "band" has ``slack`` in [0, 1]: 0 allows the whole band, 1 only its center, where it is
            "normalized".

    Raises:
        ValueError: an unknown rule or option, or a value outside its range.
    """
    if name not in RULES:
        raise ValueError(f"rule={name!r}; expected one of {', '.join(RULES)}.")
    rule = RULES[name]
    unknown = sorted(set(options) - set(rule.options))
    if unknown:
        known = ", ".join(rule.options) or "none"
        raise ValueError(f"{name}: unknown option {unknown[0]!r}; it has {known}.")
    for key, value in options.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: {key}={value!r}; expected a number from 0 to 1.")
    return Rule(**{**vars(rule), "options": {**rule.options, **options}})
