"""Figures of controlling each response: what one can ask of two responses, and what one gets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from entanglement.geometry import PairGeometry
from entanglement.stats import Interval
from entanglement_book.drawing.style import ACCENT, CASE_COLORS, CHOSEN, INK, REJECTED, VARIANT_COLORS, figure

__all__ = ["against_cost", "asked_and_got", "paths_to_goal", "reachable"]

Point = tuple[float, float]
Couple = tuple[Interval, Interval]


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
    fig, axes = figure(len(pairs), height=3.5, squeeze=False)
    around = np.linspace(0, 2 * np.pi, 400)
    between = np.linspace(0, np.pi / 2, 200)
    for ax, (title, pair) in zip(axes[0], pairs.items(), strict=True):
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
        ax.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal", xlabel="change of chosen")
        ax.set_title(f"{title}\nρ = {float(pair.cosine[0]):.2f}", fontsize=10)
        ax.grid(visible=False)
        ax.set_xticks([-1, 0, 1])
        ax.set_yticks([-1, 0, 1])
    axes[0, 0].set_ylabel("change of rejected")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return fig


def paths_to_goal(paths: Mapping[str, pd.DataFrame], goal: Point, ax: Axes | None = None) -> Axes:
    """Draw ways from (0, 0) to a goal in the plane of both changes.

    Args:
        paths: label → columns chosen, rejected (nats), a row a step; the first is drawn as the one to notice.
        goal: changes asked for, nats.
        ax: where to draw; a new figure if left out.
    """
    if ax is None:
        _, ax = figure(width=5.0, height=3.4)
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
    ax.legend(fontsize=9)
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
    fig, axes = figure(len(got), height=3.3, squeeze=False, sharex=True, sharey=True)
    marks = ["o", "s", "^"]
    for ax, (title, ends) in zip(axes[0], got.items(), strict=True):
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
        ax.set(xlabel="chosen (nats)", title=title)
    axes[0, 0].set_ylabel("rejected (nats)")
    spots = [*goals.values(), *beside.values()]
    spots += [(x.value, y.value) for ends in got.values() for both in ends.values() for x, y in both.values()]
    low, high = np.min(spots, 0), np.max(spots, 0)
    room = 0.15 * (high - low)
    axes[0, 0].set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))  # one entry a label
    fig.legend(once.values(), once.keys(), loc="outside lower center", ncols=4, fontsize=9)
    return fig


def against_cost(paths: Mapping[str, pd.DataFrame], unit: str) -> Figure:
    """Draw both responses against what training has cost, a panel a way of training.

    Args:
        paths: title → columns cost, chosen, rejected (nats), seed.
        unit: of the cost.
    """
    fig, axes = figure(len(paths), height=2.8, squeeze=False, sharey=True, sharex=True)
    for ax, (title, rows) in zip(axes[0], paths.items(), strict=True):
        ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
        for side, color, dashes in (("chosen", CHOSEN, "-"), ("rejected", REJECTED, "--")):
            for _, path in rows.groupby("seed"):
                ax.plot(path["cost"], path[side], dashes, color=color, lw=0.8, alpha=0.5)
            mean = rows.groupby("step")[["cost", side]].mean()
            ax.plot(mean["cost"], mean[side], dashes, color=color, lw=2.2, label=side)
        ax.set(xlabel=unit, title=title)
    axes[0, 0].set_ylabel("change (nats)")
    axes[0, 0].legend(fontsize=9)
    return fig
