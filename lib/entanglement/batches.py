"""Batches for training and measurement: order, groups of similar length, and their log-probabilities.

The pairs of a step are computed in groups of similar length, which saves most of the padding. A *group order*
is the order of the pairs group after group; the *batch order* is the one in which they were drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.checks import non_empty, whole
from entanglement.logps import PairLogps, takes_positions
from entanglement.pairs import PairBatch, PreferencePair, collate, with_names
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked
from entanglement.token_ids import context_length

__all__ = ["GROUP", "by_length", "collate_for", "grouped_logps", "length_groups", "shuffled"]

#: Pairs a group.
GROUP = 8


@checked()
def collate_for(
    model: nn.Module, pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase, append_eos: bool
) -> PairBatch:
    """Return ``collate`` as the model needs it: no sequence longer than its context, and padding on the left.

    All responses then end in the same last columns, and only those need logits. A model that takes no
    ``position_ids`` gets its padding on the right. Of a pair that is too long each sequence keeps as much of
    the prompt as it has room for: the book's tables were computed so.
    """
    return collate(
        pairs, tokenizer, append_eos=append_eos, max_length=context_length(tokenizer, model),
        padding_side="left" if takes_positions(model) else "right", one_prompt=False,
    )  # fmt: skip


@checked(size=whole(1))
def by_length(pairs: Sequence[PreferencePair], size: int = GROUP) -> list[list[int]]:
    """Split the positions of pairs into groups with prompts of similar length."""
    order = sorted(range(len(pairs)), key=lambda i: (len(pairs[i].prompt), i))
    return [order[start : start + size] for start in range(0, len(order), size)]


@checked(pairs=non_empty, size=whole(1))
def length_groups(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    append_eos: bool = False,
    size: int = GROUP,
) -> tuple[list[int], list[PairBatch]]:
    """Return the pairs in groups of similar length.

    Args:
        model: that is to read them.
        tokenizer: the model's.
        pairs: B of them. Those without an id get their place in this list as a name.
        append_eos: as in ``collate``.
        size: pairs a group.

    Returns:
        The group order, the B places in ``pairs`` group after group; and the groups.
    """
    named = with_names(pairs)
    groups = by_length(named, size)
    batches = [collate_for(model, [named[i] for i in group], tokenizer, append_eos) for group in groups]
    return [i for group in groups for i in group], batches


@checked(n=whole(0), steps=whole(0), batch_size=whole(1))
def shuffled(n: int, steps: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yield ``steps`` batches of positions among n: epoch after epoch in a new order.

    No position comes twice in an epoch; what is left at its end and too small for a batch is left out.
    """
    rng = random.Random(int(seed))
    left: list[int] = []
    for _ in range(steps):
        if len(left) < batch_size:
            left = rng.sample(range(n), n)
        yield left[:batch_size]
        left = left[batch_size:]


@checked(pairs=non_empty)
def grouped_logps(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair], append_eos: bool
) -> PairLogps:
    """Return the log-probabilities of pairs in their order, computed group by group, without a reference.

    Args:
        model: gradients flow into it.
        tokenizer: the model's.
        pairs: B of them.
        append_eos: as in ``collate``.

    Returns:
        (B,) sums over the responses, nats, and the responses' lengths, on the model's device.
    """
    order, batches = length_groups(model, tokenizer, pairs, append_eos)
    parts = [quick_logps(model, batch) for batch in batches]
    back = torch.argsort(torch.tensor(order))
    chosen, rejected = (torch.cat([part[side] for part in parts])[back] for side in (0, 1))
    lengths = (
        torch.cat([getattr(batch, side) for batch in batches])[back].to(chosen.device)
        for side in ("chosen_len", "rejected_len")
    )
    return PairLogps(chosen, rejected, None, None, *lengths)
