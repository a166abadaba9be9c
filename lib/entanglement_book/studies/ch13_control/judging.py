"""What a reward sees: discriminators judged on held-out pairs, and a reward for the right first word."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.batches import collate_for, length_groups, shuffled
from entanglement.pairs import PairBatch, PreferencePair
from entanglement.training import align
from entanglement.updates.adversarial import Adversarial, Discriminator, drawn_batch
from entanglement_book.studies.shared.start import Recipe

__all__ = ["FirstWord", "ForFirstWord", "judge_pairs", "taught", "trained_for_first_word"]


class FirstWord(nn.Module):
    """A reward of 1 for the preferred answer's first token, and of 0 for any other, in a judge's place."""

    def forward(self, batch: PairBatch) -> torch.Tensor:
        """Return (2B,) rewards, chosen rows first."""
        first = batch.response_mask.int().argmax(1)
        words = batch.input_ids[torch.arange(len(first)), first]
        wanted = words[: len(batch)]
        return (words == torch.cat([wanted, wanted])).float()

    def learn(self, batches: Sequence[PairBatch]) -> tuple[float, float]:
        """Learn nothing."""
        return 0.0, 0.0


class ForFirstWord(Adversarial):
    """Adversarial training with ``FirstWord`` in the discriminator's place, all else equal."""

    def begin(self, model: nn.Module) -> None:
        """See ``Adversarial``."""
        super().begin(model)
        self.judge = FirstWord()


def taught(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    drawn: bool,
    steps: int,
    batch_size: int,
    seed: int,
    lr: float = 1e-4,
) -> Discriminator:
    """Return a discriminator that learned to tell preferred answers from others.

    Args:
        model: copied; the draws are its own.
        tokenizer: the model's.
        pairs: training pairs.
        drawn: whether the others are draws, as in adversarial training, or the pairs' rejected answers.
        steps, batch_size, seed, lr: of its training.
    """
    with torch.random.fork_rng(devices=[]):  # a new layer draws numbers, which its zeros replace
        judge = Discriminator(model, lr=lr)
    for number, rows in enumerate(shuffled(len(pairs), steps, batch_size, seed)):
        _, groups = length_groups(model, tokenizer, [pairs[i] for i in rows])
        if drawn:
            start = (seed * 100_000 + number) * 100  # a seed of its own for each group of each step
            groups = [drawn_batch(model, group, seed=start + place) for place, group in enumerate(groups)]
        judge.learn(groups)
    return judge


def judge_pairs(
    judge: nn.Module,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    seed: int,
) -> pd.DataFrame:
    """Return what a judge's reward makes of pairs that it has not seen, a row a pair.

    Columns: pair; told and told_draw (whether the preferred answer has the larger reward than the rejected
    one, and than a draw; ties half); gap and gap_draw, the differences in standard deviations of the reward
    over the draws, by which adversarial training divides.
    """
    batch = collate_for(model, pairs, tokenizer, False)
    n = len(batch)
    with torch.no_grad():
        given, draws = judge(batch), judge(drawn_batch(model, batch, seed=seed))[n:]
    spread = draws.std()
    gap, gap_draw = (given[:n] - given[n:]) / spread, (given[:n] - draws) / spread
    told, told_draw = (((1 + part.sign()) / 2).tolist() for part in (gap, gap_draw))
    columns = {"pair": [pair.id for pair in pairs], "told": told, "told_draw": told_draw}
    return pd.DataFrame(columns | {"gap": gap.tolist(), "gap_draw": gap_draw.tolist()})


def trained_for_first_word(
    policy: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[PreferencePair],
    test: Sequence[PreferencePair],
    numbers: Recipe,
    seed: int,
) -> pd.DataFrame:
    """Train a policy in place for the right first word, for half of the recipe's steps and at four times its
    rate, and return the changes of held-out pairs.

    Returns:
        A row a pair: pair, chosen, rejected, margin (nats).
    """
    steps = max(1, numbers.steps // 2)
    run = align(
        policy, tokenizer, train, update=ForFirstWord(head_start=0, seed=seed), steps=steps,
        lr=4 * numbers.lr, batch_size=numbers.batch, seed=seed, evaluate={"test": test},
        evaluate_at=[0, steps],
    )  # fmt: skip
    names = ["chosen_logp", "rejected_logp"]
    first, last = (run.table[run.table["step"] == at].set_index("pair")[names] for at in (0, steps))
    moved = (last - first).rename(columns=lambda name: name.removesuffix("_logp")).reset_index()
    return moved.assign(margin=moved["chosen"] - moved["rejected"])
