"""The answer of one token at smaller rates of DPO: does it rise on held-out pairs, as in the paper?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from entanglement.models import load_model
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.materials.tweets import sentiment_pairs
from entanglement_book.studies.ch08_sentiment import grid
from entanglement_book.studies.ch08_sentiment.runs import two_steps

__all__ = ["RATES", "grid_cells", "run_cell"]

#: Factors on DPO's rate; a fifth of it is the paper's own.
RATES = (0.2, 0.5)


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: rate × seed."""
    cells = [
        {"rate": rate, "seed": seed} for rate in RATES for seed in range(grid.recipe(scale, model).seeds)
    ]
    return one_change(cells) if scale == "smoke" else cells


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its table, "means" (``runs.two_steps``)."""
    numbers, seed = grid.recipe(scale, model), int(cell["seed"])
    policy, tokenizer = load_model(model)
    train = sentiment_pairs("one_token", "train")
    test = sentiment_pairs("one_token", "test", n=numbers.test_pairs, seed=seed)
    means = two_steps(
        policy,
        tokenizer,
        train,
        test,
        numbers,
        sft_steps=numbers.sft_steps,
        rate=float(cell["rate"]),
        seed=seed,
    )
    return {"means": means}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and what is varied, for the provenance of a table."""
    return {**grid.describe(scale, model), "rates": RATES}


GRIDS.add("rates", Grid("rates", grid_cells, run_cell, describe, models=("nano",)))
