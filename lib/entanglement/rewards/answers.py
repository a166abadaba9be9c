"""Answers that a policy draws, in groups to one prompt, and what a model says of them.

The rows of R answers are groups of consecutive ones to the same prompt. An answer ends with its end token, or
where it is cut; what is drawn behind the end token counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.checks import non_empty, torch_seed, whole
from entanglement.logps import model_device, positions_for
from entanglement.sampling import continue_prompts
from entanglement.signatures import checked
from entanglement.token_ids import context_length, prompt_ids, response_ids

__all__ = ["Answers", "Read", "draw_answers", "read_answers", "written_answers"]

#: Rows that are read at a time: of similar length, which saves padding.
ROWS = 16


@checked(group=whole(1), tokens=whole(1))
@dataclass(frozen=True)
class Answers:
    """R drawn answers, padded on the left; the last ``tokens`` columns are the answers.

    Attributes:
        input_ids: (R, T) padding, prompt, answer.
        attention_mask: (R, T) 1 on the tokens of prompts and answers, also behind an end token.
        mask: (R, K) True on an answer's tokens, its end token included.
        group: answers a prompt, G: rows 0 … G−1 answer the first.
        tokens: K.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    mask: torch.Tensor
    group: int
    tokens: int

    def __post_init__(self) -> None:
        shape = tuple(self.input_ids.shape)
        for name, expected in (
            ("input_ids", shape[:2]), ("attention_mask", shape), ("mask", (*shape[:1], self.tokens)),
        ):  # fmt: skip
            value = getattr(self, name)
            if value.ndim != 2 or tuple(value.shape) != expected or value.is_floating_point():
                raise ValueError(f"{name} is {tuple(value.shape)} of {value.dtype}; expected {expected}.")
        if not 0 < self.tokens < shape[1]:
            raise ValueError(f"tokens={self.tokens}; expected fewer than the {shape[1]} columns.")
        if not len(self) or len(self) % self.group:
            raise ValueError(f"group={self.group}; expected a divisor of the {len(self)} rows.")

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def ids(self) -> torch.Tensor:
        """(R, K) the answers' tokens, and what was drawn behind an end token."""
        return self.input_ids[:, -self.tokens :]

    @property
    def lengths(self) -> torch.Tensor:
        """(R,) numbers of tokens, the end token included."""
        return self.mask.sum(dim=1)

    def texts(self, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """Return the answers as texts, without the end token."""
        end = tokenizer.eos_token_id
        rows = [ids[here].tolist() for ids, here in zip(self.ids, self.mask, strict=True)]
        return [str(tokenizer.decode(row[:-1] if row[-1] == end else row)) for row in rows]

    @checked()
    def select(self, rows: Sequence[int], group: int = 1) -> Answers:
        """Return some rows as groups of another size."""
        if any(not 0 <= row < len(self) for row in rows):
            raise ValueError(f"rows={list(rows)}; expected rows from 0 to {len(self) - 1}.")
        at = torch.tensor(list(rows), dtype=torch.long, device=self.input_ids.device)
        return Answers(self.input_ids[at], self.attention_mask[at], self.mask[at], group, self.tokens)


@dataclass(frozen=True)
class Read:
    """What a model says of R answers.

    Attributes:
        logps: (R, K) log π of each token, nats; also behind end tokens, where it means nothing.
        states: (R, K, d) the trunk's output from which each token is predicted.
    """

    logps: torch.Tensor
    states: torch.Tensor


@checked(prompts=non_empty, group=whole(1), tokens=whole(1), seed=torch_seed)
def draw_answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    group: int,
    tokens: int,
    seed: int,
) -> Answers:
    """Draw a group of answers to each prompt from a model.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        tokenizer: the model's.
        prompts: texts.
        group: answers a prompt.
        tokens: at which an answer is cut.
        seed: of the draws.
    """
    some = continue_prompts(model, tokenizer, [p for p in prompts for _ in range(group)], tokens, seed=seed)
    end = tokenizer.eos_token_id
    ended = torch.zeros_like(some.ids) if end is None else (some.ids == end).long()
    before = ended.cumsum(dim=1) - ended
    return Answers(some.input_ids, some.attention_mask, before == 0, group, tokens)


@checked(prompts=non_empty)
def written_answers(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    texts: Sequence[Sequence[str]],
    *,
    append_eos: bool = False,
    model: nn.Module | None = None,
) -> Answers:
    """Return given answers to prompts, as many to each.

    Args:
        tokenizer: of the model that is to read them. A prompt that is too long for its context loses its
            beginning.
        prompts: B texts.
        texts: G answers to each.
        append_eos: whether the end-of-sequence token belongs to an answer.
        model: that is to read them, if its context may be shorter than its tokenizer says.

    Raises:
        ValueError: numbers of answers that differ, or an answer without a token.
    """
    if len(texts) != len(prompts) or len({len(some) for some in texts}) != 1 or not len(texts[0]):
        raise ValueError(f"texts: expected as many answers to each of the {len(prompts)} prompts.")
    ends = append_eos and tokenizer.eos_token_id is not None
    rows = [response_ids(text, tokenizer, append_eos=ends) for some in texts for text in some]
    if not all(rows):
        raise ValueError("texts: expected at least one token in every answer.")
    tokens, group = max(map(len, rows)), len(texts[0])
    room = None if (longest := context_length(tokenizer, model)) is None else max(1, longest - tokens)
    asked = [ids for text in prompts for ids in [prompt_ids(text, tokenizer, room)] * group]
    width = max(map(len, asked))
    inputs = torch.zeros(len(rows), width + tokens, dtype=torch.long)
    real = torch.zeros_like(inputs)
    mask = torch.zeros(len(rows), tokens, dtype=torch.bool)
    for i, (prompt, row) in enumerate(zip(asked, rows, strict=True)):
        inputs[i, width - len(prompt) : width + len(row)] = torch.tensor([*prompt, *row])
        real[i, width - len(prompt) :] = 1
        mask[i, : len(row)] = True
    return Answers(inputs, real, mask, group, tokens)


@checked()
def read_answers(model: nn.Module, answers: Answers) -> Read:
    """Return the log-probabilities of answers, and the states behind them, from one pass of the trunk.

    Args:
        model: a causal language model of transformers; gradients flow into it.
        answers: R rows; moved to the model's device.

    Raises:
        ValueError: a model without ``base_model`` and output embeddings.
    """
    inner: Any = model
    head = getattr(inner, "get_output_embeddings", lambda: None)()
    if head is None or not hasattr(inner, "base_model"):
        raise ValueError(
            f"model is a {type(model).__name__}; expected a causal language model of transformers."
        )
    lengths = answers.attention_mask.sum(dim=1)
    order = torch.argsort(lengths, stable=True)
    found = []
    for rows in order.split(ROWS):
        # Columns in which all of these rows are padded are left out.
        width = int(lengths[rows].max())
        ids, mask = (
            part[rows][:, -width:].to(model_device(model))
            for part in (answers.input_ids, answers.attention_mask)
        )
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        told = positions_for(inner.base_model, positions)
        out = inner.base_model(input_ids=ids, attention_mask=mask, use_cache=False, **told)
        states = out.last_hidden_state[:, -answers.tokens - 1 : -1]  # (r, K, d)
        logits = head(states)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        targets = ids[:, -answers.tokens :, None]
        found.append((logits.log_softmax(dim=-1).gather(2, targets).squeeze(2), states))
    back = torch.argsort(order)
    logps, states = (torch.cat([part[i] for part in found])[back] for i in (0, 1))
    return Read(logps, states)
