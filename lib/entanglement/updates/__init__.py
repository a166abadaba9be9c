"""How the two gradients of a pair become a step: joint, normalized, clipped to the band, PCGrad, split, …

``get_update(name, …)`` makes an update; ``untangle`` trains with it. The rules themselves are arithmetic on
three numbers a pair (``rules``); what makes them cheap is a backward pass in two halves (``passes``).
"""

from __future__ import annotations

from entanglement.updates.metric import preconditioner
from entanglement.updates.passes import PairPass
from entanglement.updates.rules import RULES, Rule, balanced, get_rule
from entanglement.updates.step import Calibrated, Split, StepReport, Update, Weighted, get_update
from entanglement.updates.train import untangle

__all__ = [
    "RULES",
    "Calibrated",
    "PairPass",
    "Rule",
    "Split",
    "StepReport",
    "Update",
    "Weighted",
    "balanced",
    "get_rule",
    "get_update",
    "preconditioner",
    "untangle",
]
