"""The grid of training dynamics: many losses from one checkpoint, on near-copies and on pairs that are none.

A cell fine-tunes the base on chosen responses, and then trains it with one loss; the cells of one data set
and seed start from the same checkpoint. All losses get the same optimizer, rate, steps and order of pairs:
AdamW divides a loss's own scale out, so one rate moves all of them about as far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from entanglement.losses import get_loss
from entanglement.models import about_model, load_model
from entanglement.outcomes.squeezing import answer_moves, mass_moves, token_moves
from entanglement.training import Account, align
from entanglement.training.account import TERMS
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.shared.means import step_means, with_weights
from entanglement_book.studies.shared.start import DATA, checkpoint, data_pairs, recipe, train_pairs

__all__ = [
    "LOSSES",
    "describe",
    "grid_cells",
    "run_cell",
]

LOSSES: tuple[str, ...] = (
    "dpo",
    "ipo",
    "kto",
    "sppo",
    "simpo",
    "bco",
    "slic_hf",
    "rrhf",
    "dpop",
    "rpo",
    "cpo",
    "orpo",
)


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: every loss on every data set for every seed.

    Cells with the same checkpoint stand next to each other.
    """
    seeds = range(recipe(scale, model).seeds)
    return [{"data": data, "loss": name, "seed": seed} for data in DATA for seed in seeds for name in LOSSES]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "means": one row a step, means over held-out pairs (``with_weights``).
        "pairs": the held-out pairs whose gradients were measured, at the first and the last step.
        "mass", "tokens", "answers": where the held-out responses' probability went (``squeezing``).
        "account": for DPO, the account of Δ log π summed over the steps, a row a set and response.

    Raises:
        ValueError: an unknown data set or loss.
    """
    numbers = recipe(scale, model)
    data, seed, loss = cell["data"], int(cell["seed"]), get_loss(cell["loss"])
    policy, tokenizer, start = checkpoint(scale, model, data, seed)
    policy.load_state_dict(start)
    test = data_pairs(data, "test", numbers.test_pairs, seed)
    run = align(
        policy,
        tokenizer,
        train_pairs(scale, model, data, seed),
        loss=loss,
        steps=numbers.steps,
        lr=numbers.lr,
        batch_size=numbers.batch if data == "sentiment" else numbers.batch // 2,
        seed=seed,
        evaluate={"test": test},
        evaluate_at=numbers.moments,
        geometry_pairs=numbers.geometry_pairs,
        observers=[Account(numbers.account_pairs)] if loss.name == "dpo" else [],
    )
    pairs = with_weights(run, loss)
    before, _ = load_model(model)
    before.load_state_dict(start)
    before.eval()
    both = (before, policy, tokenizer, test)
    tables = {
        "means": step_means(pairs),
        "pairs": pairs[pairs["step"].isin([0, numbers.steps])].dropna(subset=["cosine"]),
        "mass": mass_moves(*both),
        "tokens": token_moves(*both),
        "answers": answer_moves(*both, tokens=numbers.answer_tokens, seed=seed),
    }
    if len(run.account):
        keys = ["set", "response"]
        sums = run.account.groupby([*keys, "pair", "step"])[[*TERMS, "total"]].mean().groupby([*keys, "step"])
        tables["account"] = sums.mean().groupby(keys).sum().reset_index()
    return tables


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the model's description, for the provenance of a table."""
    about = about_model(model)
    return {
        "recipe": asdict(recipe(scale, model)),
        "losses": _defaults(LOSSES),
        "model": model,
        "about": about,
    }


def _defaults(names: Sequence[str]) -> dict[str, dict[str, float]]:
    return {name: get_loss(name).hyper for name in names}


GRIDS.add("dynamics", Grid("dynamics", grid_cells, run_cell, describe, models=("nano",)))
