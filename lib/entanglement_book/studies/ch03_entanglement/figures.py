"""Figures of entanglement: a step as projections, paths of stepped pairs, how far a prediction reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from entanglement.geometry import CASES, PairGeometry
from entanglement.stats import median_interval
from entanglement_book.drawing.arrows import arrow
from entanglement_book.drawing.charts import line_with_band
from entanglement_book.drawing.style import (
    ACCENT,
    CASE_COLORS,
    CASE_LABELS,
    CHOSEN,
    INK,
    NEUTRAL,
    REJECTED,
    pick_axes,
)

__all__ = ["decay", "error_shares", "paths", "projections", "trail"]

_RESPONSES = {"chosen": CHOSEN, "rejected": REJECTED}


def projections(ax: Axes | None, g_w: Sequence[float], g_l: Sequence[float], *, title: str = "") -> Axes:
    """Draw two gradients in a plane, the DPO step u = g_w − g_l, and u's shadow on the line of each gradient.

    A shadow on the gradient's own side of the origin means that the response rises. Units: the gradient's.
    """
    ax = pick_axes(ax)
    w, l = np.asarray(g_w, dtype=float), np.asarray(g_l, dtype=float)  # noqa: E741
    u = w - l
    ax.set(xlim=(-1.45, 3.3), ylim=(-1.45, 2.45), aspect="equal", xlabel="$θ_1$", ylabel="$θ_2$")
    for vector, color in ((w, CHOSEN), (l, REJECTED)):
        foot = (u @ vector) / (vector @ vector) * vector
        far = 6 * vector / np.linalg.norm(vector)
        ax.plot([-far[0], far[0]], [-far[1], far[1]], color=color, lw=0.8, alpha=0.5, zorder=1)
        ax.plot([u[0], foot[0]], [u[1], foot[1]], color=color, lw=1.2, ls=":", zorder=2)
        ax.plot([0, foot[0]], [0, foot[1]], color=color, lw=7, alpha=0.35, solid_capstyle="butt", zorder=2)
        ax.plot(*foot, "o", color=color, ms=5, zorder=4)
        arrow(ax, vector, color)
    arrow(ax, u, INK, 2.6)
    ax.plot(0, 0, "o", color=INK, ms=3.5, zorder=5)
    for tip, name, color, (dx, dy) in (
        (w, "$g_w$", CHOSEN, (0.02, 0.2)),
        (l, "$g_l$", REJECTED, (-0.36, -0.2) if l[1] > w[1] else (-0.1, -0.32)),
        (u, "$u$", INK, (-0.16, 0.22) if u[0] < 0 else (-0.12, 0.22) if u[1] > 0 else (0.26, 0.05)),
    ):
        ax.text(tip[0] + dx, tip[1] + dy, name, color=color, ha="center", va="center", fontsize=11)
    ax.set_xticks(range(-1, 4))
    ax.set_yticks(range(-1, 3))
    ax.set_title(title)
    return ax


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
    ax.axhline(0, color=NEUTRAL, lw=0.8)
    room = 0.12 * (values.max() - values.min())
    ax.set_ylim(values.min() - room, values.max() + room)
    ax.set_xlabel("DPO steps")
    ax.set_title(title)
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


def error_shares(
    ax: Axes | None, small: pd.DataFrame, *, title: str = "", limit: float = 0.01, legend: bool = True
) -> Axes:
    """Draw which share of the responses is predicted to within a relative error, with and without c.

    Args:
        ax: where to draw; a new figure if None.
        small: rows of ``steps.small_steps``: response, error, alone_error.
        title: of the panel.
        limit: error marked by a vertical line. legend: whether to name the curves.
    """
    ax = pick_axes(ax)
    ax.axvline(limit, color=NEUTRAL, lw=1, ls="--")
    curves = [
        *(
            (small.loc[small["response"] == name, "error"], color, f"{name}, predicted", "-")
            for name, color in _RESPONSES.items()
        ),
        (small["alone_error"], INK, "either, $c$ left out", (0, (4, 1.5))),
    ]
    for errors, color, label, line in curves:
        found = np.sort(np.asarray(errors, dtype=float))
        share = np.arange(1, len(found) + 1) / len(found)
        ax.step(np.maximum(found, 1e-8), share, where="post", color=color, ls=line, label=label)
    ax.set(xscale="log", ylim=(0, 1.02), xlabel="relative error of the change", ylabel="share of responses")
    ax.set_title(title)
    ax.set_xlim(1e-6, 1e2)
    if legend:  # written next to the curves: a box would cover them
        for height, text, color in ((0.9, "chosen", CHOSEN), (0.8, "rejected", REJECTED)):
            ax.text(0.03, height, text, color=color, transform=ax.transAxes)
        ax.text(0.52, 0.85, "$c$ left\nout", color=INK, transform=ax.transAxes, va="center")
    return ax


def decay(ax: Axes | None, ladders: Mapping[str, pd.DataFrame], *, limit: float = 0.01) -> Axes:
    """Draw the median relative error against the size of the step, and the bound where there is one.

    Args:
        ax: where to draw; a new figure if None.
        ladders: name → rows of ``steps.step_ladder``; bands are 95 % intervals of the median over pairs.
        limit: error marked by a horizontal line.
    """
    ax = pick_axes(ax)
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
            ax.plot(sizes, bounds, color=color, lw=1.4, ls=":", label=f"{name}: the theorem's bound")
    ax.set(xscale="log", yscale="log", xlabel="first-order change of the response that moves more (nats)")
    ax.set_ylabel("relative error, worse response")
    ax.legend(loc="upper left")
    return ax


def case_counts(table: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """Return counts of the cases, a row a setting, a column a case in the book's order."""
    columns = {case: CASE_LABELS[case] for case in CASES}
    return pd.DataFrame(table).T.reindex(columns=list(columns)).fillna(0).astype(int).rename(columns=columns)
