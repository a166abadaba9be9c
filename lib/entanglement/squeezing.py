"""Where the probability goes when a response loses it, position by position.

At a position of a response two next-token distributions are compared, before and after training. What the
response's own token lost went to others: to the one that was likeliest before, to the other response's token,
or to the rest. Theorem C2 says that a push-down alone makes the likeliest other token rise ("squeezing", Ren
and Sutherland 2025, arXiv 2407.10490).
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.logps import model_device, response_logits
from entanglement.pairs import PairBatch, PreferencePair, collate

__all__ = ["first_difference", "mass_moves", "next_token_probs"]


def next_token_probs(model: nn.Module, batch: PairBatch) -> list[torch.Tensor]:
    """Return, for each of the 2B rows, the (n, V) distributions that predict its n response tokens."""
    batch = batch.to(model_device(model))
    with torch.no_grad():
        found = response_logits(
            model, batch.input_ids, batch.attention_mask, batch.position_ids, batch.response_mask
        )
    probs = found.logits[found.rows, found.slots].double().softmax(-1).cpu()
    counts = batch.response_mask.sum(1).tolist()
    return list(torch.split(probs, counts))


def first_difference(chosen: Sequence[int], rejected: Sequence[int]) -> int:
    """Return the first place in which two lists of tokens differ; the shorter's length if none does."""
    for place, (w, l) in enumerate(zip(chosen, rejected, strict=False)):  # noqa: E741
        if w != l:
            return place
    return min(len(chosen), len(rejected))


def mass_moves(
    before: nn.Module,
    after: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    size: int = 8,
) -> pd.DataFrame:
    """Return where probability went at the positions of held-out responses.

    Args:
        before, after: the model before and after training.
        tokenizer: of both.
        pairs: whose responses are read, each token given the true ones before it.
        size: pairs a batch.

    Returns:
        One row a response ("chosen", "rejected") and place ("shared" context, up to and with the first token
        that differs; "apart", after it): positions, and means over these of the change of probability of
        own, the response's own token; top, the token that was likeliest before, if that was another one (0
        otherwise); other, the other response's token at the place where they first differ, if neither; rest,
        all other tokens. The four sum to 0. top_share is the share of the positions whose likeliest token was
        another one; entropy the change of the entropy, nats.
    """
    rows = []
    for start in range(0, len(pairs), size):
        batch = collate(
            pairs[start : start + size],
            tokenizer,
            max_length=min(tokenizer.model_max_length, 1 << 20),
            padding_side="left",
        )
        old, new = next_token_probs(before, batch), next_token_probs(after, batch)
        tokens = [ids[mask].tolist() for ids, mask in zip(batch.input_ids, batch.response_mask, strict=True)]
        n = len(batch)
        for i in range(n):
            split = first_difference(tokens[i], tokens[i + n])
            for response, row, other in (("chosen", i, i + n), ("rejected", i + n, i)):
                rows += _positions(response, old[row], new[row], tokens[row], tokens[other], split)
    table = pd.DataFrame(rows).groupby(["response", "place"], sort=True)
    return table.mean().assign(positions=table.size()).reset_index()


def _positions(
    response: str,
    old: torch.Tensor,
    new: torch.Tensor,
    tokens: Sequence[int],
    others: Sequence[int],
    split: int,
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for t, token in enumerate(tokens):
        change = new[t] - old[t]
        top = int(old[t].argmax())
        rival = others[t] if t == split and t < len(others) else -1
        own = float(change[token])
        up = float(change[top]) if top != token else 0.0
        other = float(change[rival]) if rival >= 0 and rival not in (token, top) else 0.0
        row: dict[str, object] = {"response": response, "place": "shared" if t <= split else "apart"}
        row |= {"own": own, "top": up, "other": other, "rest": -own - up - other}
        row["top_share"] = float(top != token)
        row["entropy"] = float(torch.special.entr(new[t]).sum() - torch.special.entr(old[t]).sum())
        rows.append(row)
    return rows
