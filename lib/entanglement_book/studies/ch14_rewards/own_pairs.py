"""Pairs of a model's own answers: the best and the worst of some draws, as a reward has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.pairs import PreferencePair
from entanglement.rewards import Answers, draw_answers
from entanglement.token_ids import response_ids

__all__ = ["drawn_pairs", "in_common"]

#: Prompts that are answered at a time.
PROMPTS = 16


def drawn_pairs(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[PreferencePair],
    reward: Callable[[Answers], torch.Tensor],
    *,
    draws: int,
    tokens: int,
    seed: int,
) -> tuple[list[PreferencePair], float]:
    """Return a pair for each prompt whose best and worst answer differ, and the share of their answers that
    come back from text as they were drawn.

    A pair holds texts. What is measured of it is the tokens that its text has, which now and then are
    others than those that were drawn.

    Args:
        model: drawn from.
        tokenizer: the model's.
        prompts: pairs whose prompts are answered; their names are kept.
        reward: of answers.
        draws: answers a prompt.
        tokens: at which an answer is cut.
        seed: of the draws.
    """
    found, came_back = [], []
    for start in range(0, len(prompts), PROMPTS):
        some = prompts[start : start + PROMPTS]
        texts = [pair.prompt for pair in some]
        # Each batch has draws of its own; another seed has none of them.
        own = seed * 1_000_003 + start
        answers = draw_answers(model, tokenizer, texts, group=draws, tokens=tokens, seed=own)
        scores, said = reward(answers).view(-1, draws), answers.texts(tokenizer)
        for k, pair in enumerate(some):
            best, worst = (k * draws + int(at(scores[k])) for at in (torch.argmax, torch.argmin))
            if said[best] and said[worst] and said[best] != said[worst]:
                found.append(PreferencePair(pair.prompt, said[best], said[worst], pair.id))
                came_back += [_comes_back(tokenizer, answers, row, said[row]) for row in (best, worst)]
    return found, sum(came_back) / max(1, len(came_back))


def _comes_back(tokenizer: PreTrainedTokenizerBase, answers: Answers, row: int, text: str) -> bool:
    """Whether an answer's text has the tokens that were drawn."""
    ids = [i for i in answers.ids[row][answers.mask[row]].tolist() if i != tokenizer.eos_token_id]
    return response_ids(text, tokenizer) == ids


def in_common(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]) -> dict[str, list[float]]:
    """Return what the two responses of each pair share.

    Returns:
        begin (tokens that both begin with), shared (share of the different tokens of both that both have).
    """
    found: dict[str, list[float]] = {"begin": [], "shared": []}
    for pair in pairs:
        one, other = (response_ids(text, tokenizer) for text in (pair.chosen, pair.rejected))
        same = [a == b for a, b in zip(one, other, strict=False)]
        found["begin"].append(float(same.index(False) if False in same else len(same)))
        found["shared"].append(len({*one} & {*other}) / len({*one, *other}))
    return found
