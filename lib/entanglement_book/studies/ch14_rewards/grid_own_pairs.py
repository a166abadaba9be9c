"""The grid of pairs of the policy's own: how the geometry differs from that of given ones, and what DPO does.

Pairs that the model before fine-tuning has drawn are the control: drawn and scored in the same way, by
another policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from entanglement.batches import collate_for
from entanglement.gradients import pair_geometry
from entanglement.models import about_model, load_model
from entanglement.training import align, measure
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.ch14_rewards.own_pairs import drawn_pairs, in_common
from entanglement_book.studies.ch14_rewards.runs import DATA, learned_reward, numbers_of
from entanglement_book.studies.shared.means import set_means
from entanglement_book.studies.shared.start import checkpoint, data_pairs, recipe, train_pairs

__all__ = ["SOURCES", "describe", "grid_cells", "run_cell"]

#: Where the pairs come from: they are given, or drawn from the policy, or from the model before fine-tuning.
SOURCES = ("given", "policy", "base")
#: Of DPO's steps in the recipe, this share is taken, on batches of this share.
SHORTER = 2
#: Prompts that are answered at least: now and then all draws are the same, and there is no pair.
FEWEST = 16


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: source × seed."""
    return [
        {"source": source, "seed": seed} for seed in range(recipe(scale, model).seeds) for source in SOURCES
    ]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "geometry": one row a held-out pair of this source, at the checkpoint: cosine, norm_ratio (b/a), case
            (for d_w = d_l), chosen_logp, rejected_logp (nats), chosen_len, rejected_len (tokens), begin
            (tokens that both responses begin with), shared (share of the two responses' different tokens
            that both have), chosen, rejected (how far they moved along DPO, nats).
        "means": ``set_means`` along DPO on training pairs of this source: "own", held-out pairs of this
            source, and "given".
        "kept": one row: kept (share of the prompts whose draws made a pair), came_back (share of the answers
            whose text has the tokens that were drawn).
    """
    numbers, more = recipe(scale, model), numbers_of(scale)
    seed, source = int(cell["seed"]), cell["source"]
    reward, _ = learned_reward(scale, model, seed=seed)
    policy, tokenizer, start = checkpoint(scale, model, DATA, seed)
    policy.load_state_dict(start)
    steps, batch = max(1, numbers.steps // SHORTER), max(1, numbers.batch // SHORTER)
    train = train_pairs(scale, model, DATA, seed)[: max(steps * batch, FEWEST)]
    given = data_pairs(DATA, "test", numbers.test_pairs, seed)
    own, kept, came_back = given, 1.0, 1.0
    if source != "given":
        drawer, _ = load_model(model)
        if source == "policy":
            drawer.load_state_dict(start)
        options: dict[str, Any] = {"draws": more.own_draws, "tokens": numbers.answer_tokens, "seed": seed}
        asked = len(train)
        train, came_back = drawn_pairs(drawer.eval(), tokenizer, train, reward.of, **options)
        own, _ = drawn_pairs(drawer, tokenizer, given, reward.of, **options)
        kept = len(train) / asked
    some = own[: more.own_pairs]
    batch_of = collate_for(policy, some, tokenizer, False)
    geometry = pair_geometry(policy, batch_of)
    frame = measure(policy, tokenizer, {"own": some})
    frame = frame[["pair", "chosen_logp", "rejected_logp", "chosen_len", "rejected_len"]].assign(
        cosine=geometry.cosine.numpy(), norm_ratio=geometry.norm_ratio.numpy(), case=geometry.case(),
        **in_common(tokenizer, some),
    )  # fmt: skip
    run = align(
        policy, tokenizer, train, steps=steps, batch_size=min(batch, len(train)), lr=numbers.lr, seed=seed,
        evaluate={"own": own, "given": given}, evaluate_at=[0, steps // 2, steps],
    )  # fmt: skip
    last = run.table[(run.table["set"] == "own") & (run.table["step"] == steps)].iloc[: len(some)]
    for side in ("chosen", "rejected"):
        frame[side] = last[f"{side}_logp"].to_numpy() - frame[f"{side}_logp"].to_numpy()
    return {
        "geometry": frame,
        "means": set_means(run.table),
        "kept": pd.DataFrame([{"kept": kept, "came_back": came_back}]),
    }


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the sources, for the provenance of a table."""
    return {
        "recipe": asdict(recipe(scale, model)),
        "numbers": asdict(numbers_of(scale)),
        "sources": SOURCES,
        "shorter": SHORTER,
        "model": model,
        "about": about_model(model),
    }


def _amplifies(cell: Mapping[str, Any]) -> bool:
    """Whether rounding decides what is trained on: where pairs are drawn."""
    return bool(cell["source"] != "given")


GRIDS.add(
    "own-pairs", Grid("own-pairs", grid_cells, run_cell, describe, models=("nano",), amplifies=_amplifies)
)
