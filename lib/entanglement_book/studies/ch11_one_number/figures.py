"""Figures of one number, or the gradients: the steps that rules take, and what comes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Wedge

from entanglement.stats import Interval
from entanglement_book.drawing.arrows import arrow
from entanglement_book.drawing.charts import line_with_band, name_marks, two_answers
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

__all__ = [
    "at_equal_margin",
    "safe_steps",
    "step_sizes",
    "sweeps",
    "together_and_apart",
    "told_and_found",
    "told_elsewhere",
]

_SHADES = (CASE_COLORS["both_down"], ACCENT, "#1d8c93", "#b58100", NEUTRAL)


def _degrees(vector: np.ndarray) -> float:
    return float(np.degrees(np.arctan2(vector[1], vector[0])))


def safe_steps(
    g_w: Sequence[float],
    g_l: Sequence[float],
    steps: Mapping[str, tuple[float, float]],
    ax: Axes | None = None,
) -> Axes:
    """Draw two gradients in a plane, the directions in which chosen rises and rejected falls, and some steps.

    All arrows have length 1: what is compared are directions.

    Args:
        g_w, g_l: (2,) gradients of the two responses.
        steps: label → (u_w, u_l); the step is u_w g_w − u_l g_l.
        ax: where to draw.
    """
    ax = pick_axes(ax)
    w, l = np.asarray(g_w, dtype=float), np.asarray(g_l, dtype=float)  # noqa: E741
    a2, b2, c = float(w @ w), float(l @ l), float(w @ l)
    low, high = (c / a2) * w - l, w - (c / b2) * l  # the band's ends: chosen fixed, rejected fixed
    ends = sorted((_degrees(low) % 360, _degrees(high) % 360))
    ax.add_patch(Wedge((0, 0), 1.12, *ends, color=CASE_COLORS["ideal"], alpha=0.2, lw=0))
    for vector, name, color in ((w, "$g_w$", CHOSEN), (l, "$g_l$", REJECTED)):
        tip = vector / np.linalg.norm(vector)
        arrow(ax, tip, color, 2.6)
        ax.annotate(name, (1.08 * tip[0], 1.08 * tip[1]), color=color, ha="center", va="center", fontsize=12)
    tips, shades = {}, {}
    for name, (up, down) in steps.items():
        step = up * w - down * l
        tips[name] = step / np.linalg.norm(step)
        safe = step @ w >= -1e-9 and step @ l <= 1e-9
        color = INK if name == next(iter(steps)) else ACCENT
        shades[name] = color if safe else CASE_COLORS["both_down"]
        arrow(ax, tips[name], shades[name], 1.8)
    # The names stand in a column, from above as the tips do, each joined to its own.
    for place, name in enumerate(sorted(tips, key=lambda name: -tips[name][1])):
        spot = (-1.15, 1.3 - 0.19 * place)
        ax.plot(*zip(spot, tips[name], strict=True), color=INK, lw=0.7, alpha=0.7)
        ax.annotate(name, (spot[0] - 0.04, spot[1]), color=shades[name], ha="right", va="center")
    ax.text(0.1, 1.3, "chosen up,\nrejected down", color=CASE_COLORS["ideal"], va="center", weight="bold")
    ax.plot(0, 0, "o", color=INK, ms=4, zorder=5)
    ax.set(xlim=(-2.75, 1.25), ylim=(-0.15, 1.55), aspect="equal", xlabel="$θ_1$", ylabel="$θ_2$")
    ax.set(xticks=[-1, 0, 1], yticks=[0, 1])
    ax.grid(visible=False)
    return ax


def step_sizes(steps: pd.DataFrame, runs: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw how large a single step may be, and what large steps make of a run.

    Args:
        steps: columns update, nats, safe (share of pairs in which both signs are right).
        runs: columns update, eta, chosen, rejected (means, nats).
        titles: update → what to write, for both.
    """
    names = list(dict.fromkeys(steps["update"]))
    fig, axes = figure(1 + len(runs["update"].unique()), height=1.9)
    first, *others = axes
    for shade, dashes, name in zip(_SHADES, ("-", "--", "-.", ":"), names, strict=False):
        rows = steps[steps["update"] == name].sort_values("nats")
        first.plot(rows["nats"], 100 * rows["safe"], dashes, color=shade, lw=2, label=titles[name])
    first.set(xscale="log", ylim=(-4, 104), xlabel="size of one step (nats)", title="one step")
    first.set_ylabel("both signs right (%)")
    for ax, (name, rows) in zip(others, runs.groupby("update", sort=False), strict=True):
        rows = rows.sort_values("eta")
        ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
        ax.plot(rows["eta"], rows["chosen"], "o-", color=CHOSEN, ms=4, label="chosen")
        ax.plot(rows["eta"], rows["rejected"], "s--", color=REJECTED, ms=4, label="rejected")
        ax.set(xscale="log", ylabel="change (nats)", title=titles[str(name)])
        ax.sharey(others[0])
        ax.sharex(others[0])
        if ax is not others[-1]:
            ax.tick_params(labelbottom=False)
    ends = runs[["chosen", "rejected"]].to_numpy()
    others[0].set_yscale("symlog", linthresh=1)
    others[0].set_ylim(1.6 * min(ends.min(), -1.0), 1.6 * max(ends.max(), 1.0))
    sizes = sorted(set(runs["eta"]))
    others[-1].set_xticks(sizes, [f"{size:g}" for size in sizes])
    others[-1].minorticks_off()
    others[-1].set_xlabel("step size η")
    first.legend(loc="lower left")
    name_marks(fig, others[0])
    return fig


def together_and_apart(
    ends: Mapping[str, tuple[Interval, Interval]],
    kinds: Mapping[str, str],
    line: Mapping[str, tuple[float, float]],
) -> Figure:
    """Draw where training with each update ended: how far both answers moved together, and how far apart.

    Args:
        ends: label → (mean of the two changes, margin), nats, with intervals.
        kinds: label → "loss", "rule" or "itself", which decides color and marker.
        line: label → (together, apart) of the constant ratios, in order, drawn as a line with small marks.
    """
    fig, ax = figure(height=5.2)
    shades = {"itself": CASE_COLORS["both_down"], "rule": ACCENT, "loss": CASE_COLORS["both_up"]}
    right = 1.3 * max(float(x.value) for x, _ in ends.values())
    left = min(-1.5, 1.5 * min(float(x.value) for x, _ in ends.values()))
    top = 1.35 * max(float(y.value) for _, y in ends.values())
    edge = np.linspace(0, top, 200)
    ax.fill_betweenx(edge, -edge / 2, edge / 2, color=CASE_COLORS["ideal"], alpha=0.2, lw=0)
    ax.plot(-edge / 2, edge, color=CHOSEN, lw=1.4)
    ax.plot(edge / 2, edge, color=REJECTED, lw=1.4)
    ax.plot(*np.array(list(line.values())).T, "-o", color=INK, lw=1.6, ms=3.5, label="r for all")
    names = list(line)
    for name, shift in ((names[0], -16), (names[-1], 8)):
        ax.annotate(name, line[name], xytext=(0, shift), textcoords="offset points", ha="center", color=INK)
    for (name, (across, along)), marker in zip(ends.items(), cycle("ovsPD^X*<>dp"), strict=False):
        shade, x, y = shades[kinds[name]], float(across.value), float(along.value)
        for interval, level in ((across, True), (along, False)):
            span = [interval.low, interval.high]
            if np.isfinite(span).all():
                ax.plot(*((span, [y, y]) if level else ([x, x], span)), color=shade, lw=1.4, alpha=0.45)
        ax.plot(x, y, marker, color=shade, ms=8, ls="", label=name)
    ax.set_xscale("symlog", linthresh=1.0)
    ticks = [t for t in (-2, -1, -0.5, 0, 0.5, 1, 2, 5, 10) if left <= t <= right]
    ax.set_xticks(ticks, [f"{t:g}".replace("-", "\N{MINUS SIGN}") for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlim=(left, right), ylim=(0, top))
    ax.set_xlabel("both answers moved together by (nats)")
    ax.set_ylabel("and apart by (nats)")
    middle = float(ax.transLimits.transform(ax.transScale.transform((0.0, 0.0)))[0])
    words = ((0.02, "both_down", "left"), (middle, "ideal", "center"), (0.98, "both_up", "right"))
    for place, case, side in words:
        style: Any = {"ha": side, "va": "top", "weight": "bold", "transform": ax.transAxes}
        ax.text(place, 0.98, CASE_LABELS[case], color=CASE_COLORS[case], **style)  # type: ignore[index]
    fig.legend(loc="outside lower center", ncols=2, columnspacing=0.6, handletextpad=0.2)
    return fig


def sweeps(panels: Mapping[str, pd.DataFrame], turns: Mapping[str, tuple[float, float]]) -> Figure:
    """Draw both answers' changes against the constant ratio, one panel a model.

    Args:
        panels: title → table of ``ratios.sweep``.
        turns: title → the ratios at which chosen and rejected turn, between which all is as it should be.
    """
    fig, axes = figure(len(panels), height=2.7, squeeze=False)
    for ax, (title, table) in zip(axes[:, 0], panels.items(), strict=True):
        x = 100 * (table["ratio"].to_numpy() - 1)
        low, high = (100 * (turn - 1) for turn in turns[title])
        if np.isfinite(high):  # a chosen answer that is up at 1 already turns further left
            ax.axvspan(low if np.isfinite(low) else x[0], high, color=CASE_COLORS["ideal"], alpha=0.2, lw=0)
        ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
        looks = (("chosen", CHOSEN, "o-"), ("rejected", REJECTED, "s--"))
        for name, color, style in looks:
            value, down, up = ([getattr(i, end) for i in table[name]] for end in ("value", "low", "high"))
            line_with_band(ax, x, value, down, up, color, name, marker=style[0], ls=style[1:], ms=4)
        ax.set_xscale("symlog", linthresh=min(x[x > 0]), linscale=0.5)
        ax.set_xticks(x, [f"{v:g}" for v in x])
        ax.set(title=title, ylabel="change (nats)")
    axes[-1, 0].set_xlabel("r − 1 (%)")
    axes[0, 0].legend(loc="upper left")
    return fig


def at_equal_margin(ways: Mapping[str, tuple[Interval, Interval]], kinds: Mapping[str, str]) -> Figure:
    """Draw both answers' changes at the same margin, one row a way of training.

    Args:
        ways: label → (chosen, rejected), nats, in the order of the rows.
        kinds: label → "constant", "rule" or "loss".
    """
    fig, ax = figure(height=0.8 + 0.3 * len(ways))
    looks = {"constant": INK, "rule": ACCENT, "loss": CASE_COLORS["both_up"]}
    two_answers(ax, ways, {label: looks[kinds[label]] for label in ways})
    ax.set_xlabel("change at the same margin (nats)")
    name_marks(fig, ax)
    return fig


def told_and_found(
    told: Mapping[str, pd.DataFrame],
    found: Mapping[str, tuple[Interval, Interval]],
    gained: Mapping[str, float],
) -> Figure:
    """Draw the ratios at which answers turn, told by virtual steps of several lengths, a panel an optimizer.

    Args:
        told: title → table of ``ratios.told_by_margin``.
        found: title → what training found for chosen and rejected, drawn as bands.
        gained: title → the margin that the training gained, nats.
    """
    fig, axes = figure(len(told), height=2.7, squeeze=False)
    for ax, (title, table) in zip(axes[:, 0], told.items(), strict=True):
        looks = (("chosen", CHOSEN, "o-"), ("rejected", REJECTED, "s--"))
        for (name, color, style), band in zip(looks, found[title], strict=True):
            ax.axhspan(100 * (band.low - 1), 100 * (band.high - 1), color=color, alpha=0.25, lw=0)
            ends = [[100 * (getattr(i, end) - 1) for i in table[name]] for end in ("value", "low", "high")]
            value, low, high = (np.array(end) for end in ends)
            spread = (value - low, high - value)
            ax.errorbar(
                table["margin"], value, spread, color=color, marker=style[0], ls=style[1:], ms=5, label=name
            )
        ax.axvline(gained[title], color=NEUTRAL, lw=1, ls="--")
        ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
        ax.set(title=title, ylabel="r − 1 at which it stays (%)")
    axes[-1, 0].set_xlabel("margin that the virtual step gains (nats)")
    name_marks(fig, axes[0, 0])
    return fig


def told_elsewhere(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw told beside found turning points, one panel a data set, one row a setting.

    Args:
        panels: title → ``ratios.told_beside_found`` with a column setting, in the order of the rows. Marks
            are means over the seeds for which there is a value, lines go from the smallest to the largest.
    """
    heights = [table["setting"].nunique() for table in panels.values()]
    fig, axes = figure(
        len(panels),
        height=(1.1 + 0.42 * sum(heights)) / len(heights),
        squeeze=False,
        gridspec_kw={"height_ratios": [height + 0.6 for height in heights]},
    )
    looks = (("chosen", CHOSEN, "o", -0.16), ("rejected", REJECTED, "s", 0.16))
    for ax, (title, table) in zip(axes[:, 0], panels.items(), strict=True):
        settings = list(dict.fromkeys(table["setting"]))
        ax.axvline(1, color=INK, lw=0.8, alpha=0.7)
        for row, setting in enumerate(settings):
            for answer, color, marker, lift in looks:
                mine = table[(table["setting"] == setting) & (table["answer"] == answer)]
                for column, down, filled in (("found", 0.0, True), ("told", 0.14, False)):
                    values = mine[column].dropna()
                    if values.empty:
                        continue
                    y = row + lift + (down if lift > 0 else -down)
                    ax.plot([values.min(), values.max()], [y, y], color=color, lw=1.6, alpha=0.5)
                    face = color if filled else "none"
                    ax.plot(values.mean(), y, marker, color=color, mfc=face, ms=5.5)
        ax.set_yticks(range(len(settings)), settings)
        ax.set_ylim(len(settings) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.grid(visible=False, axis="y")
        ax.set_title(title)
    axes[-1][0].set_xlabel("ratio r: found (filled), told (hollow)")
    handles = [
        Line2D([], [], color=color, marker=marker, ls="none", label=name) for name, color, marker, _ in looks
    ]
    fig.legend(handles=handles, loc="outside upper right", ncols=2)
    return fig
