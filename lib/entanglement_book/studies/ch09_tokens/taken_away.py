"""The negative controls of token by token: the same pairs with one ingredient taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
from torch import nn

from entanglement.pairs import PreferencePair
from entanglement_book.studies.ch09_tokens.study import ALL_BLOCKS, measure_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["negative_controls", "relabel"]

#: What the rejected response goes on with in the control without shared words.
OTHER_WORDS = " mood, going by what they wrote"


def relabel(
    pairs: Sequence[PreferencePair], old: tuple[str, str], new: tuple[str, str]
) -> list[PreferencePair]:
    """Return the pairs with the words that begin their responses replaced, ``old[i]`` by ``new[i]``.

    Raises:
        ValueError: a response that begins with neither of the old words.
    """

    def swap(text: str, name: str) -> str:
        for before, after in zip(old, new, strict=True):
            if text.startswith(before):
                return after + text.removeprefix(before)
        raise ValueError(f"relabel: a response of {name} begins with neither {old[0]!r} nor {old[1]!r}.")

    return [replace(p, chosen=swap(p.chosen, p.id), rejected=swap(p.rejected, p.id)) for p in pairs]


def negative_controls(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair], suffix: str
) -> pd.DataFrame:
    """Return token tables of pairs with one ingredient of the pattern taken away, three times.

    Args:
        model, tokenizer: as in ``measure_tokens``.
        pairs: of the labels " positive" and " negative", with a shared suffix.
        suffix: the text that both responses share.

    Returns:
        The rows of ``measure_tokens`` for all blocks, and the column control: "unlikely labels" (two words
        that nobody expects instead of the labels), "suffix turned", "suffix reworded" (the rejected response
        goes on in other words).
    """
    unlikely = relabel(pairs, (" positive", " negative"), (" the", " of"))
    reworded = [replace(p, rejected=p.rejected.replace(suffix, OTHER_WORDS)) for p in pairs]
    tables = {
        "unlikely labels": measure_tokens(model, tokenizer, unlikely, blocks=ALL_BLOCKS),
        "suffix turned": measure_tokens(model, tokenizer, pairs, blocks=ALL_BLOCKS, turned=True),
        "suffix reworded": measure_tokens(model, tokenizer, reworded, blocks=ALL_BLOCKS),
    }
    return pd.concat([table.assign(control=name) for name, table in tables.items()])
