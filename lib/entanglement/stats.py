"""Intervals: over seeds, over pairs within seeds, and for shares. All are 95 % unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

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
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{where}: expected a non-empty list of finite numbers, got shape {array.shape}.")
    return array


def mean_interval(values: Sequence[float] | np.ndarray | pd.Series, level: float = 0.95) -> Interval:
    """Return the mean and its t interval; each value is one independent draw (a seed, not a pair).

    With a single value the interval is infinitely wide: one seed says nothing about the spread.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    array = _clean(values, "mean_interval")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, -np.inf, np.inf, 1)
    half = float(stats.t.ppf(0.5 + level / 2, array.size - 1) * array.std(ddof=1) / np.sqrt(array.size))
    return Interval(mean, mean - half, mean + half, array.size)


def median_interval(values: Sequence[float] | np.ndarray | pd.Series, level: float = 0.95) -> Interval:
    """Return the median and the distribution-free interval between two order statistics.

    The ends are the order statistics that a binomial count of values below the median puts there; with too
    few values to reach the level, the smallest and the largest value.
    """
    array = np.sort(_clean(values, "median_interval"))
    n = array.size
    low = int(stats.binom.ppf((1 - level) / 2, n, 0.5))
    low = max(0, low - 1) if stats.binom.cdf(low - 1, n, 0.5) > (1 - level) / 2 else max(0, low)
    return Interval(float(np.median(array)), float(array[low]), float(array[n - 1 - low]), n)


def share_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Return a share and its Clopper-Pearson interval, which stays honest at 0 and at 1.

    Raises:
        ValueError: not 0 <= successes <= n with n >= 1.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(
            f"share_interval: successes={successes}, n={n}; expected 0 <= successes <= n, n >= 1."
        )
    low = 0.0 if successes == 0 else float(stats.beta.ppf((1 - level) / 2, successes, n - successes + 1))
    high = 1.0 if successes == n else float(stats.beta.ppf((1 + level) / 2, successes + 1, n - successes))
    return Interval(successes / n, low, high, n)


def summarize(
    table: pd.DataFrame, value: str, by: Sequence[str], *, unit: str = "seed", level: float = 0.95
) -> pd.DataFrame:
    """Return mean and t interval of a column for each group, with ``unit`` as the independent draw.

    Rows of the same unit (the pairs of one seed) are averaged first: they share a model and are not
    independent, so they must not narrow the interval.

    Args:
        table: tidy, one row a measurement.
        value: the column to summarize; missing values are left out before averaging.
        by: grouping columns.
        unit: the column that names the independent draw.
        level: of the interval.

    Returns:
        One row a group: the ``by`` columns, then value, low, high, n (number of units).
    """
    per_unit = table.dropna(subset=[value]).groupby([*by, unit], sort=True)[value].mean().reset_index()
    rows = []
    for key, group in per_unit.groupby(list(by), sort=True):
        rows.append((*key, *mean_interval(group[value].to_numpy(), level)))
    return pd.DataFrame(rows, columns=[*by, "value", "low", "high", "n"])
