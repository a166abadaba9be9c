"""Figures of beyond language: pulls between tasks, what rules buy, two recalls, and a road."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from entanglement.stats import Interval
from entanglement_book.drawing.charts import forest, line_with_band
from entanglement_book.drawing.style import ACCENT, CHOSEN, INK, NEUTRAL, REJECTED, figure
from entanglement_book.materials import DigitScenes

__all__ = [
    "agreement",
    "foretold_bars",
    "left",
    "pair_lines",
    "recalls",
    "road",
    "safety_and_progress",
    "scenes",
    "tower_cosines",
]

_PALETTE = (CHOSEN, REJECTED, ACCENT, "#148f5c", "#b58100", "#b553b0")


def scenes(pictures: DigitScenes, count: int = 6) -> Figure:
    """Draw the first pictures with both digits' names."""
    fig, axes = figure(1, count, height=1.1)
    for place, ax in enumerate(axes):
        ax.imshow(pictures.images[place, 0].numpy(), cmap="Greys", vmin=0, vmax=1)
        ax.set_title(f"{int(pictures.first[place])}, {int(pictures.second[place])}")
        ax.set_axis_off()
    return fig


def pair_lines(pairs: pd.DataFrame, widths: Sequence[int]) -> Figure:
    """Draw c/min(a², b²) of every pair of tasks along training, one panel a width.

    Args:
        pairs: "pairs" of the grid ``sharing``, shared trunks.
        widths: of the panels, from above.
    """
    fig, axes = figure(len(widths), height=1.9, sharex=True, squeeze=False)
    for ax, width in zip(axes[:, 0], widths, strict=True):
        ax.axhspan(-50, -1, color=REJECTED, alpha=0.1, lw=0)
        ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
        some = pairs[(pairs["width"] == width) & (pairs["network"] == "shared")]
        for color, ((one, other), rows) in zip(_PALETTE, some.groupby(["task", "other"]), strict=False):
            line = rows.groupby("step")["ratio"].mean()
            ax.plot(rows["step"], rows["ratio"], ".", color=color, ms=4, alpha=0.5)
            ax.plot(line.index, line, color=color, lw=1.6, marker="o", ms=3, label=f"{one}, {other}")
        ax.set_yscale("symlog", linthresh=1)
        ax.set_ylim(-20, 20)
        ax.set_ylabel(f"width {width}")
    axes[-1, 0].set_xlabel("training step")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2)
    return fig


def _marks(
    ax: Axes, rows: Mapping[str, Sequence[Interval]], looks: Sequence[tuple[str, str, str]], spread: float
) -> None:
    """Draw a few intervals in each row, one below the other; looks are text, color and marker of each."""
    for row, intervals in enumerate(rows.values()):
        for place, (interval, (text, color, marker)) in enumerate(zip(intervals, looks, strict=True)):
            at = row + spread * (2 * place / (len(looks) - 1) - 1)
            ax.plot([interval.low, interval.high], [at] * 2, color=color, lw=2.2, alpha=0.6)
            ax.plot(interval.value, at, marker, color=color, ms=6, ls="", label=None if row else text)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.5, -0.5))
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)


def foretold_bars(rows: Mapping[str, tuple[Interval, Interval]]) -> Figure:
    """Draw how many signs are foretold, by inner products and by the sign before, one row a kind of step."""
    fig, ax = figure(height=1.0 + 0.45 * len(rows))
    ax.axvline(0.5, color=NEUTRAL, lw=1, ls="--")
    _marks(ax, rows, (("inner products", ACCENT, "o"), ("the sign before", INK, "s")), 0.13)
    ax.set_xlabel("share of signs foretold")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def agreement(rows: Mapping[str, Sequence[Interval]], titles: Sequence[str]) -> Figure:
    """Draw how often drivers do what a teacher does, one row a teacher, and in each the drivers in order.

    Args:
        rows: teacher → share of each driver, that of the teacher's commonest action first.
        titles: of the drivers.
    """
    fig, ax = figure(height=1.1 + 0.75 * len(rows))
    styles = zip((INK, REJECTED, CHOSEN, ACCENT), "sv^o", strict=True)
    _marks(ax, rows, [(text, *style) for text, style in zip(titles, styles, strict=True)], 0.27)
    ax.set_xlabel("share of new situations")
    fig.legend(loc="outside lower center", ncols=1)
    return fig


def left(fields: Mapping[str, Mapping[str, Interval]], marked: Sequence[str]) -> Figure:
    """Draw the loss that is left with each way, one panel a field.

    Args:
        fields: title → label → share of the loss at chance.
        marked: labels of the multi-objective rules.
    """
    rows = max(len(ways) for ways in fields.values())
    fig, axes = figure(len(fields), height=0.6 + 0.27 * rows, squeeze=False)
    for ax, (title, ways) in zip(axes[:, 0], fields.items(), strict=True):
        colors = [ACCENT if name in marked else INK for name in ways]
        forest(ax, list(ways), list(ways.values()), colors=colors, reference=next(iter(ways.values())).value)
        ax.set_title(title)
    axes[-1, 0].set_xlabel("loss, as a share of that at chance")
    return fig


def recalls(
    points: Mapping[str, tuple[Interval, Interval]], constants: Sequence[str], titles: Mapping[str, str]
) -> Figure:
    """Draw recall@20 of taste against that of intent, a dot a way, with a line through the constants."""
    fig, ax = figure(height=3.9)
    line = [points[name] for name in constants]
    ax.plot(
        [p[0].value for p in line], [p[1].value for p in line], color=CHOSEN, lw=1.2, marker="o", ms=4,
        label="constant weights",
    )  # fmt: skip
    for color, name in zip((REJECTED, ACCENT, "#148f5c", "#b58100"), titles, strict=False):
        taste, intent = points[name]
        ax.errorbar(
            taste.value, intent.value, xerr=[[taste.value - taste.low], [taste.high - taste.value]],
            yerr=[[intent.value - intent.low], [intent.high - intent.value]], color=color, fmt="s", ms=6,
            elinewidth=1.2, label=titles[name],
        )  # fmt: skip
    for name in (constants[0], constants[-1]):
        taste, intent = points[name]
        ax.annotate(
            name,
            (taste.value, intent.value),
            textcoords="offset points",
            xytext=(6, -12),
            color=CHOSEN,
        )
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel("recall@20, taste")
    ax.set_ylabel("recall@20, intent")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def tower_cosines(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the cosine of taste's and intent's gradients along training.

    Args:
        curves: title → rows with step, value, low, high.
    """
    fig, ax = figure(height=2.6)
    ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
    for color, (title, rows) in zip((CHOSEN, REJECTED, ACCENT), curves.items(), strict=False):
        line_with_band(ax, rows["step"], rows["value"], rows["low"], rows["high"], color, title)
    ax.set(ylim=(-1, 1), xlabel="training step", ylabel="cosine")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def road(vehicles: pd.DataFrame, case: pd.DataFrame, actions: Sequence[str]) -> Figure:
    """Draw a situation on the road, and below it what each action leads to.

    Args:
        vehicles: x (m, from the driver), y (m), speed (m/s), own.
        case: a row an objective: objective, foretold, changed, and a column an action.
        actions: names of these columns.
    """
    fig, (above, below) = figure(2, height=2.0, gridspec_kw={"height_ratios": [1, 1.4]})
    for y in (-2, 2, 6, 10):
        above.axhline(y, color=INK, lw=1, ls="-" if y in (-2, 10) else "--", alpha=0.7)
    near = vehicles[vehicles["x"].between(-30, 90)]
    for x, y, speed, own in near[["x", "y", "speed", "own"]].itertuples(index=False):
        color = ACCENT if own else INK
        above.add_patch(Rectangle((x - 2.5, y - 1), 5, 2, color=color, alpha=0.9, lw=0))
        above.text(x, y + 2.6, f"{speed:.0f}", ha="center", va="center", color=color)
    above.set(xlim=(-30, 90), ylim=(12.5, -3), yticks=[], xlabel="m ahead of the driver")
    above.grid(visible=False)
    looks = ((REJECTED, "o", -0.15), (NEUTRAL, "^", 0.0), (CHOSEN, "s", 0.15))
    for (color, marker, shift), (_, row) in zip(looks, case.iterrows(), strict=False):
        places = [place + shift for place in range(len(actions))]
        values = [float(row[action]) for action in actions]
        below.plot(places, values, marker, color=color, ms=7, label=row["objective"])
    below.set_xticks(range(len(actions)), [action.replace(" ", "\n") for action in actions])
    below.set(ylim=(-0.08, 1.08), ylabel="value")
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def safety_and_progress(
    safety: Mapping[str, Interval], progress: Mapping[str, Interval], titles: Mapping[str, str]
) -> Figure:
    """Draw what each way of training a driver ends with, safety and progress, one row a way."""
    fig, ax = figure(height=1.0 + 0.36 * len(titles))
    rows = {title: (safety[name], progress[name]) for name, title in titles.items()}
    _marks(ax, rows, (("safety", REJECTED, "o"), ("progress", CHOSEN, "s")), 0.12)
    ax.set_xlabel("expected value, new situations")
    fig.legend(loc="outside lower center", ncols=2)
    return fig
