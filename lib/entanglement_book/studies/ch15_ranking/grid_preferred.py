"""The grid of guided imitation: fine-tuning on the preferred texts, as a generator's draws say.

A generative adversarial network is trained on features of the preferred texts, which are embeddings of the
frozen checkpoint. Each of its draws stands for the real text that is nearest; fine-tuning goes through these.
The controls are all texts alike, which is the way "sft" of the grid ``contrast``, and the draws' counts among
texts that have nothing to do with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from entanglement.contrast import pair_embeddings
from entanglement.models import about_model
from entanglement.training import sft
from entanglement.training.settings import rate_share
from entanglement.uses import remembered
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.ch15_ranking.feature_gan import (
    GanNumbers,
    nearest,
    novelty,
    train_gan,
    whitened,
)
from entanglement_book.studies.shared.means import set_means
from entanglement_book.studies.shared.scales import at_scale
from entanglement_book.studies.shared.start import checkpoint, data_pairs, recipe, train_pairs

__all__ = ["IMITATIONS", "describe", "gan_numbers", "preferred_cells", "run_preferred"]

#: How the texts to imitate are chosen.
IMITATIONS = ("gan", "gan-permuted")
#: Chosen on a seed outside the grid.
_BOOK = GanNumbers(components=8, noise=8, width=64, steps=4000, batch=128, lr=1e-3)


def gan_numbers(scale: str) -> GanNumbers:
    """Return the sizes of a scale."""
    return at_scale(scale, replace(_BOOK, components=4, steps=20), _BOOK, _BOOK)


def preferred_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: way × seed; those of a seed share a checkpoint."""
    return [{"way": way, "seed": seed} for seed in range(recipe(scale, model).seeds) for way in IMITATIONS]


def run_preferred(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "means": ``set_means`` of held-out pairs, a row a moment.
        "draws": one row: kept (share of the embeddings' variance in the features),
            told (``novelty`` of the generator's draws: ½ is best), told_normal (of draws from the normal
            distribution with the same mean and covariance), told_real (of real texts), covered (share of the
            texts that some draw stands for), covered_uniform (of as many uniform draws), largest (share of
            the draws that the most frequent text has).
    """
    numbers, seed, way = recipe(scale, model), int(cell["seed"]), cell["way"]
    policy, tokenizer, start = checkpoint(scale, model, "sentiment", seed)
    policy.load_state_dict(start)
    train = train_pairs(scale, model, "sentiment", seed)
    test = data_pairs("sentiment", "test", numbers.test_pairs, seed)
    stands, about = _drawn(scale, model, seed)
    if way == "gan-permuted":
        stands = np.random.default_rng(seed).permutation(len(train))[stands]
    texts = [replace(train[i], id=f"draw {n}") for n, i in enumerate(stands)]
    share = float(np.mean([rate_share(step, numbers.steps, 0.1) for step in range(1, numbers.steps + 1)]))
    # A constant rate, with the sum of the others' rates.
    run = sft(
        policy, tokenizer, texts, steps=numbers.steps, lr=numbers.lr * share, batch_size=numbers.batch,
        seed=seed, evaluate={"test": test}, evaluate_at=sorted({0, numbers.steps // 2, numbers.steps}),
    )  # fmt: skip
    return {"means": set_means(run.table), "draws": pd.DataFrame([about])}


@remembered(maxsize=1)
def _drawn(scale: str, model: str, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Return which training text each draw of a generator stands for, and the row of "draws"."""
    numbers, sizes = recipe(scale, model), gan_numbers(scale)
    policy, tokenizer, start = checkpoint(scale, model, "sentiment", seed)
    policy.load_state_dict(start)
    train = train_pairs(scale, model, "sentiment", seed)
    with torch.no_grad():
        parts = [pair_embeddings(policy, tokenizer, train[i : i + 64])[1] for i in range(0, len(train), 64)]
    found = whitened(torch.cat(parts), sizes.components)
    made = train_gan(found.real, sizes, numbers.steps * numbers.batch, seed)
    stands = nearest(found.real, made)
    return stands, _about(found.real, made, stands, found.kept, seed)


def _about(
    real: torch.Tensor, made: torch.Tensor, stands: np.ndarray, kept: float, seed: int
) -> dict[str, float]:
    """Return the row of the table "draws"."""
    rng = np.random.default_rng(seed)
    order = torch.from_numpy(rng.permutation(len(real)))
    half = len(real) // 2
    one, other = real[order[:half]], real[order[half : 2 * half]]
    normal = torch.from_numpy(rng.standard_normal((half, real.shape[1]))).float()
    n = len(real)
    uniform = np.unique(rng.integers(n, size=len(stands)))
    return {
        "kept": kept,
        "told": novelty(one, made[:half]),
        "told_normal": novelty(one, normal),
        "told_real": novelty(one, other),
        "covered": len(np.unique(stands)) / n,
        "covered_uniform": len(uniform) / n,
        "largest": float(np.bincount(stands).max() / len(stands)),
    }


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe, the ways and the generator, for the provenance of the tables."""
    return {
        "recipe": asdict(recipe(scale, model)),
        "ways": list(IMITATIONS),
        "generator": asdict(gan_numbers(scale)),
        "model": model,
        "about": about_model(model),
    }


GRIDS.add("preferred", Grid("preferred", preferred_cells, run_preferred, describe, models=("nano",)))
