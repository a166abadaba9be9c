"""Intervals: exact values from tables and closed forms, and how often they hold the truth."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from entanglement.stats import Interval, mean_interval, median_interval, share_interval, summarize


def test_the_t_interval_is_that_of_the_textbook():
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764451 * math.sqrt(2.5 / 5)  # t(0.975, 4) and the standard error
    assert found == pytest.approx((3.0, 3.0 - half, 3.0 + half, 5), rel=1e-7)
    assert mean_interval(pd.Series([1, 2, 3, 4, 5], dtype=object)) == found == mean_interval(range(1, 6))
    assert mean_interval([7.0]) == (7.0, -math.inf, math.inf, 1)
    narrow, wide = mean_interval([1.0, 2.0, 4.0], 0.5), mean_interval([1.0, 2.0, 4.0], 0.99)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


#: Ranks (from 1) of the order statistics of the 95 % interval of a median, and what they cover.
RANKS = {6: (1, 0.9688), 9: (2, 0.9609), 10: (2, 0.9785), 15: (4, 0.9648), 20: (6, 0.9586), 25: (8, 0.9567)}


@pytest.mark.parametrize(("n", "rank"), [(n, rank) for n, (rank, _) in RANKS.items()])
def test_the_ends_of_a_medians_interval_are_those_of_the_tables(n, rank):
    values = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    found = median_interval(values)
    assert (found.low, found.high, found.n) == (rank, n + 1 - rank, n)
    assert found.value == (n + 1) / 2
    assert 1 - 2 * scipy_stats.binom.cdf(rank - 1, n, 0.5) == pytest.approx(RANKS[n][1], abs=1e-4)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_median_of_few_values_has_the_widest_interval_that_there_is(n):
    assert median_interval(list(range(n)))[1:] == (0, n - 1, n)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_the_widest_interval_of_a_median_reaches_its_level_to_the_letter(n):
    level = 1 - 2 * 0.5**n  # all values lie on one side of the median with a chance of 2 · ½ⁿ
    assert median_interval(list(range(n)), level)[1:] == (0, n - 1, n)


def test_the_share_interval_is_clopper_pearsons():
    assert share_interval(3, 10) == pytest.approx((0.3, 0.0667395, 0.6524529, 10), abs=1e-6)
    low = scipy_stats.beta.ppf(0.025, 3, 8)
    assert share_interval(3, 10).low == pytest.approx(low, abs=1e-10)
    assert share_interval(0, 10)[:2] == (0.0, 0.0)
    assert share_interval(0, 10).high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert share_interval(1, 1) == pytest.approx((1.0, 0.025, 1.0, 1)) and share_interval(0, 1).n == 1
    assert share_interval(10, 10)[::2] == (1.0, 1.0)
    assert share_interval(10, 10).low == pytest.approx(0.025 ** (1 / 10))


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_a_t_interval_holds_the_truth_as_often_as_it_says(level):
    generator = np.random.default_rng(0)
    found = [mean_interval(generator.normal(2.0, 3.0, 6), level) for _ in range(500)]
    # Three standard errors of a share over 500 trials.
    close = 3 * math.sqrt(level * (1 - level) / 500)
    assert np.mean([f.low <= 2.0 <= f.high for f in found]) == pytest.approx(level, abs=close)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [12, 25, 40])
def test_a_medians_interval_holds_the_truth_at_least_as_often_as_it_says(n, level):
    """Its ends are the same two ranks whatever the values are, and these cover a known share."""
    generator = np.random.default_rng(n)
    for draw in (generator.exponential, generator.standard_normal, generator.standard_cauchy):
        values = draw(size=n)
        found = median_interval(values, level)
        ranks = [np.sort(values).tolist().index(end) for end in (found.low, found.high)]
        assert sum(ranks) == n - 1
        # It holds the median if more than ranks[0] of n values are below it, and at most ranks[1].
        covered = [
            scipy_stats.binom.cdf(n - 1 - k, n, 0.5) - scipy_stats.binom.cdf(k, n, 0.5)
            for k in (ranks[0], ranks[0] + 1)
        ]
        assert covered[0] >= level > covered[1]  # and one rank further in is too narrow


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_a_shares_interval_holds_the_truth_at_least_as_often_as_it_says(level):
    found = [share_interval(k, 40, level) for k in range(41)]
    for truth in (0.02, 0.3, 0.5, 0.77):
        chances = scipy_stats.binom.pmf(range(41), 40, truth)
        held = sum(p for p, f in zip(chances, found, strict=True) if f.low <= truth <= f.high)
        assert held >= level
        # Each tail by itself is at most half of what is left.
        missed = (1 - level) / 2
        assert sum(p for p, f in zip(chances, found, strict=True) if f.low > truth) <= missed
        assert sum(p for p, f in zip(chances, found, strict=True) if f.high < truth) <= missed


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_a_shares_interval_is_that_of_its_level(level):
    for k in (1, 13, 39):
        exact = scipy_stats.binomtest(k, 40).proportion_ci(level, "exact")
        assert share_interval(k, 40, level)[1:3] == pytest.approx((exact.low, exact.high), abs=1e-9)
        # Each end is the share at which what was seen is just as rare as the level lets it be.
        assert scipy_stats.binom.sf(k - 1, 40, exact.low) == pytest.approx((1 - level) / 2)
        assert scipy_stats.binom.cdf(k, 40, exact.high) == pytest.approx((1 - level) / 2)


def test_rows_of_one_unit_do_not_narrow_the_interval():
    table = pd.DataFrame(
        {"kind": "a", "seed": [0] * 10 + [1] * 10 + [2] * 10, "x": [1.0] * 10 + [2.0] * 10 + [6.0] * 10}
    )
    table.loc[0, "x"] = np.nan
    table["other"] = np.nan  # what another column lacks does not matter
    (row,) = summarize(table, "x", ["kind"]).to_dict("records")
    assert (row["value"], row["low"], row["high"], row["n"]) == pytest.approx(mean_interval([1.0, 2.0, 6.0]))
    by_rows = summarize(table.assign(row=range(30)), "x", ["kind"], unit="row").iloc[0]
    assert by_rows["n"] == 29
    assert by_rows["high"] - by_rows["low"] < row["high"] - row["low"]


def test_groups_can_take_another_interval_at_any_level():
    units = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0]
    table = pd.DataFrame({"kind": "a", "seed": range(7), "x": units})
    for interval in (mean_interval, median_interval):
        for level in (0.8, 0.95):
            row = summarize(table, "x", ["kind"], level=level, interval=interval).iloc[0]
            assert tuple(row[["value", "low", "high", "n"]]) == pytest.approx(interval(units, level))


@pytest.mark.parametrize("level", [0, 1, 2, -1, math.nan])
@pytest.mark.parametrize(
    "interval", [mean_interval, median_interval, lambda x, level: share_interval(1, 2, level)]
)
def test_a_level_that_means_nothing_is_refused(interval, level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        interval([1.0, 2.0], level)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf], [[1.0]]])
def test_values_that_mean_nothing_are_refused(values):
    for interval in (mean_interval, median_interval):
        with pytest.raises(ValueError, match="finite numbers"):
            interval(values)


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_counts_that_mean_nothing_are_refused(successes, n):
    with pytest.raises(ValueError, match="successes=" if n else "n=0"):
        share_interval(successes, n)


def test_an_interval_is_written_as_the_book_writes_it():
    assert f"{Interval(0.5, 0.25, 0.75, 8):.2f}" == "0.50 [0.25, 0.75]"
    assert f"{Interval(0.5, 0.25, 0.75, 8)}" == "0.5 [0.25, 0.75]"


def test_flags_are_values_of_which_a_share_is_the_mean():
    for interval in (mean_interval, median_interval):
        assert interval([True, False, True, True]) == interval([1.0, 0.0, 1.0, 1.0])
