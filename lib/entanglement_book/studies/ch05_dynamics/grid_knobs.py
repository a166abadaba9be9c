"""The map of training dynamics: DPO over β and the learning rate, the two knobs that people turn first.

A cell starts from the same checkpoints as ``dynamics`` and measures the same held-out pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
from pydantic import ConfigDict, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked

from entanglement.losses import get_loss
from entanglement.models import about_model
from entanglement.training import align
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.shared.means import step_means, with_weights
from entanglement_book.studies.shared.start import checkpoint, data_pairs, recipe, train_pairs

__all__ = ["Knobs", "describe", "grid_cells", "knobs", "run_cell"]


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class Knobs:
    """The map's axes.

    Attributes:
        betas: values of β, no unit.
        rates: multiples of the learning rate of ``recipe``.
        seeds: how many, at each place.
    """

    betas: tuple[PositiveFloat, ...]
    rates: tuple[PositiveFloat, ...]
    seeds: PositiveInt


def knobs(scale: str) -> Knobs:
    """Return the axes at "smoke", "book" or "paper".

    Raises:
        ValueError: an unknown scale.
    """
    recipe(scale)  # refuses an unknown scale
    if scale == "smoke":
        return Knobs((0.1, 1.0), (1.0, 4.0), 2)
    return Knobs((0.01, 0.1, 0.3, 1.0), (0.25, 0.5, 1.0, 2.0, 4.0, 8.0), 3)


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: every β at every rate for every seed; those of a seed share a checkpoint."""
    axes = knobs(scale)
    return [
        {"data": "sentiment", "beta": beta, "rate": rate, "seed": seed}
        for seed in range(axes.seeds)
        for beta in axes.betas
        for rate in axes.rates
    ]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its table "means": held-out means before and after (``step_means``)."""
    numbers = recipe(scale, model)
    data, seed = cell["data"], int(cell["seed"])
    loss = get_loss("dpo", beta=float(cell["beta"]))
    policy, tokenizer, start = checkpoint(scale, model, data, seed)
    policy.load_state_dict(start)
    run = align(
        policy,
        tokenizer,
        train_pairs(scale, model, data, seed),
        loss=loss,
        steps=numbers.steps,
        lr=numbers.lr * float(cell["rate"]),
        batch_size=numbers.batch,
        seed=seed,
        evaluate={"test": data_pairs(data, "test", numbers.test_pairs, seed)},
        evaluate_at=(0, numbers.steps),
    )
    return {"means": step_means(with_weights(run, loss))}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the model's description, for the provenance of a table."""
    numbers = asdict(recipe(scale, model)) | asdict(knobs(scale))
    return {"recipe": numbers, "model": model, "about": about_model(model)}


GRIDS.add("knobs", Grid("knobs", grid_cells, run_cell, describe, models=("nano",)))
