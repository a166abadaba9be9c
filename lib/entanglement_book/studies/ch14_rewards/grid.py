"""The grid of rewards instead of margins: from one checkpoint, margins and rewards on the near-copies.

A cell starts from the checkpoint of the grids of training dynamics and of update rules. Margins take the
recipe's steps on given pairs; the others draw answers to the same prompts, have them scored by a reward
model that was fitted to the same pairs, and step on them, until about as many tokens have been read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from transformers import PreTrainedTokenizerBase

from entanglement.batches import collate_left, shuffled
from entanglement.models import about_model, load_model
from entanglement.outcomes.quality import answer_quality
from entanglement.pairs import PreferencePair
from entanglement.rewards import reinforce
from entanglement.training import align, sft
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
        batch = collate_left([pairs[i] for i in rows], tokenizer, False)
        prompts = int((batch.attention_mask.sum() - batch.response_mask.sum()) / 2)
        answers = int(batch.response_mask.sum() if both else batch.chosen_len.sum())
        total += (prompts + answers) * (4 if both else 3)  # and the reference's
    return total


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "means": ``set_means`` of the held-out given pairs, a row a moment.
        "answers": one row before and one after: what is drawn for held-out prompts (``runs.scored``,
            ``quality``), read (tokens that the training went over), accuracy (the reward model's on held-out
            pairs).
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

    def drawn(moment: str, read: int) -> dict[str, Any]:
        prompts = [pair.prompt for pair in test]
        row = scored(policy, tokenizer, reward, test, draws=more.draws, tokens=tokens, seed=seed)
        quality = answer_quality(
            policy, before, tokenizer, prompts, tokens=tokens, draws=more.draws, seed=seed
        )
        return {"moment": moment} | row | quality | {"read": read, "accuracy": accuracy}

    first = drawn("before", 0)
    tables: dict[str, pd.DataFrame] = {}
    if way.method:
        clipped = way.method == "ppo"
        steps = more.clipped_steps if clipped else more.steps
        run = reinforce(
            policy, tokenizer, [pair.prompt for pair in train], reward.of, method=way.method, steps=steps,
            lr=more.lr, batch_size=more.prompts, group=more.group, tokens=tokens,
            epochs=more.epochs if clipped else 1, beta=more.beta if way.priced else 0.0, seed=seed,
            evaluate={"test": test}, evaluate_at=_moments(steps),
        )  # fmt: skip
        tables["steps"], read = run.monitor, int(run.monitor["read"].sum())
    else:
        options: dict[str, Any] = {"steps": numbers.steps, "batch_size": numbers.batch, "seed": seed}
        options |= {"evaluate": {"test": test}, "evaluate_at": _moments(numbers.steps)}
        read = _read(
            tokenizer, train, list(shuffled(len(train), numbers.steps, numbers.batch, seed)), bool(way.loss)
        )
        if way.loss:
            run = align(policy, tokenizer, train, loss=way.loss, lr=numbers.lr, **options)
        else:
            run = sft(policy, tokenizer, train, lr=numbers.lr, **options)
    tables["means"] = set_means(run.table)
    tables["answers"] = pd.DataFrame([first, drawn("after", read)])
    return tables


def _moments(steps: int) -> list[int]:
    return sorted({round(steps * k / 4) for k in range(5)})


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the ways, for the provenance of a table."""
    return {
        "recipe": asdict(recipe(scale, model)),
        "numbers": asdict(numbers_of(scale)),
        "ways": {name: asdict(way) for name, way in WAYS.items()},
        "model": model,
        "about": about_model(model),
    }


GRIDS.add("rewards", Grid("rewards", grid_cells, run_cell, describe, models=(), smoke="nano"))
