"""Targets for both responses: the arithmetic, true steps to them, and the update that decouples a batch."""

import math

import pytest
import torch
from hypothesis import given, strategies as st

from entanglement.geometry import PairGeometry
from entanglement.gradients import pair_geometry
from entanglement.logps import PairLogps, response_logps
from entanglement.losses import get_loss
from entanglement.losses.goals import goal_loss
from entanglement.pairs import PreferencePair, collate
from entanglement.training import align
from entanglement.updates import Decoupled
from entanglement.updates.plans import plan, reach

some = st.floats(-2, 2).filter(lambda x: abs(x) > 1e-3)
tangled = PairGeometry.from_vectors([1.0, 1.0], [3.0, 0.0])


@given(st.floats(0.1, 9), st.floats(0.1, 9), st.floats(-0.99, 0.99), some, some)
def test_thm_requests_i_a_plan_meets_its_target_to_first_order_with_the_shortest_step(a, b, rho, t_w, t_l):
    pair = PairGeometry.from_vectors([a, 0.0], [b * rho, b * math.sqrt(1 - rho * rho)])
    found = plan(pair, t_w, t_l, nonnegative=False)
    assert found.verdicts == ("feasible",)
    assert [float(r) for r in pair.rates(found.x_w, found.x_l)] == pytest.approx([t_w, t_l], abs=1e-8)
    g_w, g_l = torch.tensor([a, 0.0]), torch.tensor([b * rho, b * math.sqrt(1 - rho * rho)])
    step = float(found.x_w) * g_w - float(found.x_l) * g_l
    assert float(found.length) == pytest.approx(float(step.norm()), rel=1e-4)
    s_w, s_l = t_w / a, t_l / b
    squared = (s_w**2 - 2 * rho * s_w * s_l + s_l**2) / (1 - rho**2)
    assert float(found.length) == pytest.approx(math.sqrt(squared), rel=1e-6)


def test_thm_requests_ii_moving_apart_is_dearer_than_moving_together():
    for rho in (0.0, 0.6, 0.98):
        pair = PairGeometry.from_vectors([2.0, 0.0], [2.0 * rho, 2.0 * math.sqrt(1 - rho**2)])
        apart, together = (plan(pair, 1.0, t, nonnegative=False).length for t in (-1.0, 1.0))
        assert float(apart / together) == pytest.approx(math.sqrt((1 + rho) / (1 - rho)), rel=1e-5)


def test_thm_requests_iii_what_a_loss_can_ask_for_is_a_cone():
    for t_w, t_l, verdict in [
        (1.0, 0.0, "feasible"),  # the ends of the band
        (0.0, -1.0, "feasible"),
        (1.0, -1.0, "feasible"),
        (-1.0, 1.0, "negative weight"),
        (1.0, 1.0, "feasible"),  # since c lies between a² and b²
        (1.0, 2.0, "negative weight"),
        (-1.0, -3.0, "feasible"),  # both down, as DPO does it
    ]:
        assert plan(tangled, t_w, t_l).verdicts == (verdict,), (t_w, t_l)
    assert plan(tangled, -1.0, 1.0, nonnegative=False).verdicts == ("feasible",)
    for x_w, x_l in [(0.0, 1.0), (1.0, 0.0), (0.3, 2.0)]:  # and every such step is allowed
        assert plan(tangled, *map(float, tangled.rates(x_w, x_l))).verdicts == ("feasible",)
    opposed = PairGeometry.from_vectors([1.0, 1.0], [-3.0, 0.0])  # raising one lowers the other
    assert plan(opposed, 1.0, 0.0).verdicts == ("negative weight",)


def test_a_budget_and_parallel_gradients_are_reported():
    length = float(plan(tangled, 1.0, -1.0).length)
    assert plan(tangled, 1.0, -1.0, budget=0.99 * length).verdicts == ("over budget",)
    assert plan(tangled, 1.0, -1.0, budget=1.01 * length).verdicts == ("feasible",)
    parallel = PairGeometry.from_vectors([1.0, 1.0], [2.0, 2.0])
    found = plan(parallel, 1.0, -1.0, nonnegative=False)
    assert found.verdicts == ("parallel",) and math.isinf(found.length) and math.isnan(found.x_w)


@pytest.mark.parametrize("bad", [{"budget": 0.0}, {"chosen": math.nan}, {"rejected": torch.ones(2)}])
def test_plan_refuses_by_name(bad):
    name = next(iter(bad))
    with pytest.raises(ValueError, match=name):
        plan(tangled, **{"chosen": 1.0, "rejected": -1.0, **bad})


@pytest.fixture
def pair():
    return PreferencePair(
        "the film was", " good and the people liked it", " bad and the people liked it", "0"
    )


@pytest.mark.parametrize("target", [(0.3, -0.3), (0.0, -0.4), (0.4, 0.0), (0.3, 0.1), (-0.3, -0.2)])
def test_true_steps_reach_what_was_asked_for(tiny_model, tokenizer, pair, target):
    model, batch = tiny_model("gpt2-tied"), collate([pair], tokenizer)
    before = [float(value.detach()) for value in response_logps(model, batch)]
    found = reach(model, batch, *target, nonnegative=False)
    after = [float(value.detach()) for value in response_logps(model, batch)]
    moved = [new - old for new, old in zip(after, before, strict=True)]
    assert found.met and found.verdict == "feasible"
    assert moved == pytest.approx([found.chosen, found.rejected], abs=1e-9)
    assert moved == pytest.approx(target, abs=0.05 * max(map(abs, target)))
    assert found.path[0] == (0, 0) and len(found.path) == found.steps + 1


def test_what_cannot_be_reached_is_not_tried(tiny_model, tokenizer, pair):
    model, batch = tiny_model("gpt2-tied"), collate([pair], tokenizer)
    before = [value.clone() for value in model.state_dict().values()]
    for options, target, verdict in [
        ({"budget": 1e-4}, (0.3, -0.3), "over budget"),
        ({}, (-0.3, 0.3), "negative weight"),
    ]:
        found = reach(model, batch, *target, **options)
        assert found.verdict == verdict and not found.met and found.steps == 0
    same = PreferencePair(pair.prompt, pair.chosen, pair.chosen, "twins")
    found = reach(model, collate([same], tokenizer), 0.3, -0.3, nonnegative=False)
    assert found.verdict == "parallel" and not found.met
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))


def test_the_budget_is_for_the_whole_way(tiny_model, tokenizer, pair):
    batch = collate([pair], tokenizer)
    free = reach(tiny_model("gpt2-tied"), batch, 8.0, 0.0, nonnegative=False)
    assert free.met and free.length > 1.01 * free.planned  # the way bends
    budget = 1.001 * free.planned
    bounded = reach(tiny_model("gpt2-tied"), batch, 8.0, 0.0, nonnegative=False, budget=budget)
    assert bounded.verdict == "feasible" and not bounded.met and 0 < bounded.length <= budget


def test_reach_gives_up_and_says_where_it_stands(tiny_model, tokenizer, pair):
    model, batch = tiny_model("gpt2-tied"), collate([pair], tokenizer)
    found = reach(model, batch, 0.5, -0.5, nonnegative=False, share=0.1, max_steps=2)
    assert not found.met and found.steps == 2 and 0.02 < found.chosen < 0.3
    with pytest.raises(ValueError, match="some change"):
        reach(model, batch, 0.0, 0.0)


def test_goal_loss_has_a_term_and_a_target_for_each_response():
    loss = goal_loss(0.5, -1.0)
    zeros = torch.zeros(3, dtype=torch.float64)
    logps = PairLogps(
        torch.tensor([0.0, 0.5, 2.0]).double(), torch.tensor([0.0, -1.0, 0.0]).double(), zeros, zeros
    )
    d_w, d_l = loss.weights(logps)
    assert d_w.tolist() == [0.5, 0.0, -1.5] and d_l.tolist() == [1.0, 0.0, 1.0]
    assert loss(logps).tolist() == [0.625, 0.0, 1.625]


@pytest.fixture
def batch_of_three(pair):
    return [
        pair,
        PreferencePair("what a day", " positive people", " negative people", "1"),
        PreferencePair("the day", " good people", " bad and the people", "2"),
    ]


def one_step(model, tokenizer, pairs, update, loss, lr):
    batch = collate(pairs, tokenizer, padding_side="left")
    with torch.no_grad():
        before = response_logps(model, batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    report = update.step(model, optimizer, [batch], loss, before)
    with torch.no_grad():
        after = response_logps(model, batch)
    return report, [(new - old) / lr for new, old in zip(after, before, strict=True)]


@pytest.mark.parametrize("name", ["dpo", "kto", "rpo"])
def test_decoupled_every_response_moves_by_its_own_weight(tiny_model, tokenizer, batch_of_three, name):
    model, loss = tiny_model("gpt2-tied"), get_loss(name)
    report, (chosen, rejected) = one_step(
        model, tokenizer, batch_of_three, Decoupled(damping=0.0), loss, 1e-4
    )
    assert chosen.tolist() == pytest.approx(report.d_w.tolist(), rel=1e-3)
    assert rejected.tolist() == pytest.approx((-report.d_l).tolist(), rel=1e-3)


def test_decoupled_on_the_batch_keeps_the_means_only(tiny_model, tokenizer, batch_of_three):
    model, loss = tiny_model("gpt2-tied"), get_loss("dpo")
    update = Decoupled("batch", damping=0.0)
    report, (chosen, rejected) = one_step(model, tokenizer, batch_of_three, update, loss, 1e-4)
    assert float(chosen.mean()) == pytest.approx(float(report.d_w.mean()), rel=1e-3)
    assert float(rejected.mean()) == pytest.approx(float(-report.d_l.mean()), rel=1e-3)
    assert float(chosen.std()) > 0.1 * float(chosen.mean().abs())


def test_a_budget_bounds_the_step_and_damping_shortens_it(tiny_model, tokenizer, batch_of_three):
    loss, lengths = get_loss("dpo"), {}
    for key, update in {
        "free": Decoupled(damping=0.0),
        "damped": Decoupled(damping=0.3),
        "bounded": Decoupled(damping=0.0, budget=1e-3),
    }.items():
        report, _ = one_step(tiny_model("gpt2-tied"), tokenizer, batch_of_three, update, loss, 1e-3)
        lengths[key] = report.grad_norm
    assert lengths["damped"] < 0.9 * lengths["free"] and lengths["bounded"] == pytest.approx(1e-3, rel=1e-5)


def test_decoupled_trains_to_its_goals_where_the_loss_itself_tangles(tiny_model, tokenizer, batch_of_three):
    options = {"steps": 12, "batch_size": 3, "optimizer": "sgd", "max_grad_norm": None, "warmup": 0.0}
    options |= {"evaluate": {"all": batch_of_three}, "evaluate_at": [0, 12], "loss": goal_loss(0.3, -0.3)}
    ends = {}
    for key, update, lr in (("decoupled", Decoupled(damping=1e-6), 1.0), ("itself", "joint", 1e-4)):
        table = align(
            tiny_model("gpt2-tied"), tokenizer, batch_of_three, update=update, lr=lr, **options
        ).table
        first, last = (table[table["step"] == s].reset_index() for s in (0, 12))
        ends[key] = last[["chosen_logp", "rejected_logp"]] - first[["chosen_logp", "rejected_logp"]]
    assert ends["decoupled"].to_numpy() == pytest.approx(0.3 * torch.tensor([[1, -1]] * 3).numpy(), abs=0.03)
    # The same loss by its own gradient, at a rate with which the two move as far together.
    assert abs(ends["itself"].to_numpy() - 0.3 * torch.tensor([[1, -1]] * 3).numpy()).max() > 0.1


@pytest.mark.parametrize("bad", [{"level": "pair"}, {"damping": -1.0}, {"budget": 0.0}])
def test_decoupled_refuses_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Decoupled(**bad)


def test_decoupled_needs_plain_steps(tiny_model, tokenizer, batch_of_three):
    with pytest.raises(ValueError, match="AdamW"):
        align(tiny_model("gpt2-tied"), tokenizer, batch_of_three, update=Decoupled(), steps=1, batch_size=3)


def test_the_plan_uses_the_models_own_geometry(tiny_model, tokenizer, pair):
    model, batch = tiny_model("gpt2-tied"), collate([pair], tokenizer)
    expected = plan(pair_geometry(model, batch), 0.3, -0.3, nonnegative=False)
    assert reach(model, batch, 0.3, -0.3, nonnegative=False).planned == pytest.approx(float(expected.length))


@pytest.mark.parametrize("share", [0.5, 0.7, 1.0])
def test_each_step_to_a_target_goes_a_share_of_the_rest(tiny_model, tokenizer, pair, share):
    target = (3e-4, -1e-4)  # small enough to be of first order
    batch = collate([pair], tokenizer)
    found = reach(tiny_model("gpt2-tied"), batch, *target, nonnegative=False, share=share)
    left = [(1 - share) ** k for k in range(10)]
    steps = next(k for k, part in enumerate(left) if part <= 0.05)
    assert found.met and found.steps == steps == {0.5: 5, 0.7: 3, 1.0: 1}[share]
    for k, moved in enumerate(found.path):
        assert moved == pytest.approx([(1 - left[k]) * t for t in target], rel=1e-2, abs=1e-12)
    assert found.length == pytest.approx(found.planned * (1 - left[steps]), rel=1e-2)
    assert (found.chosen, found.rejected) == found.path[-1]
    loose = reach(tiny_model("gpt2-tied"), batch, *target, nonnegative=False, share=share, tolerance=0.6)
    assert loose.met and loose.steps == 1
    short = reach(tiny_model("gpt2-tied"), batch, *target, nonnegative=False, share=share, max_steps=1)
    assert short.steps == 1 and short.met == (share == 1.0) and short.path[1] == pytest.approx(found.path[1])


@pytest.mark.parametrize(
    "bad",
    [
        {"tolerance": 0.0}, {"tolerance": 1.0}, {"tolerance": -0.1}, {"share": 0.0}, {"share": 1.1},
        {"max_steps": 0},
    ],
)  # fmt: skip
def test_reach_refuses_by_name(tiny_model, tokenizer, pair, bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))}={next(iter(bad.values()))!r}"):
        reach(tiny_model("gpt2-tied"), collate([pair], tokenizer), 0.1, -0.1, **bad)


def test_reach_takes_one_pair(tiny_model, tokenizer, pair):
    with pytest.raises(ValueError, match=r"reach: .*2 pairs"):
        reach(tiny_model("gpt2-tied"), collate([pair, pair], tokenizer), 0.1, -0.1)


def test_a_budget_is_kept_to_the_letter_and_a_plan_is_for_many_pairs():
    length = float(plan(tangled, 1.0, -1.0).length)
    assert plan(tangled, 1.0, -1.0, budget=length).verdicts == ("feasible",)
    many = PairGeometry([2.0, 2.0, 2.0], [9.0, 8.0, 9.0], [3.0, 4.0, -3.0])
    found = plan(many, 1.0, torch.tensor([-1.0, -1.0, -2.0]))
    assert found.verdicts == ("feasible", "parallel", "feasible")
    alone = plan(tangled, 1.0, -1.0)
    for name in ("x_w", "x_l", "length"):
        assert float(getattr(found, name)[0]) == pytest.approx(float(getattr(alone, name)))
    # Weights of 0 are no negative ones, and what is negative by more than rounding is.
    for t_w, t_l, verdict in ((2.0, 3.0, "feasible"), (2.0, 3.0 + 1e-6, "negative weight")):
        assert plan(tangled, t_w, t_l).verdicts == (verdict,)
    for t_w, t_l, verdict in ((-3.0, -9.0, "feasible"), (-3.0 - 1e-6, -9.0, "negative weight")):
        assert plan(tangled, t_w, t_l).verdicts == (verdict,)


@pytest.mark.parametrize(
    "bad", [{"level": "pair"}, {"damping": -0.1}, {"damping": math.nan}, {"budget": 0.0}]
)
def test_decoupled_names_what_is_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))}="):
        Decoupled(**bad)
    assert Decoupled(damping=0.0).damping == 0.0


def test_a_target_of_many_pairs_is_finite_in_every_place():
    two = PairGeometry([2.0, 2.0], [9.0, 9.0], [3.0, 3.0])
    for bad in (math.nan, math.inf):
        for name, other in (("chosen", "rejected"), ("rejected", "chosen")):
            with pytest.raises(ValueError, match=f"plan: {name}=.*; expected a finite number, or 2 of them"):
                plan(two, **{name: torch.tensor([1.0, bad]), other: 0.0})
    one, all_kinds = plan(two, torch.tensor([1.0, 2.0]), -1.0), plan(two, [1.0, 2.0], [-1.0, -1.0])
    assert torch.equal(one.x_w, all_kinds.x_w) and torch.equal(one.x_l, all_kinds.x_l)


def test_what_counts_as_rounding_is_a_billionth():
    apart = PairGeometry([4.0], [9.0], [0.0])  # of a step of length 1, a weight's share is the target over a
    for share, verdict in ((0.9e-9, "feasible"), (1.1e-9, "negative weight")):
        assert plan(apart, -2 * share, -3.0).verdicts == (verdict,)
        assert plan(apart, 2.0, 3 * share).verdicts == (verdict,)
    for missing, verdict in ((0.9e-9, "parallel"), (1.1e-9, "feasible")):
        near = PairGeometry([4.0], [9.0], [6.0 * (1 - missing)])
        assert plan(near, 1.0, 1.0, nonnegative=False).verdicts == (verdict,)
