"""Figures of entanglement: a step as projections, paths of stepped pairs, how far a prediction reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entanglement.geometry import CASES, PairGeometry
from entanglement.stats import median_interval
from entanglement_book.drawing.arrows import arrow
from entanglement_book.drawing.charts import line_with_band
from entanglement_book.drawing.plane import plane
from entanglement_book.drawing.style import (
    ACCENT,
    CASE_COLORS,
    CASE_LABELS,
    CHOSEN,
    INK,
    NEUTRAL,
    REJECTED,
    TEXT,
    figure,
    pick_axes,
)

__all__ = [
    "case_counts",
    "decay",
    "paths",
    "paths_below_each_other",
    "plane_of_pairs",
    "projections",
    "three_steps",
    "trail",
]

_RESPONSES = {"chosen": CHOSEN, "rejected": REJECTED}


def projections(
    ax: Axes | None, g_w: Sequence[float], g_l: Sequence[float], *, title: str = "", size: float = 1.0
) -> Axes:
    """Draw two gradients in a plane, the DPO step u = g_w − g_l, and its projection on each gradient's line.

    Where it lies on the gradient's own side of the origin, the response rises. Units: the gradient's.

    Args:
        ax: where to draw; a new figure if None.
        g_w, g_l: the gradients, (2,) each.
        title: of the panel.
        size: of arrows and letters, 1 for a small panel.
    """
    ax = pick_axes(ax)
    w, l = np.asarray(g_w, dtype=float), np.asarray(g_l, dtype=float)  # noqa: E741
    u = w - l
    corners = np.array([[0, 0], w, l, u])
    low, high = corners.min(axis=0) - 0.62, corners.max(axis=0) + 0.62
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    for vector, color in ((w, CHOSEN), (l, REJECTED)):
        foot = (u @ vector) / (vector @ vector) * vector
        far = 6 * vector / np.linalg.norm(vector)
        ax.plot([-far[0], far[0]], [-far[1], far[1]], color=color, lw=0.8, alpha=0.5, zorder=1)
        ax.plot([u[0], foot[0]], [u[1], foot[1]], color=color, lw=1.4, ls=":", zorder=2)
        ax.plot([0, foot[0]], [0, foot[1]], color=color, lw=8 * size, alpha=0.35, zorder=2)
        ax.plot(*foot, "o", color=color, ms=6 * size, zorder=4)
        arrow(ax, vector, color, 2.6 * size)
    arrow(ax, u, INK, 3.0 * size)
    ax.plot(0, 0, "o", color=INK, ms=4 * size, zorder=5)
    for tip, name, color in ((w, "$g_w$", CHOSEN), (l, "$g_l$", REJECTED), (u, "$u$", INK)):
        beyond = tip + 0.3 * tip / np.linalg.norm(tip)
        ax.text(beyond[0], beyond[1], name, color=color, ha="center", va="center", fontsize=TEXT + 2 * size)
    for axis, ends in ((ax.xaxis, (low[0], high[0])), (ax.yaxis, (low[1], high[1]))):
        axis.set_ticks(range(math.ceil(ends[0]), math.floor(ends[1]) + 1))
    ax.set_title(title)
    return ax


def three_steps(
    g_w: Sequence[float], rejected: Sequence[Sequence[float]], titles: Sequence[str]
) -> tuple[Figure, list[Axes]]:
    """Draw ``projections`` of one chosen gradient and three rejected ones, the first one large.

    Args:
        g_w: the chosen gradient, (2,).
        rejected: three rejected gradients.
        titles: of the panels.
    """
    fig, _ = figure(height=5.3)
    fig.clear()
    grid = fig.add_gridspec(2, 2, height_ratios=(1.0, 1.15))
    axes = [fig.add_subplot(grid[0, :]), fig.add_subplot(grid[1, 0]), fig.add_subplot(grid[1, 1])]
    for ax, g_l, title, size in zip(axes, rejected, titles, (1.3, 1.0, 1.0), strict=True):
        projections(ax, g_w, g_l, title=title, size=size)
    return fig, axes


def paths(ax: Axes, changes: Any, rates: Sequence[float], *, title: str = "") -> Axes:
    """Draw how both log-probabilities of one pair change over real steps, and where the first step points.

    Args:
        ax: where to draw.
        changes: (N + 1, 2) log π_w and log π_l after 0, 1, …, N steps, minus the values at the start, nats.
        rates: first-order change of the two by the first step, nats a step.
        title: of the panel.
    """
    values = np.asarray(changes, dtype=float)
    steps = np.arange(len(values))
    for k, (name, color) in enumerate(_RESPONSES.items()):
        ax.plot(steps, values[:, k], color=color, label=name)
        ax.plot(steps, steps * float(rates[k]), color=color, lw=1.1, ls=":", zorder=1)
        ax.annotate(
            name,
            (steps[-1], values[-1, k]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=color,
            annotation_clip=False,
        )
    ax.axhline(0, color=NEUTRAL, lw=0.8)
    room = 0.12 * (values.max() - values.min())
    ax.set_ylim(values.min() - room, values.max() + room)
    ax.set_xlim(0, steps[-1])
    ax.set_title(title)
    return ax


def paths_below_each_other(changes: Any, rates: Any, titles: Sequence[str]) -> Figure:
    """Draw ``paths`` of some pairs, a panel each.

    Args:
        changes: (N + 1, pairs, 2). rates: (pairs, 2). titles: of the panels.
    """
    fig, axes = figure(len(titles), height=1.75, sharex=True)
    for k, (ax, title) in enumerate(zip(axes, titles, strict=True)):
        paths(ax, changes[:, k], rates[k], title=title)
        ax.set_ylabel("nats")
    axes[-1].set_xlabel("DPO steps")
    return fig


def plane_of_pairs(
    ax: Axes | None = None,
    *,
    ratio_range: tuple[float, float] = (0.25, 4.0),
    floor: float = -0.25,
    labels: bool = True,
) -> Axes:
    """Draw the plane, its regions named in letters that a telephone shows.

    Args:
        ax: where to draw; a new figure if None.
        ratio_range: ends of the horizontal axis. floor: lower end of the cosine's.
        labels: whether to say what stands still on each side of the tent.
    """
    if ax is None:
        _, ax = figure(height=4.3)
    plane(ax, ratio_range=ratio_range, cosine_range=(floor, 1.0), labels=False, line_labels=False)
    named = {"ideal": (0.5, 0.28), "both_up": (0.15, 0.93), "both_down": (0.85, 0.93)}
    middle: Any = {"transform": ax.transAxes, "ha": "center", "va": "center"}
    for case, (x, y) in named.items():
        color, name = CASE_COLORS[case], CASE_LABELS[case]  # type: ignore[index]
        ax.text(x, y, name, color=color, fontweight="bold", **middle)
    if labels:
        for x, ha, words, color in (
            (0.02, "left", "red line:\nrejected", REJECTED),
            (0.98, "right", "blue line:\nchosen", CHOSEN),
        ):
            text = f"{words}\nstands still"
            ax.text(x, 0.03, text, color=color, ha=ha, va="bottom", transform=ax.transAxes)
    return ax


def trail(ax: Axes, geometry: PairGeometry, *, color: str = INK) -> None:
    """Draw one pair's way over a plane: ``geometry`` holds it after 0, 1, … steps. The dot is the start."""
    x, y = geometry.norm_ratio.numpy(), geometry.cosine.numpy()
    ax.plot(x, y, color=color, lw=1.8, zorder=3)
    ax.plot(x[0], y[0], "o", color=color, ms=8, zorder=4)
    ax.annotate(
        "",
        xy=(x[-1], y[-1]),
        xytext=(x[-2], y[-2]),
        arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.8, "shrinkA": 0, "shrinkB": 0},
        zorder=4,
    )


def decay(ax: Axes | None, ladders: Mapping[str, pd.DataFrame], *, limit: float = 0.01) -> Axes:
    """Draw the median relative error against the size of the step, and the bound where there is one.

    Args:
        ax: where to draw; a new figure if None.
        ladders: name → rows of ``steps.step_ladder``; bands are 95 % intervals of the median over pairs.
        limit: error marked by a horizontal line.
    """
    if ax is None:
        _, ax = figure(height=3.9)
    ax.axhline(limit, color=NEUTRAL, lw=1, ls="--")
    for (name, ladder), color, line in zip(
        ladders.items(), (CASE_COLORS["ideal"], ACCENT), ("-", "-"), strict=False
    ):
        sizes, spread, bounds = [], [], []
        for size, rung in ladder.groupby("size"):
            # A pair's two responses share its parameters: the worse of the two stands for the pair.
            spread.append(median_interval(rung.groupby("pair")["error"].max()))
            relative = rung["bound"] / rung["exact"].abs()
            bounds.append(float(relative.groupby(rung["pair"]).max().median()))
            sizes.append(float(size))  # type: ignore[arg-type]
        value, low, high = ([i[k] for i in spread] for k in range(3))
        line_with_band(ax, sizes, value, low, high, color, name, ls=line, marker="o", ms=3.5)
        if np.isfinite(bounds).all():
            ax.plot(sizes, bounds, color=color, lw=1.4, ls=":", label=f"{name}: the bound")
    ax.set(xscale="log", yscale="log", xlabel="size of the step (nats)")
    ax.set_ylabel("relative error, worse response")
    ax.legend(loc="upper left")
    return ax


def case_counts(table: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """Return counts of the cases, a row a setting, a column a case in the book's order."""
    columns = {case: CASE_LABELS[case] for case in CASES}
    return pd.DataFrame(table).T.reindex(columns=list(columns)).fillna(0).astype(int).rename(columns=columns)
