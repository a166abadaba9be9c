"""The grid of rules: what multi-objective rules buy where tasks share a trunk, against constant weights.

A rule needs the gradient of every task at every step, so its step costs more passes than one on a weighted
sum. Constant weights are therefore seen twice: after as many steps, and after as many passes. GradNorm learns
its weights along the way from gradients in one layer, which is cheap; its simplest rival are the weights that
it came to, held constant from the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import nn

from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.studies.ch16_beyond_language.fields import Field, make_field
from entanglement_book.studies.ch16_beyond_language.learned_weights import LearnedWeights, extra_passes
from entanglement_book.studies.ch16_beyond_language.together import RULES, passes, train_together
from entanglement_book.studies.shared.scales import at_scale

__all__ = [
    "ALPHA",
    "CONSTANTS",
    "LEARNED",
    "WAYS",
    "WIDTHS",
    "Recipe",
    "chance_losses",
    "describe",
    "grid_cells",
    "recipe",
    "run_cell",
]

#: Constant weights: a task counts with this power of one over its loss at chance; 0 is the plain sum.
CONSTANTS: dict[str, float] = {"sum": 0.0, "by chance": 1.0, "by chance²": 2.0}
#: How much more a task pulls that lags: the value of the paper's largest experiments.
ALPHA = 1.5
#: GradNorm, and constant weights: the mean of those that it used in a training of its own. Not in the table:
#: the page runs them.
LEARNED: tuple[str, ...] = ("gradnorm", "held")
WAYS: tuple[str, ...] = (*CONSTANTS, *RULES, "separate")
#: Of the trunks.
WIDTHS: dict[str, int] = {"digits": 4, "genes": 2}


@dataclass(frozen=True)
class Recipe:
    """The numbers of one run.

    Attributes:
        examples, held_out: to train on; to choose by, and as many to judge by.
        steps: of a rule, by field.
        lr, batch: of the training with Adam.
        looks: how often it is looked at on the way.
        seeds: how many.
    """

    examples: int = 6000
    held_out: int = 1500
    steps: tuple[tuple[str, int], ...] = (("digits", 250), ("genes", 80))
    lr: float = 0.01
    batch: int = 64
    looks: int = 4
    seeds: int = 3


_SMOKE = Recipe(
    examples=200, held_out=60, steps=(("digits", 6), ("genes", 4)), batch=16, looks=2, seeds=2
)  # fmt: skip


def recipe(scale: str) -> Recipe:
    """Return the numbers of a run.

    Raises:
        ValueError: an unknown scale.
    """
    return at_scale(scale, _SMOKE, Recipe(), replace(Recipe(), seeds=10))


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: every field and way for every seed; the language model has no part in it."""
    cells = [
        {"field": field, "way": way, "seed": seed}
        for seed in range(recipe(scale).seeds)
        for field in WIDTHS
        for way in WAYS
    ]
    return one_change(cells) if scale == "smoke" else cells


def chance_losses(field: Field) -> torch.Tensor:
    """Return the loss (k,) of answering each task with how often its answers occur in training, nats."""
    found = []
    for answers, classes in zip(field.train.answers.T, field.classes, strict=True):
        shares = torch.bincount(answers, minlength=max(2, classes)) / len(answers)
        found.append(torch.special.entr(shares).sum())
    return torch.stack(found)


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its table.

    Returns:
        "tasks": one row a look and task: step, passes (forward passes' worth of work so far), task, choice,
            judged (loss as a share of the loss at chance, first and second held-out set), accuracy (second).
    """
    numbers, seed, way = recipe(scale), int(cell["seed"]), cell["way"]
    field = make_field(cell["field"], numbers.examples, numbers.held_out, seed)
    net = field.network(WIDTHS[cell["field"]], shared=way != "separate", seed=seed)
    steps, k = dict(numbers.steps)[cell["field"]], len(field.tasks)
    chance = chance_losses(field)

    def losses(net: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return field.losses(net, field.train[rows])

    # Separate networks are run once each: forward and backward.
    cost: float = k * passes(1, rule=False) if way == "separate" else passes(k, rule=way in RULES)
    if way == "gradnorm":
        cost += extra_passes(net, losses, torch.arange(numbers.batch))
    as_many = steps * passes(k, rule=True) / cost
    looks = {round(last * (i + 1) / numbers.looks) for i in range(numbers.looks) for last in (steps, as_many)}
    options: dict[str, Any] = {"lr": numbers.lr, "batch": numbers.batch, "seed": seed, "steps": max(looks)}

    power, stepped = chance ** -CONSTANTS.get(way, 0.0), losses
    weights: Any = way if way in RULES else (k * power / power.sum()).tolist()
    if way in LEARNED:
        learned = LearnedWeights(net, losses, chance, ALPHA)
        weights, stepped = learned, learned.losses
    if way == "held":  # a training by GradNorm first, on a copy, for the weights only
        for _ in train_together(deepcopy(net), stepped, len(field.train), weights=learned, **options):
            pass
        weights, stepped = torch.stack(learned.used).mean(0).tolist(), losses
    rows = []
    for step in train_together(net, stepped, len(field.train), weights=weights, **options):
        if step in looks:
            done: dict[str, Any] = {"step": step, "passes": step * cost}
            with torch.no_grad():
                left = [field.losses(net, split) / chance for split in (field.choice, field.judged)]
            for i, (task, right) in enumerate(
                zip(field.tasks, field.accuracies(net, field.judged), strict=True)
            ):
                values = {"choice": float(left[0][i]), "judged": float(left[1][i]), "accuracy": right}
                rows.append(done | {"task": task} | values)
    return {"tasks": pd.DataFrame(rows)}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe, the ways and the widths, for the provenance of a table."""
    ways = {"constants": CONSTANTS, "rules": RULES}
    return {"recipe": asdict(recipe(scale)), "ways": ways, "widths": WIDTHS, "model": model}


GRIDS.add("tasks", Grid("tasks", grid_cells, run_cell, describe, models=("nano",)))
