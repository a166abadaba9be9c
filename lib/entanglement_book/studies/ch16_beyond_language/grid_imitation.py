"""The grid of imitation: one driver that is to do as three rule-based ones do, one for each objective.

Network and held-out situations are those of the grid of driving. To imitate, nothing has to be tried out on
copies of the road. So there are two trainings: from as many situations as there, and from as many as can be
driven through with as much simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch

from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.studies.ch16_beyond_language import grid_driving as driving
from entanglement_book.studies.ch16_beyond_language.driving import (
    ACTIONS,
    AHEAD,
    OBJECTIVES,
    drive,
    driver_losses,
    imitation_losses,
    new_driver,
    situations,
)
from entanglement_book.studies.ch16_beyond_language.rule_based import MANNERS
from entanglement_book.studies.ch16_beyond_language.together import priorities, train_together
from entanglement_book.studies.shared.scales import at_scale

__all__ = ["WAYS", "Recipe", "describe", "grid_cells", "recipe", "run_cell"]

#: Added to a seed for a road of its own.
_ANOTHER = 10_000
#: Constant weights of the three teachers, or all three in their order.
WAYS: dict[str, Any] = {
    "1 to 1 to 1": (1.0, 1.0, 1.0),
    "safety only": (1.0, 0.0, 0.0),
    "progress only": (0.0, 0.0, 1.0),
    "priorities": priorities,
    "separate": (1.0, 1.0, 1.0),
}


@dataclass(frozen=True)
class Recipe:
    """The numbers of one run, besides those of the grid of driving.

    Attributes:
        steps, lr: of the training, by plain steps on all situations at once. At that grid's rate the losses
            diverge, and at a lower one they need more steps.
        looks: how often it is looked at.
    """

    steps: int = 1000
    lr: float = 0.2
    looks: int = 5


def recipe(scale: str) -> Recipe:
    """Return the numbers of a run.

    Raises:
        ValueError: an unknown scale.
    """
    return at_scale(scale, Recipe(steps=4, looks=2), Recipe(), Recipe())


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: both numbers of situations for every seed; the language model has no part in it."""
    numbers = driving.recipe(scale)
    # An action that is tried out takes AHEAD steps of the road, and going on takes one.
    as_much = numbers.trained * (len(ACTIONS) * AHEAD + 1)
    cells = [
        {"situations": count, "seed": seed}
        for seed in range(numbers.seeds)
        for count in (numbers.trained, as_much)
    ]
    return one_change(cells) if scale == "smoke" else cells


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "training": one row a way, look and objective: way, step, objective, loss (nats, new situations),
            agrees (share of new situations in which the likeliest action is the teacher's), value (expected
            value of the objective there, 0 to 1, as in the grid of driving).
        "teachers": one row an objective: objective, commonest (share of new situations in which its teacher
            does what it does most often in the others), and one column an objective: the value of what the
            teacher does.
        "cosines": one row a way, look and pair: way, step, objective, other, cosine (of the mean gradients).
        "driving": one row a way, or teacher: way, crashes (share), lane, progress (means).
    """
    numbers, common, seed, count = recipe(scale), driving.recipe(scale), int(cell["seed"]), cell["situations"]
    known = situations(common.situations, seed)
    held_out = slice(common.trained, None)
    seen, taught, values = (part[held_out] for part in (known.seen, known.taught, known.values))
    # The many come from a drive of their own: the next ones of this one would be the held-out ones.
    given = known if count == common.trained else situations(count, _ANOTHER + seed, tried=False)
    looks = {round(numbers.steps * i / numbers.looks) for i in range(numbers.looks + 1)}

    def losses(net: Any, _: torch.Tensor) -> torch.Tensor:
        return imitation_losses(net, given.seen[:count], given.taught[:count]).mean(0)

    training, cosines, drives = [], [], []
    for way, weights in WAYS.items():
        net = new_driver(shared=way != "separate", seed=seed)
        optimizer = torch.optim.SGD(net.parameters(), numbers.lr)
        for step in train_together(
            net, losses, count, steps=numbers.steps, lr=numbers.lr, batch=1, seed=seed, weights=weights,
            optimizer=optimizer,
        ):  # fmt: skip
            if step in looks:
                here = {"way": way, "step": step}
                with torch.no_grad():
                    left = imitation_losses(net, seen, taught).mean(0)
                    agrees = (net(seen).argmax(1) == taught).double().mean(0)
                    worth = -driver_losses(net, seen, values).mean(0)
                for i, name in enumerate(OBJECTIVES):
                    found = {"loss": float(left[i]), "agrees": float(agrees[i]), "value": float(worth[i])}
                    training.append(here | {"objective": name} | found)
                cosines += [here | row for row in driving.cosine_rows(net, losses(net, torch.zeros(0)))]
        if way != "separate":  # which would be three drivers
            drives.append({"way": way} | drive(net, common.episodes, common.seconds, seed))
    for name, manner in zip(OBJECTIVES, MANNERS, strict=True):
        drives.append({"way": f"{name}'s teacher"} | drive(manner, common.episodes, common.seconds, seed))
    teachers = []
    for i, name in enumerate(OBJECTIVES):
        often = given.taught[:count, i].mode().values
        worth = values[torch.arange(len(taught)), taught[:, i]].mean(0)
        row: dict[str, Any] = {"objective": name, "commonest": float((taught[:, i] == often).double().mean())}
        teachers.append(row | {other: float(worth[j]) for j, other in enumerate(OBJECTIVES)})
    return {
        "training": pd.DataFrame(training),
        "teachers": pd.DataFrame(teachers),
        "cosines": pd.DataFrame(cosines),
        "driving": pd.DataFrame(drives),
    }


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe, the ways and the teachers, for the provenance of a table."""
    ways = {name: way if not callable(way) else "priorities" for name, way in WAYS.items()}
    teachers = {name: asdict(manner) for name, manner in zip(OBJECTIVES, MANNERS, strict=True)}
    numbers = asdict(driving.recipe(scale)) | asdict(recipe(scale))
    return {"recipe": numbers, "ways": ways, "teachers": teachers, "model": model}


GRIDS.add("imitation", Grid("imitation", grid_cells, run_cell, describe, models=("nano",)))
