"""Plain charts used by several chapters: a line with its band, a forest of intervals, both answers of several
ways of training, shares of the cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entanglement.geometry import CASES
from entanglement_book.drawing.style import (
    CASE_COLORS,
    CASE_LABELS,
    CHOSEN,
    INK,
    NEUTRAL,
    REJECTED,
    pick_axes,
)

__all__ = ["case_shares", "forest", "line_with_band", "name_marks", "name_rows", "two_answers"]


def line_with_band(
    ax: Axes,
    x: Any,
    mean: Any,
    low: Any,
    high: Any,
    color: str = CHOSEN,
    label: str | None = None,
    **line: Any,
) -> None:
    """Draw a curve and its interval as a band of the same color.

    Args:
        ax: where to draw.
        x, mean, low, high: (N,) each. An infinite end (a single seed) is drawn as no band.
        color, label: of the line. line: more options of ``ax.plot`` (``ls``, ``marker``, …).

    Raises:
        ValueError: the lengths differ.
    """
    arrays = [np.asarray(values, dtype=float) for values in (x, mean, low, high)]
    if len({a.shape for a in arrays}) != 1 or arrays[0].ndim != 1:
        raise ValueError(
            f"line_with_band: got shapes {[a.shape for a in arrays]}; expected four of one length."
        )
    xs, ys, lows, highs = arrays
    ax.plot(xs, ys, color=color, label=label, **line)
    finite = np.isfinite(lows) & np.isfinite(highs)
    ax.fill_between(
        xs,
        np.where(finite, lows, ys),
        np.where(finite, highs, ys),
        where=finite,
        color=color,
        alpha=0.2,
        lw=0,
    )


def forest(
    ax: Axes | None,
    labels: Sequence[str],
    intervals: Sequence[Sequence[float]],
    *,
    colors: str | Sequence[str] = CHOSEN,
    reference: float | None = None,
    xlabel: str = "",
) -> Axes:
    """Draw one dot with its interval a row, first row at the top.

    Args:
        ax: where to draw; a new figure if None.
        labels: one a row.
        intervals: (value, low, high, …) each, such as ``stats.Interval``.
        colors: one for all, or one a row.
        reference: a value to compare with, as a vertical line.
        xlabel: quantity and unit.

    Raises:
        ValueError: not as many labels or colors as intervals.
    """
    each = [colors] * len(labels) if isinstance(colors, str) else list(colors)
    if not len(labels) == len(intervals) == len(each):
        raise ValueError(
            f"forest: {len(labels)} labels, {len(intervals)} intervals, {len(each)} colors; expected as many."
        )
    ax = pick_axes(ax)
    if reference is not None:
        ax.axvline(reference, color=NEUTRAL, lw=1, ls="--", zorder=1)
    for row, (interval, color) in enumerate(zip(intervals, each, strict=True)):
        value, low, high = (float(v) for v in interval[:3])
        if np.isfinite(low) and np.isfinite(high):
            ax.plot([low, high], [row, row], color=color, lw=2.4, solid_capstyle="butt", zorder=2)
        ax.plot([value], [row], "o", color=color, ms=6.5, zorder=3)
    ax.set_yticks(range(len(labels)), list(labels))
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(xlabel)
    return ax


def name_rows(ax: Axes, colors: Mapping[str, str], **text: Any) -> None:
    """Name the rows of a list, each name in its color, first row at the top.

    Args:
        ax: where to write; row k stands at y = k.
        colors: name → its color, in the order of the rows.
        text: more options of the names (``fontsize``, …).
    """
    ax.set_yticks(range(len(colors)), list(colors), **text)
    for label, color in zip(ax.get_yticklabels(), colors.values(), strict=True):
        label.set_color(color)
    ax.set_ylim(len(colors) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")


def two_answers(
    ax: Axes | None,
    ways: Mapping[str, tuple[Sequence[float], Sequence[float]] | str],
    colors: Mapping[str, str],
    **names: Any,
) -> Axes:
    """Draw what became of both answers, a row a way of training: a dot for chosen, a square for rejected.

    The marks are labeled "chosen" and "rejected", for a legend.

    Args:
        ax: where to draw; a new figure if None.
        ways: name → (value, low, high, …) of the chosen and of the rejected answer, such as
            ``stats.Interval``; or what to write where there are none. An interval with an infinite end (a
            single seed) is not drawn, only its value.
        colors: name → the color in which it is written.
        names: more options of the names (``fontsize``, …).

    Raises:
        ValueError: a way has no color.
    """
    if missing := [name for name in ways if name not in colors]:
        raise ValueError(f"two_answers: no color for {missing}; expected one for each way.")
    ax = pick_axes(ax)
    ax.axvline(0, color=INK, lw=0.8, alpha=0.7)
    looks = (("chosen", CHOSEN, "o"), ("rejected", REJECTED, "s"))
    for row, found in enumerate(ways.values()):
        if isinstance(found, str):
            place: Any = ("axes fraction", "data")
            ax.annotate(found, (0.02, row), xycoords=place, va="center", color=INK)
            continue
        for interval, (label, color, marker) in zip(found, looks, strict=True):
            value, low, high = (float(v) for v in interval[:3])
            if np.isfinite(low) and np.isfinite(high):
                ax.plot([low, high], [row, row], color=color, lw=2.2, alpha=0.6)
            ax.plot([value], [row], marker, color=color, ms=5.5, label=label)
    name_rows(ax, {name: colors[name] for name in ways}, **names)
    return ax


def name_marks(fig: Figure, ax: Axes, *, columns: int = 2) -> None:
    """Put one legend below a figure, with each label of its axes once.

    Args:
        fig: where it stands. ax: whose marks are named.
        columns: of the legend.
    """
    handles, labels = ax.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    fig.legend(list(once.values()), list(once), loc="outside lower center", ncols=columns)


def case_shares(ax: Axes, x: Any, shares: Mapping[str, Any], *, legend: bool = True) -> None:
    """Stack the shares of the pairs in each case over x; the reader sees them add up to 1.

    Args:
        ax: where to draw.
        x: (N,) positions, in order (training steps, suffix lengths).
        shares: case name → (N,) shares; a case that is not given counts as 0.
        legend: whether to draw one, with the cases that occur.

    Raises:
        ValueError: an unknown case, or shares that do not sum to 1.
    """
    unknown = set(shares) - set(CASES)
    xs = np.asarray(x, dtype=float)
    rows = {case: np.asarray(shares.get(case, np.zeros_like(xs)), dtype=float) for case in CASES}
    total = sum(rows.values())
    if unknown or not np.allclose(total, 1.0):
        raise ValueError(
            f"case_shares: unknown cases {sorted(unknown)}, totals {total}; expected shares that sum to 1."
        )
    base = np.zeros_like(xs)
    for case, row in rows.items():
        if row.any():
            ax.fill_between(
                xs, base, base + row, color=CASE_COLORS[case], alpha=0.55, lw=0, label=CASE_LABELS[case]
            )
            base = base + row
    ax.set_ylim(0, 1)
    ax.set_xlim(xs.min(), xs.max() if xs.max() > xs.min() else xs.min() + 1)
    ax.set_ylabel("share of pairs")
    if legend:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
