"""The tokens of a comparison: as TRL's trainer will see them, or as the book's own ``collate`` does.

TRL 1.16 (``DPOTrainer``) tokenizes prompt and response *jointly*, after it has put the end of sequence behind
every text; whatever token of the prompt has merged with the response then belongs to the response. Messages
go through the tokenizer's chat template. Too long a sequence loses its end. ``collate`` tokenizes the two
apart, puts the beginning of sequence first and shortens their prompt from its left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from entanglement.checks import non_empty, whole
from entanglement.pairs import PairBatch, PreferencePair, collate
from entanglement.rows.shapes import Comparison, shared_start
from entanglement.signatures import checked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TRL_LENGTH", "EncodedPair", "TokensAs", "as_text", "encode", "padded"]

TokensAs = Literal["trl", "collate"]
#: At which TRL 1.16 cuts a sequence unless told otherwise (``DPOConfig.max_length``).
TRL_LENGTH = 1024


@checked()
@dataclass(frozen=True)
class EncodedPair:
    """The token ids of one comparison.

    Attributes:
        prompt, chosen, rejected: token ids; each sequence is the prompt's, then the response's.
        cut: tokens that were left out of both sequences together, for their length.
        name: of the pair.
    """

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    cut: int = 0
    name: str = ""

    @property
    def sides(self) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
        """((prompt, chosen), (prompt, rejected))."""
        return (self.prompt, self.chosen), (self.prompt, self.rejected)


@checked()
def as_text(comparison: Comparison) -> PreferencePair:
    """Return a comparison as three texts; messages are written as ``Role: text``, a line each."""
    if not comparison.is_chat:
        return PreferencePair(
            str(comparison.prompt), str(comparison.chosen), str(comparison.rejected), comparison.name
        )

    def written(messages: Any) -> str:
        return "\n".join(f"{m['role'].capitalize()}: {m.get('content') or ''}" for m in messages)

    def answer(messages: Any) -> str:
        return " " + "\n".join(str(m.get("content") or "") for m in messages)

    prompt = f"{written(comparison.prompt)}\n{comparison.chosen[0]['role'].capitalize()}:"  # type: ignore[index]
    return PreferencePair(prompt, answer(comparison.chosen), answer(comparison.rejected), comparison.name)


def _as_trl(
    comparison: Comparison, tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> EncodedPair:
    any_tokenizer: Any = tokenizer
    if comparison.is_chat:
        tools = json.loads(comparison.tools) if isinstance(comparison.tools, str) else comparison.tools

        def ids(messages: Any, ask: bool = False) -> list[int]:
            return list(
                any_tokenizer.apply_chat_template(
                    messages, tokenize=True, return_dict=True, tools=tools, add_generation_prompt=ask
                )["input_ids"]
            )

        prompt = ids(comparison.prompt, ask=True)
        wholes = [ids([*comparison.prompt, *side]) for side in (comparison.chosen, comparison.rejected)]
    else:
        end = any_tokenizer.eos_token
        text = as_text(comparison)
        sides = [s if s.endswith(end) else s + end for s in (text.chosen, text.rejected)]
        prompt = list(any_tokenizer(text=text.prompt)["input_ids"])
        wholes = [list(any_tokenizer(text=text.prompt + side)["input_ids"]) for side in sides]
    n = min(shared_start(prompt, whole_ids) for whole_ids in wholes)
    kept = [whole_ids[:max_length] for whole_ids in wholes]
    cut = sum(len(one) - len(other) for one, other in zip(wholes, kept, strict=True))
    return EncodedPair(
        tuple(prompt[:n][:max_length]), tuple(kept[0][n:]), tuple(kept[1][n:]), cut, comparison.name
    )


def _as_collate(
    comparison: Comparison, tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> EncodedPair:
    pair = as_text(comparison)
    batch = collate([pair], tokenizer, max_length=max_length)
    sides = []
    for ids, real, answer in zip(batch.input_ids, batch.attention_mask, batch.response_mask, strict=True):
        sides.append((tuple(ids[real.bool() & ~answer].tolist()), tuple(ids[answer].tolist())))
    (prompt, chosen), (_, rejected) = sides
    cut = 0
    if max_length is not None:
        full = collate([pair], tokenizer)
        cut = int(full.attention_mask.sum() - batch.attention_mask.sum())
    return EncodedPair(prompt, chosen, rejected, cut, comparison.name)


@checked(max_length=whole(1))
def encode(
    comparison: Comparison,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokens: TokensAs = "trl",
    max_length: int | None = TRL_LENGTH,
) -> EncodedPair:
    """Return the tokens of a comparison.

    Args:
        comparison: of texts or of messages.
        tokenizer: the model's.
        tokens: "trl" for what ``trl.DPOTrainer`` makes of it, "collate" for what this library does.
        max_length: longest sequence, tokens; None for no limit.

    Returns:
        The ids. As in TRL a response may be empty, where the prompt alone fills the length.

    Raises:
        ValueError: messages with a tokenizer that has no chat template, texts with one that has no end of
            sequence ("trl"), or what ``collate`` refuses ("collate").
    """
    if tokens == "collate":
        return _as_collate(comparison, tokenizer, max_length)
    if comparison.is_chat and not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "the rows are conversations, and the tokenizer has no chat template, so TRL cannot read them; "
            'tokens="collate" writes messages out as texts.'
        )
    if not comparison.is_chat and tokenizer.eos_token is None:
        raise ValueError("the tokenizer has no end-of-sequence token, which TRL puts behind every text.")
    return _as_trl(comparison, tokenizer, max_length)


@checked(pairs=non_empty)
def padded(
    pairs: Sequence[EncodedPair], *, padding_side: Literal["right", "left"] = "right", append_eos: bool = True
) -> PairBatch:
    """Return pairs padded to one length.

    Args:
        pairs: B of them, with responses of at least one token and something before them.
        padding_side: where padding goes; it is token 0 and never enters.
        append_eos: whether the responses end with the end of sequence, which the batch carries with it.

    Raises:
        ValueError: a response without a token, or nothing before it; the message names the pair.
    """
    for pair in pairs:
        for side, (prompt, response) in zip(("chosen", "rejected"), pair.sides, strict=True):
            if not response or not prompt:
                what = f"the {side} response has no token" if not response else "the prompt has no token"
                raise ValueError(f"{pair.name or 'a pair'}: {what}.")
    rows = [pair.sides[side] for side in (0, 1) for pair in pairs]
    longest = max(len(prompt) + len(response) for prompt, response in rows)
    input_ids = torch.zeros(len(rows), longest, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    response_mask = torch.zeros_like(input_ids, dtype=torch.bool)
    for i, (prompt, response) in enumerate(rows):
        ids = [*prompt, *response]
        start = 0 if padding_side == "right" else longest - len(ids)
        input_ids[i, start : start + len(ids)] = torch.tensor(ids)
        attention_mask[i, start : start + len(ids)] = 1
        response_mask[i, start + len(prompt) : start + len(ids)] = True
    names = tuple(pair.name or f"pair {i}" for i, pair in enumerate(pairs))
    return PairBatch(input_ids, attention_mask, response_mask, append_eos, names)
