"""The two answers of every held-out near-copy: what a model makes of them, pair by pair.

The table tells whether a model that prefers the wrong answer knows less, or prefers one label whatever the
tweet says.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.outcomes.squeezing import first_difference, next_token_probs
from entanglement.pairs import PreferencePair, collate
from entanglement_book.studies.shared.start import data_pairs

__all__ = ["all_held_out", "both_labels"]


def all_held_out(scale: str) -> list[PreferencePair]:
    """Return all held-out near-copies; at smoke a few of them."""
    return data_pairs("sentiment", "test", 20 if scale == "smoke" else None, 0)


def both_labels(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair], *, size: int = 20
) -> pd.DataFrame:
    """Return one row a pair.

    Args:
        model, tokenizer: that are asked.
        pairs: whose chosen answer begins with "positive" or with "negative".
        size: pairs a batch.

    Returns:
        pair, its id; positive, 1 if the chosen label is "positive" and 0 otherwise; chosen and rejected,
        log π of the answers (nats); right and wrong, the probabilities of the chosen and of the rejected
        answer's token where the two first differ.
    """
    rows = []
    model.eval()
    longest = min(tokenizer.model_max_length, 1 << 20)
    for begin in range(0, len(pairs), size):
        some = pairs[begin : begin + size]
        batch = collate(some, tokenizer, max_length=longest, padding_side="left")
        probs = next_token_probs(model, batch)  # 2B times (n, V)
        tokens = [ids[mask] for ids, mask in zip(batch.input_ids, batch.response_mask, strict=True)]
        for i, pair in enumerate(some):
            both = [(probs[row], tokens[row]) for row in (i, i + len(some))]
            chosen, rejected = (float(p[torch.arange(len(t)), t].log().sum()) for p, t in both)
            w, l = (t.tolist() for _, t in both)  # noqa: E741
            split = first_difference(w, l)
            row: dict[str, object] = {"pair": pair.id}
            row["positive"] = int(pair.chosen.strip().startswith("positive"))
            row |= {"chosen": chosen, "rejected": rejected}
            row |= {"right": float(both[0][0][split, w[split]]), "wrong": float(both[0][0][split, l[split]])}
            rows.append(row)
    return pd.DataFrame(rows)
