"""The numbers of every study's recipe are checked where they are written."""

import math
from dataclasses import replace

import pytest

from entanglement_book.studies.ch01_two_steps.study import sizes as two_steps
from entanglement_book.studies.ch05_dynamics.grid_knobs import knobs
from entanglement_book.studies.ch08_sentiment.grid import recipe as sentiment
from entanglement_book.studies.shared.start import recipe as start
from entanglement_book.studies.shared.toys import sizes as toys

RECIPES = {
    start: ("steps", "lr", "moments"),
    sentiment: ("dpo_steps", "dpo_lr", "moments"),
    knobs: ("seeds", None, None),
    two_steps: ("dpo_steps", "dpo_lr", None),
    toys: ("steps", "lr", None),
}


@pytest.mark.parametrize("make", RECIPES, ids=lambda make: make.__module__.rpartition("studies.")[2])
@pytest.mark.parametrize("scale", ["smoke", "book", "paper"])
def test_a_recipe_refuses_numbers_that_mean_nothing(make, scale):
    good = make(scale)
    whole, rate, moments = RECIPES[make]
    assert replace(good) == good
    for value in (-1, 0, 2.5, "many", None):
        with pytest.raises(ValueError, match=whole):
            replace(good, **{whole: value})
    for value in (0.0, -1e-5, math.nan, "fast") if rate else ():
        with pytest.raises(ValueError, match=rate):
            replace(good, **{rate: value})
    if moments:
        with pytest.raises(ValueError, match=moments):
            replace(good, **{moments: (0, -1)})
    with pytest.raises((TypeError, ValueError)):
        replace(good, unknown=1)


def test_another_model_sees_as_much_of_a_docstring_as_nano(monkeypatch):
    from entanglement.models import load_model
    from entanglement_book.studies.shared import start

    policy, tokenizer = load_model("nano")
    own = tokenizer.model_max_length
    assert own == start.recipe("book", "smollm2-135m").context
    tokenizer.model_max_length = 8192
    monkeypatch.setattr(start, "load_model", lambda name: (policy, tokenizer))
    monkeypatch.setattr(start, "sft", lambda *_, **__: None)
    fresh = start.checkpoint.__wrapped__  # nothing is kept of it, nor taken
    assert fresh("smoke", "nano", "sentiment", 0)[1].model_max_length == own
