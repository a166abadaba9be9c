"""The grid of the sentence autoencoder: trained on preferred texts in three ways, of which one collapses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from entanglement.models import about_model, load_model
from entanglement.pairs import PreferencePair
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.ch15_ranking.sentence_vae import VaeNumbers, code_report, train_vae
from entanglement_book.studies.shared.scales import at_scale
from entanglement_book.studies.shared.start import data_pairs, recipe, train_pairs

__all__ = ["TRAININGS", "as_rows", "describe", "renamed", "run_sentences", "sentence_cells", "vae_numbers"]

TRAININGS = ("plain", "annealed", "free")
#: Chosen on a seed outside the grid.
_BOOK = VaeNumbers(
    code=8,
    embedding=32,
    width=64,
    steps=800,
    batch=32,
    lr=5e-3,
    words=24,
    vocabulary=256,
    free=4.0,
)


def vae_numbers(scale: str) -> VaeNumbers:
    """Return the sizes of a scale."""
    return at_scale(scale, replace(_BOOK, steps=10, batch=8), _BOOK, _BOOK)


def as_rows(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair], numbers: VaeNumbers
) -> tuple[torch.Tensor, Counter[int]]:
    """Return the last tokens of prompt and chosen response, (N, words), padded with 0 on the right, and how
    often each token occurs.
    """
    rows = torch.zeros(len(pairs), numbers.words, dtype=torch.long)
    for row, pair in enumerate(pairs):
        ids = tokenizer(pair.prompt + pair.chosen, add_special_tokens=False)["input_ids"][-numbers.words :]
        rows[row, : len(ids)] = torch.tensor(ids)
    return rows, Counter(rows[rows != 0].tolist())


def renamed(rows: torch.Tensor, counts: Counter[int], vocabulary: int) -> torch.Tensor:
    """Return rows with the commonest tokens numbered from 2; 0 is padding and 1 is any other token."""
    names = torch.ones(max(int(rows.max()), *counts) + 1, dtype=torch.long)
    names[0] = 0
    for number, (token, _) in enumerate(counts.most_common(vocabulary - 2), start=2):
        names[token] = number
    return names[rows]


def sentence_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: way of training × seed."""
    return [{"how": how, "seed": seed} for seed in range(recipe(scale, model).seeds) for how in TRAININGS]


def run_sentences(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its table.

    Returns:
        "codes": one row: ``code_report`` of the held-out preferred texts.
    """
    _, tokenizer = load_model(model)
    sizes, seed = vae_numbers(scale), int(cell["seed"])
    train, counts = as_rows(tokenizer, train_pairs(scale, model, "sentiment", seed), sizes)
    held_out = recipe(scale, model).test_pairs if scale == "smoke" else None
    test, _ = as_rows(tokenizer, data_pairs("sentiment", "test", held_out, seed), sizes)
    vae = train_vae(renamed(train, counts, sizes.vocabulary), sizes, cell["how"], seed)
    test = renamed(test, counts, sizes.vocabulary)
    return {"codes": pd.DataFrame([code_report(vae, test, seed)])}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the sizes, for the provenance of the table."""
    return {"recipe": asdict(vae_numbers(scale)), "model": model, "about": about_model(model)}


GRIDS.add("sentences", Grid("sentences", sentence_cells, run_sentences, describe, models=("nano",)))
