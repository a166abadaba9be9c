"""Every public function and constructor of ``entanglement`` refuses what it cannot mean, or answers rightly.

A valid call of each is made of small arguments, found by the names of the parameters. Then one argument after
the other is replaced by something else. What comes must be a ValueError or TypeError that was raised here and
names the argument, or a right answer: nothing in it is infinite or nan.
"""

from __future__ import annotations

from pathlib import Path

import entanglement

LIBRARY = Path(entanglement.__file__).parent

#: Parts of the machine, called by others of our modules in the midst of a pass, thousands of times: a check of
#: their tensors would cost and tell nobody anything. What goes into them is checked where it comes in.
MACHINERY = (
    "entanglement.gradients.inner",
    "entanglement.gradients.layers",
    "entanglement.gradients.prepare",
    "entanglement.gradients.tape",
    "entanglement.gradients.uncovered",
    "entanglement.loglinear._exact",
    "entanglement.updates.halves",
    "entanglement.uses",
)
#: What the library hands out and nobody hands in: named tuples hold what they are given.
RECORDS = {"Interval", "GapTerms", "PrefixTerms", "LoadedModel", "SteppedPair", "Reached"}
