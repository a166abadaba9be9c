"""The grid of driving: one driver with three objectives, by plain steps on their exact policy gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import nn

from entanglement.objectives import ObjectiveGeometry, objective_geometry
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.studies.ch16_beyond_language.driving import (
    ACTIONS,
    OBJECTIVES,
    Situations,
    drive,
    driver_losses,
    new_driver,
    situations,
)
from entanglement_book.studies.ch16_beyond_language.together import (
    gradient_rows,
    plain_steps,
    priorities,
    train_together,
)
from entanglement_book.studies.shared.scales import at_scale

__all__ = ["WAYS", "Recipe", "cosine_rows", "describe", "grid_cells", "recipe", "run_cell"]

#: Constant weights of safety, lane and progress; a rule by its name; or all three in their order.
WAYS: dict[str, Any] = {
    "1 to 1 to 1": (1.0, 1.0, 1.0),
    "2 to 1 to 1": (2.0, 1.0, 1.0),
    "4 to 1 to 1": (4.0, 1.0, 1.0),
    "safety only": (1.0, 0.0, 0.0),
    "lane only": (0.0, 1.0, 0.0),
    "progress only": (0.0, 0.0, 1.0),
    "upgrad": "upgrad",
    "priorities": priorities,
    "separate": (1.0, 1.0, 1.0),
}
#: Drivers that know one action, for comparison.
ONE_ACTION: dict[str, int] = {"always slower": 4, "always keep going": 1}


@dataclass(frozen=True)
class Recipe:
    """The numbers of one run.

    Attributes:
        situations: how many; trained: of which are trained on, the first ones.
        steps, lr: of the training, by plain steps on all of these at once.
        looks: how often it is looked at.
        length: of the one step that is made in a single situation.
        episodes, seconds: of driving afterwards.
        seeds: how many.
    """

    situations: int = 120
    trained: int = 80
    steps: int = 300
    lr: float = 0.5
    looks: int = 6
    length: float = 0.05
    episodes: int = 8
    seconds: int = 12
    seeds: int = 3


_SMOKE = Recipe(situations=4, trained=2, steps=4, looks=2, episodes=1, seconds=2, seeds=2)


def recipe(scale: str) -> Recipe:
    """Return the numbers of a run.

    Raises:
        ValueError: an unknown scale.
    """
    paper = replace(Recipe(), situations=1000, trained=800, episodes=50, seconds=40, seeds=5)
    return at_scale(scale, _SMOKE, Recipe(), paper)


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells, one a seed: its situations take longer than all that is done with them. The language
    model has no part in it.
    """
    cells = [{"seed": seed} for seed in range(recipe(scale).seeds)]
    return one_change(cells) if scale == "smoke" else cells


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "training": one row a way, look and objective: way, step, objective, trained, held_out (expected
            value, 0 to 1), dragged (share of held-out situations in which a step on the situation's own plain
            sum lowers the objective).
        "cosines": one row a way, look and pair: way, step, objective, other, cosine (of the mean gradients).
        "driving": one row a way, or action: way, crashes (share), lane, progress (means).
        "case": the held-out situation in which, before training, a step on progress is foretold to cost most
            safety: objective, foretold (rate of a step of length 1), changed (by one short step), and one
            column an action with its value.
        "road": the vehicles of that situation: x, y (m), speed (m/s), own.
    """
    numbers, seed = recipe(scale), int(cell["seed"])
    known = situations(numbers.situations, seed)
    train, held_out = slice(0, numbers.trained), slice(numbers.trained, None)
    looks = {round(numbers.steps * i / numbers.looks) for i in range(numbers.looks + 1)}

    def losses(net: nn.Module, _: torch.Tensor) -> torch.Tensor:
        return driver_losses(net, known.seen[train], known.values[train]).mean(0)

    training, cosines, driving = [], [], []
    for way, weights in WAYS.items():
        net = new_driver(shared=way != "separate", seed=seed)
        optimizer = torch.optim.SGD(net.parameters(), numbers.lr)
        for step in train_together(
            net, losses, numbers.trained, steps=numbers.steps, lr=numbers.lr, batch=1, seed=seed,
            weights=weights, optimizer=optimizer,
        ):  # fmt: skip
            if step in looks:
                here = {"way": way, "step": step}
                training += [here | row for row in _values(net, known, train, held_out)]
                cosines += [here | row for row in cosine_rows(net, losses(net, torch.zeros(0)))]
        if way != "separate":  # which would be three drivers
            found = drive(net, numbers.episodes, numbers.seconds, seed)
            driving.append({"way": way} | found)
    for way, action in ONE_ACTION.items():
        driving.append({"way": way} | drive(action, numbers.episodes, numbers.seconds, seed))
    case, road = _case(known, held_out, numbers, seed)
    return {
        "training": pd.DataFrame(training),
        "cosines": pd.DataFrame(cosines),
        "driving": pd.DataFrame(driving),
        "case": case,
        "road": road,
    }


def _geometry(net: nn.Module, known: Situations, rows: slice) -> ObjectiveGeometry:
    batch = (known.seen[rows], known.values[rows])
    return objective_geometry(
        net, lambda model, given: -driver_losses(model, *given), batch, names=OBJECTIVES
    )


def _values(net: nn.Module, known: Situations, *parts: slice) -> list[dict[str, Any]]:
    with torch.no_grad():
        means = [-driver_losses(net, known.seen[rows], known.values[rows]).mean(0) for rows in parts]
    rates = _geometry(net, known, parts[1]).rates()
    return [
        {
            "objective": name,
            "trained": float(means[0][i]),
            "held_out": float(means[1][i]),
            "dragged": float((rates[:, i] < 0).double().mean()),
        }
        for i, name in enumerate(OBJECTIVES)
    ]


def cosine_rows(net: nn.Module, losses: torch.Tensor) -> list[dict[str, Any]]:
    """Return the cosines of the gradients of the objectives' losses (k,), a row a pair."""
    geometry = ObjectiveGeometry.from_vectors(gradient_rows(net, losses)[None].double(), OBJECTIVES)
    return [
        {"objective": OBJECTIVES[i], "other": OBJECTIVES[j], "cosine": float(geometry.cosine[0, i, j])}
        for i in range(len(OBJECTIVES))
        for j in range(i + 1, len(OBJECTIVES))
    ]


def _case(
    known: Situations, held_out: slice, numbers: Recipe, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    net, last = new_driver(shared=True, seed=seed), len(OBJECTIVES) - 1
    geometry = _geometry(net, known, held_out)
    rates = geometry.gram[:, :, last] / geometry.norms[:, last, None].clamp_min(1e-12)
    place = int(rates[:, 0].argmin())
    number = range(len(known))[held_out][place]
    seen, values = known.seen[number : number + 1], known.values[number : number + 1]

    def losses(net: nn.Module, _: torch.Tensor) -> torch.Tensor:
        return driver_losses(net, seen, values).mean(0)

    length = float(geometry.norms[place, last])
    after = plain_steps(net, losses, [torch.zeros(0)], lr=numbers.length / max(length, 1e-12), task=last)
    with torch.no_grad():
        changes = losses(net, seen) - losses(after, seen)
    rows = [
        {"objective": name, "foretold": float(rates[place, i]), "changed": float(changes[i])}
        | {action: float(values[0, j, i]) for j, action in enumerate(ACTIONS)}
        for i, name in enumerate(OBJECTIVES)
    ]
    roads = known.roads
    here = roads[roads["situation"] == number].drop(columns="situation").reset_index(drop=True)
    return pd.DataFrame(rows), here


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the ways, for the provenance of a table."""
    ways = {name: way if not callable(way) else "priorities" for name, way in WAYS.items()}
    return {"recipe": asdict(recipe(scale)), "ways": ways, "one_action": ONE_ACTION, "model": model}


GRIDS.add("driving", Grid("driving", grid_cells, run_cell, describe, models=("nano",)))
