"""Pairs put together to be computed: groups of similar length that keep to a memory, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import nn

from entanglement.auditing.several import ALONE, Processes
from entanglement.checks import non_empty, whole
from entanglement.logps import model_device
from entanglement.pairs import PairBatch
from entanglement.rows import EncodedPair, padded
from entanglement.shared_prompt import can_share
from entanglement.signatures import checked

__all__ = ["Together", "by_tokens", "in_groups"]


@checked(max_tokens=whole(1))
def by_tokens(pairs: Sequence[EncodedPair], max_tokens: int) -> list[list[int]]:
    """Split the positions of pairs into groups of similar length, none with more than ``max_tokens`` tokens,
    padding counted, unless a pair alone has more.
    """
    long = [max(len(prompt) + len(response) for prompt, response in pair.sides) for pair in pairs]
    groups: list[list[int]] = []
    for i in sorted(range(len(pairs)), key=lambda i: (long[i], i)):
        if groups and 2 * long[i] * (len(groups[-1]) + 1) <= max_tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


@checked(pairs=non_empty, max_tokens=whole(1))
def in_groups(pairs: Sequence[EncodedPair], *, append_eos: bool, max_tokens: int) -> list[PairBatch]:
    """Return pairs padded together in groups of similar length.

    Args:
        pairs: in any order.
        append_eos: whether the responses end with the end of sequence.
        max_tokens: of a group, padding counted, unless a pair alone has more.
    """
    return [
        padded([pairs[i] for i in group], padding_side="left", append_eos=append_eos)
        for group in by_tokens(pairs, max_tokens)
    ]


@checked(max_tokens=whole(1))
@dataclass(frozen=True)
class Together:
    """How pairs are put together to be computed.

    Attributes:
        model: whose device they go to.
        max_tokens: of a group, as in ``by_tokens``.
        eos: whether the responses end with the end of sequence.
        processes: among which groups are split.
    """

    model: nn.Module
    max_tokens: int
    eos: bool
    processes: Processes = ALONE

    def groups(self, pairs: Sequence[EncodedPair]) -> list[PairBatch]:
        """Return the pairs padded together."""
        device = model_device(self.model)
        found = in_groups(pairs, append_eos=self.eos, max_tokens=self.max_tokens) if pairs else []
        return [group.to(device) for group in found]

    def tokens(self, pairs: Sequence[EncodedPair]) -> int:
        """Return how many tokens pass through the model when all responses are measured, about."""
        once = can_share(self.model)
        return sum(
            len(response) + (0 if once and side else len(prompt))
            for pair in pairs
            for side, (prompt, response) in enumerate(pair.sides)
        )

    def table(
        self, pairs: Sequence[EncodedPair], start: int, make: Callable[[list[PairBatch]], pd.DataFrame]
    ) -> pd.DataFrame:
        """Return what ``make`` says of every pair, in the pairs' own order from position ``start`` on.

        Args:
            pairs: at least one.
            start: position of the first.
            make: groups → a table with a row a pair in their order, and a column pair, which is left out.
        """
        groups = self.processes.mine(self.groups(pairs))
        found: list[pd.DataFrame] = []
        if groups:
            made = make(groups)
            ends = np.cumsum([len(group) for group in groups])
            found = [made.iloc[end - len(group) : end] for end, group in zip(ends, groups, strict=True)]
        table = pd.concat(self.processes.all(found), ignore_index=True)
        order = [start + i for group in by_tokens(pairs, self.max_tokens) for i in group]
        return table.drop(columns="pair").set_index(pd.Index(order)).sort_index()
