"""Training on rankings: the loop of ``align``, on lists in place of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from entanglement.batches import shuffled
from entanglement.checks import non_empty, positive, share, torch_seed, whole
from entanglement.gradients.select import fused_activations
from entanglement.optimizers import OptimizerFactory, make_optimizer
from entanglement.ranking.lists import RankedList, list_logps, relevance_of
from entanglement.ranking.losses import Ranking, get_ranking
from entanglement.signatures import checked
from entanglement.training.settings import moments_of, rate_share
from entanglement.training.stepping import step_on
from entanglement.training.trajectory import Trajectory

__all__ = ["rank"]


@checked(
    lists=non_empty, steps=whole(0), lr=positive, batch_size=whole(1), warmup=share, max_grad_norm=positive,
    seed=torch_seed,
)  # fmt: skip
def rank(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    lists: Sequence[RankedList],
    *,
    loss: str | Ranking = "ranknet",
    steps: int = 32,
    lr: float = 1e-5,
    batch_size: int = 8,
    optimizer: str | OptimizerFactory = "adamw",
    warmup: float = 0.1,
    max_grad_norm: float | None = 1.0,
    seed: int = 0,
    append_eos: bool = False,
    evaluate: Mapping[str, Sequence[RankedList]] | None = None,
    evaluate_at: Sequence[int] | None = None,
    progress: bool = False,
) -> Trajectory:
    """Train a model in place to order candidates; the reference is the model as it comes in.

    Args:
        model: all parameters that require gradients are trained.
        tokenizer: the model's.
        lists: to train on, all with k candidates.
        loss: a name of ``RANKINGS``, or ``get_ranking(…)``.
        steps: optimizer steps.
        lr: peak learning rate; the schedule is that of ``align``.
        batch_size: lists a step.
        optimizer: as in ``align``.
        warmup: share of the steps over which the rate rises.
        max_grad_norm: gradients are clipped to this norm; None for no clipping.
        seed: of the order of the lists.
        append_eos: whether the end-of-sequence token belongs to a candidate.
        evaluate: named lists to measure along the way.
        evaluate_at: at which steps (0 is before training); None for nine moments.
        progress: show a progress bar.

    Returns:
        A trajectory whose ``table`` has one row a moment, set, list and candidate: step, set, list, candidate
        (from 0), relevance, logp (nats).

    Raises:
        ValueError: an argument out of range; fewer lists than a batch; a loss, gradient or parameter that is
            not finite, naming the step (``NotFinite``).
    """
    loss = get_ranking(loss) if isinstance(loss, str) else loss
    if batch_size > len(lists):
        raise ValueError(f"batch_size={batch_size} is more than the {len(lists)} lists.")
    moments = moments_of(steps, evaluate_at)
    model.eval()
    stepper = make_optimizer(optimizer, model, lr)
    batches = list(shuffled(len(lists), steps, batch_size, seed))
    tables, losses = [], []

    def look(step: int) -> None:
        if step in moments:
            for name, some in (evaluate or {}).items():
                tables.append(_rows(model, tokenizer, some, step, name, append_eos))

    with fused_activations(model):
        frozen = _reference(model, tokenizer, lists, batches, append_eos)
        look(0)
        for step, rows in enumerate(tqdm(batches, disable=not progress, desc=loss.name), start=1):
            some = [lists[i] for i in rows]
            rate = lr * rate_share(step, steps, warmup)
            for group in stepper.param_groups:
                group["lr"] = rate
            logps = list_logps(model, tokenizer, some, append_eos=append_eos)
            then = torch.stack([frozen[i] for i in rows]).to(logps)
            mean = loss(logps, relevance_of(some).to(logps.device), then).mean()
            norm = step_on(model, stepper, mean, max_grad_norm, step)
            losses.append({"step": step, "loss": float(mean.detach()), "lr": rate, "grad_norm": norm})
            look(step)
    return Trajectory(
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(),
        pd.DataFrame(losses, columns=["step", "loss", "lr", "grad_norm"]),
    )


@torch.no_grad()
def _reference(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    lists: Sequence[RankedList],
    batches: Sequence[Sequence[int]],
    append_eos: bool,
) -> dict[int, torch.Tensor]:
    """Return log π of the candidates, (k,), of each list that some batch contains, by its position."""
    found: dict[int, torch.Tensor] = {}
    for rows in batches:
        new = [i for i in rows if i not in found]
        if new:
            logps = list_logps(model, tokenizer, [lists[i] for i in new], append_eos=append_eos)
            found |= dict(zip(new, logps, strict=True))
    return found


@torch.no_grad()
def _rows(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    lists: Sequence[RankedList],
    step: int,
    name: str,
    append_eos: bool,
) -> pd.DataFrame:
    logps = list_logps(model, tokenizer, lists, append_eos=append_eos).double().cpu().tolist()
    return pd.DataFrame(
        [
            {"step": step, "set": name, "list": some.id, "candidate": i, "relevance": grade, "logp": logp}
            for some, row in zip(lists, logps, strict=True)
            for i, (grade, logp) in enumerate(zip(some.relevance, row, strict=True))
        ]
    )
