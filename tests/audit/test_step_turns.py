"""Where responses would turn at one step: against a whole search, against AdamW, and where they do not."""

from __future__ import annotations

import pytest
import torch

from entanglement.auditing import turning_number
from entanglement.auditing.grouping import in_groups
from entanglement.auditing.probe import Probe
from entanglement.auditing.step_turns import probe_walk, step_turns
from entanglement.auditing.walk import length_of, stepped
from entanglement.losses import get_loss
from entanglement.models import load_model
from entanglement.rows import SHAPES, encode
from entanglement.shared_prompt import quick_logps

END = " and long in my opinion"
ROWS = [{"prompt": f"The film {k} is", "chosen": f" good{END}", "rejected": f" bad{END}"} for k in range(4)]


@pytest.fixture(scope="module")
def probe():
    loaded = load_model("nano")
    pairs = [encode(SHAPES["explicit"].read(row), loaded.tokenizer) for row in ROWS]
    return Probe(pairs, loaded.tokenizer)


@pytest.fixture(scope="module")
def scene(probe):
    """A model, the probe's groups, and the walk of a fresh AdamW."""
    model = load_model("nano").model
    halves = probe.halves(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    walk = probe_walk(model, optimizer, halves, get_loss("dpo"))
    return model, [group for half in halves for group in half], walk


@pytest.mark.parametrize("lr", [1e-4, 1e-5])
def test_three_steps_find_what_a_whole_search_finds(scene, lr):
    """A step of AdamW's first length at this rate; the search takes some fifteen."""
    model, groups, walk = scene
    before = [p.clone() for p in model.parameters()]
    found = step_turns(model, walk, groups, lr * length_of(walk.along()))
    number = turning_number(model, walk, groups, lr)
    assert found == pytest.approx((number.chosen, number.rejected), abs=1e-4)
    assert found[0] < 1 < found[1] - 1e-2  # so that it is not 1 that both find
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_above_its_ratio_a_response_rises_and_below_it_falls(scene):
    model, groups, walk = scene
    lr = 1e-5
    turns = step_turns(model, walk, groups, lr * length_of(walk.along()))

    def means():
        with torch.no_grad():
            return torch.cat([torch.stack(quick_logps(model, g)).double() for g in groups], dim=1).mean(1)

    before = means()
    for side, ratio in enumerate(turns):
        for factor, sign in ((1.01, 1), (1 / 1.01, -1)):
            with stepped(model, walk.along(ratio * factor), lr):
                assert (means() - before)[side] * sign > 0


def test_too_short_a_step_gives_the_limit_and_so_does_half_precision(scene, probe):
    model, groups, walk = scene
    size = length_of(walk.along())
    short = step_turns(model, walk, groups, 1e-7 * size)
    assert short == step_turns(model, walk, groups, 1e-6 * size)  # nothing was measured
    assert short == pytest.approx(step_turns(model, walk, groups, 1e-5 * size), abs=1e-3)
    half = load_model("nano", dtype=torch.bfloat16).model
    assert step_turns(half, walk, groups, 1e-4 * size) == short


@pytest.mark.parametrize("steps", [0, 2])
def test_the_metric_is_that_in_which_adamw_would_step_on_the_probe(probe, steps):
    """Without momentum and decay its next step on the probe's gradient is the walk itself, times the rate."""
    torch.manual_seed(0)
    model = load_model("nano").model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.0, 0.9), weight_decay=0.0)
    for _ in range(steps):
        ids = torch.randint(5, 4000, (2, 9))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    walk = probe_walk(model, optimizer, probe.halves(4), get_loss("dpo"))
    gradient = {name: part / walk.scale[name] for name, part in walk.along().items()}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        p.grad = -gradient[name]
    optimizer.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close((p - before[name]) / 1e-3, walk.along()[name], rtol=1e-2, atol=2e-3)


def test_plain_steps_have_no_metric(probe):
    model = load_model("nano").model
    walk = probe_walk(model, torch.optim.SGD(model.parameters(), lr=0.1), probe.halves(4), get_loss("dpo"))
    assert walk.scale == {}


def test_responses_that_pull_against_each_other_turn_at_no_ratio(scene):
    """With ⟨Ḡ_w, Ḡ_l⟩ below zero the chosen response rises and the rejected one falls at any ratio."""
    from dataclasses import replace

    model, groups, walk = scene
    against = replace(walk, rejected=tuple({n: -p for n, p in half.items()} for half in walk.chosen))
    assert all(r != r for r in step_turns(model, against, groups, 1e-5))


def test_the_probe_keeps_its_order_whatever_the_groups(probe):
    model = load_model("nano").model
    loaded = load_model("nano")
    rows = [*ROWS, {"prompt": "A", "chosen": " b", "rejected": " c d e f"}, *ROWS[:2]]
    pairs = [encode(SHAPES["explicit"].read(row), loaded.tokenizer) for row in rows]
    found = Probe(pairs, loaded.tokenizer, max_tokens=60).logps(model)
    for pair, values in zip(pairs, found, strict=True):
        (group,) = in_groups([pair], append_eos=True, max_tokens=60)
        with torch.no_grad():
            own = torch.cat(quick_logps(model, group))
        assert values.tolist() == pytest.approx(own.tolist(), abs=2e-5)
    assert Probe(pairs[:1], loaded.tokenizer).halves(4) == []
