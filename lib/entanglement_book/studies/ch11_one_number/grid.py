"""The grid of update rules: from one checkpoint, on the near-copies of training dynamics.

A cell starts from the same checkpoint as the cells of ``dynamics`` and ``knobs``, and takes as many steps on
the same batches, at the same rate with the same optimizer. What differs is how gradients become a step; two
losses that are known as remedies, DPOP and DPO + NLL, stand beside the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from entanglement.models import about_model, load_model
from entanglement.outcomes.quality import answer_quality
from entanglement.training import align
from entanglement.updates import Update, get_update
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.shared.means import set_means
from entanglement_book.studies.shared.start import checkpoint, data_pairs, recipe, train_pairs, trained_sample

__all__ = [
    "UPDATES",
    "Variant",
    "describe",
    "grid_cells",
    "run_cell",
]

#: Multiples of the rate at which some of the updates are tried, too, with this many seeds.
RATES, RATE_SEEDS = (0.25, 4.0), 3
#: Rate of plain gradient steps, that of the sentiment grid.
PLAIN_LR = 0.01


@dataclass(frozen=True)
class Variant:
    """One way to take the step.

    Attributes:
        update: of ``get_update``, with ``options``.
        loss: of the registry, at its defaults.
        rates: whether it is tried at other rates, too.
        plain: whether it is tried with plain gradient steps, too.
    """

    update: str = "joint"
    options: tuple[tuple[str, Any], ...] = ()
    loss: str = "dpo"
    rates: bool = False
    plain: bool = False

    def make(self) -> Update:
        """Return the update."""
        return get_update(self.update, **dict(self.options))


UPDATES: dict[str, Variant] = {
    "joint": Variant(rates=True, plain=True),
    "normalized": Variant("normalized", plain=True),
    "normalized-metric": Variant("normalized", (("metric", "optimizer"),)),
    "normalized-batch": Variant("normalized", (("level", "batch"),), rates=True, plain=True),
    "band": Variant("band", plain=True),
    "band-25": Variant("band", (("slack", 0.25),), rates=True, plain=True),
    "pcgrad": Variant("pcgrad"),
    "mgda": Variant("mgda"),
    "calibrated": Variant("calibrated"),
    "split": Variant("split", plain=True),
    "dpop": Variant(loss="dpop", rates=True),
    "rpo": Variant(loss="rpo"),
}


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: every update for every seed with AdamW at the recipe's rate, some at other rates, and
    some with plain steps.
    """
    seeds = range(recipe(scale, model).seeds)
    cells = [(name, "adamw", 1.0, seed) for seed in seeds for name in UPDATES]
    cells += [(name, "sgd", 1.0, seed) for seed in seeds for name, v in UPDATES.items() if v.plain]
    few = seeds[:RATE_SEEDS]
    some = [name for name, variant in UPDATES.items() if variant.rates]
    cells += [(name, "adamw", rate, seed) for seed in few for name in some for rate in RATES]
    return [dict(zip(("update", "optimizer", "rate", "seed"), cell, strict=True)) for cell in cells]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "means": ``set_means`` of trained and held-out pairs, a row a step and set.
        "steps": the trajectory's ``monitor``, a row a training step.
        "answers": what the model draws for the held-out prompts (``quality``), with AdamW at rate 1 only.
    """
    numbers = recipe(scale, model)
    seed, variant, plain = int(cell["seed"]), UPDATES[cell["update"]], cell["optimizer"] == "sgd"
    policy, tokenizer, start = checkpoint(scale, model, "sentiment", seed)
    policy.load_state_dict(start)
    train = train_pairs(scale, model, "sentiment", seed)
    test = data_pairs("sentiment", "test", numbers.test_pairs, seed)
    run = align(
        policy,
        tokenizer,
        train,
        update=variant.make(),
        loss=variant.loss,
        steps=numbers.steps,
        lr=(PLAIN_LR if plain else numbers.lr) * float(cell["rate"]),
        batch_size=numbers.batch,
        optimizer=cell["optimizer"],
        max_grad_norm=None if plain else 1.0,  # clipping is no part of a plain step
        seed=seed,
        evaluate={"trained": trained_sample(scale, model, train, seed), "test": test},
        evaluate_at=sorted({round(numbers.steps * k / 8) for k in range(9)}),
    )
    tables = {"means": set_means(run.table), "steps": run.monitor}
    if cell["rate"] == 1.0 and not plain:
        before, _ = load_model(model)
        before.load_state_dict(start)
        prompts = [pair.prompt for pair in test]
        found = answer_quality(policy, before.eval(), tokenizer, prompts, seed=seed)
        tables["answers"] = pd.DataFrame([found])
    return tables


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the updates, for the provenance of a table."""
    updates = {name: asdict(variant) for name, variant in UPDATES.items()}
    about = about_model(model)
    return {"recipe": asdict(recipe(scale, model)), "updates": updates, "model": model, "about": about}


GRIDS.add("untangling", Grid("untangling", grid_cells, run_cell, describe, models=("nano",)))
