"""The grid of labels: what training makes of the two answers of every held-out near-copy, pair by pair.

The cells have the checkpoints and batches of ``dynamics``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from entanglement.losses import get_loss
from entanglement.models import about_model
from entanglement.training import align
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.ch05_dynamics.labels import all_held_out, both_labels
from entanglement_book.studies.shared.start import checkpoint, recipe, train_pairs

__all__ = ["WAYS", "describe", "grid_cells", "run_cell"]

#: The checkpoint itself, and DPO. The grid of DPO-Shift has its own table of this kind.
WAYS = ("none", "dpo")


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: no training and DPO, for every seed; those of a seed share a checkpoint."""
    return [{"loss": name, "seed": seed} for seed in range(recipe(scale, model).seeds) for name in WAYS]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its table.

    Returns:
        "labels": all held-out pairs after training (``both_labels``).
    """
    numbers = recipe(scale, model)
    name, seed = str(cell["loss"]), int(cell["seed"])
    policy, tokenizer, start = checkpoint(scale, model, "sentiment", seed)
    policy.load_state_dict(start)
    if name != "none":
        align(
            policy,
            tokenizer,
            train_pairs(scale, model, "sentiment", seed),
            loss=get_loss(name),
            steps=numbers.steps,
            lr=numbers.lr,
            batch_size=numbers.batch,
            seed=seed,
        )
    return {"labels": both_labels(policy, tokenizer, all_held_out(scale))}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe, the losses and the model's description, for the provenance of a table."""
    return {
        "recipe": asdict(recipe(scale, model)),
        "loss": get_loss("dpo").hyper,
        "model": model,
        "about": about_model(model),
    }


GRIDS.add("labels", Grid("labels", grid_cells, run_cell, describe, models=("nano",)))
