"""Adversarial training: a discriminator in place of a loss on pairs.

A margin loss says which of two given responses is better. The loss one would like says what the model's *own*
responses lack. Adversarial training learns it: a discriminator tells preferred responses from drawn ones, and
the model is rewarded, by policy gradient, for draws that the discriminator takes for preferred ones. Rejected
responses play no part. Sources: Goodfellow et al. 2014, arXiv 1406.2661; Yu et al. 2016, arXiv 1609.05473,
for text; Williams 1992 for the policy gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from entanglement.checks import non_negative, positive, torch_seed, whole
from entanglement.logps import model_device, positions_for, row_logps
from entanglement.losses import Loss
from entanglement.optimizers import OPTIMIZERS
from entanglement.pairs import PairBatch
from entanglement.sampling import continue_ids
from entanglement.signatures import checked
from entanglement.updates.base import UPDATES, Declared, StepReport, Update, Work

__all__ = ["Adversarial", "Discriminator", "drawn_batch"]


@checked(lr=positive)
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
            output_hidden_states=True,
            use_cache=False,
            **positions_for(self.body, batch.position_ids),
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


def _prompt_rows(batch: PairBatch, room: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (n, T) ids and mask of the chosen rows' prompts, padded on the left.

    Prompts longer than ``room`` tokens keep their first token, which starts the sequence, and their end.
    """
    rows = []
    for i in range(len(batch)):
        inside = batch.attention_mask[i].bool() & ~batch.response_mask[i]
        row = batch.input_ids[i][inside]
        rows.append(row if room is None or len(row) <= room else torch.cat([row[:1], row[1 - room :]]))
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = row
        mask[i, longest - len(row) :] = 1
    return ids, mask


@checked(seed=torch_seed)
def drawn_batch(model: nn.Module, batch: PairBatch, *, seed: int) -> PairBatch:
    """Return a batch in which each rejected response is replaced by a draw as long as the chosen one.

    Args:
        model: drawn from.
        batch: B pairs with padding on the left, on the CPU; the rejected rows are not looked at.
        seed: of the draws.

    Raises:
        ValueError: padding on the right.
    """
    if not bool(batch.response_mask[: len(batch), -1].all()):
        raise ValueError("drawn_batch: a chosen response does not end in the last column; pad on the left.")
    n, lengths = len(batch), batch.chosen_len.tolist()
    longest = max(lengths)
    context = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    prompts = _prompt_rows(batch, None if context is None else context - longest)
    some = continue_ids(model, *prompts, longest, seed=seed)
    ids, mask, response = (
        part.clone() for part in (batch.input_ids, batch.attention_mask, batch.response_mask)
    )
    for i, length in enumerate(lengths):
        # The preferred row, with the draw in the response's place: padding is on the left in both.
        ids[n + i], mask[n + i], response[n + i] = ids[i], mask[i], response[i]
        ids[n + i, -length:] = some.ids[i, :length].cpu()
    return replace(batch, input_ids=ids, attention_mask=mask, response_mask=response)


@checked(head_start=whole(0), beta=non_negative, lr=positive, seed=whole(0, 10**12))
@dataclass
class Adversarial(Update):
    """A step against a discriminator that starts as the model's copy.

    The model answers the prompts of a batch, the discriminator takes a step on these draws and the preferred
    responses, and the model takes one on −advantage · log π(draw). A draw's reward is the discriminator's
    log-odds less ``beta`` times how much likelier it has become; its advantage is the reward, centered and
    scaled over the batch. The loss on pairs plays no part.

    The report's ``extra`` has reward (mean log-odds), right (share of draws that the discriminator told from
    the preferred response), and passes: what the training has cost so far, in forward passes of one token (a
    forward with its backward pass counts three).

    Attributes:
        head_start: steps of the discriminator before the model's first.
        beta: price of leaving the reference, nats of reward per nat of log π − log π_ref, as in DPO.
        lr: of the discriminator.
        seed: of the draws.
        reference: the model as it came in; made by ``begin``.
        judge: the discriminator; made by ``begin``.
    """

    head_start: int = 8
    beta: float = 0.1
    lr: float = 1e-4
    seed: int = 0
    smallest_batch: ClassVar[int] = 2  # an advantage is a deviation from the batch's mean
    reference: nn.Module | None = field(default=None, init=False, repr=False)
    judge: nn.Module | None = field(default=None, init=False, repr=False)
    _number: int = field(default=0, init=False, repr=False)
    _passes: int = field(default=0, init=False, repr=False)

    def begin(self, model: nn.Module) -> None:
        """Start a new discriminator and keep the model as the reference."""
        self.reference = deepcopy(model).requires_grad_(False)
        with torch.random.fork_rng(devices=[]):  # a new layer draws numbers, which its zeros replace
            self.judge = Discriminator(model, lr=self.lr).to(model_device(model))
        self._number = self._passes = 0

    def needs_reference(self, loss: Loss) -> bool:
        """No loss on pairs is used."""
        return False

    def rehearse(self, model: nn.Module, batches: Sequence[PairBatch]) -> None:
        """Let the discriminator learn."""
        self._compete(model, batches)

    def _compete(self, model: nn.Module, batches: Sequence[PairBatch]) -> tuple[list[PairBatch], float, int]:
        """Draw responses and let the discriminator take a step on them.

        Returns:
            The batches with the draws, the share of draws that it told from the preferred responses, and the
            number of tokens drawn from or read in one pass.
        """
        if self.judge is None:
            raise ValueError("Adversarial: not begun; call begin(model) before the first step.")
        # A seed of its own for the draws of each group of each step.
        seed = (self.seed * 100_000 + self._number) * 100
        self._number += 1
        drawn = [
            drawn_batch(model, batch, seed=seed + place).to(model_device(model))
            for place, batch in enumerate(batches)
        ]
        tokens = sum(int(batch.attention_mask[len(batch) :].sum()) for batch in drawn)
        self._passes += tokens + 2 * 3 * tokens  # drawing, and the discriminator's step on both kinds
        _, right = self.judge.learn(drawn)  # type: ignore[operator]
        return drawn, right, tokens

    def gradient(self, work: Work) -> StepReport:
        """See :class:`~entanglement.updates.base.Update`."""
        batches, right, tokens = self._compete(work.model, work.batches)
        losses, reward = self.policy_losses(work.model, batches)
        work.finite(losses).mean().backward()
        self._passes += (1 + 1 + 3) * tokens  # the judge's and the reference's reading, the model's own step
        extra = {"reward": reward, "right": right, "passes": self._passes}
        return StepReport(losses.detach(), extra=extra)

    def policy_losses(self, model: nn.Module, batches: Sequence[PairBatch]) -> tuple[torch.Tensor, float]:
        """Return −advantage · log π of each draw, (B,), and the mean log-odds of the draws.

        Args:
            model: gradients flow into it.
            batches: with draws as the rejected responses.
        """
        if self.judge is None or self.reference is None:
            raise ValueError("Adversarial: not begun; call begin(model) before the first step.")
        logps = torch.cat([_draw_logps(model, batch) for batch in batches])
        with torch.no_grad():
            odds = torch.cat([self.judge(batch)[len(batch) :] for batch in batches])
            moved = logps - torch.cat([_draw_logps(self.reference, batch) for batch in batches])
            reward = odds - self.beta * moved
            advantage = (reward - reward.mean()) / (reward.std() + 1e-6)
        return -(advantage * logps), float(odds.mean())


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


UPDATES.add("adversarial", Declared(title="adversarial", make=Adversarial))
