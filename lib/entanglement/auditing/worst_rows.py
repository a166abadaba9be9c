"""The rows that pull the held-out chosen responses down most, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import nn

from entanglement.auditing.grouping import Together, by_tokens
from entanglement.auditing.pulls import token_pulls
from entanglement.auditing.walk import Walk
from entanglement.losses import Loss
from entanglement.pairs import PairBatch
from entanglement.rows import EncodedPair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["WORST", "worst_rows"]

#: Rows that are shown token by token.
WORST = 10


def worst_rows(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    walk: Walk,
    about: pd.DataFrame,
    pairs: Sequence[EncodedPair],
    held_out: Sequence[PairBatch],
    loss: Loss,
    together: Together,
    share_of_one: float,
) -> list[dict[str, Any]]:
    """Return the rows that pull the held-out chosen responses down most, token by token.

    Args:
        model: as training will find it; left as it was.
        tokenizer: the model's.
        walk: of the run.
        about: one row a pair, by position in ``pairs``: held_out, pull, place.
        pairs: the sampled pairs.
        held_out: whose chosen responses are to stay up.
        loss: of the run.
        together: how pairs are grouped.
        share_of_one: by which a token's pull is multiplied: one row's part of the mean, times the run's
            length.

    Returns:
        At most ``WORST`` of place, pull, and for chosen and rejected each a list of (token, its part).
    """
    places = list(about.loc[~about["held_out"], "pull"].nsmallest(WORST).index)
    some = [pairs[i] for i in places]
    order = [places[i] for group in by_tokens(some, together.max_tokens) for i in group]
    groups = together.groups(some)
    found = []
    for group, values in zip(groups, token_pulls(model, walk, groups, held_out, loss), strict=True):
        ids = group.input_ids.view(2, len(group), -1).cpu()
        mask = group.response_mask.view(2, len(group), -1).cpu()
        for k in range(len(group)):
            row: dict[str, Any] = {}
            for side, name in enumerate(("chosen", "rejected")):
                kept = mask[side, k]
                texts = [str(tokenizer.decode([int(token)])) for token in ids[side, k][kept]]
                row[name] = list(zip(texts, (values[side, k][kept] * share_of_one).tolist(), strict=True))
            found.append(row)
    return [
        {"place": int(about["place"][i]), "pull": float(about["pull"][i])} | row
        for i, row in sorted(zip(order, found, strict=True), key=lambda one: float(about["pull"][one[0]]))
    ]
