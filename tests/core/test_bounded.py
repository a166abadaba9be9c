"""Intervals inside the range: closed forms, how often they hold the truth, and where they end."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from entanglement.bounded import bounded_interval, clustered_share, summarize_bounded
from entanglement.stats import mean_interval, share_interval


def test_cosines_are_carried_through_their_angles():
    cosines = [-0.95, -0.99, -0.9, -0.98]
    angle = mean_interval(np.arccos(cosines))
    high = math.cos(angle.low)
    low = math.cos(min(angle.high, math.pi))
    assert bounded_interval(cosines, -1, 1) == pytest.approx((np.mean(cosines), low, high, 4))
    shares = bounded_interval([(1 + cosine) / 2 for cosine in cosines])
    assert shares == pytest.approx(((1 + np.mean(cosines)) / 2, (1 + low) / 2, (1 + high) / 2, 4))
    assert mean_interval([-0.99, -0.999, -0.9, -0.98]).low < -1
    assert bounded_interval([-0.99, -0.999, -0.9, -0.98], -1, 1).low >= -1


def test_a_value_near_the_end_does_not_widen_the_interval_to_the_other_side():
    assert bounded_interval([-0.99999, -0.94, -0.94, -0.93], -1, 1).high < -0.8
    assert math.tanh(mean_interval(np.arctanh([-0.99999, -0.94, -0.94, -0.93])).high) > 0  # Fisher's z


def test_positive_numbers_are_carried_through_logarithms():
    found, logs = bounded_interval([1.0, 2.0, 8.0], 0, math.inf), mean_interval(np.log([1.0, 2.0, 8.0]))
    assert found == pytest.approx((11 / 3, math.exp(logs.low), math.exp(logs.high), 3))
    mirrored = bounded_interval([-1.0, -2.0, -8.0], -math.inf, 0)
    assert mirrored == pytest.approx((-found.value, -found.high, -found.low, 3))
    assert bounded_interval([1.0, 2.0], -math.inf, math.inf) == mean_interval([1.0, 2.0])


def test_values_on_an_end_and_equal_values_have_a_wide_interval():
    n, allowed = 5, math.log(40) / 5
    assert bounded_interval([1.0] * n) == pytest.approx((1.0, math.exp(-allowed), 1.0, n))
    assert bounded_interval([0.0] * n) == pytest.approx((0.0, 0.0, 1 - math.exp(-allowed), n))
    low, high = bounded_interval([0.25] * n)[1:3]
    for m in (low, high):
        assert 0.25 * math.log(0.25 / m) + 0.75 * math.log(0.75 / (1 - m)) == pytest.approx(allowed)
    assert bounded_interval([0.0, 1.0, 1.0])[1:3] == (0, 1)
    assert bounded_interval([0.5], 0, math.inf)[1:3] == (0, math.inf)


def test_what_has_no_interval_is_refused():
    with pytest.raises(ValueError, match="expected numbers off that end"):
        bounded_interval([2.0, 2.0], 0, math.inf)
    with pytest.raises(ValueError, match="from low=0 to high=1"):
        bounded_interval([0.5, 1.5])
    with pytest.raises(ValueError, match="expected low < high"):
        bounded_interval([0.5], 1.0, 1.0)
    with pytest.raises(ValueError, match="expected as many counts"):
        clustered_share([3], [2])


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_no_interval_leaves_the_range_or_its_value_or_has_no_width(values):
    found = bounded_interval(values, -1, 1)
    assert -1 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    assert found.low < found.high


@pytest.mark.parametrize(("a", "b", "n"), [(2, 18, 5), (20, 2, 4), (5, 5, 5)])
def test_it_holds_the_mean_about_as_often_as_it_says(a, b, n):
    generator = np.random.default_rng(0)
    found = [bounded_interval(generator.beta(a, b, n)) for _ in range(800)]
    held = np.mean([i.low <= a / (a + b) <= i.high for i in found])
    assert 0.92 < held <= 0.98


def test_a_share_of_clusters_that_agree_counts_each_once():
    assert clustered_share([3] * 16, [3] * 16) == pytest.approx(share_interval(16, 16))
    assert clustered_share([0] * 4, [9] * 4) == pytest.approx(share_interval(0, 4))


def test_clusters_of_one_are_independent_trials_or_fewer():
    hits = [1] * 30 + [0] * 70
    # The variance between them is n/(n − 1) times the binomial's: one trial is lost.
    assert clustered_share(hits, [1] * 100)[1:3] == pytest.approx(share_interval(30, 100)[1:3], abs=0.002)


def test_clusters_that_differ_widen_the_interval_and_equal_ones_do_not_narrow_it():
    equal, apart = clustered_share([5] * 5, [16] * 5), clustered_share([0, 0, 16, 9, 0], [16] * 5)
    assert equal.value == apart.value == 0.3125
    plain = share_interval(25, 80)
    assert equal.low < plain.low < plain.high < equal.high  # five clusters tell less than eighty trials
    assert 0 < apart.low < equal.low < equal.high < apart.high < 1


@pytest.mark.parametrize("within", [0.05, 0.5])
def test_a_clustered_share_holds_the_truth_at_least_as_often_as_it_says(within):
    generator = np.random.default_rng(1)
    a, b = 0.3 * (1 / within - 1), 0.7 * (1 / within - 1)
    clustered = plain = 0
    for _ in range(600):
        hits = generator.binomial(12, generator.beta(a, b, 10))
        one, other = clustered_share(hits, [12] * 10), share_interval(int(hits.sum()), 120)
        clustered += one.low <= 0.3 <= one.high
        plain += other.low <= 0.3 <= other.high
    assert clustered >= 0.94 * 600
    if within == 0.5:
        assert plain < 0.7 * 600  # what the clusters are for


def test_a_table_is_summarized_by_unit():
    table = pd.DataFrame({"run": [0, 0, 1, 1], "kind": "a", "cosine": [0.9, 1.0, 0.5, np.nan]})
    row = summarize_bounded(table, "cosine", ["kind"], unit="run", low=-1).iloc[0]
    assert (row["value"], row["n"]) == (pytest.approx(0.725), 2)
    assert tuple(row[["low", "high"]]) == pytest.approx(bounded_interval([0.95, 0.5], -1, 1)[1:3])
    wide = summarize_bounded(table, "cosine", ["kind"], unit="run", low=-1, high=2, level=0.8).iloc[0]
    assert tuple(wide[["low", "high"]]) == pytest.approx(bounded_interval([0.95, 0.5], -1, 2, 0.8)[1:3])
    with pytest.raises(ValueError, match="unit='seed'"):
        summarize_bounded(table, "cosine", ["kind"])
