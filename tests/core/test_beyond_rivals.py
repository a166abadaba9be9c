"""Beyond language: weights that are learned along the way, and drivers that imitate rules."""

from __future__ import annotations

import sys

import pandas as pd
import pytest
import torch

from entanglement.archive import DataError
from entanglement.objectives.gradnorm import gradnorm
from entanglement_book.studies.ch16_beyond_language import (
    driving,
    facts as told,
    grid_rules,
    numbers as tell,
)
from entanglement_book.studies.ch16_beyond_language.fields import make_field
from entanglement_book.studies.ch16_beyond_language.imitation import imitated, recipe
from entanglement_book.studies.ch16_beyond_language.learned_weights import (
    LearnedWeights,
    extra_passes,
    last_shared_layer,
)
from entanglement_book.studies.ch16_beyond_language.rule_based import MANNERS, Manner
from entanglement_book.studies.ch16_beyond_language.together import gradient_rows, train_together

# --- GradNorm -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    field = make_field("digits", 60, 20, 0)

    def losses(net, rows):
        return field.losses(net, field.train[rows])

    return field, losses


def test_it_looks_at_the_last_layer_that_all_share(digits):
    field, _ = digits
    net = field.network(2, shared=True, seed=0)
    layer = last_shared_layer(net)
    assert layer.shape == (8, 36) and any(layer is p for p in net.trunk.parameters())
    with pytest.raises(TypeError, match="net is Separate; expected Shared"):
        last_shared_layer(field.network(2, shared=False, seed=0))


def test_a_step_uses_this_steps_weights_and_learns_the_next_ones(digits):
    field, losses = digits
    net = field.network(2, shared=True, seed=0)
    first = grid_rules.chance_losses(field)
    learned = LearnedWeights(net, losses, first, alpha=1.5)
    rows = torch.arange(60)
    found = learned.losses(net, rows)
    jacobian = gradient_rows(net, found)
    assert torch.allclose(learned(jacobian), jacobian.sum(0))  # 1 each at first
    norms = torch.stack(
        [torch.autograd.grad(loss, last_shared_layer(net), retain_graph=True)[0].norm() for loss in found]
    )
    wanted = gradnorm(torch.ones(4), norms, found.detach(), first, alpha=1.5)
    assert torch.allclose(learned.weights, wanted, rtol=1e-4)
    assert not torch.allclose(wanted, torch.ones(4, dtype=torch.float64))
    assert torch.allclose(learned(jacobian), wanted.float() @ jacobian, rtol=1e-4, atol=1e-6)
    assert [used.tolist() for used in learned.used] == [[1.0] * 4, learned.used[1].tolist()]


def test_along_a_training_it_ends_with_pulls_that_are_more_alike(digits):
    field, losses = digits
    spread = {}
    for learns in (False, True):
        net = field.network(2, shared=True, seed=1)
        learned = LearnedWeights(net, losses, grid_rules.chance_losses(field), alpha=0.0)
        options = dict(steps=60, lr=0.005, batch=60, seed=0)
        for _ in train_together(
            net, learned.losses if learns else losses, 60, weights=learned if learns else (), **options
        ):
            pass
        found = losses(net, torch.arange(60))
        norms = torch.stack(
            [torch.autograd.grad(loss, last_shared_layer(net), retain_graph=True)[0].norm() for loss in found]
        )
        pulls = norms * (learned.weights if learns else 1.0)
        spread[learns] = float(pulls.std() / pulls.mean())
    assert spread[True] < 0.5 * spread[False]


def test_gradients_of_one_layer_cost_little(digits):
    field, losses = digits
    net = field.network(4, shared=True, seed=0)
    extra = extra_passes(net, losses, torch.arange(20))
    # Heads backward to their inputs, and the layer's own product, for each task; by hand, per picture:
    first, second, last, heads = 9 * 4 * 144, 9 * 4 * 8 * 36, 72 * 16, 16 * 22
    assert extra == pytest.approx((4 * last + heads) / (first + second + last + heads), rel=1e-9)


@pytest.mark.parametrize("way", grid_rules.LEARNED)
def test_what_is_learned_counts_its_cost_and_what_is_held_does_not(way):
    rows = grid_rules.run_cell("smoke", "nano", {"field": "digits", "way": way, "seed": 1})["tasks"]
    a_step = (rows["passes"] / rows["step"]).round(9).unique()
    assert len(a_step) == 1 and (a_step[0] == 3) == (way == "held") and 3 <= a_step[0] < 4
    other = grid_rules.run_cell("smoke", "nano", {"field": "digits", "way": "sum", "seed": 1})["tasks"]
    assert rows["judged"].iloc[-1] != other["judged"].iloc[-1]


# --- rules of the road --------------------------------------------------------------------------------------


class Still:
    """A road with our driver in the middle lane and, maybe, a car close in front of it."""

    def __init__(self, speed=25.0, front=None, lane=1):
        self.environment = driving._road()
        self.environment.reset(seed=0)
        road, own = self.environment.road, self.environment.vehicle
        own.position[:] = (100.0, 4.0 * lane)
        own.speed, own.heading = speed, 0.0
        own.target_lane_index = own.lane_index = ("0", "1", lane)
        kept = [own]
        if front is not None:
            other = next(vehicle for vehicle in road.vehicles if vehicle is not own)
            other.position[:], other.speed, other.heading = (100.0 + front, 4.0 * lane), 20.0, 0.0
            other.target_lane_index = other.lane_index = ("0", "1", lane)
            kept.append(other)
        road.vehicles = kept

    def does(self, manner):
        return driving.ACTIONS[manner.action(self.environment)]


def test_on_an_empty_road_each_drives_at_its_own_speed_and_one_keeps_right():
    careful, right, hurried = MANNERS
    assert (Still().does(careful), Still().does(right), Still().does(hurried)) == (
        "slower",
        "right",
        "faster",
    )
    assert Still(lane=2).does(right) == "keep going"
    assert Still(speed=20.0).does(careful) == Still(speed=30.0).does(hurried) == "keep going"


def test_behind_a_slow_car_it_passes_if_it_may_and_brakes_if_not():
    _, _, hurried = MANNERS
    assert Still(speed=30.0, front=30.0).does(hurried) in ("left", "right")
    assert Still(speed=30.0, front=30.0).does(Manner(speed=30, sides=())) == "slower"
    assert Still(speed=25.0, front=120.0).does(Manner(speed=25, gap=0.5, sides=())) == "keep going"
    assert Still(speed=25.0, front=120.0).does(Manner(speed=25, gap=4.0, sides=())) == "slower"


def test_a_look_leaves_the_road_as_it_was():
    road = driving._road()
    road.reset(seed=3)
    vehicles = list(road.road.vehicles)
    before = [(tuple(vehicle.position), vehicle.speed, vehicle.target_lane_index) for vehicle in vehicles]
    for manner in MANNERS:
        manner.action(road)
    assert all(one is other for one, other in zip(vehicles, road.road.vehicles, strict=True))
    assert before == [(tuple(v.position), v.speed, v.target_lane_index) for v in road.road.vehicles]


def test_situations_say_what_each_teacher_does_and_need_no_trials_for_it():
    tried, untried = driving.situations(4, 1), driving.situations(4, 1, tried=False)
    assert torch.equal(tried.seen, untried.seen) and torch.equal(tried.taught, untried.taught)
    assert tried.taught.shape == (4, 3) and untried.values.isnan().all()
    assert not torch.equal(driving.situations(4, 2, tried=False).seen, untried.seen)


def test_imitation_is_the_cross_entropy_with_what_is_taught():
    known = driving.situations(4, 1, tried=False)
    for shared in (True, False):
        driver = driving.new_driver(shared=shared, seed=0)
        assert torch.allclose(driver.logs(known.seen).exp(), driver(known.seen))
        found = driving.imitation_losses(driver, known.seen, known.taught)
        shares = driver(known.seen).detach()
        by_hand = [[-shares[n, known.taught[n, i], i].log() for i in range(3)] for n in range(4)]
        assert torch.allclose(found, torch.tensor(by_hand))


def test_a_missing_highway_is_said_by_the_rules_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "highway_env.vehicle.behavior", None)
    with pytest.raises(DataError, match=r"^the package 'highway-env' is not installed; [^\n]*\.$"):
        MANNERS[0].action(None)


def test_drivers_imitate_and_are_judged_on_another_road():
    found, numbers = imitated("smoke"), recipe("smoke")
    agreement = found["agreement"]
    assert sorted(agreement["situations"].unique()) == list(numbers.situations)
    assert len(agreement) == 2 * 2 * 2 * 3 and not agreement.isna().any().any()
    new = driving.situations(numbers.held_out, 10_000, tried=False)
    given = driving.situations(8, 0, tried=False)
    rows = agreement[(agreement["seed"] == 0) & (agreement["situations"] == 8)]
    for i, name in enumerate(driving.OBJECTIVES):
        often = given.taught[:, i].mode().values
        share = float((new.taught[:, i] == often).double().mean())
        assert rows[rows["objective"] == name]["commonest"].unique() == pytest.approx([share])
    assert sorted(found["cosines"]["step"].unique()) == [0, numbers.steps]
    assert set(found["driving"]["way"]) == {"imitator", *(f"{name}'s teacher" for name in driving.OBJECTIVES)}
    facts = told.of_imitation(found)
    assert facts["n_many"] == 8 and 0 <= facts["crashes_careful"] <= 100


def counted(agrees):
    """Rows of "agreement": from 3 or 9 situations, of two teachers, with two seeds."""
    return pd.DataFrame(
        [
            {"situations": count, "seed": seed, "way": way, "objective": name}
            | {"agrees": agrees(count, seed, way), "turned": 0.1}
            | {"commonest": 0.3 if name == "safety" else 0.5}
            for count in (3, 9)
            for seed in (0, 1)
            for way in ("separate", "one")
            for name in ("safety", "progress")
        ]
    )


def test_agreement_is_counted_against_the_commonest_action():
    rows = counted(lambda count, seed, way: 0.4 + 0.1 * (way == "separate") + 0.2 * (count == 9) + 0.1 * seed)
    found = tell.agreements(rows, ["progress", "safety"])
    assert list(found) == ["progress", "safety"]
    assert [each.value for each in found["safety"]] == pytest.approx([0.3, 0.55, 0.75, 0.65])
    # The commonest actions make 0.4 in the mean.
    assert tell.ahead_of_the_commonest(rows, 3).value == pytest.approx(0.15)
    assert tell.ahead_of_the_commonest(rows, 9, "one").value == pytest.approx(0.25)
    assert tell.ahead_of_the_commonest(rows, 9, column="turned").value == pytest.approx(-0.3)
    assert tell.ahead_of_the_commonest(rows, 9).n == 2
