"""The dull rivals of what control is said to do, from the checkpoints and batches of ``controlling``.

Adversarial training has a discriminator that sees drawn answers against preferred ones. Is it at fault that
the two answers of a pair are not parted? Two other rewards take its place, all else equal: a discriminator
that sees rejected answers, and the right first word. The loss with a goal for each answer has as its rival
the same parabola with one goal, for the margin (IPO).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from torch import nn

from entanglement.batches import collate_left
from entanglement.losses import get_loss
from entanglement.models import about_model
from entanglement.pairs import PairBatch
from entanglement.training import align
from entanglement.training.observers import Observer, Run, Taken
from entanglement.updates.adversarial import Adversarial, Discriminator, drawn_batch
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.studies.shared.means import set_means
from entanglement_book.studies.shared.start import checkpoint, data_pairs, recipe, train_pairs, trained_sample

__all__ = ["REWARDS", "FirstWord", "Judged", "Rewarded", "describe", "grid_cells", "run_cell"]

#: What a draw is rewarded for: being taken for a preferred answer by a discriminator that learned from drawn
#: or from rejected ones; or beginning with the preferred answer's first token.
REWARDS = ("drawn", "rejected", "word")
#: Adversarial training as in ``controlling``, but for half of DPO's steps, about its cost: the rate as a
#: multiple of the others', and its options. Rewards are tried with this many seeds.
FASTER, REWARD_SEEDS = 4.0, 3
ADVERSARY: dict[str, Any] = {"head_start": 8, "beta": 0.1, "lr": 1e-4}
#: IPO's β for which its one goal is a margin of 1 nat, as of the request "apart".
IPO_BETA = 0.5


class _FromRejected(Discriminator):
    """A discriminator that takes its steps on rejected answers where it is shown draws."""

    pairs: Sequence[PairBatch] = ()

    def learn(self, batches: Sequence[PairBatch]) -> tuple[float, float]:
        """See ``Discriminator``."""
        return super().learn([batch.to(batches[0].input_ids.device) for batch in self.pairs])


class FirstWord(nn.Module):
    """A reward of 1 for the preferred answer's first token, and of 0 for any other."""

    def forward(self, batch: PairBatch) -> torch.Tensor:
        """Return (2B,) rewards, chosen rows first."""
        first = batch.response_mask.int().argmax(1)
        words = batch.input_ids[torch.arange(len(first)), first]
        wanted = words[: len(batch)]
        return (words == torch.cat([wanted, wanted])).float()

    def learn(self, batches: Sequence[PairBatch]) -> tuple[float, float]:
        """Learn nothing."""
        return 0.0, 0.0


class Rewarded(Adversarial):
    """Adversarial training with one of ``REWARDS``; with "drawn" it is ``Adversarial`` itself."""

    reward = "drawn"

    def begin(self, model: nn.Module) -> None:
        """See ``Adversarial``."""
        super().begin(model)
        if self.reward == "rejected":
            with torch.random.fork_rng(devices=[]):
                self.judge = _FromRejected(model, lr=self.lr)
        elif self.reward == "word":
            self.judge = FirstWord()

    def _compete(self, model: nn.Module, batches: Sequence[PairBatch]) -> tuple[list[PairBatch], float, int]:
        if isinstance(self.judge, _FromRejected):
            self.judge.pairs = batches
        return super()._compete(model, batches)


class Judged(Observer):
    """What a reward makes of held-out pairs at some steps: its table "judged".

    Columns: step; right (share of pairs whose preferred answer has the larger reward than the same words with
    the wrong label, ties half) and right_draw (than a draw); gap and gap_draw, the mean differences; spread,
    the standard deviation of the reward over draws, by which a gap is divided before the model sees it;
    labeled, the share of draws that begin with the right label.
    """

    def __init__(self, pairs: PairBatch, moments: Sequence[int], seed: int) -> None:
        self.pairs, self.moments, self.seed = pairs, frozenset(moments), seed
        self.rows: list[dict[str, float]] = []

    def begin(self, run: Run) -> None:
        """See ``Observer``."""
        self.run, self.rows = run, []

    def after_step(self, taken: Taken) -> None:
        """See ``Observer``."""
        update = self.run.update
        if taken.step not in self.moments or not isinstance(update, Adversarial):
            return
        assert update.judge is not None
        n = len(self.pairs)
        with torch.no_grad():
            drawn = drawn_batch(self.run.model, self.pairs, seed=self.seed)
            given, draws = update.judge(self.pairs), update.judge(drawn)[n:]
            labeled = FirstWord()(drawn)[n:]
        gap, gap_draw = given[:n] - given[n:], given[:n] - draws
        row = {"step": taken.step, "right": _share(gap), "right_draw": _share(gap_draw)}
        row |= {"gap": float(gap.mean()), "gap_draw": float(gap_draw.mean())}
        self.rows.append(row | {"spread": float(draws.std()), "labeled": float(labeled.mean())})

    def result(self) -> Mapping[str, pd.DataFrame]:
        """See ``Observer``."""
        return {"judged": pd.DataFrame(self.rows)}


def _share(gap: torch.Tensor) -> float:
    return float((1 + gap.sign()).mean() / 2)


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: IPO for every seed and every reward for some; those of a seed share a checkpoint."""
    seeds = range(recipe(scale, model).seeds)
    ways = {seed: ("ipo", *REWARDS) if seed < REWARD_SEEDS else ("ipo",) for seed in seeds}
    cells = [{"way": way, "seed": seed} for seed in seeds for way in ways[seed]]
    return cells if scale != "smoke" else one_change(cells)


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "means": ``set_means`` of trained and held-out pairs, a row a step and set.
        "judged": of ``Judged``, for rewards only.
    """
    numbers = recipe(scale, model)
    seed, way = int(cell["seed"]), cell["way"]
    policy, tokenizer, start = checkpoint(scale, model, "sentiment", seed)
    policy.load_state_dict(start)
    train = train_pairs(scale, model, "sentiment", seed)
    test = data_pairs("sentiment", "test", numbers.test_pairs, seed)
    sets = {"trained": trained_sample(scale, model, train, seed), "test": test}
    moments = sorted({round(numbers.steps * k / 8) for k in range(9)})
    if way == "ipo":
        run = align(
            policy, tokenizer, train, loss=get_loss("ipo", beta=IPO_BETA), steps=numbers.steps, lr=numbers.lr,
            batch_size=numbers.batch, seed=seed, evaluate=sets, evaluate_at=moments,
        )  # fmt: skip
        return {"means": set_means(run.table)}
    update = Rewarded(seed=seed, **ADVERSARY)
    update.reward = way
    steps = -(-numbers.steps // 2)
    watch = Judged(collate_left(test, tokenizer, False), [steps], seed)
    run = align(
        policy, tokenizer, train, update=update, steps=steps, lr=FASTER * numbers.lr,
        batch_size=numbers.batch, seed=seed, evaluate=sets, evaluate_at=[0, steps], observers=[watch],
    )  # fmt: skip
    return {"means": set_means(run.table), "judged": run.others["judged"]}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe, the rewards and the numbers of the adversary, for the provenance of a table."""
    about = about_model(model)
    return {"recipe": asdict(recipe(scale, model)), "rewards": REWARDS, "adversary": ADVERSARY} | {
        "faster": FASTER, "reward_seeds": REWARD_SEEDS, "ipo_beta": IPO_BETA, "model": model, "about": about,
    }  # fmt: skip


GRIDS.add("rivals", Grid("rivals", grid_cells, run_cell, describe, models=("nano",)))
