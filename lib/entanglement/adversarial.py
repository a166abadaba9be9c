"""Adversarial training: a discriminator in place of a loss on pairs.

A margin loss says which of two given responses is better. The loss one would like says what the model's *own*
responses lack. Adversarial training learns it: a discriminator tells preferred responses from drawn ones, and
the model is rewarded, by policy gradient, for draws that the discriminator takes for preferred ones. Rejected
responses play no part. Sources: Goodfellow et al. 2014, arXiv 1406.2661; Yu et al. 2016, arXiv 1609.05473,
for text; Williams 1992 for the policy gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from entanglement.logps import model_device, row_logps
from entanglement.pairs import PairBatch, PreferencePair
from entanglement.sampling import continue_prompts
from entanglement.training import (
    OPTIMIZERS,
    PairSets,
    Trajectory,
    _by_length,
    _collate,
    _join,
    _moments,
    _schedule,
    _shuffled,
    _trainable,
    measure,
)

__all__ = ["Adversary", "Discriminator", "drawn_batch", "outsmart"]


class Discriminator(nn.Module):
    """A language model's body with one number on top: the log-odds that a response is a preferred one.

    Args:
        model: copied, with its parameters; a causal language model of transformers.
        lr: of the discriminator's own AdamW.
    """

    def __init__(self, model: nn.Module, *, lr: float = 1e-4) -> None:
        super().__init__()
        self.body = deepcopy(model).eval().requires_grad_(True)
        width = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self.head = nn.Linear(width, 1, dtype=next(model.parameters()).dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.optimizer = OPTIMIZERS["adamw"](self.parameters(), lr)

    def forward(self, batch: PairBatch) -> torch.Tensor:
        """Return (2B,) log-odds of a batch's responses, read at each one's last token; chosen rows first."""
        states = self.body(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states[-1]
        columns = torch.arange(batch.input_ids.shape[1], device=states.device)
        last = (batch.response_mask * columns).argmax(1)
        rows = torch.arange(len(last), device=states.device)
        return self.head(states[rows, last]).squeeze(1)

    def learn(self, batches: Sequence[PairBatch]) -> tuple[float, float]:
        """Take one step on preferred responses (first rows) against drawn ones (last rows).

        Returns:
            The mean loss before the step, nats, and the share of draws with lower log-odds than the preferred
            response to the same prompt (ties count half).
        """
        self.optimizer.zero_grad(set_to_none=True)
        total, right = 0.0, 0.0
        count = sum(map(len, batches))
        for batch in batches:
            odds = self(batch)
            truth = torch.zeros_like(odds)
            truth[: len(batch)] = 1.0
            loss = binary_cross_entropy_with_logits(odds, truth, reduction="sum") / (2 * count)
            loss.backward()
            total += float(loss.detach())
            gap = (odds[: len(batch)] - odds[len(batch) :]).detach()
            right += float((1 + gap.sign()).sum() / 2)
        self.optimizer.step()
        return total, right / count


def drawn_batch(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    seed: int,
) -> PairBatch:
    """Return a batch in which each rejected response is replaced by a draw as long as the chosen one.

    Args:
        model: drawn from.
        tokenizer: the model's.
        pairs: B of them; ``chosen`` and ``prompt`` are used.
        seed: of the draws.
    """
    batch = _collate(pairs, tokenizer, False)
    n, lengths = len(batch), batch.chosen_len.tolist()
    some = continue_prompts(model, tokenizer, [pair.prompt for pair in pairs], max(lengths), seed=seed)
    ids, mask, response = (
        part.clone() for part in (batch.input_ids, batch.attention_mask, batch.response_mask)
    )
    for i, length in enumerate(lengths):
        # The preferred row, with the draw in the response's place: padding is on the left in both.
        ids[n + i], mask[n + i], response[n + i] = ids[i], mask[i], response[i]
        ids[n + i, -length:] = some.ids[i, :length].cpu()
    return PairBatch(ids, mask, response, False, batch.ids)


@dataclass(frozen=True)
class Adversary:
    """How the two are trained against each other.

    Attributes:
        head_start: steps of the discriminator before the model's first.
        beta: price of leaving the reference, nats of reward per nat of log π − log π_ref, as in DPO.
        lr: of the discriminator.
    """

    head_start: int = 8
    beta: float = 0.1
    lr: float = 1e-4

    def __post_init__(self) -> None:
        if self.head_start < 0 or not self.beta >= 0 or not self.lr > 0:
            raise ValueError(
                f"head_start={self.head_start!r}, beta={self.beta!r}, lr={self.lr!r}; "
                "expected at least 0, at least 0, and a positive number."
            )


def outsmart(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    steps: int,
    adversary: Adversary | None = None,
    lr: float = 1e-5,
    batch_size: int = 32,
    warmup: float = 0.1,
    max_grad_norm: float | None = 1.0,
    seed: int = 0,
    evaluate: PairSets | None = None,
    evaluate_at: Sequence[int] | None = None,
    progress: bool = False,
) -> Trajectory:
    """Train a model in place against a discriminator that starts as its copy.

    At each step the model answers the prompts of a batch, the discriminator takes a step on these draws and
    the preferred responses, and the model takes one on −advantage · log π(draw). A draw's reward is the
    discriminator's log-odds less ``beta`` times how much likelier it has become; its advantage is the reward,
    centered and scaled over the batch.

    Args:
        model, tokenizer, pairs, steps, lr, batch_size, warmup, max_grad_norm, seed, evaluate, evaluate_at,
            progress: as in ``training.align``.
        adversary: the discriminator's part.

    Returns:
        A trajectory. ``monitor`` has one row a step: reward (mean log-odds), right (share of draws that the
        discriminator told from the preferred response), and passes: what the training has cost so far, in
        forward passes of one token (a forward with its backward pass counts three).

    Raises:
        ValueError: an argument out of range, naming it.
    """
    if not pairs or steps < 1 or batch_size < 1 or not lr > 0:
        raise ValueError(
            f"outsmart: {len(pairs)} pairs, steps={steps!r}, batch_size={batch_size!r}, lr={lr!r}; "
            "expected some pairs and positive numbers."
        )
    adversary = adversary or Adversary()
    moments = _moments(steps, evaluate_at)
    model.eval()
    reference = deepcopy(model).requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Discriminator(model, lr=adversary.lr).to(model_device(model))
    stepper = OPTIMIZERS["adamw"](_trainable(model), lr)
    tables, losses, readings, passes = [], [], [], 0

    def look(step: int) -> None:
        if evaluate and step in moments:
            tables.append(measure(model, tokenizer, evaluate, step=step))

    look(0)
    order = _shuffled(len(pairs), adversary.head_start + steps, batch_size, seed)
    for number, rows in enumerate(tqdm(order, disable=not progress, desc="adversarial")):
        some = [pairs[i] for i in rows]
        batches = [
            drawn_batch(model, tokenizer, [some[i] for i in group], seed=_draw_seed(seed, number, place)).to(
                model_device(model)
            )
            for place, group in enumerate(_by_length(some, 8))
        ]
        tokens = sum(int(batch.attention_mask[len(batch) :].sum()) for batch in batches)
        passes += tokens + 2 * 3 * tokens  # drawing, and the discriminator's step on both kinds
        _, right = judge.learn(batches)
        step = number - adversary.head_start + 1
        if step < 1:
            continue
        reading = _policy_step(
            model, reference, judge, batches, stepper, lr * _schedule(step, steps, warmup), adversary.beta,
            max_grad_norm,
        )  # fmt: skip
        passes += (1 + 1 + 3) * tokens  # the judge's and the reference's reading, and the model's own step
        losses.append({"step": step, "loss": reading["loss"], "lr": stepper.param_groups[0]["lr"]})
        readings.append({"step": step, "reward": reading["reward"], "right": right, "passes": passes})
        look(step)
    return Trajectory(_join(tables), pd.DataFrame(losses), monitor=pd.DataFrame(readings))


def _draw_seed(seed: int, step: int, group: int) -> int:
    """Return a seed of its own for the draws of each group of each step."""
    return (seed * 100_000 + step) * 100 + group


def _draw_logps(model: nn.Module, batch: PairBatch) -> torch.Tensor:
    """Return log π of the drawn responses, (B,)."""
    rows = slice(len(batch), None)
    return row_logps(
        model,
        batch.input_ids[rows],
        batch.attention_mask[rows],
        batch.position_ids[rows],
        batch.response_mask[rows],
    ).sum(1)


def _policy_step(
    model: nn.Module,
    reference: nn.Module,
    judge: Discriminator,
    batches: Sequence[PairBatch],
    optimizer: torch.optim.Optimizer,
    lr: float,
    beta: float,
    max_grad_norm: float | None,
) -> dict[str, float]:
    logps = torch.cat([_draw_logps(model, batch) for batch in batches])
    with torch.no_grad():
        odds = torch.cat([judge(batch)[len(batch) :] for batch in batches])
        moved = logps - torch.cat([_draw_logps(reference, batch) for batch in batches])
        reward = odds - beta * moved
        advantage = (reward - reward.mean()) / (reward.std() + 1e-6)
    loss = -(advantage * logps).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    limit = math.inf if max_grad_norm is None else max_grad_norm
    torch.nn.utils.clip_grad_norm_(_trainable(model), limit)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return {"loss": float(loss.detach()), "reward": float(odds.mean())}
