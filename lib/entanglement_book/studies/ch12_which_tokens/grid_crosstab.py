"""The grid of who falls: pair by pair, what became of the label and what of the suffix.

The cells are two of the grid ``masking``, trained once more: its table has means alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.logps import token_logps
from entanglement.models import about_model, load_model
from entanglement.pairs import PreferencePair, collate
from entanglement.training import align
from entanglement.updates import TokenWeighted
from entanglement.updates.token_weights import contrasting, everything
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.shared.start import checkpoint, data_pairs, recipe, train_pairs

__all__ = ["WEIGHERS", "describe", "grid_cells", "run_cell", "token_moves"]

WEIGHERS = {"everything": everything, "contrasting": contrasting}


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: weigher × seed; those of a seed share a checkpoint."""
    return [
        {"weights": name, "seed": seed} for seed in range(recipe(scale, model).seeds) for name in WEIGHERS
    ]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its table.

    Returns:
        "pairs": ``token_moves`` of the held-out pairs.
    """
    numbers = recipe(scale, model)
    seed = int(cell["seed"])
    policy, tokenizer, start = checkpoint(scale, model, "sentiment", seed)
    policy.load_state_dict(start)
    reference, _ = load_model(model)
    reference.load_state_dict(start)
    reference.eval()
    torch.manual_seed(seed)
    align(
        policy,
        tokenizer,
        train_pairs(scale, model, "sentiment", seed),
        update=TokenWeighted(WEIGHERS[cell["weights"]], reference),
        steps=numbers.steps,
        lr=numbers.lr,
        batch_size=numbers.batch,
        seed=seed,
    )
    test = data_pairs("sentiment", "test", numbers.test_pairs, seed)
    return {"pairs": token_moves(reference, policy.eval(), tokenizer, test)}


@torch.no_grad()
def token_moves(
    before: nn.Module,
    after: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
) -> pd.DataFrame:
    """Return how far each response moved between two models, apart for its contrasting and shared tokens.

    Returns:
        One row a pair and response: pair, response, contrasting, shared (changes of log π, nats; they add up
        to the response's), contrasting_before, shared_before (log π, nats).
    """
    rows = []
    for pair in pairs:
        batch = collate([pair], tokenizer)
        old, new = token_logps(before, batch), token_logps(after, batch)
        told = contrasting(before, batch, old)
        for side, (was, now) in enumerate(((old.chosen, new.chosen), (old.rejected, new.rejected))):
            moved, marked = (now - was)[0], told[side]  # 0 outside the response
            rows.append(
                {
                    "pair": pair.id,
                    "response": ("chosen", "rejected")[side],
                    "contrasting": float((moved * marked).sum()),
                    "shared": float((moved * (1 - marked)).sum()),
                    "contrasting_before": float((was[0] * marked).sum()),
                    "shared_before": float((was[0] * (1 - marked)).sum()),
                }
            )
    return pd.DataFrame(rows)


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the weighers, for the provenance of a table."""
    about = about_model(model)
    return {
        "recipe": asdict(recipe(scale, model)),
        "weighers": list(WEIGHERS),
        "model": model,
        "about": about,
    }


GRIDS.add("crosstab", Grid("crosstab", grid_cells, run_cell, describe, models=("nano",)))
