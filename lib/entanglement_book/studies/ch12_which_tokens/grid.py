"""The grid of masks: which tokens carry the loss, on the near-copies of the other grids.

A cell starts from the same checkpoint as the cells of ``untangling``, and takes as many steps on the same
batches with the same optimizer and rate. What differs is the weight of each token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.logps import token_logps
from entanglement.models import about_model, load_model
from entanglement.outcomes.quality import answer_quality
from entanglement.pairs import PreferencePair, collate
from entanglement.training import align, sft
from entanglement.updates import TokenWeighted
from entanglement.updates.token_weights import (
    FromGeometry,
    LearnedMask,
    TwoReferences,
    Weigher,
    WeighTokens,
    contrasting,
    everything,
)
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.shared.means import set_means
from entanglement_book.studies.shared.start import checkpoint, data_pairs, recipe, train_pairs, trained_sample

__all__ = ["WEIGHERS", "describe", "grid_cells", "ranking", "run_cell", "token_table"]

WEIGHERS: tuple[str, ...] = ("everything", "contrasting", "two", "geometry", "learned")


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: every weigher for every seed; those of a seed share a checkpoint."""
    return [
        {"weights": name, "seed": seed} for seed in range(recipe(scale, model).seeds) for name in WEIGHERS
    ]


def _other(scale: str, model: str, pairs: Sequence[PreferencePair], seed: int) -> nn.Module:
    """Return the base fine-tuned on the rejected responses, as the checkpoint was on the chosen ones."""
    numbers = recipe(scale, model)
    policy, tokenizer = load_model(model)
    swapped = [PreferencePair(p.prompt, p.rejected, p.chosen, p.id) for p in pairs]
    sft(
        policy, tokenizer, swapped, steps=numbers.sft_steps, lr=numbers.sft_lr, batch_size=numbers.sft_batch,
        seed=seed,
    )  # fmt: skip
    return policy.eval()


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "means": ``set_means`` of trained and held-out pairs, a row a step and set.
        "tokens": ``token_table`` of held-out pairs, with the weights after training.
        "answers": what the model draws for the held-out prompts (``quality``).
    """
    numbers = recipe(scale, model)
    seed, name = int(cell["seed"]), cell["weights"]
    policy, tokenizer, start = checkpoint(scale, model, "sentiment", seed)
    policy.load_state_dict(start)
    reference, _ = load_model(model)
    reference.load_state_dict(start)
    reference.eval()
    train = train_pairs(scale, model, "sentiment", seed)
    test = data_pairs("sentiment", "test", numbers.test_pairs, seed)
    torch.manual_seed(seed)
    make: dict[str, Callable[[], Weigher | WeighTokens]] = {
        "everything": lambda: everything,
        "contrasting": lambda: contrasting,
        "two": lambda: TwoReferences(_other(scale, model, train, seed)),
        "geometry": FromGeometry,
        "learned": LearnedMask,
    }
    weigher = make[name]()
    run = align(
        policy,
        tokenizer,
        train,
        update=TokenWeighted(weigher, reference),
        steps=numbers.steps,
        lr=numbers.lr,
        batch_size=numbers.batch,
        seed=seed,
        evaluate={"trained": trained_sample(scale, model, train, seed), "test": test},
        evaluate_at=sorted({round(numbers.steps * k / 8) for k in range(9)}),
    )
    prompts = [pair.prompt for pair in test]
    return {
        "means": set_means(run.table),
        "tokens": token_table(weigher, policy, reference, tokenizer, test[: numbers.geometry_pairs]),
        "answers": pd.DataFrame([answer_quality(policy, reference, tokenizer, prompts, seed=seed)]),
    }


def token_table(
    weigher: Weigher | WeighTokens,
    model: nn.Module,
    reference: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
) -> pd.DataFrame:
    """Return one row a response token: pair, response, place, token (as text), weight, and contrast (whether
    no alignment of the two responses matches it).
    """
    batch = collate(pairs, tokenizer, padding_side="left")
    with torch.no_grad():
        frozen = token_logps(reference, batch)
        told = contrasting(model, batch, frozen)
    # The geometry's weights need gradients of their own.
    weights = weigher(model, batch, frozen).detach()
    rows = []
    for row, mask in enumerate(batch.response_mask):
        side, pair = divmod(row, len(batch))
        ids = batch.input_ids[row][mask].tolist()
        for place, token in enumerate(ids):
            rows.append(
                {
                    "pair": batch.ids[pair],
                    "response": ("chosen", "rejected")[side],
                    "place": place,
                    "token": str(tokenizer.decode([token])),
                    "weight": float(weights[row][mask][place]),
                    "contrast": bool(told[row][mask][place] == 1),
                }
            )
    return pd.DataFrame(rows)


def ranking(tokens: pd.DataFrame) -> float:
    """Return how well the weights find the contrasting tokens: the chance that one of them weighs more than
    one of the others (ties count half); ½ for weights that know nothing.

    Raises:
        ValueError: all tokens are of one kind.
    """
    inside = tokens[tokens["contrast"]]["weight"].to_numpy()
    outside = tokens[~tokens["contrast"]]["weight"].to_numpy()
    if not len(inside) or not len(outside):
        raise ValueError("ranking: expected contrasting tokens and others.")
    above = np.sign(inside[:, None] - outside[None, :])
    return float((1 + above).mean() / 2)


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the weighers, for the provenance of a table."""
    about = about_model(model)
    return {"recipe": asdict(recipe(scale, model)), "weighers": WEIGHERS, "model": model, "about": about}


GRIDS.add("masking", Grid("masking", grid_cells, run_cell, describe, models=("nano",)))
