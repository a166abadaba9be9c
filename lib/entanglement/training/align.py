"""Preference optimization: the one training loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from entanglement.batches import grouped_logps, length_groups, shuffled
from entanglement.checks import positive, share, whole
from entanglement.gradients.select import fused_activations
from entanglement.losses import Loss, get_loss
from entanglement.optimizers import OptimizerFactory, make_optimizer
from entanglement.pairs import PreferencePair, with_names
from entanglement.signatures import checked
from entanglement.training.measure import PairSets, looking
from entanglement.training.observers import Observer, Run, Taken, Together
from entanglement.training.settings import check_settings, moments_of, rate_share
from entanglement.training.trajectory import Trajectory
from entanglement.updates.base import NotFinite, StepReport, Update, get_update

__all__ = ["align"]


@checked(
    steps=whole(0),
    lr=positive,
    batch_size=whole(1),
    warmup=share,
    max_grad_norm=positive,
    geometry_pairs=whole(0),
)
def align(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    loss: str | Loss = "dpo",
    update: str | Update = "joint",
    observers: Sequence[Observer] = (),
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
    """Optimize preferences in place with a loss and an update; the reference is the model as it comes in.

    The reference's log-probabilities are computed once, and so is each prompt within a step, unless an
    observer needs the two responses of a pair apart (see ``shared_prompt``). The rate warms up linearly and
    decays linearly to 0, as in the paper's recipe. ``plain.align_plainly`` is the same without anything that
    saves time.

    Args:
        model: trained in place, all parameters that require gradients.
        tokenizer: the model's.
        pairs: the training pairs.
        loss: a name of the registry, or ``get_loss(...)`` with hyper-parameters.
        update: how a step is made of the pairs' gradients; a name of ``updates.UPDATES``, or
            ``get_update(...)`` with options. "joint" is the loss's own step.
        observers: what else is looked at in each step; their tables come back in the trajectory.
        steps: optimizer steps; None for one epoch.
        lr: peak learning rate.
        batch_size: pairs a step.
        optimizer: "adamw", "sgd" (the theory's plain step), or a function of (parameters, lr).
        warmup: share of the steps over which the rate rises.
        max_grad_norm: gradients are clipped to this norm; None for no clipping.
        seed: of the order of the pairs.
        append_eos: whether the end-of-sequence token belongs to the responses.
        evaluate: named pair sets to measure along the way.
        evaluate_at: at which steps (0 is before training); None for nine moments.
        geometry_pairs: how many pairs of each set get their gradients measured.
        progress: show a progress bar.

    Raises:
        ValueError: an argument out of range or unknown, naming it; a loss, gradient or parameter that is not
            finite, naming step and pair (``NotFinite``).
    """
    loss = get_loss(loss) if isinstance(loss, str) else loss
    update = get_update(update) if isinstance(update, str) else update
    if steps is None:
        steps = len(pairs) // batch_size
    check_settings(
        len(pairs), steps=steps, batch_size=batch_size, lr=lr, seed=seed, max_grad_norm=max_grad_norm,
        geometry_pairs=geometry_pairs, warmup=warmup, smallest_batch=update.smallest_batch,
    )  # fmt: skip
    pairs = with_names(pairs)
    moments = moments_of(steps, evaluate_at)
    stepper = make_optimizer(optimizer, model, lr)
    model.eval()
    update.begin(model)
    batches = list(shuffled(len(pairs), update.head_start + steps, batch_size, seed))
    watch = Together(observers)
    losses, reports = [], []
    look, tables = looking(
        model, tokenizer, evaluate, moments, append_eos=append_eos, geometry_pairs=geometry_pairs
    )
    with fused_activations(model), ExitStack() as stack:
        frozen: dict[int, tuple[float, float]] = {}
        if batches and update.needs_reference(loss):
            frozen = _reference(model, tokenizer, pairs, batches, append_eos)
        look(0)
        stack.callback(watch.end)
        watch.begin(Run(model, tokenizer, update, evaluate or {}, append_eos))
        for number, rows in enumerate(tqdm(batches, disable=not progress, desc=loss.name)):
            batch = [pairs[i] for i in rows]
            order, collated = length_groups(model, tokenizer, batch, append_eos)
            step = number - update.head_start + 1
            if step < 1:
                update.rehearse(model, collated)
                continue
            values = torch.tensor([frozen[rows[i]] for i in order], dtype=torch.float64) if frozen else None
            reference = None if values is None else (values[:, 0], values[:, 1])
            rate = lr * rate_share(step, steps, warmup)
            for group in stepper.param_groups:
                group["lr"] = rate
            watch.before_step(step)
            try:
                report = update.step(
                    model, stepper, collated, loss, reference, max_grad_norm=max_grad_norm, watch=watch
                )
            except NotFinite as error:
                raise NotFinite(f"step {step}: {error}") from error
            back = torch.argsort(torch.tensor(order))
            mean = float(report.losses[back.to(report.losses.device)].mean())
            losses.append({"step": step, "loss": mean, "lr": rate, "grad_norm": report.grad_norm})
            reports.append({"step": step, **report.row()})
            watch.after_step(Taken(step, rate, batch, *_weights(report, back)))
            look(step)
        seen = watch.result()
    monitor = pd.DataFrame(reports)
    if len(monitor) and "monitor" in seen:
        monitor = monitor.merge(seen["monitor"], on="step")
    return Trajectory(
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(),
        pd.DataFrame(losses, columns=["step", "loss", "lr", "grad_norm"]),
        seen.get("account", pd.DataFrame()),
        monitor,
        {name: table for name, table in seen.items() if name not in ("account", "monitor")},
    )


def _reference(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    batches: Sequence[Sequence[int]],
    append_eos: bool,
) -> dict[int, tuple[float, float]]:
    """Return (log π_w, log π_l), nats, of each pair that some batch contains, by its position."""
    used = sorted({i for rows in batches for i in rows})
    with torch.no_grad():
        logps = grouped_logps(model, tokenizer, [pairs[i] for i in used], append_eos)
    both = zip(logps.chosen.tolist(), logps.rejected.tolist(), strict=True)
    return dict(zip(used, both, strict=True))


def _weights(report: StepReport, back: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the weights that were used, (B,), in the batch's own order."""
    if report.u_w is None or report.u_l is None:
        return None, None
    return report.u_w[back], report.u_l[back]
