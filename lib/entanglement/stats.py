"""Intervals: over seeds, over pairs within seeds, and for shares. All are 95 % unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from entanglement.checks import between, non_empty, shown, whole
from entanglement.signatures import checked

__all__ = ["Interval", "mean_interval", "median_interval", "share_interval", "summarize"]


class Interval(NamedTuple):
    """An estimate, the ends of its interval, and the number of independent values behind it."""

    value: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        spec = spec or ".3g"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def _clean(values: Sequence[float] | np.ndarray | pd.Series, where: str) -> np.ndarray:
    expected = "a non-empty list of finite numbers"
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: values={shown(values)}; expected {expected}.") from None
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{where}: values={shown(values)}; expected {expected}, got shape {array.shape}.")
    return array


#: Of an interval.
LEVEL = between(0, 1, low_open=True, high_open=True, expected="a number between 0 and 1")


@checked(values=None, level=LEVEL)
def mean_interval(values: Sequence[float] | np.ndarray | pd.Series, level: float = 0.95) -> Interval:
    """Return the mean and its t interval; each value is one independent draw (a seed, not a pair).

    With a single value the interval is infinitely wide: one seed says nothing about the spread.

    Raises:
        ValueError: no values, one that is not finite, or a level outside (0, 1).
    """
    array = _clean(values, "mean_interval")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, -np.inf, np.inf, 1)
    half = float(stats.t.ppf(0.5 + level / 2, array.size - 1) * stats.sem(array))
    return Interval(mean, mean - half, mean + half, array.size)


@checked(values=None, level=LEVEL)
def median_interval(values: Sequence[float] | np.ndarray | pd.Series, level: float = 0.95) -> Interval:
    """Return the median and the distribution-free interval between two order statistics.

    The ends are the narrowest two, equally far from either end of the sorted values, between which the
    median lies with at least the asked level. Five values or fewer cannot reach 95 %: then the ends are the
    smallest and the largest value.

    Raises:
        ValueError: no values, one that is not finite, or a level outside (0, 1).
    """
    array = np.sort(_clean(values, "median_interval"))
    median = float(np.median(array))
    found = stats.quantile_test(array, q=median, p=0.5).confidence_interval(level)
    low, high = (array[0], array[-1]) if np.isnan([found.low, found.high]).any() else (found.low, found.high)
    return Interval(median, float(low), float(high), array.size)


@checked(successes=whole(0), n=whole(1), level=LEVEL)
def share_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Return a share and its Clopper-Pearson interval, which stays honest at 0 and at 1.

    Raises:
        ValueError: not 0 <= successes <= n with n >= 1, or a level outside (0, 1).
    """
    if successes > n:
        raise ValueError(f"share_interval: successes={successes}; expected at most n={n}.")
    found = stats.binomtest(int(successes), int(n)).proportion_ci(level, method="exact")
    return Interval(successes / n, float(found.low), float(found.high), n)


@checked(by=non_empty, level=LEVEL)
def summarize(
    table: pd.DataFrame,
    value: str,
    by: Sequence[str],
    *,
    unit: str = "seed",
    level: float = 0.95,
    interval: Callable[..., Interval] = mean_interval,
) -> pd.DataFrame:
    """Return mean and interval of a column for each group, with ``unit`` as the independent draw.

    Rows of the same unit (the pairs of one seed) are averaged first: they share a model and are not
    independent, so they must not narrow the interval.

    Args:
        table: tidy, one row a measurement.
        value: the column to summarize; missing values are left out before averaging.
        by: grouping columns.
        unit: the column that names the independent draw.
        level: of the interval.
        interval: takes the units' means and ``level=``; by default the t interval.

    Returns:
        One row a group: the ``by`` columns, then value, low, high, n (number of units).
    """
    for name, wanted in (("value", value), *(("by", name) for name in by), ("unit", unit)):
        if wanted not in table.columns:
            raise ValueError(
                f"{name}={wanted!r}; expected a column of the table, {', '.join(table.columns)}."
            )
    per_unit = table.dropna(subset=[value]).groupby([*by, unit], sort=True)[value].mean().reset_index()
    rows = []
    for key, group in per_unit.groupby(list(by), sort=True):
        rows.append((*key, *interval(group[value].to_numpy(), level=level)))
    return pd.DataFrame(rows, columns=[*by, "value", "low", "high", "n"])
