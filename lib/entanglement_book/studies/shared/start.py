"""Where the grids of several chapters start: the data, the recipe, and the checkpoint after fine-tuning.

The cells of one data set and seed share a checkpoint, batches and held-out pairs, whatever is varied on top.
"""

from __future__ import annotations

import random
from dataclasses import replace

import torch
from pydantic import ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.batches import shuffled
from entanglement.models import load_model
from entanglement.pairs import PreferencePair
from entanglement.training import sft
from entanglement.uses import remembered
from entanglement_book.materials import sentiment_pairs, tldr_pairs
from entanglement_book.materials.cached import cached_docstrings
from entanglement_book.materials.tweets import VARIANTS

__all__ = [
    "DATA",
    "Recipe",
    "checkpoint",
    "data_pairs",
    "recipe",
    "train_pairs",
    "trained_sample",
    "validation_pairs",
]

DATA: dict[str, str] = {
    "sentiment": "sentiment of tweets with the long suffix: the two responses are near-copies",
    "summaries": "docstring summaries against those of siblings: the two responses share few words",
}


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class Recipe:
    """The numbers of one run.

    Attributes:
        train_pairs: how many summaries are trained on (all tweets are).
        sft_steps, sft_lr, sft_batch: of supervised fine-tuning (AdamW, constant rate).
        steps, lr, batch: of preference optimization (AdamW, linear warm-up and decay), the same for all
            losses; a batch of summaries, whose sequences are three times as long, is half as large.
        test_pairs: held-out pairs, drawn by seed; geometry_pairs of them get their gradients measured.
        moments: steps at which held-out pairs are measured.
        seeds: how many.
        account_pairs: pairs of each batch, and held-out pairs, whose account is kept for DPO.
        answer_tokens: length of the models' own answers.
        context: longest sequence, tokens; a longer prompt loses its beginning. It is ``nano``'s, so that
            models with a longer one see as much of a docstring.
    """

    train_pairs: PositiveInt
    sft_steps: PositiveInt
    sft_lr: PositiveFloat
    sft_batch: PositiveInt
    steps: PositiveInt
    lr: PositiveFloat
    batch: PositiveInt
    test_pairs: PositiveInt
    geometry_pairs: PositiveInt
    moments: tuple[NonNegativeInt, ...]
    seeds: PositiveInt
    account_pairs: NonNegativeInt
    answer_tokens: PositiveInt
    context: PositiveInt


_BOOK = Recipe(
    train_pairs=1500,
    sft_steps=64,
    sft_lr=1.41e-5,
    sft_batch=16,
    steps=32,
    lr=2.5e-5,
    batch=32,
    test_pairs=48,
    geometry_pairs=16,
    moments=(0, 4, 8, 16, 24, 32),
    seeds=5,
    account_pairs=4,
    answer_tokens=10,
    context=128,
)


_SMOKE = replace(
    _BOOK,
    train_pairs=40,
    sft_steps=2,
    sft_batch=4,
    steps=3,
    batch=4,
    test_pairs=5,
    geometry_pairs=2,
    moments=(0, 3),
    seeds=2,
    account_pairs=2,
)


# A pretrained model of 100 M parameters and more: the paper's rates, and the few steps of fine-tuning after
# which the suffix is not yet learned (``ch08_sentiment.grid_dial`` shows what more of them do).
_PRETRAINED = replace(
    _BOOK,
    sft_steps=3,
    sft_batch=8,
    steps=12,
    lr=5e-6,
    batch=8,
    moments=(0, 3, 6, 9, 12),
)
_PAPER = replace(_BOOK, steps=42, lr=5e-6, test_pairs=200, geometry_pairs=50, moments=(0, 8, 16, 24, 32, 42))


def recipe(scale: str, model: str = "nano") -> Recipe:
    """Return the numbers of a run.

    Args:
        scale: "smoke", "book" or "paper".
        model: a name of the ladder or a hub id; pretrained models of others take the paper's rates.

    Raises:
        ValueError: an unknown scale.
    """
    book = _BOOK if model.startswith("nano") else _PRETRAINED
    found = {"smoke": _SMOKE, "book": book, "paper": _PAPER}.get(scale)
    if found is None:
        raise ValueError(f"scale={scale!r}; expected smoke, book or paper.")
    return found


@remembered(maxsize=2)
def data_pairs(data: str, split: str, n: int | None, seed: int) -> list[PreferencePair]:
    """Return the pairs of one of ``DATA``, or of a variant of the tweets' responses (``VARIANTS``).

    Raises:
        ValueError: an unknown data set.
    """
    if data == "sentiment" or data in VARIANTS:
        variant = "long_suffix" if data == "sentiment" else data
        return sentiment_pairs(variant, split, n=n, seed=seed)  # type: ignore[arg-type]
    if data == "summaries":
        return tldr_pairs("sibling", split, n=n, seed=seed, docstrings=cached_docstrings())  # type: ignore[arg-type]
    raise ValueError(f"data={data!r}; expected one of {', '.join(DATA)}.")


@remembered(maxsize=1)
def checkpoint(
    scale: str, model: str, data: str, seed: int
) -> tuple[nn.Module, PreTrainedTokenizerBase, dict[str, torch.Tensor]]:
    """Return the base fine-tuned on chosen responses, and its parameters, for the cells that start there."""
    numbers = recipe(scale, model)
    policy, tokenizer = load_model(model)
    tokenizer.model_max_length = min(tokenizer.model_max_length, numbers.context)
    sft(
        policy,
        tokenizer,
        train_pairs(scale, model, data, seed),
        steps=numbers.sft_steps,
        lr=numbers.sft_lr,
        batch_size=numbers.sft_batch,
        seed=seed,
    )
    return policy, tokenizer, {name: value.clone() for name, value in policy.state_dict().items()}


def train_pairs(scale: str, model: str, data: str, seed: int) -> list[PreferencePair]:
    """Return the pairs that a cell trains on: all tweets, or as many summaries as the recipe says."""
    return data_pairs(data, "train", recipe(scale, model).train_pairs if data == "summaries" else None, seed)


def validation_pairs(data: str, judged: list[PreferencePair], seed: int) -> list[PreferencePair]:
    """Return as many held-out pairs as are judged, and none of these: what may be looked at to choose."""
    names = {pair.id for pair in judged}
    others = [pair for pair in data_pairs(data, "test", None, seed) if pair.id not in names]
    return random.Random(seed).sample(others, min(len(judged), len(others)))


def trained_sample(scale: str, model: str, pairs: list[PreferencePair], seed: int) -> list[PreferencePair]:
    """Return some of the pairs that a cell's batches contain, as many as there are held-out ones."""
    numbers = recipe(scale, model)
    batches = shuffled(len(pairs), numbers.steps, numbers.batch, seed)
    used = sorted({i for rows in batches for i in rows})
    picked = random.Random(seed).sample(used, min(numbers.test_pairs, len(used)))
    return [pairs[i] for i in picked]
