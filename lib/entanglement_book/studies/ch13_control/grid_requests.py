"""Requests on single pairs, for enough pairs to judge a share of them: 60 of two kinds, from five models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from entanglement.models import about_model
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.studies.ch13_control.study import around, try_requests
from entanglement_book.studies.shared.start import DATA, checkpoint, data_pairs, recipe

__all__ = ["PAIRS", "SIZE", "describe", "grid_cells", "run_cell"]

#: Pairs of each kind and seed, and the larger part of each request, nats.
PAIRS, SIZE = 6, 0.5


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: both kinds of pairs for every seed, from one checkpoint."""
    seeds = range(recipe(scale, model).seeds)
    cells = [{"kind": kind, "seed": seed} for seed in seeds for kind in DATA]
    return cells if scale != "smoke" else one_change(cells)


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its table.

    Returns:
        "requests": of ``try_requests``, a row a pair and request. The model is the one that was fine-tuned on
            near-copies, whichever kind the pairs are of.
    """
    seed = int(cell["seed"])
    policy, tokenizer, start = checkpoint(scale, model, "sentiment", seed)
    policy.load_state_dict(start)
    policy.eval()
    pairs = data_pairs(cell["kind"], "test", 1 if scale == "smoke" else PAIRS, seed)
    return {"requests": try_requests(policy, tokenizer, pairs, around(SIZE))}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the requests, for the provenance of a table."""
    about = about_model(model)
    asked = {"pairs": PAIRS, "requests": around(SIZE)}
    return {"recipe": asdict(recipe(scale, model)), **asked, "model": model, "about": about}


GRIDS.add("requests", Grid("requests", grid_cells, run_cell, describe, models=("nano",)))
