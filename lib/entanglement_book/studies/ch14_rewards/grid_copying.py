"""The grid of the toy: which right answers fall under GRPO, whether that is foretold, and what mends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import nn

from entanglement.rewards import Answers, draw_answers, reinforce
from entanglement.rewards.learning import Weigher
from entanglement.rewards.negative_tokens import constant_weights, hidden_weights
from entanglement.uses import remembered
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.ch14_rewards.copying import (
    KINDS,
    TOKENS,
    held_out,
    hesitant,
    prompts,
    sizes,
    taught,
    worth,
)
from entanglement_book.studies.ch14_rewards.prediction import METRICS, SHARES, single_steps
from entanglement_book.studies.shared.means import set_means

__all__ = ["ARMS", "Arm", "describe", "grid_cells", "run_cell", "shuffled_weights"]


def shuffled_weights(
    model: nn.Module, answers: Answers, advantages: torch.Tensor, *, seed: int = 0
) -> torch.Tensor:
    """Return ``hidden_weights``, dealt out again at random among the tokens of a group's wrong answers.

    As many of them keep their push, but which ones has nothing to do with the right answers. Arguments as
    there; ``seed`` is of the deal.
    """
    weights = hidden_weights(model, answers, advantages)
    for start in range(0, len(answers), answers.group):
        rows = slice(start, start + answers.group)
        wrong = (advantages[rows, :1] < 0) & answers.mask[rows].to(advantages.device)
        some = weights[rows][wrong]
        dealt = torch.randperm(len(some), generator=torch.Generator().manual_seed(seed))
        weights[rows] = weights[rows].masked_scatter(wrong, some[dealt])
    return weights


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        weigh: what advantages are multiplied by, token by token.
        preserve: weight of the falls of good answers in the loss.
        rate: factor on the rate.
    """

    weigh: Weigher | None = None
    preserve: float = 0.0
    rate: float = 1.0


#: GRPO itself; two mends from the literature; the first of them at random; two rivals that look at no answer;
#: and no push down at all.
ARMS: dict[str, Arm] = {
    "grpo": Arm(),
    "hidden": Arm(weigh=hidden_weights),
    "shuffled": Arm(weigh=shuffled_weights),
    "preserve": Arm(preserve=1.0),
    "constant": Arm(weigh=partial(constant_weights, weight=0.5)),
    "slow": Arm(rate=0.5),
    "upward": Arm(weigh=partial(constant_weights, weight=0.0)),
}
#: Rates of the single steps.
SINGLE = {"sgd": 0.005, "adamw": 3e-4}
#: Answers that are drawn for each held-out prompt.
DRAWS = 16
#: Groups that give an optimizer its memory before a single step.
WARM = 4


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: every arm where wrong answers share the right ones' words, GRPO where they do not."""
    seeds = range(sizes(scale).seeds)
    return [
        {"kind": kind, "arm": arm, "seed": seed}
        for seed in seeds
        for kind in KINDS
        for arm in (ARMS if kind == KINDS[0] else ("grpo",))
    ]


@remembered(maxsize=2)
def start(scale: str, kind: str, seed: int) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """Return the taught model, its tokenizer and its parameters, for the cells that start there."""
    model, tokenizer = taught(kind, sizes(scale), seed)
    return model, tokenizer, {name: value.clone() for name, value in model.state_dict().items()}


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "means": ``set_means`` of the held-out prompts' right and wrong answers, "hesitant" and "at once".
        "steps": one row a step of training (``reinforce``): reward, spread, kl, length, clipped, fell, read.
        "drawn": one row before and one after: right, hesitant (shares of what is drawn for held-out prompts),
            right_hesitant (share of all), right_among_hesitant (missing where none hesitates).
        "single", of GRPO alone: one row an optimizer and right answer: length, before, change, plain,
            optimizer, own, from_right, from_wrong (``single_steps``), prompt (one group each).
    """
    numbers, arm, kind, seed = sizes(scale), ARMS[cell["arm"]], cell["kind"], int(cell["seed"])
    policy, tokenizer, parameters = start(scale, kind, seed)
    policy.load_state_dict(parameters)
    seen, unseen = prompts(seed, numbers.held_out)

    def reward(answers: Answers) -> torch.Tensor:
        return worth(tokenizer, answers)

    def drawn(moment: str) -> dict[str, Any]:
        answers = draw_answers(policy, tokenizer, unseen, group=DRAWS, tokens=TOKENS, seed=seed)
        right, slow = reward(answers) > 0, torch.tensor(hesitant(tokenizer, answers))
        both, share = float((right & slow).double().mean()), float(slow.double().mean())
        row = {"moment": moment, "right": float(right.double().mean()), "hesitant": share}
        return row | {"right_hesitant": both, "right_among_hesitant": both / share if share else None}

    tables: dict[str, pd.DataFrame] = {}
    if cell["arm"] == "grpo":
        options: dict[str, Any] = {"group": numbers.group, "tokens": TOKENS, "seed": seed, "warm": WARM}
        some = seen[: WARM + numbers.single]
        frames = [
            single_steps(policy, tokenizer, some, reward, optimizer=name, lr=lr, **options).assign(
                optimized=name
            )
            for name, lr in SINGLE.items()
        ]
        single = pd.concat(frames, ignore_index=True)
        columns = ["optimized", "prompt", "length", "before", "change", *METRICS, *SHARES]
        tables["single"] = single.loc[single["right"].astype(bool), columns].reset_index(drop=True)
    before = drawn("before")
    run = reinforce(
        policy, tokenizer, seen, reward, method="grpo", optimizer="sgd", max_grad_norm=None,
        steps=numbers.steps, lr=numbers.lr * arm.rate,
        batch_size=numbers.prompts, group=numbers.group, tokens=TOKENS, epochs=numbers.epochs, beta=0.0,
        weigh=arm.weigh, preserve=arm.preserve, seed=seed, append_eos=True,
        evaluate=held_out(kind, unseen, seed),
        evaluate_at=sorted({round(numbers.steps * k / 6) for k in range(7)}),
    )  # fmt: skip
    tables |= {"means": set_means(run.table), "steps": run.monitor}
    tables["drawn"] = pd.DataFrame([before, drawn("after")])
    return tables


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the sizes and the arms, for the provenance of a table."""
    arms = {
        name: {"preserve": arm.preserve, "rate": arm.rate, "weighed": arm.weigh is not None}
        for name, arm in ARMS.items()
    }
    recipe = asdict(sizes(scale))
    return {"recipe": recipe, "arms": arms, "single": SINGLE, "draws": DRAWS, "model": model}


def _amplifies(cell: Mapping[str, Any]) -> bool:
    """Whether rounding decides what is drawn next: in every cell."""
    return True


GRIDS.add("copying", Grid("copying", grid_cells, run_cell, describe, models=("nano",), amplifies=_amplifies))
