"""The grid of towers: taste and intent of users of films, in one pair of towers or in two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import nn

from entanglement.objectives import ObjectiveGeometry
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.studies.ch16_beyond_language.together import gradient_rows, passes, train_together
from entanglement_book.studies.ch16_beyond_language.towers import (
    OBJECTIVES,
    Towers,
    film_examples,
    recalls,
    tower_losses,
)
from entanglement_book.studies.shared.scales import at_scale

__all__ = ["CONSTANTS", "WAYS", "Recipe", "describe", "grid_cells", "recipe", "run_cell"]

#: Constant weights of taste; those of intent add up to 1 with them.
CONSTANTS: dict[str, float] = {
    "taste only": 1.0,
    "3 to 1": 0.75,
    "1 to 1": 0.5,
    "1 to 3": 0.25,
    "intent only": 0.0,
}
#: "separate" has two pairs of towers, one for each objective.
WAYS: tuple[str, ...] = (*CONSTANTS, "pcgrad", "mgda", "upgrad", "separate")


@dataclass(frozen=True)
class Recipe:
    """The numbers of one run.

    Attributes:
        moments: to train on, a user; users: how many, None for all.
        width: of the vectors.
        steps, lr, batch: of the training with Adam.
        looks: how often it is looked at.
        measured: training examples whose gradients are taken.
        seeds: how many.
    """

    moments: int = 12
    users: int | None = None
    width: int = 16
    steps: int = 400
    lr: float = 0.005
    batch: int = 128
    looks: int = 8
    measured: int = 1000
    seeds: int = 5


_SMOKE = Recipe(moments=3, users=30, width=4, steps=6, batch=16, looks=2, measured=20, seeds=2)


def recipe(scale: str) -> Recipe:
    """Return the numbers of a run.

    Raises:
        ValueError: an unknown scale.
    """
    return at_scale(scale, _SMOKE, Recipe(), replace(Recipe(), seeds=10))


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: every way for every seed; the language model has no part in it."""
    cells = [{"way": way, "seed": seed} for seed in range(recipe(scale).seeds) for way in WAYS]
    return one_change(cells) if scale == "smoke" else cells


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its table.

    Returns:
        "looks": one row a look: step, passes (forward passes' worth of work), cosine of the two gradients on
            training examples, ratio (c over the smaller squared norm), and for both objectives
            <objective>_<set>, the recall@20 on the sets "choice" and "judged", and <objective>_loss (judged,
            nats).
    """
    numbers, seed, way = recipe(scale), int(cell["seed"]), cell["way"]
    data, films = film_examples(numbers.moments, seed, numbers.users)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Towers(films, numbers.width, shared=way != "separate")
    taste = CONSTANTS.get(way, 0.5)
    weights: Any = way if way not in (*CONSTANTS, "separate") else (taste, 1 - taste)

    def losses(net: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return tower_losses(net, data["train"][rows]).mean(0)

    looks = {round(numbers.steps * i / numbers.looks) for i in range(numbers.looks + 1)}
    measured = torch.arange(len(data["train"]))[: numbers.measured]
    rows = []
    for step in train_together(
        net, losses, len(data["train"]), steps=numbers.steps, lr=numbers.lr, batch=numbers.batch, seed=seed,
        weights=weights,
    ):  # fmt: skip
        if step in looks:
            geometry = ObjectiveGeometry.from_vectors(
                gradient_rows(net, losses(net, measured))[None].double(), OBJECTIVES
            )
            row: dict[str, float] = {"step": step, "passes": step * passes(2, rule=isinstance(weights, str))}
            row |= _pair(geometry)
            for split in ("choice", "judged"):
                found = recalls(net, data[split])
                row |= {f"{name}_{split}": found[name] for name in OBJECTIVES}
            with torch.no_grad():
                left = tower_losses(net, data["judged"]).mean(0)
            row |= {f"{name}_loss": float(left[i]) for i, name in enumerate(OBJECTIVES)}
            rows.append(row)
    return {"looks": pd.DataFrame(rows)}


def _pair(geometry: ObjectiveGeometry) -> dict[str, float]:
    gram = geometry.gram[0]
    smaller = float(gram.diagonal().min())
    return {"cosine": float(geometry.cosine[0, 0, 1]), "ratio": float(gram[0, 1]) / smaller}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the ways, for the provenance of a table."""
    return {"recipe": asdict(recipe(scale)), "constants": CONSTANTS, "ways": WAYS, "model": model}


GRIDS.add("towers", Grid("towers", grid_cells, run_cell, describe, models=("nano",)))
