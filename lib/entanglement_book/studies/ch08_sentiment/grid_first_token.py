"""SmolLM2's prompts with another first token than its chat's, and with none: does the picture depend on it?

A model's tokenizer names a first token and every prompt of this book begins with it. SmolLM2-Instruct names
``<|im_start|>``, which opens a message of a chat; in its pretraining texts were parted by ``<|endoftext|>``.
The runs with its own are those of the grid "dial".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from entanglement.models import load_model
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.studies.ch08_sentiment import grid
from entanglement_book.studies.ch08_sentiment.grid_dial import sft_steps, with_suffix
from entanglement_book.studies.ch08_sentiment.runs import two_steps

__all__ = ["FIRST", "WORDS", "grid_cells", "run_cell"]

#: What stands before the prompt, by name.
FIRST: dict[str, str | None] = {"none": None, "endoftext": "<|endoftext|>"}
#: Words that both answers share.
WORDS = 8
SEEDS = 1


def grid_cells(scale: str, model: str = "smollm2-135m") -> list[dict[str, Any]]:
    """Return the cells: first token × seed."""
    seeds = range(2 if scale == "smoke" else SEEDS)
    cells = [{"first": first, "seed": seed} for first in FIRST for seed in seeds]
    return one_change(cells) if scale == "smoke" else cells


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its table, "means" (``runs.two_steps``)."""
    numbers, seed = grid.recipe(scale, model), int(cell["seed"])
    policy, tokenizer = load_model(model)
    tokenizer.bos_token = FIRST[cell["first"]]
    train = with_suffix(WORDS, "train")
    test = with_suffix(WORDS, "test", n=numbers.test_pairs, seed=seed)
    means = two_steps(
        policy, tokenizer, train, test, numbers, sft_steps=sft_steps(scale, model)[0], seed=seed
    )
    return {"means": means}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and what is varied, for the provenance of a table."""
    return {**grid.describe(scale, model), "first": list(FIRST)}


GRIDS.add(
    "first-token",
    Grid("first-token", grid_cells, run_cell, describe, models=("smollm2-135m",), smoke="nano"),
)
