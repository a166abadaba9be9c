"""The grid of DPO-Shift: one more loss beside those of ``dynamics``, from the same checkpoints.

Its ratio r = 1/λ is constant, and a two-hundredth above DPO's (the study of one number has other ones).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from entanglement.losses import Loss, get_loss
from entanglement.models import about_model
from entanglement.training import align
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.ch05_dynamics.labels import all_held_out, both_labels
from entanglement_book.studies.shared.means import step_means, with_weights
from entanglement_book.studies.shared.start import DATA, checkpoint, data_pairs, recipe, train_pairs

__all__ = ["SHIFT", "describe", "grid_cells", "run_cell", "shift_loss"]

#: DPO-Shift's λ, no unit.
SHIFT = 1 / 1.005


def shift_loss() -> Loss:
    """Return DPO-Shift with the ratio r = 1.005."""
    return get_loss("dpo_shift", shift=SHIFT)


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: every data set for every seed."""
    seeds = range(recipe(scale, model).seeds)
    return [{"data": data, "loss": "dpo_shift", "seed": seed} for data in DATA for seed in seeds]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "means" and "pairs", as those of ``dynamics``; for near-copies "labels", as in the grid of that name.
    """
    numbers = recipe(scale, model)
    data, seed, loss = cell["data"], int(cell["seed"]), shift_loss()
    policy, tokenizer, start = checkpoint(scale, model, data, seed)
    policy.load_state_dict(start)
    run = align(
        policy,
        tokenizer,
        train_pairs(scale, model, data, seed),
        loss=loss,
        steps=numbers.steps,
        lr=numbers.lr,
        batch_size=numbers.batch if data == "sentiment" else numbers.batch // 2,
        seed=seed,
        evaluate={"test": data_pairs(data, "test", numbers.test_pairs, seed)},
        evaluate_at=numbers.moments,
        geometry_pairs=numbers.geometry_pairs,
    )
    pairs = with_weights(run, loss)
    ends = pairs[pairs["step"].isin([0, numbers.steps])].dropna(subset=["cosine"])
    tables = {"means": step_means(pairs), "pairs": ends}
    if data == "sentiment":
        tables["labels"] = both_labels(policy, tokenizer, all_held_out(scale))
    return tables


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe, the ratio and the model's description, for the provenance of a table."""
    numbers = asdict(recipe(scale, model))
    return {"recipe": numbers, "shift": SHIFT, "model": model, "about": about_model(model)}


GRIDS.add("dynamics-shift", Grid("dynamics-shift", grid_cells, run_cell, describe, models=("nano",)))
