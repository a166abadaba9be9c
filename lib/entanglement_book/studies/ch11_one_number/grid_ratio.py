"""The grids of constant ratios: from one checkpoint, the same steps with one number r for all pairs.

With ``nano``, near-copies, AdamW and rate 1 a cell has the checkpoint, batches and held-out pairs of the grid
of update rules, so that a constant stands beside every rule. On summaries what is asked is where the answers
turn: there the held-out pairs are measured before and after, and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import product
from typing import Any

import pandas as pd

from entanglement.models import about_model
from entanglement.training import align
from entanglement.updates import get_update
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.studies.ch11_one_number.grid import PLAIN_LR
from entanglement_book.studies.shared.means import set_means
from entanglement_book.studies.shared.start import (
    checkpoint,
    data_pairs,
    recipe,
    train_pairs,
    trained_sample,
    validation_pairs,
)

__all__ = ["OPTIMIZERS", "RATES", "RATIOS", "grid_cells", "rate_cells", "run_cell", "summary_cells"]

#: Constant ratios r by data; 1 is DPO. Summaries share few words, and their answers turn further from 1.
RATIOS = {"sentiment": (1.0, 1.0025, 1.005, 1.01, 1.02, 1.05), "summaries": (1.0, 1.2, 1.4, 1.7)}
#: Of a pretrained model on summaries, of which a run takes minutes: at the rate 1 alone.
PRETRAINED_RATIOS = (0.8, 1.0, 1.4, 2.0)
OPTIMIZERS = ("adamw", "sgd")
#: Other multiples of the rate, with this many seeds; on summaries, where a run takes long, with AdamW alone.
RATES, RATE_SEEDS = (0.5, 2.0), 3


def _cells(data: str, seeds: Iterable[int], rates: Iterable[float]) -> list[dict[str, Any]]:
    every = product(seeds, OPTIMIZERS, rates, RATIOS[data])
    return [
        {"data": data, "optimizer": optimizer, "rate": rate, "ratio": ratio, "seed": seed}
        for seed, optimizer, rate, ratio in every
    ]


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: optimizer × ratio × seed; those of a seed share a checkpoint."""
    cells = _cells("sentiment", range(recipe(scale, model).seeds), [1.0])
    return cells if scale != "smoke" else one_change(cells)


def rate_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells at other rates."""
    cells = _cells("sentiment", range(RATE_SEEDS), RATES)
    return cells if scale != "smoke" else one_change(cells)


def summary_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells on summaries, with ``nano`` at all rates."""
    if not model.startswith("nano"):
        every = product(range(RATE_SEEDS), OPTIMIZERS, PRETRAINED_RATIOS)
        return [
            {"data": "summaries", "optimizer": optimizer, "rate": 1.0, "ratio": ratio, "seed": seed}
            for seed, optimizer, ratio in every
        ]
    cells = _cells("summaries", range(RATE_SEEDS), sorted([1.0, *RATES]))
    if scale == "smoke":
        return one_change(cells)
    return [cell for cell in cells if cell["optimizer"] == "adamw" or cell["rate"] == 1.0]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its table.

    Returns:
        "means": ``set_means`` of held-out pairs before and after, a row a step; on near-copies also of
        trained and validation pairs, a row a step and set.
    """
    numbers = recipe(scale, model)
    data, seed, plain = cell["data"], int(cell["seed"]), cell["optimizer"] == "sgd"
    policy, tokenizer, start = checkpoint(scale, model, data, seed)
    policy.load_state_dict(start)
    train = train_pairs(scale, model, data, seed)
    test = data_pairs(data, "test", numbers.test_pairs, seed)
    evaluate, moments = {"test": test}, (0, numbers.steps)
    if data == "sentiment":
        trained = trained_sample(scale, model, train, seed)
        evaluate |= {"trained": trained, "validation": validation_pairs(data, test, seed)}
        moments = numbers.moments  # type: ignore[assignment]
    run = align(
        policy,
        tokenizer,
        train,
        update=get_update("constant", ratio=float(cell["ratio"])),
        steps=numbers.steps,
        lr=(PLAIN_LR if plain else numbers.lr) * float(cell["rate"]),
        batch_size=numbers.batch if data == "sentiment" else numbers.batch // 2,
        optimizer=cell["optimizer"],
        max_grad_norm=None if plain else 1.0,  # clipping is no part of a plain step
        seed=seed,
        evaluate=evaluate,
        evaluate_at=moments,
    )
    return {"means": set_means(run.table)}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the ratios, for the provenance of a table."""
    about = about_model(model)
    return {"recipe": asdict(recipe(scale, model)), "ratios": RATIOS, "model": model, "about": about}


GRIDS.add("ratio", Grid("ratio", grid_cells, run_cell, describe, models=("nano", "smollm2-135m")))
GRIDS.add(
    "ratio-rates",
    Grid("ratio-rates", rate_cells, run_cell, describe, models=("nano", "smollm2-135m")),
)
GRIDS.add("ratio-summaries", Grid("ratio-summaries", summary_cells, run_cell, describe, models=("nano",)))
