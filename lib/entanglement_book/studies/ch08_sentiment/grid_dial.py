"""The two dials of the sentiment experiment: how long the shared suffix is, and how well it is learned.

The suffix is the first words of one sentence; the fine-tuning before DPO takes more or fewer steps. All else
is the main run's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from entanglement.models import load_model
from entanglement.pairs import PreferencePair
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.materials.tweets import sentiment_pairs
from entanglement_book.studies.ch08_sentiment import grid
from entanglement_book.studies.ch08_sentiment.runs import two_steps

__all__ = ["SFT_STEPS", "SUFFIX", "WORDS", "grid_cells", "run_cell", "with_suffix"]

#: The words that both answers may share; the paper's long suffix is the first eight and a full stop.
SUFFIX = ("sentiment", "based", "on", "my", "judgement", "of", "the", "text", "that", "I", "have", "read")
#: Lengths of the suffix, in words; those of ``FEW`` are tried after every length of fine-tuning.
WORDS, FEW = (0, 1, 2, 4, 8, 12), (0, 1, 8)
#: Steps of fine-tuning; the first is where all lengths are tried. A pretrained model learns it sooner.
SFT_STEPS: dict[str, tuple[int, ...]] = {"nano": (64, 0, 16, 256), "pretrained": (3, 0, 6, 12)}
SEEDS = 5


def sft_steps(scale: str, model: str) -> tuple[int, ...]:
    """Return the lengths of fine-tuning of a model."""
    if scale == "smoke":
        return (1, 0)
    return SFT_STEPS["nano" if model.startswith("nano") else "pretrained"]


def with_suffix(words: int, split: str, *, n: int | None = None, seed: int = 0) -> list[PreferencePair]:
    """Return the tweets' pairs, each answer followed by the first words of ``SUFFIX``."""
    suffix = "".join(f" {word}" for word in SUFFIX[:words])
    return [
        PreferencePair(pair.prompt, pair.chosen + suffix, pair.rejected + suffix, pair.id)
        for pair in sentiment_pairs("one_token", split, n=n, seed=seed)  # type: ignore[arg-type]
    ]


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: words × steps of fine-tuning × seed."""
    first, *others = sft_steps(scale, model)
    seeds = range(2 if scale == "smoke" else SEEDS)
    both = [(words, first) for words in WORDS] + [(words, steps) for steps in others for words in FEW]
    cells = [{"words": words, "sft": steps, "seed": seed} for words, steps in both for seed in seeds]
    return one_change(cells) if scale == "smoke" else cells


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its table, "means" (``runs.two_steps``)."""
    numbers = grid.recipe(scale, model)
    words, seed = int(cell["words"]), int(cell["seed"])
    policy, tokenizer = load_model(model)
    train = with_suffix(words, "train")
    test = with_suffix(words, "test", n=numbers.test_pairs, seed=seed)
    means = two_steps(policy, tokenizer, train, test, numbers, sft_steps=int(cell["sft"]), seed=seed)
    return {"means": means}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the dials, for the provenance of a table."""
    dials = {"suffix": " ".join(SUFFIX), "words": WORDS, "sft_steps": sft_steps(scale, model)}
    return {**grid.describe(scale, model), "dials": dials}


GRIDS.add("dial", Grid("dial", grid_cells, run_cell, describe, models=("smollm2-135m", "nano"), smoke="nano"))
