"""Gradient entanglement: a pair for each case, and ratios that are safe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from entanglement.geometry import PairGeometry
from entanglement_book.exercises.checking import Check

Vector = Sequence[float]


def _made(**pairs: tuple[Vector, Vector]) -> dict[str, tuple[str, bool]]:
    """A name → the case that a pair makes, and whether its cosine is large enough."""
    shapes = {name: PairGeometry.from_vectors(*pair) for name, pair in pairs.items()}
    return {name: (shape.case()[0], float(shape.cosine) >= 0.9) for name, shape in shapes.items()}


_SHORT, _LONG = (5.0, 1.0), (10.0, -2.0)


def _cases() -> dict[str, tuple[str, bool]]:
    return _made(ideal=((5.0, 1.0), (5.0, -1.0)), both_down=(_SHORT, _LONG), both_up=(_LONG, _SHORT))


def _exchanged() -> dict[str, tuple[str, bool]]:
    return _made(ideal=((5.0, 1.0), (5.0, -1.0)), both_down=(_LONG, _SHORT), both_up=(_SHORT, _LONG))


def _apart() -> dict[str, tuple[str, bool]]:
    return _made(ideal=((2.0, 1.0), (1.0, 2.0)), both_down=(_SHORT, _LONG), both_up=(_LONG, _SHORT))


def _small_cosines() -> dict[str, tuple[str, bool]]:
    """Three right cases, at cosines below 0.9: the last two vectors are those of the text, turned apart."""
    return _made(
        ideal=((2.0, 1.0), (1.0, 2.0)),
        both_down=((2.0, 1.0), (3.0, 4.0)),
        both_up=((2.0, 1.0), (1.0, 0.0)),
    )


def _all_ideal() -> dict[str, tuple[str, bool]]:
    near = ((5.0, 1.0), (5.0, -1.0))
    return _made(ideal=near, both_down=near, both_up=near)


def _inner(x: Vector, y: Vector) -> float:
    return float(np.dot(x, y))


def _safe(g_w: Vector, g_l: Vector, r: float) -> bool:
    c = _inner(g_w, g_l)
    return r * _inner(g_w, g_w) >= c and _inner(g_l, g_l) >= r * c


def _divided(g_w: Vector, g_l: Vector, r: float) -> bool:
    """The band, also where the inner product is negative."""
    c = _inner(g_w, g_l)
    return c / _inner(g_w, g_w) <= r <= _inner(g_l, g_l) / c


def _upside_down(g_w: Vector, g_l: Vector, r: float) -> bool:
    return _safe(g_w, g_l, 1 / r)


def _chosen_alone(g_w: Vector, g_l: Vector, r: float) -> bool:
    return r * _inner(g_w, g_w) >= _inner(g_w, g_l)


def _equal_norms(g_w: Vector, g_l: Vector, r: float) -> bool:
    """The band of two gradients of the same length."""
    rho = _inner(g_w, g_l) / np.sqrt(_inner(g_w, g_w) * _inner(g_l, g_l))
    return bool(rho <= 0 or rho <= r <= 1 / rho)


_TRIED: list[tuple[Vector, Vector, float]] = [
    ([2.0, 1.0], [3.0, 1.0], 1.0),
    ([2.0, 1.0], [3.0, 1.0], 1.41),
    ([2.0, 1.0], [3.0, 1.0], 2.0),
    ([2.0, 1.0], [1.0, 0.0], 1.0),
    ([2.0, 1.0], [1.0, 0.0], 0.45),
    ([2.0, 1.0], [1.0, 2.0], 1.0),
    ([2.0, 1.0], [-1.0, 1.0], 1.0),
    ([2.0, 1.0], [-1.0, 1.0], 5.0),
]

_MISTAKES: list[tuple[Callable[[Vector, Vector, float], bool], str]] = [
    (
        _divided,
        "a pair with c ≤ 0 gets no safe ratio from you. Whoever divides an inequality by a negative number "
        "turns it around.",
    ),
    (_upside_down, "your ratio stands on its head: r is d_w/d_l, the pull over the push."),
    (_chosen_alone, "this says only that chosen does not fall. Where may rejected rise?"),
    (_equal_norms, "you have the band of two gradients of one length. Its center is b/a, not 1."),
]

CHECKS: dict[str, Check] = {
    "03.1": Check(
        right=_cases,
        mistakes=[
            (
                _exchanged,
                "your pairs for “both down” and “both up” stand under each other's names. The step runs away "
                "from the longer gradient, or along it.",
            ),
            (_apart, "your ideal pair has a cosine below 0.9. A large cosine allows the ideal case as well."),
            (_small_cosines, "these are the right cases, and none of your cosines reaches 0.9."),
            (_all_ideal, "all three pairs are ideal. The cosine is large enough; what else has to differ?"),
        ],
        praise="At one and the same cosine all three cases are there: the norms decide.",
    ),
    "03.3": Check(
        right=_safe,
        mistakes=_MISTAKES,
        inputs=_TRIED,
        praise="With c ≤ 0 every ratio is safe, and with c > 0 only those of the band are.",
    ),
}
