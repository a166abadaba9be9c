"""The grid of rewards instead of margins: from one checkpoint, margins and rewards on the near-copies.

A cell starts from the checkpoint of the grids of training dynamics and of update rules. Margins take the
recipe's steps on given pairs; the others draw answers to the same prompts, have them scored by a reward
model that was fitted to the same pairs, and step on them, until about as many tokens have been read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from entanglement.batches import shuffled
from entanglement.models import about_model, load_model
from entanglement.outcomes.quality import answer_quality
from entanglement.pairs import PreferencePair, collate
from entanglement.rewards import Answers, reinforce
from entanglement.token_ids import context_length
from entanglement.training import Observer, align, sft
from entanglement.training.observers import Taken
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.ch14_rewards.runs import DATA, learned_reward, numbers_of, scored
from entanglement_book.studies.shared.means import set_means
from entanglement_book.studies.shared.start import checkpoint, data_pairs, recipe, train_pairs

__all__ = ["WAYS", "Way", "describe", "grid_cells", "run_cell"]


@dataclass(frozen=True)
class Way:
    """One way to go on from the checkpoint.

    Attributes:
        method: of ``reinforce``; "" for a loss of given pairs.
        priced: whether leaving the reference costs.
        loss: of given pairs; "" for fine-tuning on the chosen ones alone.
    """

    method: str = ""
    priced: bool = True
    loss: str = ""


WAYS: dict[str, Way] = {
    "dpo": Way(loss="dpo"),
    "sft": Way(),
    "ppo": Way("ppo"),
    "ppo-free": Way("ppo", priced=False),
    "rloo": Way("rloo"),
    "grpo": Way("grpo"),
}
#: Of a training, the shares after which its answers are described: a shorter one is the rival at equal KL.
PARTS = 4


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: way × seed; those of a seed together, since they share a checkpoint and a reward."""
    return [{"way": way, "seed": seed} for seed in range(recipe(scale, model).seeds) for way in WAYS]


def _read(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    batches: Sequence[Sequence[int]],
    both: bool,
) -> int:
    """Return the tokens that a training on pairs goes over: prompts once, a backward pass as two."""
    total = 0
    for rows in batches:
        batch = collate([pairs[i] for i in rows], tokenizer, max_length=context_length(tokenizer))
        prompts = int((batch.attention_mask.sum() - batch.response_mask.sum()) / 2)
        answers = int(batch.response_mask.sum() if both else batch.chosen_len.sum())
        total += (prompts + answers) * (4 if both else 3)  # and the reference's
    return total


class _Along(Observer):
    """Looks at the policy at some moments of a training on pairs."""

    def __init__(self, look: Callable[[int], None], moments: Sequence[int]) -> None:
        self.look, self.moments = look, moments
        self.apart = False

    def after_step(self, taken: Taken) -> None:
        """Look after a step that is one of the moments."""
        if taken.step in self.moments:
            self.look(taken.step)


def _looking(
    reward: Callable[[Answers], torch.Tensor], look: Callable[[int], None], moments: Sequence[int]
) -> Callable[[Answers], torch.Tensor]:
    """Return the reward, which looks at the policy at some moments: each step begins by asking for it."""
    asked = 0

    def found(answers: Answers) -> torch.Tensor:
        nonlocal asked
        if asked in moments:
            look(asked)
        asked += 1
        return reward(answers)

    return found


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "means": ``set_means`` of the held-out given pairs, a row a moment.
        "answers": one row a moment: step, what is drawn for held-out prompts (``runs.scored``, ``quality``),
            read (tokens that the training went over until then), accuracy (the reward model's on held-out
            pairs). Fine-tuning has the first and the last one only.
        "steps", of those that draw: a row a step (``reinforce``).
    """
    numbers, more = recipe(scale, model), numbers_of(scale)
    seed, way = int(cell["seed"]), WAYS[cell["way"]]
    reward, accuracy = learned_reward(scale, model, seed=seed)
    policy, tokenizer, start = checkpoint(scale, model, DATA, seed)
    policy.load_state_dict(start)
    before, _ = load_model(model)
    before.load_state_dict(start)
    before.eval()
    train = train_pairs(scale, model, DATA, seed)
    test = data_pairs(DATA, "test", numbers.test_pairs, seed)
    tokens = numbers.answer_tokens

    rows: list[dict[str, Any]] = []

    def look(step: int) -> None:
        prompts = [pair.prompt for pair in test]
        row = scored(policy, tokenizer, reward, test, draws=more.draws, tokens=tokens, seed=seed)
        quality = answer_quality(
            policy, before, tokenizer, prompts, tokens=tokens, draws=more.draws, seed=seed
        )
        rows.append({"step": step} | row | quality)

    tables: dict[str, pd.DataFrame] = {}
    if way.method:
        clipped = way.method == "ppo"
        steps = more.clipped_steps if clipped else more.steps
        run = reinforce(
            policy, tokenizer, [pair.prompt for pair in train], _looking(reward.of, look, _moments(steps)),
            method=way.method, steps=steps, lr=more.lr, batch_size=more.prompts, group=more.group,
            tokens=tokens, epochs=more.epochs if clipped else 1, beta=more.beta if way.priced else 0.0,
            seed=seed, evaluate={"test": test}, evaluate_at=_moments(steps),
        )  # fmt: skip
        look(steps)
        tables["steps"] = run.monitor
        read = [int(run.monitor["read"].iloc[: row["step"]].sum()) for row in rows]
    else:
        steps = numbers.steps
        options: dict[str, Any] = {"steps": steps, "batch_size": numbers.batch, "seed": seed}
        options |= {"evaluate": {"test": test}, "evaluate_at": _moments(steps)}
        look(0)
        if way.loss:
            watch = _Along(look, _moments(steps))
            run = align(policy, tokenizer, train, loss=way.loss, lr=numbers.lr, observers=[watch], **options)
        else:
            run = sft(policy, tokenizer, train, lr=numbers.lr, **options)
            look(steps)
        batches = list(shuffled(len(train), steps, numbers.batch, seed))
        read = [_read(tokenizer, train, batches[: row["step"]], bool(way.loss)) for row in rows]
    tables["means"] = set_means(run.table)
    tables["answers"] = pd.DataFrame(rows).assign(read=read, accuracy=accuracy)
    return tables


def _moments(steps: int) -> list[int]:
    return sorted({round(steps * k / PARTS) for k in range(PARTS + 1)})


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the ways, for the provenance of a table."""
    return {
        "recipe": asdict(recipe(scale, model)),
        "numbers": asdict(numbers_of(scale)),
        "ways": {name: asdict(way) for name, way in WAYS.items()},
        "model": model,
        "about": about_model(model),
    }


def _amplifies(cell: Mapping[str, Any]) -> bool:
    """Whether rounding decides what is drawn next: where the policy learns from its own answers."""
    return bool(WAYS[cell["way"]].method)


GRIDS.add("rewards", Grid("rewards", grid_cells, run_cell, describe, models=("nano",), amplifies=_amplifies))
