"""The grid of control: asking for a change of each response, on the near-copies of the update rules' grid.

A cell starts from the same checkpoint as the cells of ``untangling``, and sees the same batches. It asks for
a change of every chosen and of every rejected response, and takes one of three ways to it. Two published
losses with a term for each response, and adversarial training, ask for nothing so exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from entanglement.losses.goals import goal_loss
from entanglement.models import about_model, load_model
from entanglement.outcomes.quality import answer_quality
from entanglement.training import align
from entanglement.updates import get_update
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.shared.means import set_means
from entanglement_book.studies.shared.start import checkpoint, data_pairs, recipe, train_pairs, trained_sample

__all__ = ["GOALS", "WAYS", "Way", "describe", "grid_cells", "run_cell"]

#: Requests: changes of log π_w and log π_l since the reference, nats.
GOALS: dict[str, tuple[float, float]] = {
    "apart": (0.5, -0.5),
    "rejected": (0.0, -1.0),
    "chosen": (1.0, 0.0),
}


@dataclass(frozen=True)
class Way:
    """One way to ask.

    Attributes:
        goals: the requests of ``GOALS`` that it is given.
        loss: of the registry, where it is given none.
        level: of ``Decoupled``; None for the loss's own step with AdamW.
        lr: of a plain step; the recipe's rate otherwise.
    """

    goals: tuple[str, ...] = tuple(GOALS)
    loss: str = ""
    level: str | None = None
    lr: float | None = None


WAYS: dict[str, Way] = {
    "itself": Way(),
    "batch": Way(level="batch", lr=0.5),
    "all": Way(("apart",), level="all", lr=0.5),
    "kto": Way((), loss="kto"),
    "apo_zero": Way((), loss="apo_zero"),
    "adversarial": Way(()),
}
#: Damping of ``Decoupled``, chosen on a seed outside the grid.
DAMPING = 0.001
#: Adversarial training goes on for this many times the steps of the others, at this many times their rate,
#: chosen on a seed outside the grid: at the same rate hardly anything moves.
LONGER, FASTER = 2, 4.0
ADVERSARY: dict[str, Any] = {"head_start": 8, "beta": 0.1, "lr": 1e-4}


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: every way and request for every seed; those of a seed share a checkpoint."""
    asked = [(name, goal) for name, way in WAYS.items() for goal in way.goals or ("none",)]
    seeds = range(recipe(scale, model).seeds)
    return [{"way": name, "goal": goal, "seed": seed} for seed in seeds for name, goal in asked]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "means": ``set_means`` of trained and held-out pairs, a row a step and set.
        "steps": the trajectory's ``monitor``, a row a training step, for adversarial training only.
        "answers": what the model draws for the held-out prompts (``quality``).
    """
    numbers = recipe(scale, model)
    seed, way = int(cell["seed"]), WAYS[cell["way"]]
    policy, tokenizer, start = checkpoint(scale, model, "sentiment", seed)
    policy.load_state_dict(start)
    train = train_pairs(scale, model, "sentiment", seed)
    test = data_pairs("sentiment", "test", numbers.test_pairs, seed)
    sets = {"trained": trained_sample(scale, model, train, seed), "test": test}
    moments = sorted({round(numbers.steps * k / 8) for k in range(9)})
    if cell["way"] == "adversarial":
        steps = LONGER * numbers.steps
        run = align(
            policy, tokenizer, train, update=get_update("adversarial", seed=seed, **ADVERSARY), steps=steps,
            lr=FASTER * numbers.lr, batch_size=numbers.batch, seed=seed, evaluate=sets,
            evaluate_at=sorted({*moments, *(LONGER * moment for moment in moments)}),
        )  # fmt: skip
    else:
        plain = way.level is not None
        run = align(
            policy, tokenizer, train,
            update=get_update("decoupled", level=way.level, damping=DAMPING) if plain else "joint",
            loss=goal_loss(*GOALS[cell["goal"]]) if way.goals else way.loss,
            steps=numbers.steps, lr=way.lr or numbers.lr, batch_size=numbers.batch,
            optimizer="sgd" if plain else "adamw", max_grad_norm=None if plain else 1.0, seed=seed,
            evaluate=sets, evaluate_at=moments,
        )  # fmt: skip
    before, _ = load_model(model)
    before.load_state_dict(start)
    prompts = [pair.prompt for pair in test]
    tables = {
        "means": set_means(run.table),
        "answers": pd.DataFrame([answer_quality(policy, before.eval(), tokenizer, prompts, seed=seed)]),
    }
    if cell["way"] == "adversarial":
        tables["steps"] = run.monitor
    return tables


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe, the ways and the requests, for the provenance of a table."""
    ways = {name: asdict(way) for name, way in WAYS.items()}
    about = about_model(model)
    return {"recipe": asdict(recipe(scale, model)), "ways": ways, "goals": GOALS, "damping": DAMPING}  | {
        "adversary": ADVERSARY, "longer": LONGER, "faster": FASTER, "model": model, "about": about,
    }  # fmt: skip


GRIDS.add("controlling", Grid("controlling", grid_cells, run_cell, describe, models=("nano",)))
