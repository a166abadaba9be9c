"""A reward model of the Bradley-Terry kind: what preference pairs were used for before DPO.

It gives every response a number, so that σ(reward of chosen − reward of rejected) is the probability that
chosen is preferred. Source: Christiano et al. 2017 (arXiv 1706.03741); Ouyang et al. 2022 (arXiv 2203.02155).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import logsigmoid
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from entanglement.logps import check_batch, model_device
from entanglement.pairs import PairBatch, PreferencePair, collate

__all__ = ["RewardModel", "reward_margins", "train_reward"]


class RewardModel(nn.Module):
    """A language model's body with one linear output, read at a sequence's last token.

    Args:
        base: a causal language model of transformers; its body is trained along, its head is not used.
        seed: of the output's random start.
    """

    def __init__(self, base: Any, seed: int = 0) -> None:
        super().__init__()
        self.body = base.base_model
        width = base.config.hidden_size
        draw = torch.Generator().manual_seed(seed)
        self.head = nn.Linear(width, 1, bias=False)
        self.head.weight.data.normal_(0.0, width**-0.5, generator=draw)

    def forward(self, batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rewards of the chosen and of the rejected responses, (B,) each, no unit."""
        check_batch(batch, "RewardModel")
        batch = batch.to(model_device(self))
        hidden = self.body(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).last_hidden_state  # (2B, T, d)
        columns = torch.arange(batch.input_ids.shape[1], device=hidden.device)
        last = (batch.attention_mask * columns).argmax(dim=1)
        rewards = self.head(hidden[torch.arange(len(last)), last]).squeeze(-1)  # (2B,)
        chosen, rejected = rewards.split(len(batch))
        return chosen, rejected


def _batch(pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase) -> PairBatch:
    return collate(pairs, tokenizer, max_length=min(tokenizer.model_max_length, 1 << 20))


def train_reward(
    model: RewardModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    steps: int = 60,
    lr: float = 1e-4,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Train a reward model in place: minimize −log σ(reward of chosen − reward of rejected).

    Args:
        model: all its parameters are trained, with AdamW at a constant rate; no dropout.
        tokenizer: of its body.
        pairs: the training pairs.
        steps, lr, batch_size: of training.
        seed: of the order of the pairs.
        progress: show a progress bar.

    Returns:
        One row a step: step, loss (nats), accuracy (share of the batch in which chosen got more).

    Raises:
        ValueError: fewer pairs than a batch has.
    """
    if not 1 <= batch_size <= len(pairs):
        raise ValueError(f"train_reward: batch_size={batch_size}; expected 1 to {len(pairs)}, the pairs.")
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    draw = torch.Generator().manual_seed(seed)
    rows, order = [], torch.randperm(len(pairs), generator=draw)
    for step in tqdm(range(1, steps + 1), disable=not progress, desc="reward model"):
        if len(order) < batch_size:
            order = torch.randperm(len(pairs), generator=draw)
        some, order = order[:batch_size].tolist(), order[batch_size:]
        chosen, rejected = model(_batch([pairs[i] for i in some], tokenizer))
        loss = -logsigmoid(chosen - rejected).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        accuracy = float((chosen > rejected).double().mean())
        rows.append({"step": step, "loss": float(loss.detach()), "accuracy": accuracy})
    return pd.DataFrame(rows)


def reward_margins(
    model: RewardModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    size: int = 16,
) -> torch.Tensor:
    """Return reward of chosen − reward of rejected for each pair, (n,) float64; above 0 is right."""
    model.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(pairs), size):
            chosen, rejected = model(_batch(pairs[start : start + size], tokenizer))
            parts.append((chosen - rejected).double().cpu())
    return torch.cat(parts)
