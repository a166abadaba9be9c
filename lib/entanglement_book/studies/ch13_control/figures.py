"""Figures of controlling each response: what one can ask of two responses, and what one gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from entanglement.geometry import PairGeometry
from entanglement.stats import Interval
from entanglement_book.drawing.charts import name_rows, two_answers
from entanglement_book.drawing.style import (
    ACCENT,
    CASE_COLORS,
    CHOSEN,
    INK,
    REJECTED,
    VARIANT_COLORS,
    figure,
)

__all__ = [
    "against_cost",
    "asked_and_got",
    "both_answers",
    "costs_and_accuracy",
    "paths_to_goal",
    "reachable",
]

Point = tuple[float, float]
Couple = tuple[Interval, Interval]

#: Colors of the names of families of ways of training.
FAMILY_COLORS = {
    "number": INK,
    "rule": ACCENT,
    "loss": CASE_COLORS["both_up"],
    "tokens": VARIANT_COLORS["short_suffix"],
    "request": CASE_COLORS["ideal"],
    "adversary": CASE_COLORS["both_down"],
}


def _two_columns(panels: int, **options: Any) -> tuple[Figure, list[Axes], Axes | None]:
    """Return a figure with so many panels in two columns, and the cell that is left for a legend, if any."""
    rows = (panels + 1) // 2
    fig, axes = figure(rows, 2, height=2.35, squeeze=False, **options)
    cells = list(axes.flat)
    corner = cells[panels] if panels % 2 else None
    if corner is not None:
        corner.set_axis_off()
    return fig, cells[:panels], corner


def _explain(fig: Figure, corner: Axes | None, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put a legend into the free cell, or below all panels where there is none."""
    if corner is not None:
        corner.legend(handles, labels, loc="center")
    else:
        fig.legend(handles, labels, loc="outside lower center", ncols=2)


def _change(pair: PairGeometry, x_w: np.ndarray, x_l: np.ndarray) -> np.ndarray:
    """Return the changes (n, 2) of both responses under steps x_w g_w − x_l g_l, scaled to length 1."""
    a2, b2, c = (float(v[0]) for v in (pair.chosen_sq, pair.rejected_sq, pair.inner))
    length = np.sqrt(x_w**2 * a2 + x_l**2 * b2 - 2 * x_w * x_l * c)
    return np.stack([(x_w * a2 - x_l * c) / length, (x_w * c - x_l * b2) / length], axis=1)


def reachable(pairs: Mapping[str, PairGeometry]) -> Figure:
    """Draw, for one pair a panel, where a step of one length can take both responses.

    Args:
        pairs: title → the geometry of one pair. Axes are in units of the longer of the two gradients.
    """
    fig, panels, corner = _two_columns(len(pairs))
    around = np.linspace(0, 2 * np.pi, 400)
    between = np.linspace(0, np.pi / 2, 200)
    for ax, (title, pair) in zip(panels, pairs.items(), strict=True):
        a, b = float(pair.chosen_sq[0]) ** 0.5, float(pair.rejected_sq[0]) ** 0.5
        unit = max(a, b)
        edge = _change(pair, np.cos(around) / a, np.sin(around) / b) / unit
        cone = _change(pair, np.cos(between) / a, np.sin(between) / b) / unit
        ax.add_patch(Rectangle((0, -1.3), 1.3, 1.3, color=CASE_COLORS["ideal"], alpha=0.13, lw=0))
        ax.add_patch(Polygon(np.vstack([[0, 0], cone]), color=ACCENT, alpha=0.35, lw=0))
        ax.plot(*edge.T, color=INK, lw=1.4)
        one = np.ones(1)
        for name, x, color in (
            ("DPO", one, CASE_COLORS["both_down"]),
            ("normalized", np.array([b / a]), ACCENT),
        ):
            tip = _change(pair, x, one)[0] / unit
            ax.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.8})
            ax.plot(*tip, "o", color=color, ms=3.5, label=name)
        ax.axhline(0, color=INK, lw=0.6, alpha=0.7)
        ax.axvline(0, color=INK, lw=0.6, alpha=0.7)
        ax.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal")
        ax.set_xlabel("change of chosen", labelpad=2)
        ax.set_title(f"{title}\nρ = {float(pair.cosine[0]):.2f}")
        ax.grid(visible=False)
        ax.set_xticks([-1, 0, 1])
        ax.set_yticks([-1, 0, 1])
        ax.set_ylabel("change of rejected", labelpad=2)
    first = panels[0]
    handles, labels = first.get_legend_handles_labels()
    handles += [first.lines[0], first.patches[1], first.patches[0]]
    labels += ["one step's reach", "what a loss can ask", "what one wants"]
    _explain(fig, corner, handles, labels)
    return fig


def paths_to_goal(paths: Mapping[str, pd.DataFrame], goal: Point, ax: Axes | None = None) -> Axes:
    """Draw ways from (0, 0) to a goal in the plane of both changes.

    Args:
        paths: label → columns chosen, rejected (nats), a row a step; the first is drawn as the one to notice.
        goal: changes asked for, nats.
        ax: where to draw; a new figure if left out.
    """
    if ax is None:
        _, ax = figure(height=3.8)
    ax.add_patch(Rectangle((0, -9), 9, 9, color=CASE_COLORS["ideal"], alpha=0.13, lw=0))
    looks = [(CASE_COLORS["both_down"], "-", "o"), (ACCENT, "--", "s"), (INK, ":", "^")]
    for (color, dashes, marker), (label, path) in zip(looks, paths.items(), strict=False):
        ax.plot(
            path["chosen"], path["rejected"], dashes, color=color, lw=2, marker=marker, ms=4,
            markevery=max(1, len(path) // 12), label=label,
        )  # fmt: skip
    ax.plot(*goal, "X", color=CASE_COLORS["ideal"], ms=11, label="asked for")
    ax.axhline(0, color=INK, lw=0.6, alpha=0.7)
    ax.axvline(0, color=INK, lw=0.6, alpha=0.7)
    ends = np.vstack([[goal], *(path[["chosen", "rejected"]].to_numpy() for path in paths.values())])
    low, high = ends.min(0).clip(max=0), ends.max(0).clip(min=0)
    room = 0.12 * (high - low)
    ax.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
    ax.set(xlabel="change of chosen (nats)", ylabel="change of rejected (nats)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.18), ncols=2)
    return ax


def asked_and_got(
    goals: Mapping[str, Point],
    got: Mapping[str, Mapping[str, Mapping[str, Couple]]],
    beside: Mapping[str, Point],
) -> Figure:
    """Draw requests and where each way to ask ended, joined to what was asked.

    Args:
        goals: name → changes of chosen and rejected asked for, nats.
        got: way's title → goal's name → "trained" and "test" → changes of chosen and rejected, with
            intervals. A way need not have all goals.
        beside: label → ends of other trainings, for comparison.
    """
    fig, panels, corner = _two_columns(len(got), sharex=True, sharey=True)
    marks = ["o", "s", "^"]
    for ax, (title, ends) in zip(panels, got.items(), strict=True):
        ax.add_patch(Rectangle((0, -9), 99, 9, color=CASE_COLORS["ideal"], alpha=0.13, lw=0))
        for mark, (name, goal) in zip(marks, goals.items(), strict=False):
            if name not in ends:
                continue
            ax.plot(*goal, mark, mfc="none", mec=CASE_COLORS["ideal"], mew=1.8, ms=11, label="asked for")
            for pairs, color, size in (("trained", ACCENT, 5), ("test", VARIANT_COLORS["one_token"], 4)):
                chosen, rejected = ends[name][pairs]
                spot = (chosen.value, rejected.value)
                ax.plot([goal[0], spot[0]], [goal[1], spot[1]], color=INK, lw=0.9, alpha=0.8)
                ax.errorbar(
                    *spot,
                    xerr=[[spot[0] - chosen.low], [chosen.high - spot[0]]],
                    yerr=[[spot[1] - rejected.low], [rejected.high - spot[1]]],
                    fmt=mark, color=color, ms=size, lw=1.0,
                    label={"trained": "trained pairs", "test": "held-out pairs"}[pairs],
                )  # fmt: skip
        for label, spot in beside.items():
            ax.plot(*spot, "D", color=CASE_COLORS["both_down"], ms=5, label=label)
        ax.axhline(0, color=INK, lw=0.6, alpha=0.7)
        ax.axvline(0, color=INK, lw=0.6, alpha=0.7)
        ax.set(xlabel="chosen (nats)", ylabel="rejected (nats)")
        ax.set_title(title)
        ax.tick_params(labelbottom=True, labelleft=True)
    spots = [*goals.values(), *beside.values()]
    spots += [(x.value, y.value) for ends in got.values() for both in ends.values() for x, y in both.values()]
    low, high = np.min(spots, 0), np.max(spots, 0)
    room = 0.15 * (high - low)
    panels[0].set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
    handles, labels = panels[0].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))  # one entry a label
    _explain(fig, corner, list(once.values()), list(once))
    return fig


def against_cost(paths: Mapping[str, pd.DataFrame], unit: str) -> Figure:
    """Draw both responses against what training has cost, a panel a way of training.

    Args:
        paths: title → columns cost, chosen, rejected (nats), seed.
        unit: of the cost.
    """
    fig, axes = figure(1, len(paths), height=2.6, squeeze=False, sharey=True, sharex=True)
    for ax, (title, rows) in zip(axes[0], paths.items(), strict=True):
        ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
        for side, color, dashes in (("chosen", CHOSEN, "-"), ("rejected", REJECTED, "--")):
            for _, path in rows.groupby("seed"):
                ax.plot(path["cost"], path[side], dashes, color=color, lw=0.8, alpha=0.5)
            mean = rows.groupby("step")[["cost", side]].mean()
            ax.plot(mean["cost"], mean[side], dashes, color=color, lw=2.2, label=side)
        ax.set(xlabel=unit, title=title)
    axes[0, 0].set_ylabel("change (nats)")
    axes[0, 0].legend()
    return fig


def both_answers(
    ways: Mapping[str, Couple | str], families: Mapping[str, str], xlabel: str, *, ruled: bool = True
) -> Figure:
    """Draw what became of both answers, a row a way of training: a dot for chosen, a square for rejected.

    Args:
        ways: title → (chosen, rejected), nats, with intervals; or what to write where there are none.
        families: title → its family, a key of ``FAMILY_COLORS``, whose color the name has.
        xlabel: of the axis.
        ruled: whether a line parts neighboring families.

    The axis is linear up to 1 nat, and logarithmic beyond.
    """
    fig, ax = figure(height=0.9 + 0.23 * len(ways))
    two_answers(ax, ways, _name_colors(ways, families))
    if ruled:
        _rule(ax, list(ways), families)
    ax.set_xscale("symlog", linthresh=1.0, linscale=0.9)
    known = [i for found in ways.values() if not isinstance(found, str) for i in found]
    finite = np.array([x for i in known for x in (i.value, i.low, i.high) if np.isfinite(x)] or [0.0])
    low, high = min(0.0, float(finite.min())), max(0.0, float(finite.max()))
    ends = (1.25 * low - 0.15, 1.25 * high + 0.15)
    marks = (-2, -0.5, 0, 0.5, 2, 8) if high > 1.5 else (-2, -1, -0.5, 0, 0.5, 1)
    ticks = [x for x in marks if ends[0] <= x <= ends[1]]
    ax.set_xlim(*ends)
    ax.set_xticks(ticks, [f"{x:g}".replace("-", "\N{MINUS SIGN}") for x in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel(xlabel)
    handles, labels = ax.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    fig.legend(once.values(), once.keys(), loc="outside upper right", ncols=2)
    return fig


def costs_and_accuracy(
    ways: Mapping[str, tuple[Interval, float | None]], families: Mapping[str, str], before: float
) -> Figure:
    """Draw held-out accuracy and the time of a step, a row a way of training.

    Args:
        ways: title → (accuracy, time in steps of DPO; None where none was measured).
        families: as in ``both_answers``.
        before: accuracy before training.
    """
    fig, (left, right) = figure(1, 2, height=0.9 + 0.23 * len(ways), sharey=True, width_ratios=[1.5, 1])
    left.axvline(100 * before, color=INK, lw=1, ls="--")
    right.axvline(1, color=INK, lw=1, ls="--")
    for row, (title, (accuracy, time)) in enumerate(ways.items()):
        color = FAMILY_COLORS[families[title]]
        if np.isfinite([accuracy.low, accuracy.high]).all():
            ends = [100 * accuracy.low, 100 * accuracy.high]
            left.plot(ends, [row, row], color=color, lw=2.2, alpha=0.6)
        left.plot(100 * accuracy.value, row, "o", color=color, ms=5)
        if time is not None:
            right.plot(time, row, "o", color=color, ms=5)
    left.set_xlabel("accuracy (%)")
    right.set_xscale("log")
    right.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    right.set_xticks([], minor=True)
    right.set_xlim(0.8, 17)
    right.set_xlabel("time a step")
    right.grid(visible=False, axis="y")
    right.tick_params(axis="y", length=0)
    name_rows(left, _name_colors(ways, families))
    _rule(left, list(ways), families)
    return fig


def _name_colors(titles: Iterable[str], families: Mapping[str, str]) -> dict[str, str]:
    """Return each title's color, that of its family."""
    return {title: FAMILY_COLORS[families[title]] for title in titles}


def _rule(ax: Axes, titles: Sequence[str], families: Mapping[str, str]) -> None:
    """Draw a line between neighboring rows of different families."""
    for row, (one, other) in enumerate(pairwise(titles)):
        if families[one] != families[other]:
            ax.axhline(row + 0.5, color=INK, lw=0.6, alpha=0.5)
