"""Where the answers turn: a virtual step does what a step does; its limit is the mean gradients' band."""

import math
from copy import deepcopy

import pytest
import torch

from entanglement.gradients import flat_gradients, flatten
from entanglement.logps import response_logps
from entanglement.outcomes.turning import (
    MeanGradients,
    first_order_turns,
    mean_gradients,
    turns,
    virtual_step,
)
from entanglement.pairs import PreferencePair, collate


@pytest.fixture
def model(tiny_model):
    return tiny_model("gpt2-tied")


def near_copies(*prompts):
    """Pairs that share all but one word, so that both answers go together."""
    tail = " and the people liked it"
    return [PreferencePair(prompt, f" good{tail}", f" bad{tail}", prompt) for prompt in prompts]


@pytest.fixture
def trained():
    return near_copies("the film was", "what a day", "today")


@pytest.fixture
def held_out():
    return near_copies("the day was", "a film")


def test_the_mean_is_that_of_every_response_s_gradient(model, tokenizer, trained):
    many = trained * 3  # two groups, of eight and of one
    found = mean_gradients(model, tokenizer, many)
    both = flat_gradients(model, collate(many, tokenizer), "trainable")
    for mine, rows in zip((found.chosen, found.rejected), both, strict=True):
        torch.testing.assert_close(flatten(model, mine, "trainable"), rows.mean(0), rtol=1e-9, atol=1e-12)
    assert all(p.grad is None for p in model.parameters())


def test_a_direction_has_length_one(model, tokenizer, trained):
    means = mean_gradients(model, tokenizer, trained)
    w, l = (flatten(model, side, "trainable") for side in (means.chosen, means.rejected))  # noqa: E741
    for ratio in (1.0, 1.1):
        whole = ratio**0.5 * w - l / ratio**0.5
        plain = flatten(model, means.along(ratio), "trainable")
        torch.testing.assert_close(plain, whole / whole.norm())
        sign = flatten(model, means.along(ratio, "sign"), "trainable")
        torch.testing.assert_close(sign, whole.sign() / whole.sign().norm())
    same = MeanGradients(means.chosen, means.chosen)
    with pytest.raises(ValueError, match="the two mean gradients cancel"):
        same.along(1.0)


def test_a_virtual_step_is_a_step_and_leaves_nothing(model, tokenizer, trained, held_out):
    step = mean_gradients(model, tokenizer, trained).along(1.2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = virtual_step(model, tokenizer, held_out, step, 0.03)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    moved = deepcopy(model)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            parameter += 0.03 * step[name]
        batch = collate(held_out, tokenizer)
        now, then = response_logps(moved, batch), response_logps(model, batch)
    assert found.chosen == pytest.approx(float((now[0] - then[0]).mean()), rel=1e-9)
    assert found.rejected == pytest.approx(float((now[1] - then[1]).mean()), rel=1e-9)
    assert found.margin == found.chosen - found.rejected and found.margin > 0


@pytest.mark.parametrize("direction", ["plain", "sign"])
def test_at_the_turn_an_answer_stays_and_above_it_rises(model, tokenizer, trained, held_out, direction):
    means = mean_gradients(model, tokenizer, trained)
    found = turns(model, tokenizer, means, held_out, direction=direction, length=0.02)
    assert found.length == 0.02 and found.margin > 0

    def at(ratio):
        return virtual_step(model, tokenizer, held_out, means.along(ratio, direction), 0.02)

    for side, ratio in (("chosen", found.chosen), ("rejected", found.rejected)):
        assert getattr(at(ratio * 1.05), side) > 0 > getattr(at(ratio / 1.05), side)
        assert abs(getattr(at(ratio), side)) < 1e-3 * found.margin
    assert found.chosen < found.rejected  # apart between the two


def test_a_short_step_s_turns_are_the_band_of_the_means(model, tokenizer, trained, held_out):
    means, ends = (mean_gradients(model, tokenizer, pairs) for pairs in (trained, held_out))
    limit = first_order_turns(means, ends)
    for length, near in ((1e-3, 3e-3), (1e-4, 3e-4)):
        found = turns(model, tokenizer, means, held_out, length=length)
        assert found.chosen == pytest.approx(limit.chosen, abs=near)
        assert found.rejected == pytest.approx(limit.rejected, abs=near)
    assert math.isnan(limit.length) and math.isnan(limit.margin)
    # On the pairs themselves it is the band of one pair whose gradients are the means.
    w, l = (flatten(model, side, "trainable") for side in (means.chosen, means.rejected))  # noqa: E741
    own = first_order_turns(means, means)
    assert own.chosen == pytest.approx(float((w @ l) / (w @ w)))
    assert own.rejected == pytest.approx(float((l @ l) / (w @ l)))
    # A metric multiplies the step: the same as both means scaled by it.
    metric = {name: torch.rand_like(part) + 0.5 for name, part in means.chosen.items()}
    by_metric = [{n: part * metric[n] for n, part in side.items()} for side in (means.chosen, means.rejected)]
    scaled = MeanGradients(*by_metric)
    with_metric, by_hand = first_order_turns(means, ends, metric=metric), first_order_turns(scaled, ends)
    assert with_metric.chosen == pytest.approx(by_hand.chosen)
    assert with_metric.rejected == pytest.approx(by_hand.rejected)


def test_the_length_gains_the_margin(model, tokenizer, trained, held_out):
    means = mean_gradients(model, tokenizer, trained)
    found = turns(model, tokenizer, means, held_out, margin=0.3)
    assert found.margin == pytest.approx(0.3, rel=0.011)
    again = turns(model, tokenizer, means, held_out, length=found.length)
    assert again == found


def test_where_no_ratio_turns_an_answer_it_is_told(model, tokenizer, trained, held_out):
    means = mean_gradients(model, tokenizer, trained)
    against = MeanGradients(means.chosen, {name: -part for name, part in means.chosen.items()})
    found = turns(model, tokenizer, against, held_out, length=0.01)  # both gradients up, whatever the ratio
    assert math.isnan(found.chosen) and math.isnan(found.rejected)
    assert math.isnan(first_order_turns(against, against).chosen)


def test_what_is_asked_wrongly_is_refused(model, tokenizer, trained, held_out):
    means = mean_gradients(model, tokenizer, trained)
    for options in ({}, {"length": 0.1, "margin": 0.1}):
        with pytest.raises(ValueError, match="expected one of the two"):
            turns(model, tokenizer, means, held_out, **options)
    for step in ({"no such": torch.zeros(1)}, {next(iter(means.chosen)): torch.zeros(1)}):
        with pytest.raises(ValueError, match=r"step\['.*'\] has shape \(1,\); expected"):
            virtual_step(model, tokenizer, held_out, step, 0.1)
    back = MeanGradients(means.rejected, means.chosen)
    with pytest.raises(ValueError, match="no step along this direction gains"):
        turns(model, tokenizer, back, held_out, margin=0.5)
    with torch.no_grad():
        next(model.parameters())[0, 0] = math.nan
    with pytest.raises(ValueError, match="is not finite"):
        mean_gradients(model, tokenizer, trained)
