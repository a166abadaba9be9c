"""The numbers of RLHF in two steps."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from entanglement.stats import share_interval
from entanglement_book.studies.ch01_two_steps import numbers as tell


def run(seed):
    """A made-up run: in SFT both answers rise by 3, in DPO chosen falls by 1 and rejected by 2."""
    rows = []
    for phase, moves in (("sft", (3.0, 3.0)), ("dpo", (-1.0, -2.0))):
        for step in (4, 0):
            there = [-10.0 + seed + (move if step else 0.0) for move in moves]
            row = {"seed": seed, "phase": phase, "step": step, "accuracy": 0.5 + 0.1 * (step > 0)}
            rows.append(row | dict(zip(("chosen_logp", "rejected_logp"), there, strict=True)))
    weights = pd.Series([1.0 + seed, 2.0], index=["information", "overlap"])
    return SimpleNamespace(
        table=pd.DataFrame(rows),
        reward=SimpleNamespace(table=lambda spread: weights * spread),
        spread=2.0,
        reward_right=torch.tensor([True, True, True, False]),
        blind_right=torch.tensor([True, False, False, True]),
        implicit_right=torch.tensor([True, False]),
    )


def apart(seed, flags):
    made = run(seed)
    made.blind_right = torch.tensor(flags, dtype=torch.bool)
    return made


RUNS = {seed: run(seed) for seed in (0, 1)}


def test_each_step_is_counted_from_its_beginning():
    moved = tell.movements(pd.concat(run.table for run in RUNS.values()))
    values = {name: interval.value for name, interval in moved.items()}
    assert values == pytest.approx({
        "sft_chosen": 3, "sft_rejected": 3, "sft_margin": 0,
        "dpo_chosen": -1, "dpo_rejected": -2, "dpo_margin": 1,
    })  # fmt: skip


def test_the_judges_are_in_percent():
    right = tell.judges(RUNS)
    assert [interval.value for interval in right.values()] == pytest.approx([60, 75, 50])
    assert tell.blind(RUNS).value == 0.5
    assert {k: v.value for k, v in tell.weights(RUNS).items()} == {"information": 3.0, "overlap": 4.0}


def test_a_share_stays_a_share_and_its_interval_has_a_width():
    agreed, found = tell.right(RUNS), tell.blind({0: apart(0, [1, 1, 1, 1]), 1: apart(1, [1, 1, 0, 1])})
    assert (agreed.value, agreed.n) == (0.75, 2) and agreed[1:3] == share_interval(6, 8)[1:3]
    assert found.value == 0.875 and found.low == 0 and found.high == 1
