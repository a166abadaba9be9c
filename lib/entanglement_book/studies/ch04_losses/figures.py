"""Figures of the chapter on losses: the paths that losses take, and their ratio of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entanglement_book.drawing.style import (
    ACCENT,
    CASE_COLORS,
    CASE_LABELS,
    CHOSEN,
    INK,
    NEUTRAL,
    REJECTED,
    figure,
    pick_axes,
)

__all__ = ["band", "group_curves", "paths", "ratios"]

#: One line style and marker each, in turn; the labels tell them apart, not the colors.
_SHADES = (ACCENT, "#1d8c93", "#b58100", "#c2567e", "#148f5c", NEUTRAL)


def group_curves(
    table: pd.DataFrame, key: str, along: str, value: Sequence[str], tolerance: float = 1e-6
) -> list[list[str]]:
    """Return which curves of a table are the same: lists of names, in order of appearance.

    Args:
        table: long table with columns ``key`` (the name), ``along`` and ``value``.
        tolerance: largest difference, relative to 1 + the value.
    """
    groups: list[tuple[np.ndarray, list[str]]] = []
    for name in dict.fromkeys(table[key]):
        curve = table[table[key] == name].sort_values(along)[[along, *value]].to_numpy(dtype=float)
        for other, names in groups:
            if curve.shape == other.shape and np.allclose(
                curve, other, rtol=tolerance, atol=tolerance, equal_nan=True
            ):
                names.append(name)
                break
        else:
            groups.append((curve, [name]))
    return [names for _, names in groups]


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Return label heights between 0 and 1, in order, at least ``gap`` apart, near where they belong."""
    placed = np.array(heights, dtype=float)
    order = np.argsort(placed, kind="stable")
    ceiling = 1.0
    for i in order[::-1]:  # from the top down: none above the axes, none too near the one above
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    floor = 0.0
    for i in order:  # and back up, should the last have left the axes at the bottom
        placed[i] = max(placed[i], floor)
        floor = placed[i] + gap
    return placed.tolist()


def ratios(
    table: pd.DataFrame, labels: Mapping[str, str], *, ax: Axes | None = None, top: float = 200.0
) -> Axes:
    """Draw r against how far both responses have fallen, one line a group of losses, labeled at its end.

    Args:
        table: columns loss (first of its group), fallen, r.
        labels: loss → what to write.
        top: end of the axis; larger values, and infinite ones, are drawn there.
    """
    ax = pick_axes(ax)
    shown = [name for name in labels if name in set(table["loss"])]
    ends = []
    for i, name in enumerate(shown):
        rows = table[table["loss"] == name].sort_values("fallen")
        y = rows["r"].where(rows["r"] > 0).clip(upper=top)  # a negative ratio has no place on a log axis
        ax.plot(rows["fallen"], y, color=_SHADES[i % len(_SHADES)], lw=2.4 if name == "dpo" else 1.8)
        known = y.notna().to_numpy()
        ends.append((float(rows["fallen"][known].iloc[-1]), float(y[known].iloc[-1])))
        if not known[-1]:  # where d_l turns negative, the curve ends
            ax.plot(*ends[-1], marker="x", color=_SHADES[i % len(_SHADES)], ms=8, mew=2)
    ax.set_yscale("log")
    ax.set_xlim(0, float(table["fallen"].max()))
    low, high = ax.get_ylim()
    places = _spread([float(np.log(y / low) / np.log(high / low)) for _, y in ends], 0.07)
    for i, (name, place) in enumerate(zip(shown, places, strict=True)):
        ax.annotate(
            labels[name],
            (1.0, place),
            xycoords="axes fraction",
            xytext=(22, 0),
            textcoords="offset points",
            va="center",
            color=_SHADES[i % len(_SHADES)],
            fontsize=9.5,
            annotation_clip=False,
        )
        if ends[i][0] == ax.get_xlim()[1]:  # a leader from the curve to its label
            height = float(np.log(ends[i][1] / low) / np.log(high / low))
            ax.annotate(
                "",
                (1.0, height),
                xycoords="axes fraction",
                xytext=(1.045, place),
                arrowprops={"arrowstyle": "-", "color": _SHADES[i % len(_SHADES)], "lw": 0.9},
                annotation_clip=False,
            )
    ax.set_xlabel("both responses have fallen by (nats)")
    ax.set_ylabel("$r = d_w/d_l$")
    return ax


def band(
    followed: Mapping[str, pd.DataFrame],
    titles: Mapping[str, str],
    *,
    x_range: tuple[float, float] = (1 / 16, 32.0),
) -> Figure:
    """Draw each loss as a point that moves: where its r lies, and the band in which it should.

    The horizontal place is r a/b, so the band is [ρ, 1/ρ] for every pair, with its center at 1. A row's ring
    is the first step, its dot the last, the line what lies between.

    Args:
        followed: loss → rows of ``loss_study.descend`` for one pair.
        titles: loss → what to write.
        x_range: ends of the axis. What lies beyond, and an infinite or a zero ratio, is an arrow at the edge;
            a pair of negative weights, a cross at the center.
    """
    fig, ax = figure(height=0.245 * len(followed) + 1.1)
    low, high = x_range
    rho = float(next(iter(followed.values()))["cosine"].iloc[0])
    ax.axvspan(low, rho, color=CASE_COLORS["both_down"], alpha=0.13, lw=0)
    ax.axvspan(rho, 1 / rho, color=CASE_COLORS["ideal"], alpha=0.22, lw=0)
    ax.axvspan(1 / rho, high, color=CASE_COLORS["both_up"], alpha=0.13, lw=0)
    for height, rows in enumerate(followed.values()):
        x = (1 / rows["weighed"]).where(rows["weighed"] >= 0)
        cases = rows["case"].tolist()
        if bool((rows["d_w"] < 0).iloc[0]):
            ax.plot(1.0, height, "X", color=CASE_COLORS["reversed"], ms=8)
            continue
        inside = x.clip(low * 1.06, high / 1.06).to_numpy()
        ax.plot(inside, np.full(len(inside), height), color=NEUTRAL, lw=2, zorder=2)
        for at, filled in ((0, False), (-1, True)):
            shade = CASE_COLORS[cases[at]]
            beyond = float(x.iloc[at]) > high or float(x.iloc[at]) < low
            marker = (">" if float(x.iloc[at]) > 1 else "<") if beyond else "o"
            ax.plot(
                inside[at],
                height,
                marker,
                color=shade,
                mfc=shade if filled else "none",
                mew=1.8,
                ms=6 if filled else 9,
                zorder=3,
            )
    ax.set_xscale("log", base=2)
    ticks = [2.0**k for k in range(-4, 6) if low <= 2.0**k <= high]
    ax.set_xticks(ticks, [f"1/{1 / t:g}" if t < 1 else f"{t:g}" for t in ticks])
    ax.set_xlim(low, high)
    ax.set_yticks(range(len(followed)), [titles[name] for name in followed])
    ax.set_ylim(len(followed) - 0.4, -0.6)
    ax.grid(visible=False)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(r"$r\,a/b$")
    for x_at, case in ((np.sqrt(low * rho), "both_down"), (np.sqrt(high / rho), "both_up")):
        ax.text(
            x_at,
            1.01,
            CASE_LABELS[case],  # type: ignore[index]
            transform=ax.get_xaxis_transform(),
            color=CASE_COLORS[case],  # type: ignore[index]
            ha="center",
            fontweight="bold",
        )
    ax.text(
        1.0,
        1.01,
        "ideal",
        transform=ax.get_xaxis_transform(),
        color=CASE_COLORS["ideal"],
        ha="center",
        fontweight="bold",
    )
    return fig


def paths(followed: Mapping[str, pd.DataFrame], *, limit: float = 6.0) -> Figure:
    """Draw both log-probabilities against each other as each loss moves one pair downhill.

    Args:
        followed: label → rows of ``loss_study.descend`` for one pair.
        limit: half the width of the axes, nats.
    """
    fig, ax = figure(width=5.6, height=4.8)
    ax.axhline(0, color=REJECTED, lw=1, alpha=0.7)
    ax.axvline(0, color=CHOSEN, lw=1, alpha=0.7)
    ends: list[tuple[float, float]] = []
    for i, (label, rows) in enumerate(followed.items()):
        shade = _SHADES[i % len(_SHADES)]
        x, y = rows["chosen"].to_numpy(), rows["rejected"].to_numpy()
        inside = (np.abs(x) <= limit) & (np.abs(y) <= limit)
        x, y = x[inside], y[inside]
        ax.plot(x, y, color=shade, lw=2.2)
        below = x[-1] < 0 and y[-1] < -0.9 * limit  # a path that leaves the axes below
        crowded = any(np.hypot(x[-1] - u, y[-1] - v) < 0.2 * limit and x[-1] > u for u, v in ends)
        left = below or (x[-1] < 0 and not crowded)
        ends.append((x[-1], y[-1]))
        ax.annotate(
            label,
            (x[-1], y[-1]),
            xytext=(-7, 4 if below else 0) if left else (6, 0),
            textcoords="offset points",
            va="bottom" if below else "center",
            ha="right" if left else "left",
            color=shade,
            fontsize=9.5,
            fontweight="bold",
            annotation_clip=False,
        )
    ax.plot(0, 0, "o", color=INK, ms=6)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.set_xlabel(r"$\Delta\log\pi_w$ (nats)")
    ax.set_ylabel(r"$\Delta\log\pi_l$ (nats)")
    return fig
