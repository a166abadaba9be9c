"""Figures of chapter 07: scissors, growth of c, pairs climbing the plane, and the band that collapses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from entanglement.loglinear import LogLinear, table_geometry
from entanglement.plotting.charts import line_with_band
from entanglement.plotting.plane import plane, scatter_pairs
from entanglement.plotting.style import ACCENT, CASE_COLORS, CHOSEN, INK, NEUTRAL, REJECTED, pick_axes
from entanglement.stats import Interval, mean_interval, median_interval

__all__ = [
    "STATE_COLORS",
    "STATE_LABELS",
    "climb",
    "collapse",
    "crosstalk",
    "growth",
    "scissors",
]

#: The relations between the two suffixes' states that the chapter compares.
STATE_LABELS = {
    "identical": "same states",
    "longer": "rejected states × 1.25",
    "shorter": "rejected states × 0.8",
    "noisy": "similar states (0.95)",
    "orthogonal": "orthogonal states",
}
STATE_COLORS = {
    "identical": CASE_COLORS["ideal"],
    "longer": CASE_COLORS["both_down"],
    "shorter": CASE_COLORS["both_up"],
    "noisy": ACCENT,
    "orthogonal": NEUTRAL,
}
STATE_MARKERS = {"identical": "o", "longer": "v", "shorter": "^", "noisy": "D", "orthogonal": "s"}


def _with_band(ax: Axes, x: Sequence[int], intervals: Sequence[Interval], color: str, **line: Any) -> None:
    value, low, high = ([i[k] for i in intervals] for k in range(3))
    line_with_band(ax, x, value, low, high, color, **line)


def scissors(ax: Axes | None, pair: LogLinear, *, title: str = "") -> Axes:
    """Draw g_w and g_l of ``one_shared_token``, their tips' connection, and the foot of the origin on it.

    Condition 1 holds exactly when the foot lies between the tips. Units: those of the gradient.
    """
    ax = pick_axes(ax)
    g_w, g_l = (g[0].numpy() for g in pair.gradients())
    # Rows of W differ by sign only here; the two columns are the differing and the shared token's direction.
    w, l = np.sqrt(2) * g_w[0], np.sqrt(2) * g_l[0]  # noqa: E741
    for tip, color, name in ((w, CHOSEN, "$g_w$"), (l, REJECTED, "$g_l$")):
        ax.annotate(
            "",
            tip,
            xytext=(0, 0),
            arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2.4, "shrinkA": 0, "shrinkB": 0},
        )
        side = 1 if tip[0] > 0 else -1
        ax.annotate(
            name, tip, xytext=(7 * side, 3), textcoords="offset points", color=color, fontsize=12,
            ha="left" if side > 0 else "right",
        )  # fmt: skip
    along = w - l
    at = float(-(l @ along) / (along @ along))  # 0 at the rejected tip, 1 at the chosen one
    foot = l + at * along
    ends = np.array([l, w, foot])
    ends = ends[np.argsort(ends[:, 0])]
    ax.plot(ends[[0, -1], 0], ends[[0, -1], 1], color=INK, lw=1.1, ls="--", zorder=1)
    ax.plot([0, foot[0]], [0, foot[1]], color=INK, lw=1.1, ls=":", zorder=1)
    inside = 0 <= at <= 1
    color = CASE_COLORS["ideal" if inside else "both_down" if at > 1 else "both_up"]
    ax.plot(*foot, "s", color=color, ms=8, zorder=6)
    ax.plot(0, 0, "o", color=INK, ms=4)
    ax.set_title(title, loc="center", fontsize=10)
    ax.set_aspect("equal")
    ax.grid(visible=False)
    return ax


def growth(ax: Axes | None, table: pd.DataFrame, variants: Sequence[str], *, own: str = "identical") -> Axes:
    """Draw the mean inner product against the suffix length, with 95 % t intervals over draws.

    Dashed, for the variant ``own``: the part of c that equal positions make, Lemma 5's positive products.
    """
    ax = pick_axes(ax)
    for variant in variants:
        rows = table[table.variant == variant].groupby("n")
        lengths = sorted(rows.groups)
        intervals = [mean_interval(rows.get_group(n).c) for n in lengths]
        style = {"label": STATE_LABELS[variant], "marker": STATE_MARKERS[variant]}
        _with_band(ax, lengths, intervals, STATE_COLORS[variant], **style)
    same = table[table.variant == own].groupby("n").same_position.mean()
    ax.plot(
        same.index, same.to_numpy(), color=INK, ls=(0, (2, 3)), lw=1.4, label="equal positions only", zorder=4
    )
    ax.axhline(0, color=NEUTRAL, lw=0.8)
    ax.set_xlabel("shared suffix $n$ (tokens)")
    ax.set_ylabel(r"inner product $c=\langle g_w,g_l\rangle$ (mean)")
    ax.legend(loc="upper left")
    return ax


def climb(
    ax: Axes | None,
    table: pd.DataFrame,
    variants: Sequence[str],
    lengths: Sequence[int],
    *,
    ratio_range: tuple[float, float] = (0.7, 1.43),
    cosine_range: tuple[float, float] = (-0.2, 1.0),
    most: int = 60,
    names: bool = True,
) -> Axes:
    """Put the pairs of each variant and suffix length on the plane, and join their means in the order of n.

    Args:
        ax: where to draw; a new figure if None.
        table: of ``suffix_study``. variants, lengths: which rows of it.
        ratio_range, cosine_range: of the plane.
        most: at most so many pairs are drawn for each variant and length.
        names: whether to write n beside the means.
    """
    ax = plane(ax, ratio_range=ratio_range, cosine_range=cosine_range, labels=names, line_labels=False)
    for variant in variants:
        means = []
        for n in lengths:
            rows = table[(table.variant == variant) & (table.n == n)]
            scatter_pairs(ax, table_geometry(rows.head(most)), size=9, alpha=0.4)
            means.append((float(np.exp(np.log(rows.ratio).mean())), float(rows.cosine.mean())))
        x, y = zip(*means, strict=True)
        ax.plot(x, y, color=STATE_COLORS[variant], lw=1.4, zorder=4, clip_on=True)
        ax.plot(
            x, y, STATE_MARKERS[variant], color=STATE_COLORS[variant], ms=7, mec="white", mew=0.8, zorder=5
        )
    return ax


def collapse(ax: Axes | None, table: pd.DataFrame, variants: Sequence[str]) -> Axes:
    """Draw the band's half-width −log ρ against |log(b/a)|, medians over pairs with 95 % intervals.

    Condition 1 holds where the norm ratio's curve lies below the half-width's. Lengths with ρ ≤ 0 in some
    pair are left out: there the band has no end. The half-width is that of the first variant; the others'
    are close to it and not drawn.
    """
    ax = pick_axes(ax)
    rows = table[table.variant == variants[0]].groupby("n")
    lengths = [n for n in sorted(rows.groups) if (rows.get_group(n).cosine > 0).all()]
    half = [median_interval(-np.log(rows.get_group(n).cosine)) for n in lengths]
    _with_band(ax, lengths, half, INK, label=r"half-width of the band, $-\log\rho$", lw=2.6)
    for variant in variants:
        rows = table[table.variant == variant].groupby("n")
        ratio = [median_interval(np.log(rows.get_group(n).ratio).abs()) for n in lengths]
        label = r"$|\log(b/a)|$, " + STATE_LABELS[variant]
        _with_band(ax, lengths, ratio, STATE_COLORS[variant], label=label, marker=STATE_MARKERS[variant])
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(lengths, [str(n) for n in lengths])
    ax.set_xlabel("shared suffix $n$ (tokens)")
    ax.set_ylabel("log of a norm ratio (median)")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def crosstalk(ax: Axes | None, table: pd.DataFrame, predicted: Mapping[int, float], limit: float) -> Axes:
    """Draw the spread of the cross-talk X against n, its predicted √n, and the size at which signs turn.

    Args:
        ax: where to draw; a new figure if None.
        table: of ``suffix_study`` with identical states.
        predicted: suffix length → predicted standard deviation.
        limit: ‖h_0‖², drawn as a line.
    """
    ax = pick_axes(ax)
    rows = table.groupby("n").cross_talk.std()
    ax.plot(rows.index, rows.to_numpy(), "o", color=ACCENT, ms=7, label="measured spread of $X$")
    ax.plot(
        list(predicted),
        list(predicted.values()),
        color=ACCENT,
        lw=1.4,
        ls="--",
        label="predicted, $\\sqrt{n}$",
    )
    ax.axhline(limit, color=INK, lw=1.4)
    ax.annotate(
        r"the token's own term, about $\Vert h_0\Vert^2$", (rows.index[0], limit), xytext=(2, 5),
        textcoords="offset points", color=INK, fontsize=9.5,
    )  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xticks(list(rows.index), [str(n) for n in rows.index])
    ticks = [8, 16, 32, 64, 128]
    ax.set_yticks(ticks, [str(t) for t in ticks])
    ax.set_xlabel("shared suffix $n$ (tokens), same states")
    ax.set_ylabel("standard deviation of $X$")
    ax.legend(loc="lower right")
    return ax
