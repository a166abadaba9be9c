"""The probe of a run: pairs that the run need not see, tokenized once and measured again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import nn

from entanglement.auditing.alikeness import alikeness
from entanglement.auditing.grouping import by_tokens, in_groups
from entanglement.checks import non_empty, whole
from entanglement.logps import model_device, token_logps
from entanglement.pairs import PairBatch
from entanglement.rows import EncodedPair, padded
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Probe"]


@checked(pairs=non_empty, token_pairs=whole(0), max_tokens=whole(1))
class Probe:
    """Pairs of which a run is asked where it takes them.

    Args:
        pairs: their tokens.
        tokenizer: the model's; it writes tokens out for the table.
        append_eos: as in ``in_groups``.
        token_pairs: of how many pairs, the first ones, single tokens are kept.
        max_tokens: as in ``in_groups``.

    Attributes:
        pairs: the tokens, in the order in which they were given.
        token_names: one row a response token of the first ``token_pairs`` pairs: pair, side ("chosen" or
            "rejected"), position (from 0, in the response), token (its text) and shared: whether it belongs
            to what the two responses begin or end with alike.
    """

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        tokenizer: PreTrainedTokenizerBase,
        *,
        append_eos: bool = True,
        token_pairs: int = 0,
        max_tokens: int = 4096,
    ) -> None:
        self.pairs = list(pairs)
        self._eos, self._max_tokens = append_eos, max_tokens
        self._groups = self.groups(len(self.pairs))
        self._order = [i for group in by_tokens(self.pairs, max_tokens) for i in group]
        self._some = self.pairs[:token_pairs]
        names = [row for pair in self._some for row in _token_rows(pair, tokenizer)]
        self.token_names = pd.DataFrame(names, columns=["pair", "side", "position", "token", "shared"])

    def groups(self, count: int, start: int = 0) -> list[PairBatch]:
        """Return ``count`` pairs from the ``start``-th on, padded together; fewer where there are no more."""
        some = self.pairs[start : start + count]
        return in_groups(some, append_eos=self._eos, max_tokens=self._max_tokens) if some else []

    def halves(self, count: int) -> list[list[PairBatch]]:
        """Return the first ``count`` pairs as two batches of groups; none where there are fewer than two."""
        count = min(count, len(self.pairs))
        return [self.groups(count // 2), self.groups(count - count // 2, count // 2)] if count > 1 else []

    @torch.no_grad()
    def logps(self, model: nn.Module) -> torch.Tensor:
        """Return log π_w and log π_l of all pairs, (B, 2) float64, in their order, nats."""
        device = model_device(model)
        parts = [torch.stack(quick_logps(model, group.to(device)), dim=1) for group in self._groups]
        found = torch.cat(parts).double().cpu()
        return torch.empty_like(found).index_put((torch.tensor(self._order),), found)

    @torch.no_grad()
    def token_logps(self, model: nn.Module) -> torch.Tensor:
        """Return log π of each token in ``token_names``, (N,) float64, nats."""
        if not self._some:
            return torch.zeros(0, dtype=torch.float64)
        device = model_device(model)
        found: dict[int, torch.Tensor] = {}
        for places in by_tokens(self._some, self._max_tokens):
            group = padded([self._some[i] for i in places], padding_side="left", append_eos=self._eos)
            values = token_logps(model, group.to(device))
            for row, i in enumerate(places):
                sides = (values.chosen[row][values.chosen_mask[row]], values.rejected[row])
                found[i] = torch.cat([sides[0], sides[1][values.rejected_mask[row]]])
        return torch.cat([found[i] for i in range(len(self._some))]).double().cpu()


def _token_rows(pair: EncodedPair, tokenizer: PreTrainedTokenizerBase) -> list[tuple[object, ...]]:
    alike = alikeness(pair)
    rows: list[tuple[object, ...]] = []
    for side, ids in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        for k, token in enumerate(ids):
            shared = k < alike["prefix"] or k >= len(ids) - alike["suffix"]
            rows.append((pair.name, side, k, str(tokenizer.decode([token])), shared))
    return rows
