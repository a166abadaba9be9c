"""What a model's own answers are like: how varied, repetitive and long, and how far from the reference's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.checks import non_empty, torch_seed, whole
from entanglement.sampling import continuation_logps, continue_prompts
from entanglement.signatures import checked

__all__ = ["answer_quality", "distinct", "length", "repeated"]


def _until(answer: Sequence[int], end: int | None) -> list[int]:
    """Return the tokens before the end token, all of them if there is none."""
    ids = list(answer)
    return ids[: ids.index(end)] if end in ids else ids


@checked(n=whole(1))
def distinct(answers: Sequence[Sequence[int]], n: int) -> float:
    """Return distinct-n: different n-grams of all answers over all their n-grams; nan if they have none.

    Source: Li et al. 2016, arXiv 1510.03055.
    """
    grams = [tuple(a[i : i + n]) for a in answers for i in range(len(a) - n + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")


@checked()
def repeated(answers: Sequence[Sequence[int]]) -> float:
    """Return the share of tokens that stood in the same answer before; nan without tokens."""
    tokens = sum(len(a) for a in answers)
    return 1 - sum(len(set(a)) for a in answers) / tokens if tokens else float("nan")


@checked(answers=non_empty)
def length(answers: Sequence[Sequence[int]]) -> float:
    """Return the mean number of tokens."""
    return sum(len(a) for a in answers) / len(answers)


@checked(prompts=non_empty, tokens=whole(1), draws=whole(1), seed=torch_seed)
def answer_quality(
    model: nn.Module,
    reference: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    tokens: int = 24,
    draws: int = 4,
    seed: int = 0,
) -> dict[str, float]:
    """Draw answers from a model and describe them.

    Args:
        model: drawn from.
        reference: the KL divergence is taken to it.
        tokenizer: of both.
        prompts: each is answered ``draws`` times.
        tokens: length at which a draw is cut, if its end token does not come before.
        draws: how often.
        seed: of the draws.

    Returns:
        kl (estimate of KL(model ‖ reference) of continuations of this many tokens, nats; the end token ends
        nothing here), distinct_1, distinct_2, repeated, length (of the answers up to their end tokens).
    """
    some = continue_prompts(model, tokenizer, [p for p in prompts for _ in range(draws)], tokens, seed=seed)
    kl = continuation_logps(model, some) - continuation_logps(reference, some)
    answers = [_until(ids, tokenizer.eos_token_id) for ids in some.ids.tolist()]
    return {
        "kl": float(torch.mean(kl)),
        "distinct_1": distinct(answers, 1),
        "distinct_2": distinct(answers, 2),
        "repeated": repeated(answers),
        "length": length(answers),
    }
