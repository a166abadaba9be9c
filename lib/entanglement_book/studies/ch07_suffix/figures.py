"""Figures of a suffix: scissors, growth of c, pairs climbing the plane, and the band that collapses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import chi2

from entanglement.geometry import Case
from entanglement.loglinear import LogLinear
from entanglement.stats import Interval, mean_interval, median_interval, share_interval
from entanglement_book.drawing.charts import line_with_band
from entanglement_book.drawing.plane import plane, scatter_pairs
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
from entanglement_book.studies.ch07_suffix.study import table_geometry

__all__ = [
    "STATE_COLORS",
    "STATE_LABELS",
    "climb",
    "collapse",
    "crosstalk",
    "growth",
    "scissors",
    "shares",
    "tables",
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
GROWTH_LABELS = {
    "identical": "same states, same words",
    "noisy": "similar states (0.95), same words",
    "orthogonal": "orthogonal states, same words",
    "other words": "same states, other words: size of $c$",
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
    ax.set_title(title, loc="center")
    ax.set_aspect("equal")
    ax.set_xlim(-1.5, 1.6)
    ax.set_ylim(-0.35, 4.0)
    ax.set_xticks([-1, 0, 1])
    ax.set_xlabel("differing token")
    ax.grid(visible=False)
    return ax


def growth(ax: Axes | None, table: pd.DataFrame) -> Axes:
    """Draw the mean inner product against the suffix length, both logarithmic, with 95 % t intervals.

    The inner products of other words have either sign, so theirs is the mean size.

    Args:
        ax: where to draw; a new figure if None.
        table: of ``rivals.growth_study``.
    """
    ax = figure(height=4.6)[1] if ax is None else ax
    for variant, label in GROWTH_LABELS.items():
        rows = table[table["variant"] == variant].groupby("n")["c"]
        size = variant == "other words"
        found = {int(str(n)): mean_interval(c.abs() if size else c) for n, c in rows}
        seen = {n: interval for n, interval in found.items() if interval.value > 0}
        lengths = list(seen)
        # A logarithmic axis has no place for an end below 0.
        ends = [i._replace(low=max(i.low, 0.05 * i.value)) for i in seen.values()]
        style: dict[str, Any] = {"marker": STATE_MARKERS.get(variant, "x"), "ls": "--" if size else "-"}
        style |= {"ms": 9 if variant == "identical" else 5}  # the next line lies on it
        _with_band(ax, lengths, ends, STATE_COLORS.get(variant, INK), label=label, **style)
    drift = table[table["variant"] == "orthogonal"].groupby("n")["drift"].mean()
    ax.plot(
        drift.index[drift > 1], drift[drift > 1], color=INK, ls=":", label="orthogonal, mean gradients only"
    )
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(drift.index, [str(n) for n in drift.index])
    ax.set_ylim(0.3, None)
    ax.set_xlabel("shared suffix $n$ (tokens)")
    ax.set_ylabel(r"inner product $c$ (mean)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.16))
    return ax


def shares(ax: Axes | None, table: pd.DataFrame, rows: Mapping[str, tuple[str, str]]) -> Axes:
    """Draw the share of the pairs in a case against the suffix length, with Clopper-Pearson intervals.

    Args:
        ax: where to draw; a new figure if None.
        table: of ``study.suffix_study``.
        rows: label → (variant, case that is counted, or "violated" for all but "ideal").
    """
    ax = figure(height=4.0)[1] if ax is None else ax
    lengths = sorted(int(n) for n in table["n"].unique())
    for i, (label, (variant, case)) in enumerate(rows.items()):
        found = []
        for n in lengths:
            some = table[(table["variant"] == variant) & (table["n"] == n)]["case"]
            hits = some != "ideal" if case == "violated" else some == case
            found.append(share_interval(int(hits.sum()), len(some)))
        x = np.arange(len(lengths)) + 0.09 * (i - (len(rows) - 1) / 2)
        value, low, high = (np.array([share[k] for share in found]) for k in range(3))
        bars = np.array([value - low, high - value])
        looks: dict[str, Any] = {"lw": 1.6, "ls": "-", "ms": 6, "marker": STATE_MARKERS[variant]}
        ax.errorbar(x, value, bars, color=STATE_COLORS[variant], label=label, **looks)
    ax.set_xticks(range(len(lengths)), [str(n) for n in lengths])
    ax.set_ylim(-0.04, 1.04)
    ax.set_xlabel("shared suffix $n$ (tokens)")
    ax.set_ylabel("share of the pairs")
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.18))
    return ax


def climb(
    ax: Axes | None,
    table: pd.DataFrame,
    variants: Sequence[str],
    lengths: Sequence[int],
    *,
    ratio_range: tuple[float, float] = (0.58, 1.72),
    cosine_range: tuple[float, float] = (-0.2, 1.0),
    most: int = 60,
    names: bool = True,
) -> Axes:
    """Put the pairs of each variant and suffix length on the plane, and join their means in the order of n.

    Args:
        ax: where to draw; a new figure if None.
        table: of ``suffix_study``. variants, lengths: which rows of it.
        ratio_range, cosine_range: of the plane.
        most: at most so many pairs are drawn for each variant and length, without those below the plane.
        names: whether to name the regions.
    """
    ax = plane(ax, ratio_range=ratio_range, cosine_range=cosine_range, labels=False, line_labels=False)
    for variant in variants:
        means = []
        for n in lengths:
            rows = table[(table.variant == variant) & (table.n == n)]
            # What lies below an enlarged part is not piled up at its edge.
            inside = rows.head(most).query("cosine >= @cosine_range[0]")
            if len(inside):
                scatter_pairs(ax, table_geometry(inside), size=9, alpha=0.4)
            means.append((float(np.exp(np.log(rows.ratio).mean())), float(rows.cosine.mean())))
        x, y = zip(*means, strict=True)
        ax.plot(x, y, color=STATE_COLORS[variant], lw=1.4, zorder=4)
        ax.plot(
            x, y, STATE_MARKERS[variant], color=STATE_COLORS[variant], ms=7, mec="white", mew=0.8, zorder=5
        )
        if variant == variants[-1]:
            continue
        for n, place in zip(lengths, means, strict=True):
            crowded = names and place[1] > 0.93
            if variant != variants[0] and place[1] > cosine_range[0] and n > 0 and not crowded:
                offset = (9.0, -4.0)
                ax.annotate(f"{n}", place, xytext=offset, textcoords="offset points", color=INK)
    if names:
        places: list[tuple[Case, float, float]]
        places = [("ideal", 0.5, 0.1), ("both_down", 0.86, 0.81), ("both_up", 0.14, 0.81)]
        for case, across, up in places:
            style: dict[str, Any] = {"fontweight": "bold", "ha": "center", "va": "center"}
            ax.text(across, up, CASE_LABELS[case], color=CASE_COLORS[case], transform=ax.transAxes, **style)
    return ax


def collapse(ax: Axes | None, table: pd.DataFrame, variants: Sequence[str]) -> Axes:
    """Draw the band's half-width −log ρ against |log(b/a)|, medians over pairs with 95 % intervals.

    Condition 1 holds where the norm ratio's curve lies below the half-width's. Lengths with ρ ≤ 0 in some
    pair are left out: there the band has no end. The half-width is that of the first variant; the others'
    are close to it and not drawn.
    """
    ax = pick_axes(ax)
    rows = table[table.variant == variants[0]].groupby("n")
    lengths = [int(n) for n in sorted(set(table.n)) if (rows.get_group(n).cosine > 0).all()]
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
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.16))
    return ax


def crosstalk(ax: Axes | None, table: pd.DataFrame) -> Axes:
    """Draw the spread of the cross-talk X against n, the predicted spread, and the token's own term.

    The intervals are 95 %, of the standard deviation of a normal variable.

    Args:
        ax: where to draw; a new figure if None.
        table: of ``suffix_study`` with identical states.
    """
    ax = pick_axes(ax)
    rows = table.groupby("n")
    spread, predicted = rows.cross_talk.std(), rows.cross_talk_variance.mean() ** 0.5
    own = float(table.token.mean())
    count = int(rows.size().min())
    ends = np.sqrt((count - 1) / chi2.ppf([0.975, 0.025], count - 1))  # of a normal variable's spread
    bars = np.abs(np.outer(ends, spread) - spread.to_numpy())
    looks: dict[str, Any] = {"fmt": "o", "ms": 7, "lw": 1.6}
    ax.errorbar(spread.index, spread, bars, color=ACCENT, label="measured spread of $X$", **looks)
    ax.plot(predicted.index, predicted.to_numpy(), color=ACCENT, lw=1.4, ls="--", label="predicted spread")
    ax.axhline(own, color=INK, lw=1.4)
    place = (float(spread.index[0]), own)
    ax.annotate("the token's own term (mean)", place, xytext=(2, 5), textcoords="offset points", color=INK)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xticks(list(spread.index), [str(n) for n in spread.index])
    ticks = [8, 16, 32, 64, 128]
    ax.set_yticks(ticks, [str(t) for t in ticks])
    ax.set_xlabel("shared suffix $n$ (tokens), same states")
    ax.set_ylabel("standard deviation of $X$")
    ax.legend(loc="lower right")
    return ax


def tables(ax: Axes | None, table: pd.DataFrame, model: str) -> Axes:
    """Put the pairs of one model of ``tabular_study`` on the plane and join their means in the order of n."""
    ax = plane(ax, ratio_range=(0.5, 2.0), cosine_range=(-0.4, 1.0), labels=False, line_labels=False)
    rows = table[table.model == model]
    ax.scatter(rows.ratio, rows.cosine, s=6, color=CASE_COLORS["ideal"], alpha=0.35, lw=0, zorder=3)
    means = rows.groupby("n").agg(ratio=("ratio", "median"), cosine=("cosine", "mean"))
    looks: dict[str, Any] = {"marker": "o", "ms": 7, "mec": "white", "mew": 0.8, "zorder": 5, "lw": 1.4}
    ax.plot(means.ratio, means.cosine, color=CASE_COLORS["ideal"], **looks)
    for n, (ratio, cosine) in zip(means.index, means.to_numpy(), strict=True):
        if cosine < 0.9:
            place = (float(ratio), float(cosine))
            ax.annotate(f"{n}", place, xytext=(34, -4), textcoords="offset points", color=INK)
    ax.set_title({"prefix": "logits for every prefix", "position": "logits for every position"}[model])
    return ax
