"""Supervised fine-tuning on the chosen responses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from entanglement.batches import length_groups, shuffled
from entanglement.checks import non_empty
from entanglement.gradients.select import fused_activations
from entanglement.logps import model_device, row_logps
from entanglement.optimizers import make_optimizer, trainable
from entanglement.pairs import PreferencePair, with_names
from entanglement.signatures import checked
from entanglement.training.measure import PairSets, looking
from entanglement.training.settings import check_settings, moments_of
from entanglement.training.trajectory import Trajectory
from entanglement.updates.base import NotFinite

__all__ = ["sft", "sft_loss"]


@checked()
def sft(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    steps: int = 24,
    lr: float = 1e-4,
    batch_size: int = 16,
    seed: int = 0,
    append_eos: bool = False,
    evaluate: PairSets | None = None,
    evaluate_at: Sequence[int] | None = None,
    geometry_pairs: int = 0,
    max_grad_norm: float | None = 1.0,
    progress: bool = False,
) -> Trajectory:
    """Fine-tune a model in place on the chosen responses: minimize −log π(y_w|x) per response token.

    Args:
        model: trained in place with AdamW at a constant rate, all parameters that require gradients.
        tokenizer: the model's.
        pairs: the chosen responses are the targets; rejected ones are not looked at.
        steps: optimizer steps.
        lr: learning rate.
        batch_size: responses a step.
        seed: of the order of the pairs.
        append_eos: whether the end-of-sequence token is a target too.
        evaluate: named pair sets to measure along the way.
        evaluate_at: at which steps (0 is before training); None for nine moments.
        geometry_pairs: how many pairs of each set get their gradients measured.
        max_grad_norm: gradients are clipped to this norm; None for no clipping.
        progress: show a progress bar.

    Raises:
        ValueError: an argument out of range, naming it; a loss, gradient or parameter that is not finite,
            naming the step (``NotFinite``).
    """
    check_settings(
        len(pairs), steps=steps, batch_size=batch_size, lr=lr, seed=seed, max_grad_norm=max_grad_norm,
        geometry_pairs=geometry_pairs,
    )  # fmt: skip
    moments = moments_of(steps, evaluate_at)
    model.eval()
    pairs = with_names(pairs)
    optimizer = make_optimizer("adamw", model, lr)
    parameters = trainable(model)
    losses = []
    look, tables = looking(
        model, tokenizer, evaluate, moments, append_eos=append_eos, geometry_pairs=geometry_pairs
    )
    batches = shuffled(len(pairs), steps, batch_size, seed)
    with fused_activations(model):
        look(0)
        for step, rows in enumerate(tqdm(batches, total=steps, disable=not progress, desc="SFT"), start=1):
            batch = [pairs[i] for i in rows]
            loss = sft_loss(model, tokenizer, batch, append_eos)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            limit = math.inf if max_grad_norm is None else max_grad_norm
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
            found = {"loss": float(loss.detach()), "gradient's norm": norm}
            if all(map(math.isfinite, found.values())):
                optimizer.step()
                found["norm of the parameters"] = float(torch.nn.utils.get_total_norm(parameters))
            for name, value in found.items():
                if not math.isfinite(value):
                    names = ", ".join(pair.id for pair in batch)
                    raise NotFinite(
                        f"step {step}: the {name} is {value} with {names}; lower the learning rate."
                    )
            losses.append({"step": step, "loss": found["loss"], "lr": lr, "grad_norm": norm})
            look(step)
    joined = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return Trajectory(joined, pd.DataFrame(losses, columns=["step", "loss", "lr", "grad_norm"]))


@checked(pairs=non_empty)
def sft_loss(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair], append_eos: bool
) -> torch.Tensor:
    """Return −Σ log π(y_w|x) / Σ n_w in nats per response token, over all chosen responses of a batch."""
    total, tokens = torch.zeros((), device=model_device(model)), 0
    # Only a chosen response is a target, so that what stands beside it may be anything.
    targets = [replace(pair, rejected=pair.chosen) for pair in pairs]
    for group in length_groups(model, tokenizer, targets, append_eos)[1]:
        batch = group.to(model_device(model))
        n = len(batch)  # the first n rows are the chosen responses
        logps = row_logps(
            model,
            batch.input_ids[:n],
            batch.attention_mask[:n],
            batch.position_ids[:n],
            batch.response_mask[:n],
        )
        total = total - logps.sum()
        tokens += int(batch.response_mask[:n].sum())
    return total / tokens
