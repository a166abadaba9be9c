"""What a notebook pastes arrives as plain Python numbers under the right names."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from entanglement.stats import Interval
from entanglement_book.press.pasting import percent, put, put_missing


@pytest.fixture
def pasted(monkeypatch):
    found = {}
    monkeypatch.setattr("myst_nb.glue", lambda name, value, display: found.update({name: (value, display)}))
    return found


def test_numbers_and_intervals(pasted):
    put("share", np.float64(0.5))
    put("count", np.int64(3))
    put("effect", Interval(1.0, 0.5, 1.5, 5))
    put("row", pd.Series({"value": 2.0, "low": 1.0, "high": 3.0, "n": 4}))
    values = {name: value for name, (value, _) in pasted.items()}
    assert values == {
        "share": 0.5, "count": 3, "effect": 1.0, "effect_low": 0.5, "effect_high": 1.5,
        "row": 2.0, "row_low": 1.0, "row_high": 3.0,
    }  # fmt: skip
    assert type(values["share"]) is float and type(values["count"]) is int
    assert not any(display for _, display in pasted.values())


@pytest.mark.parametrize("value", ["0.5", None, True, [1.0]])
def test_anything_else_is_refused(pasted, value):
    with pytest.raises(TypeError, match=r"put: share is .*; expected a number or an interval"):
        put("share", value)
    assert not pasted


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), np.float32("-inf"), Interval(1.0, float("nan"), 2.0, 1)]
)
def test_a_number_that_is_not_finite_goes_to_no_page(pasted, value):
    with pytest.raises(ValueError, match=r"put: share(_low)? is .*; expected a finite number"):
        put(n=3, share=value)
    assert not pasted  # nor what stands beside it


def test_that_a_number_is_missing_is_said(pasted):
    put_missing("share")
    (value, display) = pasted["share"]
    assert np.isnan(value) and not display


def test_several_names_in_one_call(pasted):
    put("n", 3, share=percent(Interval(0.5, 0.25, 0.75, 8)), seeds=np.int64(5))
    values = {name: value for name, (value, _) in pasted.items()}
    assert values == {"n": 3, "share": 50.0, "share_low": 25.0, "share_high": 75.0, "seeds": 5}
    with pytest.raises(TypeError, match="put: why is 'x'"):
        put(why="x")


@pytest.mark.parametrize(
    "half", [{"value": 1.0, "low": 0.5}, {"value": 1.0, "high": 1.5}, {"low": 0.5}, {"high": 1.5}, {}]
)
def test_half_an_interval_is_none(pasted, half):
    with pytest.raises(TypeError, match=r"put: share is .*; expected a number or an interval"):
        put("share", SimpleNamespace(**half))
    assert not pasted


def test_each_end_of_an_interval_is_named_when_it_is_no_number(pasted):
    for end in ("low", "high"):
        whole = {"value": 1.0, "low": 0.5, "high": 1.5, end: "x"}
        with pytest.raises(TypeError, match=f"put: share_{end} is 'x'"):
            put("share", SimpleNamespace(**whole))
