"""The grid of rehearsals: what is told before a training, beside what the training then does.

A cell stands at the checkpoint of the grids of constant ratios. It rehearses the run from a sample of
training rows, at the length of each moment that is looked at; it measures what else is said to foretell an
answer's fall; then it trains with DPO, once more with the ratio that the rehearsal has named, and once with
a ratio that knows nothing of the data: that which turned out well on near-copies.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.auditing import plan_walk, rehearse, turning_number
from entanglement.auditing.alike_states import alike_states
from entanglement.auditing.alikeness import alikeness
from entanglement.batches import by_length, collate_left
from entanglement.gradients import pair_geometry
from entanglement.losses import get_loss
from entanglement.models import about_model
from entanglement.pairs import PairBatch, PreferencePair
from entanglement.rows import Comparison, encode
from entanglement.training import align
from entanglement.training.settings import rate_share
from entanglement.updates import get_update
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.studies.ch17_audit.mixed import begin
from entanglement_book.studies.shared.means import set_means
from entanglement_book.studies.shared.start import recipe

__all__ = ["describe", "grid_cells", "run_cell"]

DATA, OPTIMIZERS, SEEDS, FEW_SEEDS = ("sentiment", "summaries", "mixed"), ("adamw", "sgd"), 5, 3
#: The ratio of those who do not rehearse (chapter "One number", near-copies).
BLIND = 1.005
#: Rate of plain steps, as in the grids of update rules.
PLAIN_LR = 1e-2
#: Steps of a run, pairs a step, and when it is looked at.
STEPS, BATCH, MOMENTS = 100, 8, (1, 10, 30, 100)
SMOKE_STEPS, SMOKE_BATCH, SMOKE_MOMENTS = 3, 2, (1, 3)
#: Batches of training rows that the rehearsal looks at.
SAMPLED, SMOKE_SAMPLED = 32, 2
WARMUP = 0.1


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: data × optimizer × seed; those of a data set and seed share a checkpoint. A model of
    others has one data set, near-copies, and fewer seeds.
    """
    known = model.startswith("nano") or scale == "smoke"
    cells = [
        {"data": data, "optimizer": optimizer, "seed": seed}
        for data in (DATA if known else DATA[:1])
        for seed in range(SEEDS if known else FEW_SEEDS)
        for optimizer in OPTIMIZERS
    ]
    return cells if scale != "smoke" else one_change(cells)


def _sizes(scale: str) -> tuple[int, int, tuple[int, ...], int]:
    if scale == "smoke":
        return SMOKE_STEPS, SMOKE_BATCH, SMOKE_MOMENTS, SMOKE_SAMPLED
    return STEPS, BATCH, MOMENTS, SAMPLED


def _groups(tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair]) -> list[PairBatch]:
    return [collate_left([pairs[i] for i in group], tokenizer, False) for group in by_length(pairs)]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "responses": one row a moment, held-out pair and side: step, pair, side, told (what the rehearsal says
            of this length), first (to first order), even, odd (of half of the batches each), says (its
            sign; 0 if open), found (the change in training), nats; own (what the pair's own gradients say, to
            first order and with equal weights), ches, edits, length (tokens), label (its first token).
        "number": one row: chosen, rejected (turning points that are told on validation pairs, nan for
            none), length (of the run).
        "means": ``set_means`` of the held-out pairs, a row a moment and way: "dpo"; "told", with the ratio
            half way between the two turning points (1 if there are none); "blind", with ``BLIND``.
    """
    numbers, seed, plain = recipe(scale, model), int(cell["seed"]), cell["optimizer"] == "sgd"
    steps, batch, moments, sampled = _sizes(scale)
    at = begin(scale, model, cell["data"], seed)
    policy, tokenizer, train, test = at.policy, at.tokenizer, at.train, at.test
    rate = PLAIN_LR if plain else numbers.lr
    clip = None if plain else 1.0
    some = random.Random(seed).sample(train, min(sampled * batch, len(train)))
    walk = plan_walk(
        policy,
        [_groups(tokenizer, some[k : k + batch]) for k in range(0, len(some) - batch + 1, batch)],
        get_loss("dpo"),
        optimizer=cell["optimizer"],
        max_grad_norm=clip,
    )
    # The length of a run is the sum of its rates.
    lengths = np.cumsum([rate * rate_share(k, steps, WARMUP) for k in range(1, steps + 1)])
    groups = _groups(tokenizer, test)
    told = [
        rehearse(policy, walk, groups, float(lengths[moment - 1])).assign(step=moment) for moment in moments
    ]
    number = turning_number(policy, walk, _groups(tokenizer, at.seen), float(lengths[-1]))
    besides = _besides(policy, tokenizer, test, groups)
    middle = (number.chosen * number.rejected) ** 0.5
    ways = {"dpo": 1.0, "told": middle if middle == middle else 1.0, "blind": BLIND}
    options: dict[str, Any] = {
        "steps": steps, "lr": rate, "batch_size": batch, "optimizer": cell["optimizer"], "seed": seed,
        "max_grad_norm": clip, "warmup": WARMUP, "evaluate": {"test": test}, "evaluate_at": (0, *moments),
    }  # fmt: skip
    means, tables = [], {}
    for name, ratio in ways.items():
        policy.load_state_dict(at.start)
        run = align(policy, tokenizer, train, update=get_update("constant", ratio=ratio), **options)
        tables[name] = run.table
        means.append(set_means(run.table).assign(way=name, ratio=ratio))
    rows = _rows(pd.concat(told, ignore_index=True), tables["dpo"], besides)
    found = {"chosen": number.chosen, "rejected": number.rejected, "length": float(lengths[-1])}
    return {
        "responses": rows,
        "number": pd.DataFrame([found]),
        "means": pd.concat(means, ignore_index=True),
    }


def _besides(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair], groups: list[PairBatch]
) -> pd.DataFrame:
    """Return what else is said to foretell, one row a pair and side."""
    rows = []
    at = {pair.id: pair for pair in pairs}
    for group in groups:
        geometry = pair_geometry(model, group)
        ches, _ = alike_states(model, group)
        for k, name in enumerate(group.ids):
            pair = at[name]
            encoded = encode(Comparison(pair.prompt, pair.chosen, pair.rejected), tokenizer, tokens="collate")
            own = {
                "chosen": float(geometry.chosen_sq[k] - geometry.inner[k]),
                "rejected": float(geometry.inner[k] - geometry.rejected_sq[k]),
            }
            for side in ("chosen", "rejected"):
                ids = getattr(encoded, side)
                rows.append(
                    {"pair": name, "side": side, "own": own[side], "ches": float(ches[k])}
                    | {"edits": alikeness(encoded)["edits"], "length": len(ids), "label": int(ids[0])}
                )
    return pd.DataFrame(rows)


def _rows(told: pd.DataFrame, run: pd.DataFrame, besides: pd.DataFrame) -> pd.DataFrame:
    """Return what was told beside what was found, one row a moment, pair and side."""
    first = run[run["step"] == 0].set_index("pair")
    parts = []
    for side in ("chosen", "rejected"):
        names = {f"{side}_{name}": name for name in ("first", "even", "odd", "says")}
        part = told[["step", "pair", f"{side}_whole", *names]].rename(
            columns=names | {f"{side}_whole": "told"}
        )
        moved = run[["step", "pair", f"{side}_logp"]].copy()
        moved["found"] = moved.pop(f"{side}_logp") - first[f"{side}_logp"].loc[moved["pair"]].to_numpy()
        parts.append(part.merge(moved, on=["step", "pair"]).assign(side=side))
    return pd.concat(parts, ignore_index=True).merge(besides, on=["pair", "side"])


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the run, for the provenance of a table."""
    steps, batch, moments, sampled = _sizes(scale)
    run = {"steps": steps, "batch": batch, "moments": moments, "sampled": sampled, "plain_lr": PLAIN_LR}
    run |= {"warmup": WARMUP, "blind": BLIND}
    about = about_model(model)
    return {"recipe": asdict(recipe(scale, model)), "run": run, "model": model, "about": about}


GRIDS.add("audits", Grid("audits", grid_cells, run_cell, describe, models=("nano",)))
