"""Tables of beyond language that a notebook makes as it runs."""

from __future__ import annotations

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from entanglement.objectives import ObjectiveGeometry, objective_geometry
from entanglement.stats import mean_interval
from entanglement_book.grids.grid import GRIDS
from entanglement_book.studies.ch16_beyond_language.fields import Field, Split
from entanglement_book.studies.ch16_beyond_language.grid_rules import LEARNED, recipe
from entanglement_book.studies.ch16_beyond_language.together import train_together

__all__ = ["by_picture", "cosine_curve", "learned_weights", "trained"]


def trained(field: Field, width: int, steps: int, seed: int) -> nn.Module:
    """Return a network with one trunk after so many steps of Adam on the plain sum of its losses."""
    net = field.network(width, shared=True, seed=seed)

    def losses(net: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return field.losses(net, field.train[rows])

    for _ in train_together(net, losses, len(field.train), steps=steps, lr=0.005, batch=64, seed=seed):
        pass
    return net


def by_picture(net: nn.Module, field: Field, split: Split) -> ObjectiveGeometry:
    """Return the geometry of a field's tasks, example by example; an objective is minus a loss."""

    def objectives(net: nn.Module, split: Split) -> torch.Tensor:
        found = []
        for logits, answer, classes in zip(net(split.inputs), split.answers.T, field.classes, strict=True):
            if classes == 1:
                one = binary_cross_entropy_with_logits(
                    logits[:, 0], answer.to(logits.dtype), reduction="none"
                )
            else:
                one = cross_entropy(logits, answer, reduction="none")
            found.append(-one)
        return torch.stack(found, dim=1)

    return objective_geometry(net, objectives, split, names=field.tasks)


def cosine_curve(looks: pd.DataFrame, way: str) -> pd.DataFrame:
    """Return the cosine along a way's training over seeds: step, value, low, high, cut at −1 and 1.

    Args:
        looks: of the grid ``towers``.
        way: of its cells.
    """
    rows = []
    for step, some in looks[looks["way"] == way].groupby("step", sort=True):
        found = mean_interval(some["cosine"].to_numpy())
        row = {"step": step, "value": found.value}
        rows.append(row | {"low": max(-1.0, found.low), "high": min(1.0, found.high)})
    return pd.DataFrame(rows)


def learned_weights(scale: str, model: str) -> pd.DataFrame:
    """Return GradNorm's rows, and those of its weights held constant, for pictures of two digits: like those
    of the grid ``tasks``, with the seeds of its table, which is the book's at smoke.
    """
    seeds = range(recipe("book" if scale == "smoke" else scale).seeds)
    cells = [{"field": "digits", "way": way, "seed": seed} for seed in seeds for way in LEARNED]
    return pd.concat([GRIDS["tasks"].compute(scale, model, cell)["tasks"] for cell in cells])
