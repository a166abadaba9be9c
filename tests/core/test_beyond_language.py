"""Beyond language: several objectives in one network, against what can be worked out otherwise."""

from __future__ import annotations

import sys
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from entanglement.archive import DataError
from entanglement.objectives import aggregate, objective_gradients
from entanglement_book.grids.load import load_tables
from entanglement_book.studies.ch16_beyond_language import (
    driving,
    facts as told,
    grid_sharing,
    numbers as tell,
)
from entanglement_book.studies.ch16_beyond_language.fields import make_field
from entanglement_book.studies.ch16_beyond_language.grid_rules import chance_losses
from entanglement_book.studies.ch16_beyond_language.tables import by_picture, cosine_curve, trained
from entanglement_book.studies.ch16_beyond_language.together import (
    gradient_rows,
    passes,
    plain_steps,
    priorities,
    train_together,
)
from entanglement_book.studies.ch16_beyond_language.towers import (
    Examples,
    Towers,
    film_examples,
    recalls,
    tower_losses,
)

# --- training several objectives ----------------------------------------------------------------------------


@pytest.fixture
def two_goals():
    """Return a point in the plane that two squared distances pull at."""
    net = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0.0]]))
    goals = torch.tensor([[1.0, 0.0], [-0.5, 0.5]], dtype=torch.float64)

    def losses(net, rows):
        return ((net.weight - goals) ** 2).sum(1)

    return net, losses


def test_gradients_are_rows_and_what_a_loss_does_not_reach_is_zero(two_goals):
    net, losses = two_goals
    found = gradient_rows(net, losses(net, None))
    assert torch.equal(found, torch.tensor([[-2.0, 0.0], [1.0, -1.0]], dtype=torch.float64))
    pair = nn.ModuleList([nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)])
    alone = torch.stack([pair[0].weight.sum(), 3 * pair[1].weight.sum()])
    assert gradient_rows(pair, alone).tolist() == [[1, 0], [0, 3]]


def test_a_step_by_constants_and_one_by_a_rule(two_goals):
    net, losses = two_goals
    jacobian = gradient_rows(net, losses(net, None))
    wanted = {
        (2.0, 1.0): 2 * jacobian[0] + jacobian[1],
        (): jacobian.sum(0),
        "upgrad": aggregate(jacobian @ jacobian.T, "upgrad") @ jacobian,
        priorities: priorities(jacobian),
    }
    for weights, direction in wanted.items():
        copy = deepcopy(net)
        optimizer = torch.optim.SGD(copy.parameters(), 0.1)
        options = {"steps": 1, "lr": 0.1, "batch": 1, "seed": 0, "optimizer": optimizer}
        assert list(train_together(copy, losses, 1, weights=weights, **options)) == [0, 1]
        assert torch.allclose(copy.weight[0] - net.weight[0], -0.1 * direction, atol=1e-6)
    directions = torch.stack(list(wanted.values()))
    assert torch.pdist(directions).min() > 1e-3  # or nothing would have been told apart


def test_the_batches_are_drawn_by_the_seed():
    seen = {}
    for seed in (0, 1):
        net, seen[seed] = nn.Linear(1, 1), []

        def losses(net, rows, into=seen[seed]):
            into.append(rows.tolist())
            return torch.stack([net.weight.sum(), net.bias.sum()])

        list(train_together(net, losses, 50, steps=3, lr=0.1, batch=4, seed=seed))
    assert seen[0] != seen[1] and all(len(rows) == 4 for rows in seen[0])
    assert len({tuple(rows) for rows in seen[0]}) == 3


def test_plain_steps_leave_the_network_and_move_a_copy(two_goals):
    net, losses = two_goals
    before = net.weight.detach().clone()
    one = plain_steps(net, losses, [None, None], lr=0.25, task=0)
    assert torch.equal(net.weight, before)
    assert one.weight.tolist() == [[0.75, 0.0]]  # half of the way, twice
    both = plain_steps(net, losses, [None], lr=0.25)
    assert both.weight.tolist() == [[0.25, 0.25]]


def test_a_rule_costs_a_backward_pass_an_objective():
    assert (passes(4, rule=False), passes(4, rule=True), passes(14, rule=True)) == (3, 9, 29)


@pytest.mark.parametrize("seed", range(20))
def test_priorities_never_take_from_what_stands_before(seed):
    torch.manual_seed(seed)
    gradients = torch.randn(3, 5, dtype=torch.float64)
    step = priorities(gradients)
    first = gradients[0]
    assert float(step @ first) >= float(first @ first) - 1e-9
    # The two that stand first keep the rates that they had together.
    two = priorities(gradients[:2])
    second = gradients[1]
    if float(gradients[2] @ first) < 0 or float(gradients[2] @ (two - first)) < 0:
        assert float((step - two) @ first) == pytest.approx(0, abs=1e-9)
        assert float((step - two) @ second) == pytest.approx(0, abs=1e-9)


def test_priorities_leave_alone_what_does_not_conflict_and_stop_what_does():
    agreeing = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert torch.equal(priorities(agreeing), agreeing.sum(0))
    against = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    assert priorities(against).tolist() == [1.0, 1.0]
    assert priorities(torch.tensor([[1.0, 0.0], [-3.0, 0.0]])).tolist() == [1.0, 0.0]


# --- fields -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "k"), [("digits", 4), ("genes", 14)])
def test_tasks_share_a_trunk_or_nothing(name, k):
    field = make_field(name, 40, 20, 0)
    assert (len(field.train), len(field.choice), len(field.judged), len(field.tasks)) == (40, 20, 20, k)
    for shared in (True, False):
        net = field.network(2, shared=shared, seed=0)
        losses = field.losses(net, field.train)
        assert losses.shape == (k,) and len(field.accuracies(net, field.judged)) == k
        rows = gradient_rows(net, losses)
        others = (rows @ rows.T)[~torch.eye(k, dtype=bool)]
        assert bool((others != 0).any()) == shared
    assert not torch.equal(
        torch.cat([p.flatten() for p in field.network(2, shared=True, seed=1).parameters()]),
        torch.cat([p.flatten() for p in field.network(2, shared=True, seed=0).parameters()]),
    )


def test_the_questions_about_two_digits():
    field = make_field("digits", 30, 5, 3)
    first, second, odd, larger = field.train.answers.T
    assert torch.equal(odd, (first + second) % 2) and torch.equal(larger, (first > second).long())
    assert not torch.equal(field.choice.inputs, field.judged.inputs)


def test_the_loss_at_chance_is_an_entropy():
    field = make_field("digits", 2000, 5, 0)
    found = chance_losses(field)
    assert found[:2] == pytest.approx([np.log(10)] * 2, abs=0.02)
    assert found[2] == pytest.approx(np.log(2), abs=0.01)
    assert 0.6 < found[3] < np.log(2)  # equal digits count as not larger


def test_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match=r"^name='words'; expected one of digits, genes"):
        make_field("words", 1, 1, 0)


def test_what_is_foretold_of_a_short_step_is_what_it_does_on_the_same_examples():
    """On the examples that gave the gradients, a short enough step must do what they foretell."""
    field = make_field("digits", 300, 300, 0)
    field = type(field)(**(vars(field) | {"choice": field.train, "judged": field.train}))
    recipe = grid_sharing.Recipe(length=1e-3, measured=300)
    net = field.network(2, shared=True, seed=0)

    def losses(net, rows):
        return field.losses(net, field.train[rows])

    list(train_together(net, losses, 300, steps=250, lr=0.01, batch=32, seed=0))
    _, said_one, seen_one, said_sum, seen_sum, _ = grid_sharing._at_a_moment(field, net, losses, recipe)
    large = np.abs(said_one) > 0.05 * np.abs(said_one).max()
    assert (np.sign(said_one) == np.sign(seen_one))[large].all() and (said_one < 0).any()
    assert np.corrcoef(said_sum, seen_sum)[0, 1] > 0.99
    found = grid_sharing._count(said_one, seen_one, -seen_one)
    assert found["falls_kept"] == found["rises_kept"] == 0 < found["falls_seen"] <= found["falls"]


# --- towers -------------------------------------------------------------------------------------------------


def test_moments_look_back_and_ahead():
    parts, count = film_examples(3, 0, users=5)
    train, choice = parts["train"], parts["choice"]
    assert len(choice) <= 5 and train.long.shape[1] == count
    for part in parts.values():
        assert torch.allclose(part.long.sum(1), torch.ones(len(part)))
        assert torch.allclose(part.later.sum(1), torch.ones(len(part)))
        # What was seen is neither next nor later, and the last five were seen.
        assert not ((part.long > 0) & (part.later > 0)).any()
        assert (part.long.gather(1, part.next[:, None]) == 0).all()
        assert (part.long.gather(1, part.recent) > 0).all()
    other, _ = film_examples(3, 1, users=5)
    assert not torch.equal(other["train"].long[:3], train.long[:3])


def small_examples():
    long = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0]])
    later = torch.tensor([[0.0, 0.0, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0]])
    return Examples(long, torch.tensor([[0, 1], [1, 2]]), later, torch.tensor([3, 3]))


class Told(nn.Module):
    """Gives the logits that it was told."""

    def __init__(self, taste, intent):
        super().__init__()
        self.given = [torch.tensor(taste), torch.tensor(intent)]

    def forward(self, examples):
        return self.given


def test_recall_leaves_out_what_was_seen():
    logits = [[9.0, 8.0, 1.0, 0.0], [0.0, 9.0, 8.0, 1.0]]
    found = recalls(Told(logits, logits), small_examples(), among=1)
    # First user: film 2 is first, one of two liked; second: film 3, not the liked one. Next is 3 for both.
    assert found == {"taste": 0.25, "intent": 0.5}
    assert recalls(Told(logits, logits), small_examples(), among=2) == {"taste": 1.0, "intent": 1.0}


def test_tower_losses_are_cross_entropies():
    taste, intent = torch.randn(2, 2, 4)
    found = tower_losses(Told(taste.tolist(), intent.tolist()), small_examples())
    wanted = nn.functional.cross_entropy(taste, small_examples().later, reduction="none")
    assert torch.allclose(found[:, 0], wanted)
    assert torch.allclose(
        found[:, 1], nn.functional.cross_entropy(intent, torch.tensor([3, 3]), reduction="none")
    )


def test_separate_towers_have_nothing_in_common():
    parts, count = film_examples(2, 0, users=4)
    for shared in (True, False):
        net = Towers(count, 3, shared=shared)
        rows = gradient_rows(net, tower_losses(net, parts["train"]).mean(0))
        assert bool(rows[0] @ rows[1] != 0) == shared


# --- driving ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known():
    return driving.situations(4, 1)


def test_the_values_of_actions_are_within_their_range_and_repeat(known):
    assert known.values.shape == (4, len(driving.ACTIONS), len(driving.OBJECTIVES))
    assert known.values.min() >= 0 and known.values.max() <= 1
    again = driving.situations.__wrapped__(4, 1)
    assert torch.equal(again.values, known.values) and torch.equal(again.seen, known.seen)
    assert not torch.equal(driving.situations.__wrapped__(4, 2).values, known.values)
    faster, slower = (driving.ACTIONS.index(name) for name in ("faster", "slower"))
    safe = known.values[:, faster, 0] == 1
    assert safe.any()
    assert (known.values[safe, faster, 2] >= known.values[safe, slower, 2]).all()
    assert set(known.values[..., 0].unique().tolist()) <= {0.0, 1.0}
    assert (known.roads.groupby("situation")["own"].sum() == 1).all()


def test_trying_an_action_leaves_the_road_as_it_was():
    road = driving._road()
    road.reset(seed=3)
    before = [tuple(vehicle.position) for vehicle in road.road.vehicles]
    driving._tried(road, 3)
    assert [tuple(vehicle.position) for vehicle in road.road.vehicles] == before


def test_an_expected_value_is_that_of_its_probabilities(known):
    shared, separate = (driving.new_driver(shared=flag, seed=0) for flag in (True, False))
    probabilities = shared(known.seen)
    assert torch.allclose(probabilities.sum(1), torch.ones(4, 3))
    assert torch.equal(probabilities[..., 0], probabilities[..., 2])
    assert not torch.equal(separate(known.seen)[..., 0], separate(known.seen)[..., 2])
    by_hand = -sum(probabilities[:, a, :] * known.values[:, a, :] for a in range(5))
    assert torch.allclose(driving.driver_losses(shared, known.seen, known.values), by_hand)


def test_one_action_drives():
    found = driving.drive(driving.ACTIONS.index("slower"), 1, 3, 0)
    assert set(found) == {"crashes", "lane", "progress"} and all(0 <= v <= 1 for v in found.values())
    assert found["progress"] < driving.drive(driving.ACTIONS.index("faster"), 1, 3, 0)["progress"]


def test_a_missing_highway_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "highway_env.envs", None)
    with pytest.raises(DataError, match=r"^the package 'highway-env' is not installed; [^\n]*\.$"):
        driving._road()


# --- numbers ------------------------------------------------------------------------------------------------


def counted(**columns):
    row = {"field": "digits", "width": 2, "network": "shared", "kind": "one", "step": 1, "seed": 0}
    row |= {"falls": 4.0, "rises": 10.0, "falls_seen": 3.0, "rises_seen": 5.0, "falls_kept": 1.0}
    return row | {"rises_kept": 10.0} | columns


def test_falls_and_rises_count_half_each():
    table = pd.DataFrame([counted(), counted(falls_kept=np.nan, rises_kept=np.nan, falls_seen=4.0)])
    assert tell.signs(table, "seen") == pytest.approx((7 / 8 + 10 / 20) / 2)
    assert tell.signs(table, "kept") == pytest.approx((1 / 4 + 1) / 2)
    with pytest.raises(ValueError, match=r"^signs: falls=0"):
        tell.signs(pd.DataFrame([counted(falls=0.0)]), "seen")
    more = pd.concat([table, pd.DataFrame([counted(seed=1), counted(kind="sum", seed=1)])])
    assert tell.foretold(more, "one").n == 2
    assert tell.ahead_of_habit(more, "one").value == pytest.approx(
        (7 / 8 / 2 + 1 / 4 - 5 / 8 + (3 / 4 + 1 / 2) / 2 - 5 / 8) / 2
    )
    assert tell.changed_apart(more.assign(network="separate", falls=0.0, rises=0.0)) == 0
    assert tell.changed_apart(pd.DataFrame([counted(network="separate")])) == 14


def test_widths_are_compared_seed_by_seed_and_separate_comes_last():
    rows = [
        {"field": "digits", "network": network, "width": width, "seed": seed, "step": 1, "cosine": value}
        for network, width, seed, value in (
            ("separate", 2, 0, 0.0), ("separate", 2, 1, 0.0), ("shared", 2, 0, 0.5), ("shared", 2, 1, 0.3),
            ("shared", 8, 0, 0.1), ("shared", 8, 1, 0.2),
        )
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    assert list(tell.geometry_by_width(table, "cosine")) == ["width 2", "width 8", "separate, width 2"]
    assert tell.narrow_minus_wide(table, "cosine").value == pytest.approx((0.4 + 0.1) / 2)


def left_rows():
    rows = []
    for way, cost, values in (
        ("sum", 3, {1: 0.8, 2: 0.6, 6: 0.3}),
        ("by chance", 3, {1: 0.9, 2: 0.7, 6: 0.2}),
        ("pcgrad", 9, {1: 0.7, 2: 0.5}),
    ):
        for seed in (0, 1):
            for step, value in values.items():
                row = {"field": "digits", "way": way, "seed": seed, "step": step, "passes": cost * step}
                for task in ("a", "b"):
                    shift = 0.1 if task == "a" else -0.1
                    judged = value + 0.01 * seed + shift
                    rows.append(
                        row | {"task": task, "choice": value + shift, "judged": judged, "accuracy": 0.5}
                    )
    return pd.DataFrame(rows)


def test_constants_are_seen_after_as_many_steps_and_after_as_many_passes():
    table = left_rows()
    steps = tell.chosen(table, "digits", ["sum", "by chance"], equal="step")
    assert steps["way"].tolist() == ["sum", "sum"] and steps["step"].tolist() == [2, 2]
    passed = tell.chosen(table, "digits", ["sum", "by chance"], equal="passes")
    assert passed["way"].tolist() == ["by chance", "by chance"] and passed["step"].tolist() == [6, 6]
    ahead = tell.advantages(table, "digits", ["pcgrad"], ["sum"], equal="step")
    assert ahead.value == pytest.approx(0.1) and ahead.n == 2
    behind = tell.advantages(table, "digits", ["pcgrad"], ["sum", "by chance"], equal="passes")
    assert behind.value == pytest.approx(-0.3)


def looks_of(way, seed, step, choice, judged):
    row = {"way": way, "seed": seed, "step": step}
    for which, (taste, intent) in (("choice", choice), ("judged", judged)):
        row |= {f"taste_{which}": taste, f"intent_{which}": intent}
    return row


def test_a_look_is_chosen_on_the_ninth_tenth_and_judged_on_the_last():
    rows = []
    for seed in (0, 1):
        rows += [
            looks_of("separate", seed, 1, (0.1, 0.1), (0.5, 0.5)),
            looks_of("separate", seed, 2, (0.2, 0.2), (0.3, 0.4)),
            looks_of("1 to 1", seed, 1, (0.2, 0.1), (0.2, 0.1 + 0.1 * seed)),
            looks_of("1 to 1", seed, 2, (0.1, 0.1), (0.9, 0.9)),
            looks_of("taste only", seed, 1, (0.3, 0.0), (0.1, 0.2)),
            looks_of("taste only", seed, 2, (0.2, 0.9), (0.8, 0.8)),
        ]
    looks = pd.DataFrame(rows)
    assert tell.smaller_loss(looks, "1 to 1").value == pytest.approx(0.1)
    assert tell.loss_of_one(looks, "1 to 1", "intent").value == pytest.approx(0.4 - 0.15)
    points = tell.recall_points(looks, ["taste only", "separate"])
    assert points["taste only"][0].value == pytest.approx(0.1)
    assert [p.value for p in points["separate"]] == pytest.approx([0.3, 0.4])


def test_drivers_are_compared_seed_by_seed_and_at_the_end():
    driven = pd.DataFrame(
        [
            {"way": way, "seed": seed, "crashes": value + 0.1 * seed}
            for way, value in (("a", 0.5), ("b", 0.2))
            for seed in (0, 1)
        ]
    )
    assert list(tell.closed_loop(driven, "crashes")) == ["a", "b"]
    rows = [
        {"way": "a", "seed": seed, "step": step, "objective": "safety", "held_out": 0.1 * step}
        for seed in (0, 1)
        for step in (0, 5)
    ]
    more = pd.DataFrame([*rows, *({**row, "way": "b", "held_out": 0.1 * row["seed"]} for row in rows)])
    assert tell.expected(more, "safety")["a"].value == pytest.approx(0.5)
    assert tell.driver_difference(more, "safety", "a", "b").value == pytest.approx(0.45)
    cosines = pd.DataFrame(
        [
            {"way": "a", "seed": seed, "step": step, "objective": "safety", "other": "progress"}
            | {"cosine": -0.9 if step == 0 else 0.9}
            for seed in (0, 1)
            for step in (0, 5)
        ]
    )
    assert tell.edge_cosines(cosines, "a", ("safety", "progress")).value == pytest.approx(-0.9)
    towers = cosines.assign(way="b", cosine=cosines["cosine"] / 2)
    assert tell.last_cosine(towers, "b").value == pytest.approx(0.45)
    assert tell.last_cosine(towers, "b", first=True).value == pytest.approx(-0.45)
    found = tell.percent(tell.edge_cosines(cosines, "a", ("safety", "progress")))
    assert found.value == pytest.approx(-90) and found.low < -90 < found.high and found.n == 2
    assert tell.titled({"b": 1, "a": 2}, {"a": "A", "c": "C", "b": "B"}) == {"A": 2, "B": 1}


# --- tables -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "genes"])
def test_the_geometry_of_examples_adds_up_to_that_of_the_losses(name):
    field = make_field(name, 12, 6, 0)
    net = trained(field, 2, 3, 0)
    found = by_picture(net, field, field.judged)
    assert found.names == field.tasks and len(found) == 6
    whole = objective_gradients(net, lambda net, split: -field.losses(net, split), field.judged, per="batch")
    rows = gradient_rows(net, field.losses(net, field.judged))
    assert torch.allclose(whole[0].float(), -rows, atol=1e-6)
    alone = by_picture(net, field, field.judged[:1]).gram[0]
    one = gradient_rows(net, field.losses(net, field.judged[:1])).double()
    assert torch.allclose(alone, one @ one.T, atol=1e-5)


def test_a_curve_of_cosines_stays_within_its_range():
    looks = pd.DataFrame(
        [
            {"way": way, "seed": seed, "step": step, "cosine": value + 0.04 * seed}
            for way, value in (("a", 0.95), ("b", -0.5))
            for seed in (0, 1)
            for step in (0, 5)
        ]
    )
    curve = cosine_curve(looks, "a")
    assert curve["step"].tolist() == [0, 5] and curve["value"].tolist() == pytest.approx([0.97, 0.97])
    assert (curve["high"] == 1).all() and (curve["low"] < 0.97).all()


# --- what the page says -------------------------------------------------------------------------------------


def test_what_is_quoted_is_what_the_stored_tables_hold():
    """Worked out once more, by hand, from the tables of the book."""
    sharing, driven_tables = load_tables("sharing", "book"), load_tables("driving", "book")
    facts = told.of_sharing(sharing) | told.of_driving(driven_tables)
    seen = sharing["foretold"]
    assert facts["changed_apart"] == 0 == facts["cosine_apart"] == facts["driver_apart"]
    shared = seen[(seen["field"] == "digits") & (seen["network"] == "shared") & (seen["kind"] == "one")]
    sums = shared.groupby("seed")[["falls", "falls_seen", "rises", "rises_seen"]].sum()
    by_hand = (sums["falls_seen"] / sums["falls"] + sums["rises_seen"] / sums["rises"]) / 2
    assert facts["share_one"].value == pytest.approx(by_hand.mean())
    assert facts["one"].value == pytest.approx(100 * by_hand.mean())
    train = driven_tables["training"]
    last = train[(train["step"] == train["step"].max()) & (train["objective"] == "safety")]
    means = last.groupby("way")["held_out"].mean()
    assert facts["order_safer"].value == pytest.approx(means["priorities"] - means["1 to 1 to 1"])
    assert facts["safety_three"].value == pytest.approx(means["separate"])
    driven = driven_tables["driving"]
    crashed = driven[driven["way"] == "1 to 1 to 1"]["crashes"].mean()
    assert facts["crashes_sum"] == pytest.approx(100 * crashed)


def test_recalls_and_rules_are_quoted_from_the_stored_tables():
    looks, tasks = load_tables("towers", "book")["looks"], load_tables("tasks", "book")["tasks"]
    facts = told.of_towers(looks) | told.of_tasks(tasks)
    end = looks[(looks["way"] == "1 to 1") & (looks["step"] == looks["step"].max())]
    assert facts["tower_cosine"].low <= end["cosine"].mean() <= facts["tower_cosine"].high
    assert facts["tower_apart"] == 0
    assert facts["cost_digits"] == 3 and facts["cost_genes"] == pytest.approx(29 / 3)
    left = {name: facts[f"{name}_passes_digits"].value for name in ("sum", "separate")}
    assert min(left.values()) > 0 and max(left.values()) < 1
    # Constants are compared with the best of themselves: the plain sum cannot beat them on the choice set.
    assert facts["sum_to_const_digits"].n == tasks["seed"].nunique()
