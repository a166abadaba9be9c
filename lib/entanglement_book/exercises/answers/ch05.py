"""Training dynamics: a pair that other pairs move, and two runs at the same margin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from entanglement_book.exercises.checking import Check

Array = NDArray[np.float64]
Pair = tuple[Sequence[float], Sequence[float]]


def _sides(pair: Pair) -> tuple[Array, Array]:
    g_w, g_l = (np.asarray(side, dtype=np.float64) for side in pair)
    return g_w, g_l


def _direction(batch: Sequence[Pair]) -> Array:
    """The mean over the batch of g_w − g_l."""
    total: Array = np.mean([np.subtract(*_sides(pair)) for pair in batch], axis=0)
    return total


def _along(held_out: Pair, direction: Array) -> list[float]:
    return [float(side @ direction) for side in _sides(held_out)]


def _rates(held_out: Pair, batch: Sequence[Pair]) -> list[float]:
    return _along(held_out, _direction(batch))


def _own_step(held_out: Pair, batch: Sequence[Pair]) -> list[float]:
    return _along(held_out, _direction([held_out]))


def _joined(held_out: Pair, batch: Sequence[Pair]) -> list[float]:
    return _along(held_out, _direction([*batch, held_out]))


def _summed(held_out: Pair, batch: Sequence[Pair]) -> list[float]:
    return _along(held_out, len(batch) * _direction(batch))


def _uphill(held_out: Pair, batch: Sequence[Pair]) -> list[float]:
    return _along(held_out, -_direction(batch))


def _rejected_outward(held_out: Pair, batch: Sequence[Pair]) -> list[float]:
    chosen, rejected = _rates(held_out, batch)
    return [chosen, -rejected]


_HELD_OUT: Pair = ([2.0, 0.0], [1.5, 1.7])
_BATCHES: list[tuple[Pair, Sequence[Pair]]] = [
    (_HELD_OUT, [([0.0, 2.0], [2.0, 1.0])]),
    (_HELD_OUT, [([2.0, 1.0], [3.0, 1.0]), ([0.0, 2.0], [2.0, 1.0])]),
    (_HELD_OUT, [([3.0, 0.0], [1.0, 1.0]), ([1.0, 0.0], [0.0, 2.0]), ([2.0, 1.0], [0.0, 0.0])]),
]


def _at_margin(margins: Sequence[float], values: Sequence[float], margin: float) -> float:
    return float(np.interp(margin, margins, values))


def _at_the_end(margins: Sequence[float], values: Sequence[float], margin: float) -> float:
    return float(values[-1])


def _moment_before(margins: Sequence[float], values: Sequence[float], margin: float) -> float:
    return float(values[int(np.searchsorted(margins, margin)) - 1])


def _moment_after(margins: Sequence[float], values: Sequence[float], margin: float) -> float:
    return float(values[int(np.searchsorted(margins, margin))])


def _by_steps(margins: Sequence[float], values: Sequence[float], margin: float) -> float:
    """As if the margin grew by the same amount in every step."""
    even = np.linspace(0, margins[-1], len(margins))
    return float(np.interp(margin, even, values))


_MARGINS, _BOTH = [0.0, 0.15, 0.45, 0.7, 0.9], [0.0, 18.0, 30.0, 46.0, 54.0]
_CHOSEN = [0.0, -0.03, -0.24, -0.4, -0.48]
_READ: list[tuple[Sequence[float], Sequence[float], float]] = [
    (_MARGINS, _BOTH, 0.2),
    (_MARGINS, _BOTH, 0.6),
    (_MARGINS, _CHOSEN, 0.3),
]

CHECKS: dict[str, Check] = {
    "05.3": Check(
        right=_at_margin,
        mistakes=[
            (_at_the_end, "this is where the run ends, not where it has the margin that is asked for."),
            (_moment_before, "this is what the last measured moment before that margin had."),
            (_moment_after, "this is what the first measured moment after that margin had."),
            (_by_steps, "the margin does not grow evenly: use the margins that were measured."),
        ],
        inputs=_READ,
        praise="At the colleague's margin this run has the colleague's share: the slow run has done less.",
    ),
    "05.5": Check(
        right=_rates,
        mistakes=[
            (_own_step, "this is the pair's own step, which a held-out pair never takes."),
            (_joined, "the held-out pair is in your batch. Only the batch's pairs make the step."),
            (_summed, "you step on the sum of the losses; it is to be their mean."),
            (_uphill, "your step goes up the loss, and not down."),
            (_rejected_outward, "the sign of the rejected rate is turned. It is that of a log-probability."),
        ],
        inputs=_BATCHES,
        praise="In the first batch all is ideal, the held-out pair too, and both of its answers fall.",
    ),
}
