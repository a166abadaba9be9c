"""Preference optimization with an update rule in place of the loss's own step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from entanglement.gradients.select import fused_activations
from entanglement.losses import Loss, get_loss
from entanglement.pairs import PreferencePair
from entanglement.training import (
    OPTIMIZERS,
    OptimizerFactory,
    PairSets,
    Trajectory,
    _by_length,
    _check,
    _collate,
    _join,
    _moments,
    _pair_logps,
    _schedule,
    _shuffled,
    _trainable,
    measure,
)
from entanglement.updates.step import StepReport, Update, get_update

__all__ = ["untangle"]


def untangle(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    update: str | Update = "joint",
    loss: str | Loss = "dpo",
    steps: int | None = None,
    lr: float = 1e-5,
    batch_size: int = 32,
    optimizer: str | OptimizerFactory = "adamw",
    warmup: float = 0.1,
    max_grad_norm: float | None = 1.0,
    seed: int = 0,
    append_eos: bool = False,
    evaluate: PairSets | None = None,
    evaluate_at: Sequence[int] | None = None,
    geometry_pairs: int = 0,
    progress: bool = False,
) -> Trajectory:
    """Optimize preferences in place, as ``training.align`` does, with an update rule.

    Batches, reference, rate, clipping and measurement are those of ``align``; with update="joint" the two
    make the same steps.

    Args:
        update: a name of ``get_update``, or an update with options.
        model, tokenizer, pairs, loss, steps, lr, batch_size, optimizer, warmup, max_grad_norm, seed,
            append_eos, evaluate, evaluate_at, geometry_pairs, progress: as in ``training.align``.

    Returns:
        A trajectory. ``monitor`` has one row a step: the means of the loss's weights d_w, d_l and of those in
        their place, u_w and u_l, and the median ratio u_w/u_l; where the geometry was looked at, also the
        mean cosine and the shares of the cases under the loss's own weights and (``safe``) the share that is
        ideal under the new ones.

    Raises:
        ValueError: an argument out of range or unknown, naming it.
    """
    loss = get_loss(loss) if isinstance(loss, str) else loss
    update = get_update(update) if isinstance(update, str) else update
    steps = len(pairs) // batch_size if steps is None else steps
    _check(pairs, steps, batch_size, lr, "untangle")
    if isinstance(optimizer, str) and optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer={optimizer!r}; expected one of {', '.join(OPTIMIZERS)}, or a function.")
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup={warmup!r}; expected a share from 0 to 1.")
    moments = _moments(steps, evaluate_at)
    model.eval()
    update.begin()
    make = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    stepper = make(_trainable(model), lr)
    batches = list(_shuffled(len(pairs), steps, batch_size, seed))
    used = sorted({i for rows in batches for i in rows})
    frozen: dict[int, tuple[float, float]] = {}
    if loss.needs_reference:
        with torch.no_grad(), fused_activations(model):
            logps = _pair_logps(model, tokenizer, [pairs[i] for i in used], append_eos)
        both = zip(logps.chosen.tolist(), logps.rejected.tolist(), strict=True)
        frozen = dict(zip(used, both, strict=True))
    tables, losses, readings = [], [], []

    def look(step: int) -> None:
        if evaluate and step in moments:
            seen = measure(
                model, tokenizer, evaluate, step=step, append_eos=append_eos, geometry_pairs=geometry_pairs
            )
            tables.append(seen)

    look(0)
    for step, rows in enumerate(tqdm(batches, disable=not progress, desc=loss.name), start=1):
        groups = [[rows[i] for i in group] for group in _by_length([pairs[i] for i in rows], 8)]
        collated = [_collate([pairs[i] for i in group], tokenizer, append_eos) for group in groups]
        reference = None
        if loss.needs_reference:
            values = torch.tensor([frozen[i] for group in groups for i in group], dtype=torch.float64)
            reference = (values[:, 0], values[:, 1])
        rate = lr * _schedule(step, steps, warmup)
        for group in stepper.param_groups:
            group["lr"] = rate
        report = update.step(model, stepper, collated, loss, reference, max_grad_norm=max_grad_norm)
        losses.append({"step": step, "loss": report.loss, "lr": rate, "grad_norm": report.grad_norm})
        readings.append({"step": step, **_reading(report)})
        look(step)
    return Trajectory(_join(tables), pd.DataFrame(losses), monitor=pd.DataFrame(readings))


def _reading(report: StepReport) -> dict[str, Any]:
    row: dict[str, Any] = {name: float(getattr(report, name).mean()) for name in ("d_w", "d_l", "u_w", "u_l")}
    row["ratio"] = float((report.u_w / report.u_l).median())
    geometry = report.geometry
    if geometry is not None and len(geometry) == len(report.d_w):
        row["cosine"] = float(geometry.cosine.nanmean())
        row |= {str(case): share for case, share in geometry.case_shares(report.d_w, report.d_l).items()}
        row["safe"] = geometry.case_shares(report.u_w, report.u_l)["ideal"]
    return row
