"""Log-probabilities of pairs whose prompt is computed once.

The chosen and the rejected sequence of a pair begin with the same prompt, and in a causal model what stands
there cannot depend on what follows. So a pair is laid out as one sequence,

    padding | prompt | chosen response | rejected response,

in which the rejected response sees the prompt and itself, and its positions count on from the prompt. The
values and the gradients are those of two sequences. What this does not give is the gradient of one response
apart from the other: at the prompt both have been added up, so ``GeometryMonitor`` cannot read it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from entanglement.logps import check_batch, model_device, response_logps
from entanglement.pairs import PairBatch
from entanglement.signatures import checked

__all__ = ["ARCHITECTURES", "can_share", "quick_logps", "shared_logps"]

#: Architectures (``config.model_type``) that attend by a mask of our own and were tested to do so.
ARCHITECTURES = ("gpt2", "gpt_neox", "llama")
_ATTENTION = ("eager", "sdpa")


@checked()
def can_share(model: nn.Module) -> bool:
    """Whether the model is known to take a mask (B, 1, T, T) and positions of our own."""
    unwrap = getattr(model, "get_base_model", None)  # peft
    config: Any = getattr(unwrap() if callable(unwrap) else model, "config", None)
    return (
        getattr(config, "model_type", None) in ARCHITECTURES
        and getattr(config, "_attn_implementation", None) in _ATTENTION
        and not getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    )


@checked()
def shared_logps(model: nn.Module, batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return (log π_w, log π_l), each (B,), in nats, from one forward over B sequences.

    Args:
        model: one that ``can_share``. Gradients flow into it.
        batch: B pairs.

    Returns:
        The same as ``response_logps`` up to rounding; None if the two prompts of some pair differ (a long
        response can shorten its prompt).

    Raises:
        ValueError: an empty response, naming the pair.
    """
    check_batch(batch, "shared_logps")
    n = len(batch)
    rows = [
        ids[mask.bool()].tolist() for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]
    counts = batch.response_mask.sum(dim=1).tolist()
    prompts = [row[: len(row) - count] for row, count in zip(rows, counts, strict=True)]
    if prompts[:n] != prompts[n:]:
        return None
    answers = [row[len(row) - count :] for row, count in zip(rows, counts, strict=True)]
    start = max(len(prompt) for prompt in prompts)
    middle = start + max(counts[:n])
    total = middle + max(counts[n:])

    ids = torch.zeros(n, total, dtype=torch.long)
    positions = torch.zeros(n, total, dtype=torch.long)
    part = torch.full((n, total), -1)  # −1 padding, 0 prompt, 1 chosen, 2 rejected
    sources, owners = [], []  # of each response token: the column that predicts it, its row and side
    for i in range(n):
        pieces = ((start - len(prompts[i]), prompts[i]), (start, answers[i]), (middle, answers[n + i]))
        for side, (begin, tokens) in enumerate(pieces):
            here = slice(begin, begin + len(tokens))
            ids[i, here] = torch.tensor(tokens)
            offset = 0 if side == 0 else len(prompts[i])
            positions[i, here] = offset + torch.arange(len(tokens))
            part[i, here] = side
            if side:
                # The first token of either response is predicted at the prompt's end.
                sources += [start - 1, *range(begin, begin + len(tokens) - 1)]
                owners += [(i, side - 1, token) for token in tokens]

    device = model_device(model)
    seen = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])  # (B, query, key)
    seen &= torch.ones(total, total, dtype=torch.bool).tril() & (part >= 0)[:, None, :]
    seen |= torch.eye(total, dtype=torch.bool)  # padding sees itself: no row is without a key
    dtype = next(model.parameters()).dtype
    mask = torch.zeros(n, 1, total, total, dtype=dtype).masked_fill(~seen[:, None], torch.finfo(dtype).min)
    kept, slots = torch.unique(torch.tensor(sources), return_inverse=True)
    logits = model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
        logits_to_keep=kept.to(device),
        use_cache=False,
    ).logits  # (B, K, V)
    row, which, target = torch.tensor(owners, device=device).unbind(1)
    picked = logits[row, slots.to(device)]  # (N, V)
    picked = picked if picked.dtype == torch.float64 else picked.float()
    values = picked.log_softmax(dim=-1).gather(1, target[:, None]).squeeze(1)
    sums = values.new_zeros(2, n).index_put((which, row), values, accumulate=True)
    return sums[0], sums[1]


@checked()
def quick_logps(model: nn.Module, batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (log π_w, log π_l), each (B,), in nats, with each prompt computed once wherever that is known
    to be possible: ``shared_logps``, or else ``response_logps``.
    """
    return (shared_logps(model, batch) if can_share(model) else None) or response_logps(model, batch)
