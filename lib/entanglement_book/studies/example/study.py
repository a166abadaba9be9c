"""What the chapter measures: functions of numbers and a generator, that give geometry or tables.

A study computes and draws nothing; it takes its sizes from the notebook, so that a test can ask for less.
"""

from __future__ import annotations

import torch

from entanglement.geometry import PairGeometry
from entanglement.loglinear import suffix_pairs

__all__ = ["ending_alike"]


def ending_alike(draws: int, shared: int, generator: torch.Generator) -> PairGeometry:
    """Return the geometry of random log-linear pairs that differ in one token and end in the same ones.

    Args:
        draws: B, the number of pairs.
        shared: how many tokens they end in.
        generator: of all random numbers.

    Raises:
        ValueError: ``draws`` below 1, or ``shared`` below 0.
    """
    if draws < 1 or shared < 0:
        raise ValueError(f"draws={draws}, shared={shared}; expected draws >= 1 and shared >= 0.")
    return suffix_pairs(draws, shared, generator=generator).geometry()
