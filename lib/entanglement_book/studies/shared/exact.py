"""Log-linear pairs as a loss sees them."""

from __future__ import annotations

import torch

from entanglement.loglinear import LogLinear
from entanglement.logps import PairLogps

__all__ = ["exact_logps"]


def exact_logps(pairs: LogLinear, reference: tuple[torch.Tensor, torch.Tensor]) -> PairLogps:
    """Return the pairs' log-probabilities and lengths, beside those of the reference, each (B,)."""
    chosen, rejected = pairs.logps()
    n_w, n_l = (
        torch.full(chosen.shape, pairs.token_logps(side).shape[1], dtype=torch.long)
        for side in ("chosen", "rejected")
    )
    return PairLogps(chosen, rejected, *reference, n_w, n_l)
