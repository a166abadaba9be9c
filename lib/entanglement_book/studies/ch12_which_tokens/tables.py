"""Reading the grid of masks, and what is left of a rate when some tokens are left out."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.gradients import TokenGeometry, token_geometry
from entanglement.logps import token_logps
from entanglement.pairs import PreferencePair, collate
from entanglement.updates.token_weights import contrasting

__all__ = ["gap_parts", "gap_table", "one_sided"]


def gap_parts(geometry: TokenGeometry, contrast: torch.Tensor) -> dict[str, float]:
    """Return the rate at which log π_w changes under a step on all tokens of a pair, in three parts.

    A step on all tokens is a step on the contrasting ones and one on the shared ones. What the first does to
    the contrasting tokens is "token", what it does to the shared ones "cross_talk"; what the second does to
    the whole response is "asymmetry". They add up to a² − c, and the first two are what is left when only
    the contrasting tokens are trained.

    Args:
        geometry: of one pair.
        contrast: (N,) whether a token is contrasting, chosen tokens first.

    Raises:
        ValueError: a mask of another length.
    """
    if contrast.shape != (len(geometry.token_ids),):
        raise ValueError(f"gap_parts: contrast is {tuple(contrast.shape)}; expected ({len(geometry.gram)},).")
    n = geometry.n_chosen
    sign = torch.where(torch.arange(len(contrast)) < n, 1.0, -1.0).double()
    rates = geometry.gram[:n] * sign  # what a step on token t does to chosen token s
    mine = contrast[:n].bool()
    told, rest = rates[:, contrast.bool()], rates[:, ~contrast.bool()]
    return {
        "token": float(told[mine].sum()),
        "cross_talk": float(told[~mine].sum()),
        "asymmetry": float(rest.sum()),
    }


def gap_table(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]
) -> pd.DataFrame:
    """Return ``gap_parts`` of pairs, a row a pair, with the rates under a step on all tokens ("all") and on
    the contrasting tokens alone ("alone").
    """
    rows = []
    for pair in pairs:
        batch = collate([pair], tokenizer)
        geometry = token_geometry(model, batch)
        with torch.no_grad():
            told = contrasting(model, batch, token_logps(model, batch))
        parts = gap_parts(geometry, told[batch.response_mask.to(told.device)].cpu())
        alone = parts["token"] + parts["cross_talk"]
        rows.append({"pair": pair.id, "all": alone + parts["asymmetry"], "alone": alone} | parts)
    return pd.DataFrame(rows)


def one_sided(tokens: pd.DataFrame) -> float:
    """Return the share of shared places at which just one of the two responses has a weight above one half.

    Args:
        tokens: rows of ``masking.token_table`` for one way to weigh, of near-copies: the shared tokens of a
            pair stand at the same places.
    """
    shared = tokens[~tokens["contrast"]].assign(heavy=lambda rows: rows["weight"] > 0.5)
    keys = [key for key in ("seed", "pair", "place") if key in shared]
    both = shared.pivot(index=keys, columns="response", values="heavy").dropna()
    return float((both["chosen"] != both["rejected"]).mean())
