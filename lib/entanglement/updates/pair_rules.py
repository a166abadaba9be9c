"""The rules: which weights a pair's two gradients get, from its a², b², c and the loss's own weights.

What is lost of the loss is its ratio: the rules that set a ratio keep the geometric mean √(d_w d_l), so a
pair whose loss is nearly settled still moves little.

Sources: paper §5.1 (arXiv 2410.13828) for "normalized"; the book's proofs for "band"; Yu et al.
2020 (arXiv 2001.06782) for PCGrad; Désidéri 2012 for MGDA. The table of the book's appendix has them all.
"""

from __future__ import annotations

import torch

from entanglement.geometry import PairGeometry
from entanglement.signatures import checked
from entanglement.updates.base import UPDATES, Declared
from entanglement.updates.rule import Rule, Weights
from entanglement.updates.weighted import Joint, by_rule

__all__ = ["balanced"]


@checked()
def balanced(d_w: torch.Tensor, d_l: torch.Tensor, ratio: torch.Tensor) -> Weights:
    """Return the weights with u_w/u_l = ratio and u_w u_l = d_w d_l.

    Where a weight is not positive, or the ratio is not a positive number, there is nothing to balance: the
    loss's own weights stay.
    """
    for name, value in (("d_w", d_w), ("d_l", d_l), ("ratio", ratio)):
        if value.shape != d_w.shape:
            raise ValueError(
                f"balanced: {name} is {tuple(value.shape)}; expected {tuple(d_w.shape)} like d_w."
            )
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


UPDATES.add(
    "joint",
    Declared(
        title="the loss itself",
        make=Joint,
        rule=Rule("the loss itself", _joint, safe=False, needs_geometry=False),
    ),
)
UPDATES.add("normalized", by_rule(title="normalized gradients", function=_normalized, safe=True))
UPDATES.add("band", by_rule(title="clipped to the band", function=_band, safe=True, options={"slack": 0.0}))
UPDATES.add("pcgrad", by_rule(title="PCGrad", function=_pcgrad, safe=True, costs_like="normalized"))
UPDATES.add("mgda", by_rule(title="MGDA", function=_mgda, safe=True, costs_like="normalized"))
