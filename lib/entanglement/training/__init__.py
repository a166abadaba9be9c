"""Supervised fine-tuning and preference optimization, measured as they go.

Both train in place, in evaluation mode (no dropout): what is measured is then what is trained, and a run is a
function of its seed. Both return a :class:`Trajectory`. Responses are tokenized by the same ``collate`` in
training and in measurement, with the same ``append_eos``. ``plain`` is the slow and readable version.
"""

from __future__ import annotations

from entanglement.training.align import align
from entanglement.training.measure import PairSets, measure
from entanglement.training.observers import Account, Monitor, Observer
from entanglement.training.plain import align_plainly
from entanglement.training.sft import sft
from entanglement.training.trajectory import Trajectory

__all__ = [
    "Account",
    "Monitor",
    "Observer",
    "PairSets",
    "Trajectory",
    "align",
    "align_plainly",
    "measure",
    "sft",
]
