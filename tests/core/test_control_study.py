"""Requests on single pairs and paths to a goal."""

import math

import pytest
import torch

from entanglement.batches import collate_for
from entanglement.loglinear import suffix_pairs
from entanglement.logps import response_logps
from entanglement.losses.goals import goal_loss
from entanglement.pairs import PreferencePair
from entanglement_book.studies.ch13_control import study
from entanglement_book.studies.ch13_control.study import (
    around,
    exact_path,
    goal_steps,
    margin_alone,
    measured,
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


def test_what_a_request_costs_and_whether_dpo_meets_it(tiny_model, tokenizer, pair):
    model, size = tiny_model("gpt2-tied"), 0.02
    geometry = measured(model, tokenizer, [pair])
    a, b, rho = float(geometry.chosen_sq.sqrt()), float(geometry.rejected_sq.sqrt()), float(geometry.cosine)
    up, down = (float(rate) for rate in geometry.rates())
    scale = size / max(abs(up), abs(down))
    assert set(around(size).values()) == {
        (x * size, y * size) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)
    }
    signs = {"up": size, "stay": 0.0, "down": -size}
    for name, asked in around(size).items():
        assert asked == tuple(signs[word] for word in name.split(", "))
    requests = around(size) | {
        "dpo's own": (scale * up, scale * down), "and back": (-scale * up, -scale * down),
    }  # fmt: skip
    table = try_requests(model, tokenizer, [pair], requests).set_index("request")
    for name, (chosen, rejected) in requests.items():
        s_w, s_l = chosen / a, rejected / b
        length = math.sqrt((s_w**2 - 2 * rho * s_w * s_l + s_l**2) / (1 - rho**2))
        largest = max(abs(chosen), abs(rejected))
        assert table.loc[name, "price"] == pytest.approx(length * a / largest, rel=1e-6)
    assert table["price"].nunique() > 4
    # DPO's own direction meets DPO's own request, and no other of these.
    assert table.index[table["met_by_dpo"]].tolist() == ["dpo's own"]
    assert (table["pair"] == pair.id).all()


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_dpos_own_steps_ask_for_a_share_of_the_rest(tiny_model, tokenizer, pair, share):
    model, target = tiny_model("gpt2-tied"), 1e-3  # small enough to be of first order
    start = response_logps(model, collate_for(model, [pair], tokenizer, False))
    said = margin_alone(model, tokenizer, pair, target, share=share, max_steps=1)
    now = response_logps(model, collate_for(model, [pair], tokenizer, False))
    moved = [float((new - old).detach()) for new, old in zip(now, start, strict=True)]
    assert said == pytest.approx(moved, abs=1e-9)  # where it gave up, the last step included
    geometry = measured(tiny_model("gpt2-tied"), tokenizer, [pair])
    ratio = [float(rate / geometry.distance_sq) for rate in geometry.rates()]
    assert moved == pytest.approx([share * target * r for r in ratio], rel=1e-2)
    assert margin_alone(model, tokenizer, pair, 1.0, max_steps=0) == (0.0, 0.0)
    # It stops within a twentieth, and not before.
    steps = {0.5: 5, 0.7: 3}[share]  # (1 − share)^n below 0.05
    for n, there in ((steps - 1, False), (steps, True)):
        found = margin_alone(tiny_model("gpt2-tied"), tokenizer, pair, target, share=share, max_steps=n)
        assert (abs(found[0] - found[1] - target) <= 0.05 * target) == there


def test_a_path_starts_at_the_reference_and_takes_the_losss_own_steps(entangled):
    loss, eta = goal_loss(1.0, -0.5), 1e-2
    path = exact_path(entangled, loss, eta, 2)
    assert path["step"].tolist() == [0, 1, 2] and path.iloc[0].tolist() == [0, 0, 0]
    first = [float(x) for x in entangled.change(eta, 1.0, 0.5)]  # at the reference the weights are the goals
    assert path.iloc[1][["chosen", "rejected"]].tolist() == pytest.approx(first, rel=1e-9)
    weights = 1.0 - first[0], 0.5 + first[1]
    then = [float(x) for x in entangled.step(eta, 1.0, 0.5).change(eta, *weights)]
    expected = [a + b for a, b in zip(first, then, strict=True)]
    assert path.iloc[2][["chosen", "rejected"]].tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_each_planned_step_goes_a_share_of_what_is_left(entangled, share):
    goal = (2e-4, -1e-4)  # small enough to be of first order
    path = goal_steps(entangled, goal, 3, *([] if share == 0.3 else [share]))
    assert path["step"].tolist() == [0, 1, 2, 3]
    for k in range(4):
        done = 1 - (1 - share) ** k
        found = path.iloc[k][["chosen", "rejected"]].tolist()
        assert found == pytest.approx([done * part for part in goal], rel=2e-2, abs=1e-12)


def test_every_try_starts_from_the_same_parameters(tiny_model, tokenizer, pair, monkeypatch):
    model = tiny_model("gpt2-tied")
    start = [p.detach().clone() for p in model.parameters()]
    tried = []

    def from_start(function):
        def call(model, *arguments, **options):
            assert all(torch.equal(p, q) for p, q in zip(model.parameters(), start, strict=True))
            tried.append(function.__name__)
            return function(model, *arguments, **options)

        return call

    for function in (study.reach, study.margin_alone):
        monkeypatch.setattr(study, function.__name__, from_start(function))
    try_requests(model, tokenizer, [pair], {"one": (0.05, -0.05), "two": (0.05, 0.0)})
    assert tried == ["reach", "margin_alone"] * 2


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("sign", [-1, 1])
def test_dpo_meets_a_request_within_a_twentieth_of_its_larger_part(
    tiny_model, tokenizer, pair, monkeypatch, place, sign
):
    model, asked = tiny_model("gpt2-tied"), (0.02, -0.04)
    for share, met in ((0.049, True), (0.051, False)):
        end = list(asked)
        end[place] += sign * share * 0.04
        monkeypatch.setattr(study, "margin_alone", lambda *_, end=end: tuple(end))
        assert try_requests(model, tokenizer, [pair], {"one": asked})["met_by_dpo"].tolist() == [met]
