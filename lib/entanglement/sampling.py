"""Continuations of prompts: the model's likeliest ones, token by token, and draws from it.

transformers' ``generate`` is not used: it either stops at the end-of-sequence token or forbids it, and then
what it draws is not the model's distribution. Every continuation here has the same number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.checks import non_empty, torch_seed, whole
from entanglement.logps import model_device, positions_for, row_logps
from entanglement.signatures import checked
from entanglement.token_ids import context_length, prompt_ids

__all__ = ["Continuations", "continuation_logps", "continue_ids", "continue_prompts"]


@checked(tokens=whole(1))
@dataclass(frozen=True)
class Continuations:
    """n prompts and their continuations as padded rows.

    Attributes:
        input_ids: (n, T) padding on the left, prompt, then the last ``tokens`` columns are the continuation.
        attention_mask: (n, T) 1 on real tokens.
        tokens: length of every continuation.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    tokens: int

    @property
    def ids(self) -> torch.Tensor:
        """(n, tokens) the continuations."""
        return self.input_ids[:, -self.tokens :]


def _prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], room: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (n, T) ids and mask of prompts padded on the left; too long ones lose their beginning."""
    rows = [prompt_ids(text, tokenizer, room) for text in prompts]
    longest = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    return ids, mask


@checked(prompts=non_empty, tokens=whole(1), seed=torch_seed)
def continue_prompts(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    tokens: int,
    *,
    seed: int | None = None,
) -> Continuations:
    """Return one continuation of exactly ``tokens`` tokens for each prompt.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        tokenizer: the model's.
        prompts: texts; one too long for the context loses its beginning.
        tokens: length, in tokens.
        seed: None for the likeliest next token at each place; a number to draw from the model.

    Raises:
        ValueError: no prompts, or a length that leaves no room for them.
    """
    context = context_length(tokenizer, model)
    if context is not None and tokens >= context:
        raise ValueError(f"continue_prompts: tokens={tokens}; expected 1 to {context - 1}.")
    ids, mask = _prompts(tokenizer, prompts, None if context is None else context - tokens)
    return continue_ids(model, ids, mask, tokens, seed=seed)


@checked(tokens=whole(1), seed=torch_seed)
def continue_ids(
    model: nn.Module, ids: torch.Tensor, mask: torch.Tensor, tokens: int, *, seed: int | None = None
) -> Continuations:
    """Return one continuation of exactly ``tokens`` tokens for each prompt of a padded batch.

    Args:
        model: as in ``continue_prompts``.
        ids, mask: (n, T) prompts with padding on the left, and 1 on their tokens.
        tokens: length, in tokens; the context must have room for it.
        seed: as in ``continue_prompts``.
    """
    for name, value in (("ids", ids), ("mask", mask)):
        if value.ndim != 2 or value.shape != ids.shape or 0 in value.shape or value.is_floating_point():
            raise ValueError(
                f"continue_ids: {name} is {tuple(value.shape)} of {value.dtype}; expected whole numbers, "
                "(n, T)."
            )
    context = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    # The last token drawn is not read any more.
    if context is not None and int(mask.sum(1).max()) + tokens - 1 > context:
        raise ValueError(
            f"continue_ids: tokens={tokens} after {int(mask.sum(1).max())} of a prompt; "
            f"expected no more than the context of {context} has room for."
        )
    ids, mask = (part.to(model_device(model)) for part in (ids, mask))
    draw = torch.Generator().manual_seed(int(seed or 0))
    past, new = None, ids
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        for _ in range(tokens):
            found = model(
                input_ids=new,
                attention_mask=mask,
                **positions_for(model, positions),
                past_key_values=past,
                use_cache=True,
            )
            past, logits = found.past_key_values, found.logits[:, -1]
            if seed is None:
                new = logits.argmax(dim=-1, keepdim=True)
            else:
                # Drawn on the CPU, so that a seed means the same on every device.
                new = torch.multinomial(logits.double().softmax(-1).cpu(), 1, generator=draw).to(ids.device)
            ids, mask = torch.cat([ids, new], dim=1), torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            positions = positions[:, -1:] + 1
    return Continuations(ids, mask, tokens)


@checked()
def continuation_logps(model: nn.Module, some: Continuations) -> torch.Tensor:
    """Return log π(continuation | prompt), (n,), in nats, under any model with the same tokens."""
    response = torch.zeros_like(some.attention_mask, dtype=torch.bool)
    response[:, -some.tokens :] = True
    positions = (some.attention_mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        return row_logps(model, some.input_ids, some.attention_mask, positions, response).double().sum(1)
