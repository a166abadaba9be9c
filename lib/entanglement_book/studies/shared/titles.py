"""What the book calls the ways of training of its grids. No number depends on a title."""

from __future__ import annotations

__all__ = ["UPDATE_TITLES", "WAY_TITLES", "WEIGHER_TITLES"]

#: The updates of the grid "untangling", in the order of its tables.
UPDATE_TITLES: dict[str, str] = {
    "joint": "DPO itself",
    "normalized": "normalized, pair by pair",
    "normalized-metric": "normalized in AdamW's metric",
    "normalized-batch": "normalized, batch",
    "band": "clipped to the band",
    "band-25": "clipped, a quarter inside",
    "pcgrad": "PCGrad",
    "mgda": "MGDA",
    "calibrated": "calibrated",
    "split": "split",
    "dpop": "DPOP (a loss)",
    "rpo": "DPO + NLL (a loss)",
}
#: The ways to weigh tokens of the grid "masking".
WEIGHER_TITLES: dict[str, str] = {
    "everything": "all tokens (DPO)",
    "contrasting": "contrasting tokens (told)",
    "two": "two references",
    "geometry": "token geometry",
    "learned": "learned mask",
}
#: The ways to ask of the grid "controlling".
WAY_TITLES: dict[str, str] = {
    "itself": "a loss with both goals",
    "batch": "decoupled, batch",
    "all": "decoupled, all responses",
    "kto": "KTO (a loss)",
    "apo_zero": "APO-zero (a loss)",
    "adversarial": "adversarial",
}
