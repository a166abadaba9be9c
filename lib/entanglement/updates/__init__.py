"""How the two gradients of a pair become a step: joint, normalized, clipped to the band, PCGrad, split, …

``get_update(name, …)`` makes every update; ``training.align(update=…)`` trains with it. ``base`` has what all
updates share; each family has a file. The rules are arithmetic on three numbers a pair (``pair_rules``); what
makes them cheap is a backward pass in two halves (``passes``).
"""

from __future__ import annotations

from entanglement.updates.adversarial import Adversarial
from entanglement.updates.base import UPDATES, Declared, NotFinite, StepReport, Update, Watch, get_update
from entanglement.updates.calibrated import Calibrated
from entanglement.updates.decoupled import Decoupled
from entanglement.updates.metric import preconditioner
from entanglement.updates.pair_rules import balanced
from entanglement.updates.passes import PairPass
from entanglement.updates.ratio import ConstantRatio
from entanglement.updates.rule import Rule
from entanglement.updates.split import Split
from entanglement.updates.token_weighted import TokenWeighted
from entanglement.updates.weighted import Joint, Weighted, by_rule, get_rule, list_rules

__all__ = [
    "UPDATES",
    "Adversarial",
    "Calibrated",
    "ConstantRatio",
    "Declared",
    "Decoupled",
    "Joint",
    "NotFinite",
    "PairPass",
    "Rule",
    "Split",
    "StepReport",
    "TokenWeighted",
    "Update",
    "Watch",
    "Weighted",
    "balanced",
    "by_rule",
    "get_rule",
    "get_update",
    "list_rules",
    "preconditioner",
]
