"""The account of the sentiment experiment between AdamW and plain steps: scaling, momentum, clipping apart.

Fine-tuning, pairs, batches and the pairs whose account is kept are those of the grid "sentiment", whose
conditions "main" (AdamW with all three) and "plain" (none of them) are the two ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn

from entanglement.losses import get_loss
from entanglement.models import load_model
from entanglement.optimizers import OptimizerFactory
from entanglement.training import Account, align, sft
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.materials.tweets import sentiment_pairs
from entanglement_book.studies.ch08_sentiment import grid

__all__ = ["OPTIMIZERS", "VARIANTS", "Way", "grid_cells", "run_cell"]

#: The responses of the comparison: no shared word, and many.
VARIANTS = ("long_suffix", "one_token")


def adamw_without_momentum(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """AdamW with β₁ = 0: each gradient is scaled by its history, and none is averaged."""
    return torch.optim.AdamW(parameters, lr=lr, betas=(0.0, 0.999), weight_decay=0.0)


def sgd_with_momentum(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Plain steps along AdamW's running mean (β₁ = 0.9) of the gradients, without its scaling."""
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, dampening=0.9)


@dataclass(frozen=True)
class Way:
    """An optimizer, by name or as a function, and whether it scales coordinates as AdamW does."""

    optimizer: str | OptimizerFactory
    scales: bool


#: None of them clips.
OPTIMIZERS: dict[str, Way] = {
    "adamw": Way("adamw", scales=True),
    "no_momentum": Way(adamw_without_momentum, scales=True),
    "momentum": Way(sgd_with_momentum, scales=False),
}


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: optimizer × variant × seed."""
    cells = [
        {"optimizer": optimizer, "variant": variant, "seed": seed}
        for optimizer in OPTIMIZERS
        for variant in VARIANTS
        for seed in range(grid.recipe(scale, model).seeds)
    ]
    return one_change(cells) if scale == "smoke" else cells


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "means": one row a DPO step that is measured, means over held-out pairs (``Trajectory.means``).
        "account": one row a step, set and response: the terms and the total, means over pairs (nats).
    """
    numbers = grid.recipe(scale, model)
    variant, seed, way = cell["variant"], int(cell["seed"]), OPTIMIZERS[cell["optimizer"]]
    policy, tokenizer = load_model(model)
    train = sentiment_pairs(variant, "train")
    test = sentiment_pairs(variant, "test", n=numbers.test_pairs, seed=seed)
    sft(
        policy, tokenizer, train, steps=numbers.sft_steps, lr=numbers.sft_lr,
        batch_size=numbers.sft_batch, seed=seed,
    )  # fmt: skip
    run = align(
        policy, tokenizer, train, loss=get_loss("dpo", beta=numbers.beta), steps=numbers.dpo_steps,
        lr=numbers.dpo_lr if way.scales else numbers.plain_lr, batch_size=numbers.dpo_batch,
        optimizer=way.optimizer, max_grad_norm=None, seed=seed,
        evaluate={"test": test}, evaluate_at=numbers.moments, geometry_pairs=numbers.geometry_pairs,
        observers=[Account(numbers.account_pairs)],
    )  # fmt: skip
    keys = ["step", "set", "response"]
    account = run.account.drop(columns="pair").groupby(keys).mean().reset_index()
    return {"means": run.means(), "account": account}


GRIDS.add("optimizers", Grid("optimizers", grid_cells, run_cell, grid.describe, models=("nano",)))
