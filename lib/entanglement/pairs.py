"""Preference pairs, and how a list of them becomes tensors.

The prompt and the response are tokenized *separately* and their ids are joined. A byte-pair merge can
therefore never move the boundary between them, so the first response token is the same in training and in
measurement. Whether the end-of-sequence token belongs to the response is one explicit argument,
``append_eos``, that the batch carries with it. How each text is read: ``token_ids``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from entanglement.checks import device, whole
from entanglement.signatures import checked
from entanglement.token_ids import prompt_ids, response_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PairBatch", "PreferencePair", "collate", "pair_name", "with_names"]


@checked()
@dataclass(frozen=True)
class PreferencePair:
    """One comparison: a prompt, the preferred (chosen, w) and the dispreferred (rejected, l) response.

    A response usually begins with a space, because it is tokenized on its own. A pair without an id is called
    by its place in the list that it was given in (``pair_name``).
    """

    prompt: str
    chosen: str
    rejected: str
    id: str = ""


@checked(place=whole(0))
def pair_name(pair: PreferencePair, place: int) -> str:
    """Return a pair's id, or "pair 3" for the one at place 3 of its list (counted from 0) if it has none."""
    return pair.id or f"pair {place}"


@checked()
def with_names(pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    """Return the same pairs, those without an id with their name (``pair_name``) as one."""
    return [pair if pair.id else replace(pair, id=pair_name(pair, i)) for i, pair in enumerate(pairs)]


@checked()
@dataclass(frozen=True)
class PairBatch:
    """B pairs as 2B padded sequences: rows 0..B-1 are chosen, rows B..2B-1 are rejected.

    Attributes:
        input_ids: (2B, T) token ids, prompt then response, padded. What was given for padding is replaced by
            id 0, which every vocabulary has: a tokenizer's own may lie outside the model's.
        attention_mask: (2B, T) 1 on real tokens, 0 on padding.
        response_mask: (2B, T) True on response tokens (and on the end-of-sequence token if appended).
        append_eos: whether each response ends with the end-of-sequence token.
        ids: the B pairs' names, for error messages and tables.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    response_mask: torch.Tensor
    append_eos: bool
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = tuple(self.input_ids.shape)
        for name in ("input_ids", "attention_mask", "response_mask"):
            found = tuple(getattr(self, name).shape)
            if len(found) != 2 or found != shape or shape[0] != 2 * len(self.ids):
                raise ValueError(
                    f"PairBatch: {name} has shape {found}; expected (2B, T), the same as input_ids, "
                    f"for B = {len(self.ids)} ids."
                )
        padding = self.attention_mask == 0
        if bool((padding & (self.input_ids != 0)).any()):
            object.__setattr__(self, "input_ids", self.input_ids.masked_fill(padding, 0))

    def __len__(self) -> int:
        return self.input_ids.shape[0] // 2

    @property
    def position_ids(self) -> torch.Tensor:
        """(2B, T) positions counted from each row's first real token, so that left padding changes
        nothing."""
        return (self.attention_mask.cumsum(dim=1) - 1).clamp(min=0)

    @property
    def chosen_len(self) -> torch.Tensor:
        """(B,) number of chosen response tokens n_w."""
        return self.response_mask[: len(self)].sum(dim=1)

    @property
    def rejected_len(self) -> torch.Tensor:
        """(B,) number of rejected response tokens n_l."""
        return self.response_mask[len(self) :].sum(dim=1)

    @property
    def identical(self) -> tuple[bool, ...]:
        """Of each of the B pairs, whether its two sequences are the same: nothing to choose between."""
        parts = zip(self.input_ids, self.attention_mask.bool(), self.response_mask, strict=True)
        rows = [(ids[real].tolist(), response[real].tolist()) for ids, real, response in parts]
        return tuple(rows[i] == rows[i + len(self)] for i in range(len(self)))

    @checked(device=device)
    def to(self, device: torch.device | str) -> PairBatch:
        """Return the same batch on another device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            response_mask=self.response_mask.to(device),
        )

    @checked()
    def select(self, index: int | Sequence[int]) -> PairBatch:
        """Return the batch of the named pairs (positions within this batch), padding untouched."""
        one = not isinstance(index, Sequence) and getattr(index, "ndim", 0) == 0
        given: list[Any] = [index] if one else list(index)  # type: ignore[arg-type]
        for place in given:  # a negative one would count from the end of the rejected rows
            whole(0, len(self) - 1)("index", place)
        wanted = [int(place) for place in given]
        rows = torch.tensor(wanted + [i + len(self) for i in wanted], device=self.input_ids.device)
        return replace(
            self,
            input_ids=self.input_ids[rows],
            attention_mask=self.attention_mask[rows],
            response_mask=self.response_mask[rows],
            ids=tuple(self.ids[i] for i in wanted),
        )


@checked(max_length=whole(1))
def collate(
    pairs: Sequence[PreferencePair],
    tokenizer: PreTrainedTokenizerBase,
    *,
    append_eos: bool = False,
    max_length: int | None = None,
    padding_side: Literal["right", "left"] = "right",
    one_prompt: bool = True,
) -> PairBatch:
    """Tokenize pairs and pad them to one length.

    Args:
        pairs: B pairs, B >= 1.
        tokenizer: any Hugging Face tokenizer. Its beginning-of-sequence token is put before the prompt if it
            has one and the text does not begin with it; this also gives an empty prompt a position to
            predict the response from. (SmolLM2-Instruct's is the token that opens a turn of a chat.) To
            leave it out, set ``tokenizer.bos_token = None``. A special token that is written out in a text is
            read as that token (``special_tokens_in`` names them).
        append_eos: whether the end-of-sequence token is part of every response; one that ends with it gets
            no second. One-token responses are one token only without it.
        max_length: longest sequence in tokens. Longer ones lose tokens from the *left of the prompt*, never
            from the response.
        padding_side: where padding goes; no result may depend on it.
        one_prompt: whether both sides lose as much of their prompt as the longer response asks for, so that
            the two answer the same one; False: each as much as its own response asks for.

    Returns:
        A PairBatch of 2B rows.

    Raises:
        ValueError: no pairs, an empty response, a response that does not fit in ``max_length``, a prompt of
            no tokens with a tokenizer that has no beginning-of-sequence token, or ``append_eos`` without an
            end-of-sequence token. The message names the pair.
    """
    if len(pairs) == 0:
        raise ValueError("collate: got no pairs; expected at least one PreferencePair.")
    if append_eos and tokenizer.eos_token_id is None:
        raise ValueError("collate: append_eos=True, but the tokenizer has no end-of-sequence token.")
    names = tuple(pair_name(pair, i) for i, pair in enumerate(pairs))
    parts = [
        _tokens(pair, name, tokenizer, append_eos, max_length, one_prompt)
        for name, pair in zip(names, pairs, strict=True)
    ]
    rows = [part[side] for side in (0, 1) for part in parts]
    longest = max(len(ids) for ids, _ in rows)
    input_ids = torch.zeros((len(rows), longest), dtype=torch.long)
    attention_mask = torch.zeros((len(rows), longest), dtype=torch.long)
    response_mask = torch.zeros((len(rows), longest), dtype=torch.bool)
    for i, (ids, n_response) in enumerate(rows):
        start = 0 if padding_side == "right" else longest - len(ids)
        end = start + len(ids)
        input_ids[i, start:end] = torch.tensor(ids)
        attention_mask[i, start:end] = 1
        response_mask[i, end - n_response : end] = True
    return PairBatch(input_ids, attention_mask, response_mask, append_eos, names)


def _tokens(
    pair: PreferencePair,
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    append_eos: bool,
    max_length: int | None,
    one_prompt: bool,
) -> list[tuple[list[int], int]]:
    """Return the ids of both sequences, and how many of them are the response's."""
    sides = [response_ids(text, tokenizer, append_eos=append_eos) for text in (pair.chosen, pair.rejected)]
    for side, ids in zip(("chosen", "rejected"), sides, strict=True):
        if not ids:
            raise ValueError(f"collate: the {side} response of {name} has no tokens.")
        least = 1 if tokenizer.bos_token_id is None else 2
        if max_length is not None and max_length - len(ids) < least:
            raise ValueError(
                f"collate: the {side} response of {name} has {len(ids)} tokens and needs at "
                f"least one prompt token before it; max_length={max_length} leaves no room."
            )
    found, longest = [], max(map(len, sides))
    for ids in sides:
        room = None if max_length is None else max_length - (longest if one_prompt else len(ids))
        prompt = prompt_ids(pair.prompt, tokenizer, room)
        if not prompt:
            raise ValueError(f"collate: the prompt of {name} has no tokens to predict the response from.")
        found.append((prompt + ids, len(ids)))
    return found
