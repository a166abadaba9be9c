"""A reward model: a language model's trunk and one number a response, fitted to preference pairs.

The chosen response is preferred with probability σ(r_w − r_l). Source: Bradley and Terry 1952; for language
models Ziegler et al. 2019, arXiv 1909.08593.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from entanglement.batches import length_groups, shuffled
from entanglement.checks import non_empty, non_negative, positive, torch_seed, whole
from entanglement.gradients.select import fused_activations
from entanglement.logps import model_device, positions_for
from entanglement.pairs import PairBatch, PreferencePair
from entanglement.rewards.answers import ROWS, Answers
from entanglement.signatures import checked

__all__ = ["RewardModel", "pair_rewards", "reward_accuracy", "train_reward"]


@checked()
class RewardModel(nn.Module):
    """The trunk of a language model, copied, and a linear head that reads its state at the last token.

    The head begins at zero, so an untrained model finds all responses equally good.

    Args:
        model: a causal language model of transformers; left as it is.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        inner: Any = model
        if not hasattr(inner, "base_model") or not hasattr(inner, "config"):
            raise ValueError(f"model is a {type(model).__name__}; expected a language model of transformers.")
        self.trunk: Any = copy.deepcopy(inner.base_model).eval().requires_grad_(True)
        weight = next(self.trunk.parameters())
        self.head = nn.Linear(inner.config.hidden_size, 1, bias=False).to(weight)
        nn.init.zeros_(self.head.weight)
        #: An end token that no response of the training pairs had, so that of answers it is not read.
        self.unseen: int | None = None
        #: Subtracted from every reward, so that those of some responses have mean 0.
        self.center: torch.Tensor
        self.register_buffer("center", torch.zeros((), dtype=weight.dtype, device=weight.device))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the rewards (R,) of rows (R, T) whose last token is the response's."""
        positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
        out = self.trunk(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False,
            **positions_for(self.trunk, positions),
        )  # fmt: skip
        last = attention_mask.shape[1] - 1 - attention_mask.flip(1).argmax(dim=1)
        rows = torch.arange(len(last), device=last.device)
        return self.head(out.last_hidden_state[rows, last]).squeeze(1) - self.center

    @torch.no_grad()
    def of(self, answers: Answers) -> torch.Tensor:
        """Return the rewards of drawn answers, (R,), without what comes behind an end token; that one
        itself is read if responses had one in training.
        """
        real = answers.attention_mask.clone()
        read = answers.mask if self.unseen is None else answers.mask & (answers.ids != self.unseen)
        real[:, -answers.tokens :] *= read.to(real)
        lengths = answers.attention_mask.sum(dim=1)
        order = torch.argsort(lengths, stable=True)
        parts = []
        with fused_activations(self):
            for rows in order.split(ROWS):
                width = int(lengths[rows].max())
                ids, mask = (part[rows][:, -width:] for part in (answers.input_ids, real))
                parts.append(self(ids.to(self.center.device), mask.to(self.center.device)))
        return torch.cat(parts)[torch.argsort(order)]


def _rewards(model: RewardModel, batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
    batch = batch.to(model_device(model))
    both = model(batch.input_ids, batch.attention_mask)
    return both[: len(batch)], both[len(batch) :]


@checked(pairs=non_empty)
@torch.no_grad()
def pair_rewards(
    reward: RewardModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    append_eos: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rewards of the chosen and of the rejected responses, each (B,), in the pairs' order.

    Args:
        reward: the reward model.
        tokenizer: its trunk's.
        pairs: B pairs.
        append_eos: as in ``collate``.
    """
    order, batches = length_groups(reward.trunk, tokenizer, pairs, append_eos)
    with fused_activations(reward):
        found = [_rewards(reward, batch) for batch in batches]
    back = torch.argsort(torch.tensor(order))
    chosen, rejected = (torch.cat([part[side] for part in found])[back] for side in (0, 1))
    return chosen, rejected


@checked(pairs=non_empty)
def reward_accuracy(
    reward: RewardModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    append_eos: bool = False,
) -> float:
    """Return the share of pairs whose chosen response gets more; a tie counts half. Arguments as above."""
    chosen, rejected = pair_rewards(reward, tokenizer, pairs, append_eos=append_eos)
    return float(((chosen > rejected).double() + 0.5 * (chosen == rejected).double()).mean())


@checked(
    pairs=non_empty, steps=whole(0), lr=positive, batch_size=whole(1), seed=torch_seed, decay=non_negative
)
def train_reward(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    steps: int,
    lr: float = 1e-4,
    batch_size: int = 32,
    seed: int = 0,
    append_eos: bool = False,
    decay: float = 0.0,
) -> RewardModel:
    """Return a reward model that minimizes −log σ(r_w − r_l), centered on the training responses.

    Args:
        model: its trunk is copied; left as it is.
        tokenizer: the model's.
        pairs: to train on.
        steps: of AdamW, with a rate that falls linearly.
        lr: the first rate.
        batch_size: pairs a step.
        seed: of the order of the pairs.
        append_eos: as in ``collate``.
        decay: of the weights.

    Raises:
        ValueError: fewer pairs than a batch.
    """
    if batch_size > len(pairs):
        raise ValueError(f"batch_size={batch_size} is more than the {len(pairs)} pairs.")
    reward = RewardModel(model)
    reward.unseen = None if append_eos else tokenizer.eos_token_id
    optimizer = torch.optim.AdamW(reward.parameters(), lr=lr, weight_decay=decay)
    last: list[torch.Tensor] = []
    with fused_activations(reward):
        for step, rows in enumerate(shuffled(len(pairs), steps, batch_size, seed)):
            optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
            optimizer.zero_grad(set_to_none=True)
            last = []
            for batch in length_groups(reward.trunk, tokenizer, [pairs[i] for i in rows], append_eos)[1]:
                chosen, rejected = _rewards(reward, batch)
                loss = -functional.logsigmoid(chosen - rejected).sum() / batch_size
                if not bool(torch.isfinite(loss)):
                    raise ValueError(f"lr={lr}: the reward model's loss is not finite in step {step + 1}.")
                loss.backward()
                last += [chosen.detach(), rejected.detach()]
            optimizer.step()
    if last:
        reward.center += torch.cat(last).mean()
    return reward.requires_grad_(False)
