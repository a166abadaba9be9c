"""The grids of what is foretold: before training, the ratio at which each held-out answer will turn.

A cell stands at the checkpoint of the grids of constant ratios. It takes the mean gradients of training pairs
and one virtual step of several lengths; it looks at validation pairs, and at none of those that are judged.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args

import pandas as pd

from entanglement.models import about_model
from entanglement.outcomes.turning import (
    Direction,
    OutOfReach,
    first_order_turns,
    mean_gradients,
    turns,
    virtual_step,
)
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.shared.start import (
    checkpoint,
    data_pairs,
    recipe,
    train_pairs,
    validation_pairs,
)

__all__ = ["grid_cells", "margins", "run_cell", "summary_cells"]

#: What the virtual step is to gain, nats, around what the trainings gain; of a pretrained model fewer.
MARGINS = {"sentiment": (0.25, 0.5, 1.0, 2.0), "summaries": (0.05, 0.1, 0.2, 0.4)}
PRETRAINED_MARGINS = {"sentiment": (0.5, 1.2, 2.4), "summaries": (0.1, 0.3, 0.9)}
SMOKE_MARGINS = (0.01,)
#: Training pairs whose gradients are averaged, in batches of the run.
BATCHES, PRETRAINED_BATCHES = 16, 8
#: Validation pairs, and seeds, of a pretrained model, of which a virtual step takes seconds.
PRETRAINED_PAIRS, FEW_SEEDS = 16, 3
#: By this the ratio is changed to see how far both answers follow.
NUDGE = 1.01


def margins(scale: str, model: str, data: str) -> tuple[float, ...]:
    """Return what the virtual steps are to gain, nats."""
    if scale == "smoke":
        return SMOKE_MARGINS
    return (MARGINS if model.startswith("nano") else PRETRAINED_MARGINS)[data]


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells on near-copies, one a seed."""
    seeds = recipe(scale, model).seeds if model.startswith("nano") else FEW_SEEDS
    return [{"data": "sentiment", "seed": seed} for seed in range(seeds)]


def summary_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells on summaries, one a seed of the trainings there."""
    seeds = min(recipe(scale, model).seeds, FEW_SEEDS)
    return [{"data": "summaries", "seed": seed} for seed in range(seeds)]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its table.

    Returns:
        "turns": one row a direction ("plain", "sign") and margin, the first of them the small-step limit of
        the plain one (margin 0): chosen and rejected (ratios at which the mean answer stays), length (of the
        step at r = 1), together (by how much both answers move more, in the mean, when r is a hundredth
        larger; nats). Missing where no step gains the margin.
    """
    data, seed = cell["data"], int(cell["seed"])
    policy, tokenizer, start = checkpoint(scale, model, data, seed)
    policy.load_state_dict(start)
    policy.eval()
    numbers = recipe(scale, model)
    train = train_pairs(scale, model, data, seed)
    seen = validation_pairs(data, data_pairs(data, "test", numbers.test_pairs, seed), seed)
    batches = BATCHES
    if not model.startswith("nano"):
        batches, seen = PRETRAINED_BATCHES, seen[:PRETRAINED_PAIRS]
    some = random.Random(seed).sample(train, min(batches * numbers.batch, len(train)))
    means = mean_gradients(policy, tokenizer, some)
    limit = first_order_turns(means, mean_gradients(policy, tokenizer, seen))
    rows = [{"direction": "plain", "margin": 0.0, "chosen": limit.chosen, "rejected": limit.rejected}]
    for direction in get_args(Direction):
        for margin in margins(scale, model, data):
            row = {"direction": direction, "margin": margin}
            with contextlib.suppress(OutOfReach):  # then all that is told of it is missing
                found = turns(policy, tokenizer, means, seen, direction=direction, margin=margin)
                moved = [
                    virtual_step(policy, tokenizer, seen, means.along(ratio, direction), found.length)
                    for ratio in (1.0, NUDGE)
                ]
                at, nudged = ((step.chosen + step.rejected) / 2 for step in moved)
                row |= {"chosen": found.chosen, "rejected": found.rejected}
                row |= {"length": found.length, "together": nudged - at}
            rows.append(row)
    return {"turns": pd.DataFrame(rows)}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and what was looked at, for the provenance of a table."""
    numbers = recipe(scale, model)
    batches = BATCHES if model.startswith("nano") else PRETRAINED_BATCHES
    looked: dict[str, Any] = {"batches": batches, "nudge": NUDGE}
    looked["margins"] = {data: margins(scale, model, data) for data in MARGINS}
    return {"recipe": asdict(numbers), "looked": looked, "model": model, "about": about_model(model)}


GRIDS.add("foretold", Grid("foretold", grid_cells, run_cell, describe, models=("nano", "smollm2-135m")))
GRIDS.add(
    "foretold-summaries", Grid("foretold-summaries", summary_cells, run_cell, describe, models=("nano",))
)
