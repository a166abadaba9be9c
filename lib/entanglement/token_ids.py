"""The token ids of a prompt and of a response, each tokenized by itself.

A prompt opens the sequence, so it is read as the tokenizer reads any text, with one beginning-of-sequence
token before it. A response goes on: SentencePiece-like tokenizers put a space before every text, and what
goes on after a prompt must not get one that nobody wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from entanglement.checks import shown, whole
from entanglement.signatures import checked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["context_length", "prompt_ids", "response_ids", "special_tokens_in"]

#: How the token of a space begins, in SentencePiece-like and in byte-level vocabularies.
_SPACES = ("\u2581", "\u0120")
#: Written before a response to see where its tokens begin. One of them merges with no response.
_ANCHORS = ("\n", ":", "a", "1")
#: Tokenizers without a limit say a number larger than this.
_NO_LIMIT = 1_000_000


def _ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _puts_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a space before a text that begins with none."""
    first = tokenizer.convert_ids_to_tokens(_ids("a", tokenizer)[:1])
    return bool(first) and str(first[0]).startswith(_SPACES)


@checked(room=whole(1))
def prompt_ids(text: str, tokenizer: PreTrainedTokenizerBase, room: int | None = None) -> list[int]:
    """Return the ids of a prompt, with the beginning-of-sequence token first if the tokenizer has one.

    Args:
        text: a prompt. One that begins with that token's text gets it once.
        tokenizer: any of Hugging Face. To leave the token out, set ``tokenizer.bos_token = None``.
        room: how many tokens may stay; a longer prompt loses its beginning, but not that token. None for no
            limit.
    """
    ids = _ids(text, tokenizer)
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if first and ids[:1] == first:
        ids = ids[1:]
    return first + (ids if room is None else ids[max(0, len(ids) + len(first) - room) :])


@checked()
def response_ids(text: str, tokenizer: PreTrainedTokenizerBase, *, append_eos: bool = False) -> list[int]:
    """Return the ids of a response that goes on after a prompt: they read as the text, and no space more.

    Args:
        text: a response; it usually begins with a space.
        tokenizer: any of Hugging Face.
        append_eos: put the end-of-sequence token behind it, unless the text ends with it.

    Raises:
        ValueError: the tokenizer puts a space before every text and hides where this one begins.
    """
    ids = _ids(text, tokenizer) if not _puts_space(tokenizer) else _going_on(text, tokenizer)
    if append_eos and ids and ids[-1] != tokenizer.eos_token_id:
        ids = [*ids, tokenizer.eos_token_id]
    return ids


def _going_on(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    for anchor in _ANCHORS:
        before, both = _ids(anchor, tokenizer), _ids(anchor + text, tokenizer)
        # A tokenizer that reads a line's end as a space shows nothing by it.
        seen = before and str(tokenizer.convert_ids_to_tokens(before[-1:])[0]) not in _SPACES
        if seen and both[: len(before)] == before:
            return both[len(before) :]
    raise ValueError(f"response_ids: {shown(text)} merges with whatever stands before it in this tokenizer.")


@checked()
def special_tokens_in(text: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the special tokens that are written out in a text, in alphabetical order.

    Tokenizers read each of them as that token, not as the characters that it is written with.
    """
    return sorted({str(token) for token in tokenizer.all_special_tokens if str(token) in text})


@checked()
def context_length(tokenizer: PreTrainedTokenizerBase, model: nn.Module | None = None) -> int | None:
    """Return the longest sequence, in tokens, that a tokenizer and its model allow; None for no limit.

    Args:
        tokenizer: its ``model_max_length``, which is a huge number where there is no limit.
        model: its ``config`` may name a number of positions. None if it is not known.
    """
    unwrap = getattr(model, "get_base_model", None)  # peft
    config = getattr(unwrap() if callable(unwrap) else model, "config", None)
    limits = (getattr(config, "max_position_embeddings", None), tokenizer.model_max_length)
    return min((int(n) for n in limits if n is not None and 0 < n < _NO_LIMIT), default=None)
