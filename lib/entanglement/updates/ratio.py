"""One ratio for all pairs: the rival of every rule that looks at the gradients.

Source: a loss with a constant ratio is DPO-Shift's (Yang et al. 2025, arXiv 2502.07599), in which r = 1/λ.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from entanglement.checks import positive
from entanglement.signatures import checked
from entanglement.updates.base import UPDATES, Declared
from entanglement.updates.pair_rules import balanced
from entanglement.updates.rule import Weights
from entanglement.updates.weighted import Joint

__all__ = ["ConstantRatio"]


@checked(ratio=positive)
@dataclass
class ConstantRatio(Joint):
    """The loss's own step with u_w/u_l = ``ratio`` for every pair and u_w u_l = d_w d_l (``balanced``).

    A step costs what the loss's own costs: no gradient is looked at.

    Attributes:
        ratio: r; 1 is the step of a loss of the margin.
    """

    ratio: float = 1.005

    def weigh(self, d_w: torch.Tensor, d_l: torch.Tensor) -> Weights:
        """Return (u_w, u_l), each (B,)."""
        return balanced(d_w, d_l, torch.full_like(d_w, self.ratio))


UPDATES.add("constant", Declared(title="one ratio for all", make=ConstantRatio, costs_like="joint"))
