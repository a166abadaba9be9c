"""The grid of contrast: InfoNCE on embeddings beside DPO and imitation, on near-copies.

A cell starts from the same checkpoint as the cells of ``untangling``, and takes as many steps on the same
batches with the same optimizer and rate. InfoNCE looks at embeddings only; log-probabilities are measured.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.batches import shuffled
from entanglement.contrast import contrast_loss, info_nce, pair_embeddings
from entanglement.gradients.select import fused_activations
from entanglement.models import about_model
from entanglement.optimizers import make_optimizer
from entanglement.pairs import PreferencePair
from entanglement.training import align, measure, sft
from entanglement.training.settings import rate_share
from entanglement.training.stepping import step_on
from entanglement.uses import remembered
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.ch15_ranking.probing import judged_by_logps, probed
from entanglement_book.studies.shared.means import set_means
from entanglement_book.studies.shared.start import checkpoint, data_pairs, recipe, train_pairs

__all__ = ["CONTRASTS", "Contrast", "contrast", "contrast_cells", "describe", "run_contrast", "swapped"]

TEMPERATURE = 0.1


@dataclass(frozen=True)
class Contrast:
    """One way to go on from the checkpoint.

    Attributes:
        rate: multiple of the recipe's rate.
        swapped: whether in half of the pairs the two responses change places.
        loss: of given pairs, in place of InfoNCE; "sft" for fine-tuning on the chosen ones alone.
        seeds: how many at most.
    """

    rate: float = 1.0
    swapped: bool = False
    loss: str = ""
    seeds: int = 5


CONTRASTS: dict[str, Contrast] = {
    "infonce": Contrast(),
    "infonce-swapped": Contrast(swapped=True),
    "infonce-half": Contrast(rate=0.5, seeds=3),
    "sft": Contrast(loss="sft"),
    "dpo": Contrast(loss="dpo", seeds=3),
}


def contrast_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: way × seed; those of a seed share a checkpoint."""
    seeds = range(recipe(scale, model).seeds)
    return [
        {"way": w, "seed": seed} for seed in seeds for w, about in CONTRASTS.items() if seed < about.seeds
    ]


def swapped(pairs: Sequence[PreferencePair], seed: int) -> list[PreferencePair]:
    """Return pairs of which a random half has its responses in each other's place."""
    picked = set(random.Random(seed).sample(range(len(pairs)), len(pairs) // 2))
    return [
        PreferencePair(p.prompt, p.rejected, p.chosen, p.id) if i in picked else p
        for i, p in enumerate(pairs)
    ]


def contrast(
    policy: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    test: Sequence[PreferencePair],
    *,
    steps: int,
    lr: float,
    batch_size: int,
    seed: int,
) -> pd.DataFrame:
    """Train a policy in place on InfoNCE, with the optimizer and schedule of ``align``.

    Args:
        policy, tokenizer: the model.
        pairs: to train on.
        test: held-out pairs.
        steps, lr, batch_size, seed: as of ``align``.

    Returns:
        ``measure`` of the held-out pairs, before, halfway and after.
    """
    moments = sorted({0, steps // 2, steps})
    stepper = make_optimizer("adamw", policy, lr)
    tables = [measure(policy, tokenizer, {"test": test}, step=0)]
    with fused_activations(policy):
        for step, rows in enumerate(shuffled(len(pairs), steps, batch_size, seed), start=1):
            for group in stepper.param_groups:
                group["lr"] = lr * rate_share(step, steps, 0.1)
            loss = contrast_loss(policy, tokenizer, [pairs[i] for i in rows], temperature=TEMPERATURE)
            step_on(policy, stepper, loss, 1.0, step)
            if step in moments:
                tables.append(measure(policy, tokenizer, {"test": test}, step=step))
    return pd.concat(tables, ignore_index=True)


def run_contrast(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "means": ``set_means`` of held-out pairs, a row a moment.
        "probes": one row before and one after, over all held-out pairs: moment, probe (share that a linear
            probe gets right), chance (the same with names shuffled), likelier (share whose chosen response is
            the likelier one), nearer (share whose chosen response is nearer to the prompt), contrast
            (InfoNCE on 32 held-out pairs, nats).
    """
    numbers, seed, way = recipe(scale, model), int(cell["seed"]), CONTRASTS[cell["way"]]
    policy, tokenizer, start = checkpoint(scale, model, "sentiment", seed)
    policy.load_state_dict(start)
    train = train_pairs(scale, model, "sentiment", seed)
    test = data_pairs("sentiment", "test", numbers.test_pairs, seed)
    before = _before(scale, model, seed)
    settings: dict[str, Any] = {"steps": numbers.steps, "batch_size": numbers.batch, "seed": seed}
    settings["lr"] = numbers.lr * way.rate
    looks: dict[str, Any] = {"evaluate": {"test": test}}
    looks["evaluate_at"] = sorted({0, numbers.steps // 2, numbers.steps})
    if way.loss == "sft":
        # At a constant rate, with the sum of the others' rates.
        rates = [rate_share(step, numbers.steps, 0.1) for step in range(1, numbers.steps + 1)]
        settings["lr"] *= sum(rates) / numbers.steps
        table = sft(policy, tokenizer, train, **settings, **looks).table
    elif way.loss:
        table = align(policy, tokenizer, train, loss=way.loss, **settings, **looks).table
    else:
        pairs = swapped(train, seed) if way.swapped else train
        table = contrast(policy, tokenizer, pairs, test, **settings)
    after = _look(policy, tokenizer, _judged(scale, model, seed), seed)
    probes = [{"moment": "before"} | before, {"moment": "after"} | after]
    return {"means": set_means(table), "probes": pd.DataFrame(probes)}


def _judged(scale: str, model: str, seed: int) -> list[PreferencePair]:
    """Return the held-out pairs that are probed, four times as many as the others."""
    return data_pairs("sentiment", "test", 4 * recipe(scale, model).test_pairs, seed)


@remembered(maxsize=1)
def _before(scale: str, model: str, seed: int) -> dict[str, float]:
    """Return ``_look`` at the checkpoint."""
    policy, tokenizer, start = checkpoint(scale, model, "sentiment", seed)
    policy.load_state_dict(start)
    return _look(policy, tokenizer, _judged(scale, model, seed), seed)


@torch.no_grad()
def _look(
    policy: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair], seed: int
) -> dict[str, float]:
    """Return what a model's embeddings and log-probabilities say of pairs: the columns of "probes"."""
    prompts, chosen, rejected = pair_embeddings(policy, tokenizer, pairs)
    near = [torch.cosine_similarity(prompts, side) for side in (chosen, rejected)]
    n = min(32, len(pairs))
    loss = info_nce(
        prompts[:n], torch.cat([chosen[:n], rejected[:n]]), torch.arange(n), temperature=TEMPERATURE
    )
    return {
        "probe": probed(chosen, rejected, seed),
        "chance": probed(chosen, rejected, seed, shuffled=True),
        "likelier": judged_by_logps(policy, tokenizer, pairs),
        "nearer": float((near[0] > near[1]).double().mean()),
        "contrast": float(loss.mean()),
    }


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the ways, for the provenance of the tables."""
    return {
        "recipe": asdict(recipe(scale, model)),
        "ways": {name: asdict(way) for name, way in CONTRASTS.items()},
        "temperature": TEMPERATURE,
        "model": model,
        "about": about_model(model),
    }


GRIDS.add("contrast", Grid("contrast", contrast_cells, run_contrast, describe, models=("nano",)))
