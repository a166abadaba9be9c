"""The grid of shared trunks: how tasks pull on each other along training, and what one does to the others.

At a few moments training is held. The gradients of all tasks are taken on many training examples and on
held-out ones of a first set. Then, on copies, one short plain step is made on each task alone, and one on the
sum of all; what they change is seen on held-out examples of a second set. Training goes on, and after some
steps what it changed is seen there too. The rule that foretells the signs was written before any run: a task
falls if its held-out gradient and the step have a negative inner product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from entanglement.objectives import ObjectiveGeometry
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.studies.ch16_beyond_language.fields import Field, make_field
from entanglement_book.studies.ch16_beyond_language.together import gradient_rows, plain_steps, train_together
from entanglement_book.studies.shared.scales import at_scale

__all__ = ["CASES", "Recipe", "describe", "grid_cells", "recipe", "run_cell"]

#: field, width of the trunk, network.
CASES: tuple[tuple[str, int, str], ...] = (
    ("digits", 2, "shared"),
    ("digits", 4, "shared"),
    ("digits", 8, "shared"),
    ("digits", 4, "separate"),
    ("genes", 2, "shared"),
    ("genes", 2, "separate"),
)


@dataclass(frozen=True)
class Recipe:
    """The numbers of one run.

    Attributes:
        examples, held_out: to train on; to foretell by, and as many to judge by.
        steps, lr, batch: of the training with Adam.
        moments: steps at which it is held.
        measured: training examples whose gradients are taken.
        length: of a short step, in the space of all parameters.
        ahead: steps of training that are looked ahead.
        seeds: how many.
    """

    examples: int = 6000
    held_out: int = 1200
    steps: int = 700
    lr: float = 0.005
    batch: int = 64
    moments: tuple[int, ...] = (100, 200, 300, 400, 500, 600)
    measured: int = 1200
    length: float = 0.03
    ahead: int = 10
    seeds: int = 5


_SMOKE = Recipe(examples=200, held_out=60, steps=14, moments=(4, 8, 12), measured=60, ahead=2, seeds=2)


def recipe(scale: str) -> Recipe:
    """Return the numbers of a run.

    Raises:
        ValueError: an unknown scale.
    """
    return at_scale(scale, _SMOKE, Recipe(), replace(Recipe(), seeds=10))


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: every case for every seed; the language model has no part in it."""
    cells = [
        {"field": field, "width": width, "network": network, "seed": seed}
        for seed in range(recipe(scale).seeds)
        for field, width, network in CASES
    ]
    return one_change(cells) if scale == "smoke" else cells


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "pairs": of digits, one row a moment and pair of tasks: step, task, other, cosine, ratio (c over the
            smaller squared norm).
        "moments": one row a moment: step, conflicts (share of pairs with a negative cosine), beyond (share
            with a ratio below −1), cosine (mean of its size).
        "foretold": one row a moment and kind of step: step, kind ("one": on one task, seen in the others;
            "sum": on the sum, seen in each; "training": the next steps of the training), falls, rises (how
            many there were), falls_seen, rises_seen (how many of them were foretold), falls_kept, rises_kept
            (how many of them had the same sign at the moment before).
        "tasks": one row a task: task, accuracy (share, at the end, second held-out set).
    """
    numbers, seed = recipe(scale), int(cell["seed"])
    field = make_field(cell["field"], numbers.examples, numbers.held_out, seed)
    net = field.network(int(cell["width"]), shared=cell["network"] == "shared", seed=seed)
    optimizer = torch.optim.Adam(net.parameters(), numbers.lr)

    def losses(net: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return field.losses(net, field.train[rows])

    pairs, moments, foretold = [], [], []
    last: dict[str, np.ndarray] = {}
    waiting: tuple[int, np.ndarray, torch.Tensor] | None = None
    for step in train_together(
        net, losses, len(field.train), steps=numbers.steps, lr=numbers.lr, batch=numbers.batch, seed=seed,
        optimizer=optimizer,
    ):  # fmt: skip
        if waiting is not None and step == waiting[0] + numbers.ahead:
            began, said, before = waiting
            seen = (before - _judged(field, net)).numpy()
            foretold.append({"step": began, "kind": "training"} | _count(said, seen, last.get("training")))
            last["training"], waiting = seen, None
        if step in numbers.moments:
            found = _at_a_moment(field, net, losses, numbers)
            geometry, said_one, seen_one, said_sum, seen_sum, before = found
            if cell["field"] == "digits":
                pairs += [{"step": step} | row for row in _pair_rows(geometry)]
            moments.append({"step": step} | _summary(geometry))
            for kind, said, seen in (("one", said_one, seen_one), ("sum", said_sum, seen_sum)):
                foretold.append({"step": step, "kind": kind} | _count(said, seen, last.get(kind)))
                last[kind] = seen
            waiting = (step, said_sum, before)
    accuracies = zip(field.tasks, field.accuracies(net, field.judged), strict=True)
    tables = {
        "moments": pd.DataFrame(moments),
        "foretold": pd.DataFrame(foretold),
        "tasks": pd.DataFrame([{"task": task, "accuracy": value} for task, value in accuracies]),
    }
    return tables | ({"pairs": pd.DataFrame(pairs)} if pairs else {})


@torch.no_grad()
def _judged(field: Field, net: nn.Module) -> torch.Tensor:
    return field.losses(net, field.judged)


def _at_a_moment(
    field: Field, net: nn.Module, losses: Any, numbers: Recipe
) -> tuple[ObjectiveGeometry, np.ndarray, np.ndarray, np.ndarray, np.ndarray, torch.Tensor]:
    """Return the geometry on training examples; what is foretold and seen, in the other tasks, of a step on
    each task, and in each task, of a step on the sum; and the losses before.
    """
    rows = torch.arange(min(numbers.measured, len(field.train)))
    trained = gradient_rows(net, field.losses(net, field.train[rows]))
    held_out = gradient_rows(net, field.losses(net, field.choice))
    crossed = held_out @ trained.T  # (task that is seen, task that is stepped on)
    before = _judged(field, net)

    def after(task: int | None) -> torch.Tensor:
        along = trained.sum(0) if task is None else trained[task]
        length = float(along.norm())
        if length == 0:
            return before
        return _judged(field, plain_steps(net, losses, [rows], lr=numbers.length / length, task=task))

    changes = torch.stack([before - after(task) for task in range(len(field.tasks))], dim=1)
    others = ~torch.eye(len(field.tasks), dtype=torch.bool)
    return (
        ObjectiveGeometry.from_vectors(trained[None].double(), field.tasks),
        crossed[others].numpy(), changes[others].numpy(),
        crossed.sum(1).numpy(), (before - after(None)).numpy(), before,
    )  # fmt: skip


def _ratios(geometry: ObjectiveGeometry) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """Return cosine and c/min(a², b²) of every pair of tasks, and which pairs they are."""
    gram, cosine = geometry.gram[0].numpy(), geometry.cosine[0].numpy()
    squares = np.diag(gram)
    where = np.triu_indices(len(gram), 1)
    smaller = np.minimum(squares[where[0]], squares[where[1]])
    return cosine[where], gram[where] / np.where(smaller > 0, smaller, np.nan), where


def _pair_rows(geometry: ObjectiveGeometry) -> list[dict[str, Any]]:
    cosine, ratio, where = _ratios(geometry)
    return [
        {"task": geometry.names[i], "other": geometry.names[j], "cosine": c, "ratio": r}
        for i, j, c, r in zip(*where, cosine, ratio, strict=True)
    ]


def _summary(geometry: ObjectiveGeometry) -> dict[str, float]:
    cosine, ratio, _ = _ratios(geometry)
    return {
        "conflicts": float((cosine < 0).mean()),
        "beyond": float((ratio < -1).mean()),
        "cosine": float(np.abs(cosine).mean()),
    }


def _count(said: np.ndarray, seen: np.ndarray, last: np.ndarray | None) -> dict[str, float]:
    """Count falls and rises, those that were foretold, and those that were there at the moment before."""
    falls, rises = seen < 0, seen > 0
    found = {"falls": falls.sum(), "rises": rises.sum()}
    found |= {"falls_seen": (falls & (said < 0)).sum(), "rises_seen": (rises & (said > 0)).sum()}
    found |= {"falls_kept": np.nan, "rises_kept": np.nan}
    if last is not None:
        found |= {"falls_kept": (falls & (last < 0)).sum(), "rises_kept": (rises & (last > 0)).sum()}
    return {name: float(number) for name, number in found.items()}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the cases, for the provenance of a table."""
    return {"recipe": asdict(recipe(scale)), "cases": CASES, "model": model}


GRIDS.add("sharing", Grid("sharing", grid_cells, run_cell, describe, models=("nano",)))
