"""Intervals that stay inside a quantity's range: means of bounded values, and shares of clustered trials.

A t interval of cosines may end below −1, and one of values that are all equal has no width. These do neither.
``stats`` has the plain kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq

from entanglement.checks import non_empty, number_or_inf, shown
from entanglement.signatures import checked
from entanglement.stats import LEVEL, Interval, mean_interval, summarize

__all__ = ["bounded_interval", "clustered_share", "summarize_bounded"]


@checked(values=None, low=number_or_inf, high=number_or_inf, level=LEVEL)
def bounded_interval(
    values: Sequence[float] | np.ndarray | pd.Series,
    low: float = 0.0,
    high: float = 1.0,
    level: float = 0.95,
) -> Interval:
    """Return the mean and an interval inside [low, high]; each value is one independent draw (a seed).

    A range without ends: ``stats.mean_interval``. A bounded range, [−1, 1] say: the t interval of the angles
    arccos of the values (for other ranges, of the values carried to [−1, 1]), cut at 0 and π, and carried
    back. Angles are steadier near the ends than Fisher's z, in which a value at −0.9999 *widens* the interval
    toward 0. A range with one end: the t interval of the logarithms of the distances to it, carried back.

    Values that are all equal (but rounding), or one alone, have no spread to go by: in a bounded range all
    means m with n·KL(mean‖m) ≤ log(2/(1 − level)). That set holds the mean with at least the level for *any*
    distribution on the range (Hoeffding 1963), and is wide for few values. In a range with one end there is
    no such bound: equal values, and values on the end, are refused.

    Args:
        values: seeds' means, say.
        low, high: the range of the quantity: −1 and 1 for a cosine or a rank correlation, 0 and 1 for a
            share, 0 and infinity for a ratio or a distance.
        level: of the interval.

    Raises:
        ValueError: no values, one that is not finite or lies outside the range, ``low`` not below ``high``,
            values that no interval can be made of (above), or a level outside (0, 1).
    """
    plain = mean_interval(values, level)
    array = np.asarray(values, dtype=float)
    if not low < high:
        raise ValueError(f"bounded_interval: low={shown(low)}, high={shown(high)}; expected low < high.")
    if array.min() < low or array.max() > high:
        raise ValueError(
            f"bounded_interval: values={shown(values)}; expected numbers from low={low:g} to high={high:g}."
        )
    if np.isinf(low) and np.isinf(high):
        return plain
    bounded = bool(np.isfinite(low) and np.isfinite(high))
    # Values that differ by rounding are equal.
    spread = np.ptp(array) > 1e-9 * (high - low if bounded else float(np.abs(array).max()))
    if spread and (bounded or ((array > low) & (array < high)).all()):
        ends = _transformed(array, low, high, level)
    elif bounded:
        width = high - low
        below, above = _any((plain.value - low) / width, array.size, level)
        ends = (low + width * below, low + width * above)
    elif array.size == 1:
        ends = (low, high)
    else:
        raise ValueError(
            f"bounded_interval: values={shown(values)} of a range with one end; expected numbers off that "
            "end, not all equal."
        )
    # The mean is not the middle of a transformed interval; it is never left outside.
    return Interval(plain.value, min(ends[0], plain.value), max(ends[1], plain.value), plain.n)


def _transformed(array: np.ndarray, low: float, high: float, level: float) -> tuple[float, float]:
    if np.isfinite(low) and np.isfinite(high):
        shares = (array - low) / (high - low)
        angles = mean_interval(np.arccos(np.clip(1 - 2 * shares, -1, 1)), level)
        back = (1 - np.cos(np.clip(angles[1:3], 0, np.pi))) / 2
        return float(low + (high - low) * back[0]), float(low + (high - low) * back[1])
    if np.isfinite(low):
        found = mean_interval(np.log(array - low), level)
        return float(low + np.exp(found.low)), float(low + np.exp(found.high))
    found = mean_interval(np.log(high - array), level)
    return float(high - np.exp(found.high)), float(high - np.exp(found.low))


def _any(mean: float, n: int, level: float) -> tuple[float, float]:
    """All m in [0, 1] with n KL(mean‖m) ≤ log(2/(1 − level)): valid for any distribution on [0, 1]."""
    allowed = float(np.log(2 / (1 - level))) / n

    def excess(m: float) -> float:
        up = mean * np.log(mean / m) if mean > 0 else 0.0
        down = (1 - mean) * np.log((1 - mean) / (1 - m)) if mean < 1 else 0.0
        return float(up + down - allowed)

    tiny = 1e-15
    low = 0.0 if mean <= tiny or excess(tiny) <= 0 else brentq(excess, tiny, mean)
    high = 1.0 if mean >= 1 - tiny or excess(1 - tiny) <= 0 else brentq(excess, mean, 1 - tiny)
    return float(low), float(high)


def _counts(given: object) -> np.ndarray:
    """Return a list of counts as an array; an empty one if it is no such list."""
    try:
        found = np.asarray(given, dtype=float)
    except (TypeError, ValueError, OverflowError):
        return np.empty(0)
    good = found.ndim == 1 and np.isfinite(found).all() and (found >= 0).all() and not (found % 1).any()
    return found if good else np.empty(0)


@checked(successes=None, trials=None, level=LEVEL)
def clustered_share(
    successes: Sequence[int] | np.ndarray | pd.Series,
    trials: Sequence[int] | np.ndarray | pd.Series,
    level: float = 0.95,
) -> Interval:
    """Return the share of all successes and an interval inside [0, 1] for trials that come in clusters.

    The trials of one cluster (the pairs of a seed, the requests of a pair) are not independent. Clopper and
    Pearson's interval is taken for an *effective* number of trials (Korn and Graubard 1998): that number of
    independent trials whose share would vary as much as the clusters' shares do, corrected for few clusters,
    and never more than there are. Where all trials agree the clusters count as one trial each. If the same
    pairs come back in every seed, take both ways to cluster and report the wider interval.

    Args:
        successes: in each cluster.
        trials: in each cluster, at least 1.
        level: of the interval.

    Returns:
        With n, the number of clusters.

    Raises:
        ValueError: no clusters, lists of two lengths, or numbers that are no counts with
            0 ≤ successes ≤ trials; or a level outside (0, 1).
    """
    hits, sizes = (_counts(counts) for counts in (successes, trials))
    right = hits.size == sizes.size > 0 and (sizes >= 1).all() and (hits <= sizes).all()
    if not right:
        raise ValueError(
            f"clustered_share: successes={shown(successes)}, trials={shown(trials)}; expected as many "
            "counts, 0 ≤ successes ≤ trials and trials ≥ 1."
        )
    count, total = hits.size, float(sizes.sum())
    share = float(hits.sum() / total)
    if share in (0.0, 1.0) or count == 1:
        effective = float(count)
    else:
        # Of the ratio of two sums over clusters.
        variance = count / (count - 1) * float(((hits - share * sizes) ** 2).sum()) / total**2
        independent = share * (1 - share) / variance if variance > 0 else total
        few = stats.t.ppf(0.5 + level / 2, total - 1) / stats.t.ppf(0.5 + level / 2, count - 1)
        effective = min(total, independent * float(few) ** 2)
    tail, hit, miss = (1 - level) / 2, share * effective, (1 - share) * effective
    low = 0.0 if hit == 0 else float(stats.beta.ppf(tail, hit, miss + 1))
    high = 1.0 if miss == 0 else float(stats.beta.ppf(1 - tail, hit + 1, miss))
    return Interval(share, low, high, count)


@checked(by=non_empty, low=number_or_inf, high=number_or_inf, level=LEVEL)
def summarize_bounded(
    table: pd.DataFrame,
    value: str,
    by: Sequence[str],
    *,
    unit: str = "seed",
    low: float = 0.0,
    high: float = 1.0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return ``stats.summarize`` with intervals inside [low, high] (``bounded_interval``).

    Args:
        table: tidy, one row a measurement; missing values are left out before averaging.
        value: the column to summarize.
        by: grouping columns.
        unit: the column that names the independent draw; its rows are averaged first.
        low, high: the range of the quantity.
        level: of the interval.

    Returns:
        One row a group: the ``by`` columns, then value, low, high, n (number of units).
    """
    inside = partial(bounded_interval, low=low, high=high)
    return summarize(table, value, by, unit=unit, level=level, interval=inside)
