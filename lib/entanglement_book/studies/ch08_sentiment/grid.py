"""The sentiment experiment of the paper's section 4.3, as cells of a grid.

A cell is one training run from one seed: SFT on the chosen responses, then DPO; held-out pairs are measured
before, between and along the way. The pretrained base is one fixed draw; a seed decides which pairs are used
and in which order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
from pydantic import ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked

from entanglement.losses import get_loss
from entanglement.models import about_model, load_model
from entanglement.training import Account, Trajectory, align, sft
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.materials.tweets import VARIANTS, sentiment_pairs

__all__ = ["CONDITIONS", "Recipe", "describe", "grid_cells", "recipe", "run_cell"]

#: The factor on DPO's learning rate in the condition of that name.
LARGE_STEP = 4

#: What a cell changes against the main run; each is a figure of the chapter.
CONDITIONS: dict[str, str] = {
    "main": "AdamW, no end-of-sequence token",
    "eos": "the same, with the end-of-sequence token as part of every response",
    "plain": "plain gradient steps instead of AdamW",
    "large_step": f"{LARGE_STEP} times the DPO learning rate",
    "long_sft": "a long SFT at a high rate, no DPO: the suffix is memorized",
}


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class Recipe:
    """The numbers of one run.

    Attributes:
        sft_steps, sft_lr, sft_batch: of supervised fine-tuning (AdamW, constant rate).
        dpo_steps, dpo_lr, dpo_batch, beta: of DPO (AdamW, linear warm-up and decay).
        plain_lr: rate of plain gradient steps.
        test_pairs: held-out pairs, drawn by seed.
        geometry_pairs: how many of them get their gradients measured.
        account_pairs: pairs of each batch, and held-out pairs, whose account is kept.
        moments: DPO steps at which held-out pairs are measured.
        long_sft_steps, long_sft_lr, long_sft_moments: of the memorizing SFT.
        seeds: how many.
    """

    sft_steps: PositiveInt
    sft_lr: PositiveFloat
    sft_batch: PositiveInt
    dpo_steps: PositiveInt
    dpo_lr: PositiveFloat
    dpo_batch: PositiveInt
    plain_lr: PositiveFloat
    test_pairs: PositiveInt
    geometry_pairs: PositiveInt
    account_pairs: NonNegativeInt
    moments: tuple[NonNegativeInt, ...]
    long_sft_steps: PositiveInt
    long_sft_lr: PositiveFloat
    long_sft_moments: tuple[NonNegativeInt, ...]
    seeds: PositiveInt
    beta: PositiveFloat = 0.1


# SFT: the paper's own steps, batch and rate. DPO: its batch and beta; the rate is five times the paper's,
# set on a seed outside the grid so that the margin of this small model grows by about a nat in one epoch.
_BOOK = Recipe(
    sft_steps=64,
    sft_lr=1.41e-5,
    sft_batch=16,
    dpo_steps=32,
    dpo_lr=2.5e-5,
    dpo_batch=32,
    plain_lr=0.01,
    test_pairs=60,
    geometry_pairs=16,
    account_pairs=6,
    moments=(0, 8, 16, 32),
    long_sft_steps=250,
    long_sft_lr=5e-4,
    long_sft_moments=(0, 8, 24, 64, 125, 250),
    seeds=5,
)
_SMOKE = replace(
    _BOOK,
    sft_steps=2,
    sft_batch=4,
    dpo_steps=3,
    dpo_batch=4,
    test_pairs=6,
    geometry_pairs=3,
    account_pairs=2,
    moments=(0, 1, 3),
    long_sft_steps=3,
    long_sft_moments=(0, 1, 3),
    seeds=2,
)
# A pretrained model of 100 M parameters and more: the paper's rates, with steps that a laptop can bear.
_PRETRAINED = replace(
    _BOOK,
    sft_steps=12,
    sft_batch=8,
    dpo_steps=18,
    dpo_lr=5e-6,
    dpo_batch=8,
    test_pairs=24,
    geometry_pairs=6,
    account_pairs=0,
    moments=(0, 6, 12, 18),
    seeds=3,
)
# The paper's own: SFT checkpoint at step 64, one epoch of DPO over our 1,370 training pairs.
_PAPER = replace(
    _BOOK,
    dpo_steps=42,
    dpo_lr=5e-6,
    test_pairs=200,
    geometry_pairs=50,
    moments=(0, 8, 16, 24, 32, 42),
)


def recipe(scale: str, model: str = "nano") -> Recipe:
    """Return the numbers of a run.

    Args:
        scale: "smoke", "book" or "paper".
        model: a name of the ladder or a hub id; pretrained models of others take the paper's rates.

    Raises:
        ValueError: an unknown scale.
    """
    if scale == "smoke":
        return _SMOKE
    if scale == "book":
        return _BOOK if model.startswith("nano") else _PRETRAINED
    if scale == "paper":
        return _PAPER
    raise ValueError(f"scale={scale!r}; expected smoke, book or paper.")


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells of the grid: condition × variant × seed.

    The main ladder model gets every condition; others get the main one.
    """
    seeds = range(recipe(scale, model).seeds)
    conditions = ["main", "long_sft", "large_step", "eos", "plain"] if model == "nano" else ["main"]
    cells = []
    for condition in conditions:
        variants = list(VARIANTS)
        if condition == "eos":  # "one token" is then two: that variant is the one of interest
            variants = ["one_token"]
        elif condition == "long_sft":  # one token has no suffix to memorize
            variants.remove("one_token")
        for variant in variants:
            cells += [{"condition": condition, "variant": variant, "seed": seed} for seed in seeds]
    return cells


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Args:
        scale: which recipe.
        model: name of the base model.
        cell: condition, variant, seed.

    Returns:
        "means": one row a phase ("sft", "dpo") and step, means over held-out pairs (``Trajectory.means``).
        "pairs": the geometry of single held-out pairs at the ends of each phase.
        "account": mean account over pairs, one row a step, set and response (only where kept).

    Raises:
        ValueError: an unknown condition or variant.
    """
    condition, variant, seed = cell["condition"], cell["variant"], int(cell["seed"])
    if condition not in CONDITIONS:
        raise ValueError(f"condition={condition!r}; expected one of {', '.join(CONDITIONS)}.")
    numbers = recipe(scale, model)
    eos = condition == "eos"
    long_sft = condition == "long_sft"
    policy, tokenizer = load_model(model)
    train = sentiment_pairs(variant, "train")
    test = {"test": sentiment_pairs(variant, "test", n=numbers.test_pairs, seed=seed)}
    sft_steps = numbers.long_sft_steps if long_sft else numbers.sft_steps
    tuned = sft(
        policy,
        tokenizer,
        train,
        steps=sft_steps,
        lr=numbers.long_sft_lr if long_sft else numbers.sft_lr,
        batch_size=numbers.sft_batch,
        seed=seed,
        append_eos=eos,
        evaluate=test,
        evaluate_at=numbers.long_sft_moments if long_sft else (0, sft_steps),
        geometry_pairs=numbers.geometry_pairs,
    )
    phases = {"sft": tuned}
    if not long_sft:
        plain = condition == "plain"
        accounted = numbers.account_pairs and condition in ("main", "plain") and model == "nano"
        rate = numbers.dpo_lr * (LARGE_STEP if condition == "large_step" else 1)
        phases["dpo"] = align(
            policy,
            tokenizer,
            train,
            loss=get_loss("dpo", beta=numbers.beta),
            steps=numbers.dpo_steps,
            lr=numbers.plain_lr if plain else rate,
            batch_size=numbers.dpo_batch,
            optimizer="sgd" if plain else "adamw",
            # Clipping is part of the paper's recipe, and no part of a plain step.
            max_grad_norm=None if plain else 1.0,
            seed=seed,
            append_eos=eos,
            evaluate=test,
            evaluate_at=numbers.moments,
            geometry_pairs=numbers.geometry_pairs,
            observers=[Account(numbers.account_pairs)] if accounted else [],
        )
    return _tables(phases)


def _tables(phases: Mapping[str, Trajectory]) -> dict[str, pd.DataFrame]:
    means, pairs, account = [], [], []
    for phase, run in phases.items():
        means.append(run.means().assign(phase=phase))
        ends = run.table[run.table["step"].isin([run.table["step"].min(), run.table["step"].max()])]
        pairs.append(ends.dropna(subset=["cosine"]).assign(phase=phase))
        if len(run.account):
            keys = ["step", "set", "response"]
            account.append(
                run.account.drop(columns="pair").groupby(keys).mean().reset_index().assign(phase=phase)
            )
    tables = {"means": means, "pairs": pairs, "account": account}
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items() if parts}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the model's description, for the provenance of a table."""
    return {"recipe": asdict(recipe(scale, model)), "model": model, "about": about_model(model)}


def is_long(cell: Mapping[str, Any]) -> bool:
    """Whether a cell's fine-tuning is the long one: its 250 steps at a large rate turn rounding, which
    differs between two kinds of machine, into tenths of a nat.
    """
    return cell["condition"] == "long_sft"


GRIDS.add(
    "sentiment",
    Grid(
        "sentiment", grid_cells, run_cell, describe, models=("nano", "nano-unlabeled", "smollm2-135m"),
        amplifies=is_long,
    ),
)  # fmt: skip
