"""One run of the sentiment experiment's two steps, for the grids that vary one thing in it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.losses import get_loss
from entanglement.pairs import PreferencePair
from entanglement.training import align, sft
from entanglement_book.studies.ch08_sentiment.grid import Recipe

__all__ = ["two_steps"]


def two_steps(
    policy: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[PreferencePair],
    test: Sequence[PreferencePair],
    numbers: Recipe,
    *,
    sft_steps: int,
    rate: float = 1.0,
    seed: int,
) -> pd.DataFrame:
    """Fine-tune on the chosen responses, then train by DPO with AdamW, and measure held-out pairs.

    Args:
        policy: trained in place.
        tokenizer: its own.
        train, test: the pairs.
        numbers: of everything that is not varied.
        sft_steps: of fine-tuning.
        rate: factor on DPO's learning rate.
        seed: of the order of the pairs.

    Returns:
        One row a phase ("sft", "dpo") and step, means over held-out pairs (``Trajectory.means``).
    """
    tuned = sft(
        policy, tokenizer, train, steps=sft_steps, lr=numbers.sft_lr, batch_size=numbers.sft_batch, seed=seed,
        evaluate={"test": test}, evaluate_at=(0, sft_steps), geometry_pairs=numbers.geometry_pairs,
    )  # fmt: skip
    aligned = align(
        policy, tokenizer, train, loss=get_loss("dpo", beta=numbers.beta), steps=numbers.dpo_steps,
        lr=rate * numbers.dpo_lr, batch_size=numbers.dpo_batch, seed=seed,
        evaluate={"test": test}, evaluate_at=numbers.moments, geometry_pairs=numbers.geometry_pairs,
    )  # fmt: skip
    return pd.concat([run.means().assign(phase=name) for name, run in (("sft", tuned), ("dpo", aligned))])
