"""Requests on single pairs and paths to a goal."""

import pytest
import torch

from entanglement.loglinear import suffix_pairs
from entanglement.losses.goals import goal_loss
from entanglement.pairs import PreferencePair
from entanglement_book.studies.ch13_control.study import (
    around,
    exact_path,
    goal_steps,
    margin_alone,
    try_requests,
)


@pytest.fixture
def pair():
    return PreferencePair(
        "the film was", " good and the people liked it", " bad and the people liked it", "0"
    )


@pytest.fixture
def entangled():
    made = suffix_pairs(1, 8, relation="scaled", strength=1.25, generator=torch.Generator().manual_seed(0))
    assert float(made.geometry().cosine) > 0.8
    return made


def test_requests_are_met_or_refused_and_the_model_stays_as_it_was(tiny_model, tokenizer, pair):
    model = tiny_model("gpt2-tied")
    before = [value.clone() for value in model.state_dict().values()]
    table = try_requests(model, tokenizer, [pair], around(0.2))
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))
    assert list(table["request"]) == list(around(0.2))
    rows = table.set_index("request")
    assert rows.loc["up, down", "verdict"] == "feasible" and rows.loc["up, down", "met"]
    assert rows.loc["down, up", "verdict"] == "negative weight" and not rows.loc["down, up", "met"]
    feasible = table["verdict"] == "feasible"
    assert table.loc[feasible, "met"].all() and not table.loc[~feasible, "met"].any()
    assert not table["met_by_dpo"].any()  # neither answer alone is what DPO's direction moves
    assert rows.loc["up, down", "price"] > 1 and rows.loc["up, up", "price"] > 0


def test_dpos_direction_reaches_the_margin_and_nothing_else_is_asked(tiny_model, tokenizer, pair):
    model = tiny_model("gpt2-tied")
    chosen, rejected = margin_alone(model, tokenizer, pair, 0.5)
    assert chosen - rejected == pytest.approx(0.5, rel=0.05)


def test_planned_steps_go_straight_and_the_loss_takes_the_detour(entangled):
    goal = (1.0, -1.0)
    straight = goal_steps(entangled, goal, 25)
    assert straight.iloc[0][["chosen", "rejected"]].tolist() == [0, 0]
    assert straight.iloc[-1][["chosen", "rejected"]].tolist() == pytest.approx(goal, abs=0.05)
    geometry = entangled.geometry()
    eta = float(1 / (geometry.chosen_sq + geometry.rejected_sq))
    path = exact_path(entangled, goal_loss(*goal), eta, 25)
    missed = abs(path.iloc[-1]["chosen"] - 1) + abs(path.iloc[-1]["rejected"] + 1)
    assert missed > 0.3
    far = exact_path(entangled, goal_loss(*goal), eta, 600)
    assert abs(far.iloc[-1]["chosen"] - 1) + abs(far.iloc[-1]["rejected"] + 1) < missed / 2
