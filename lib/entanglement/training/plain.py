"""Preference optimization as it is written on a blackboard: slow, short, and what ``align`` must equal.

One padded batch a step, the reference kept as a second model, nothing shared, nothing fused. The tests hold
``align`` against it; read it first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.checks import one_of, share
from entanglement.logps import PairLogps, response_logps
from entanglement.losses import Loss, get_loss
from entanglement.pairs import PreferencePair, collate
from entanglement.signatures import checked
from entanglement.training.settings import check_settings

__all__ = ["align_plainly"]


@checked(optimizer=one_of("adamw", "sgd"), warmup=share)
def align_plainly(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair], *,
    loss: str | Loss = "dpo", steps: int, lr: float, batch_size: int, optimizer: str = "adamw",
    warmup: float = 0.1, max_grad_norm: float | None = 1.0, seed: int = 0, append_eos: bool = False,
) -> list[float]:  # fmt: skip
    """Train a model in place; arguments as in ``align``. Returns the loss before each step, nats."""
    check_settings(
        len(pairs), steps=steps, batch_size=batch_size, lr=lr, seed=seed, max_grad_norm=max_grad_norm,
        geometry_pairs=0, warmup=warmup,
    )  # fmt: skip
    model.eval()
    reference = deepcopy(model)
    criterion = get_loss(loss) if isinstance(loss, str) else loss
    weights = [p for p in model.parameters() if p.requires_grad]
    if optimizer == "adamw":
        stepper: torch.optim.Optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=0.0)
    else:
        stepper = torch.optim.SGD(weights, lr=lr)
    shuffle, left = random.Random(int(seed)), list[int]()
    history = []
    rising = max(1, round(warmup * steps))
    for step in range(1, steps + 1):
        # The next batch; too few pairs left: a new epoch in a new order.
        if len(left) < batch_size:
            left = shuffle.sample(range(len(pairs)), len(pairs))
        batch = collate([pairs[i] for i in left[:batch_size]], tokenizer, append_eos=append_eos)
        left = left[batch_size:]
        # The loss of the pairs, from log-probabilities under the model and under the reference.
        with torch.no_grad():
            ref_chosen, ref_rejected = response_logps(reference, batch)
        chosen, rejected = response_logps(model, batch)
        lengths = batch.chosen_len.to(chosen.device), batch.rejected_len.to(chosen.device)
        value = criterion(PairLogps(chosen, rejected, ref_chosen, ref_rejected, *lengths)).mean()
        # Its gradient, not longer than allowed.
        stepper.zero_grad()
        value.backward()
        gradients = [p.grad for p in weights if p.grad is not None]
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        if max_grad_norm is not None and norm > max_grad_norm:
            for g in gradients:
                g *= max_grad_norm / norm
        # The step: the rate rises linearly to its peak, then falls linearly toward 0.
        rate = lr * (step / rising if step <= rising else (steps + 1 - step) / (steps + 1 - rising))
        for group in stepper.param_groups:
            group["lr"] = rate
        stepper.step()
        history.append(float(value.detach()))
    return history
