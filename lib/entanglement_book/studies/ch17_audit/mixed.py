"""Where the audits' cells start: the two data sets of the other grids, and one that is half of each."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.models import load_model
from entanglement.pairs import PreferencePair
from entanglement.training import sft
from entanglement_book.studies.shared.start import (
    checkpoint,
    data_pairs,
    recipe,
    train_pairs,
    validation_pairs,
)

__all__ = ["Beginning", "begin"]

#: What the mixed data are made of.
PARTS = ("sentiment", "summaries")


@dataclass(frozen=True)
class Beginning:
    """The model after supervised fine-tuning, and the pairs.

    Attributes:
        policy, tokenizer: the model, in evaluation mode.
        start: its parameters.
        train, test: pairs to train on, and held-out ones that judge.
        seen: held-out pairs that may be looked at to choose, none of ``test``.
    """

    policy: nn.Module
    tokenizer: PreTrainedTokenizerBase
    start: dict[str, torch.Tensor]
    train: list[PreferencePair]
    test: list[PreferencePair]
    seen: list[PreferencePair]


def begin(scale: str, model: str, data: str, seed: int) -> Beginning:
    """Return where a cell begins.

    Args:
        scale: "smoke", "book" or "paper".
        model: name of the base model.
        data: "sentiment", "summaries", or "mixed": as many near-copies as summaries.
        seed: of the order of pairs.
    """
    if data == "mixed":
        return _mixed(scale, model, seed)
    policy, tokenizer, start = checkpoint(scale, model, data, seed)
    policy.load_state_dict(start)
    test = data_pairs(data, "test", recipe(scale, model).test_pairs, seed)
    seen = validation_pairs(data, test, seed)
    return Beginning(policy.eval(), tokenizer, start, train_pairs(scale, model, data, seed), test, seen)


def _mixed(scale: str, model: str, seed: int) -> Beginning:
    numbers = recipe(scale, model)
    rng = random.Random(seed)
    parts = {data: train_pairs(scale, model, data, seed) for data in PARTS}
    size = min(len(part) for part in parts.values())
    train = [pair for part in parts.values() for pair in rng.sample(part, size)]
    rng.shuffle(train)
    half = numbers.test_pairs // len(PARTS)
    test, seen = [], []
    for data in PARTS:
        mine = data_pairs(data, "test", half, seed)
        test += mine
        seen += validation_pairs(data, mine, seed)
    policy, tokenizer = load_model(model)
    tokenizer.model_max_length = min(tokenizer.model_max_length, numbers.context)
    options = {"steps": numbers.sft_steps, "lr": numbers.sft_lr, "batch_size": numbers.sft_batch}
    sft(policy, tokenizer, train, seed=seed, **options)  # type: ignore[arg-type]
    start = {name: value.clone() for name, value in policy.state_dict().items()}
    return Beginning(policy.eval(), tokenizer, start, train, test, seen)
