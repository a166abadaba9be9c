"""Figures of training dynamics: curves of some losses, the ends of all, the account, pairs on the plane, the
two knobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from entanglement.geometry import PairGeometry
from entanglement.stats import Interval
from entanglement_book.drawing.charts import line_with_band
from entanglement_book.drawing.plane import plane, scatter_pairs
from entanglement_book.drawing.style import (
    ACCENT,
    CASE_COLORS,
    CHOSEN,
    INK,
    NEUTRAL,
    REJECTED,
    figure,
)
from entanglement_book.press.pasting import percent
from entanglement_book.studies.ch05_dynamics import tables

__all__ = ["account", "by_margin", "curves", "ends", "knob_map", "on_the_plane"]

_LINES = (("rejected", REJECTED, "--"), ("chosen", CHOSEN, "-"))


def curves(
    means: pd.DataFrame, data: str, rows: Sequence[Sequence[str]], titles: Mapping[str, str]
) -> Figure:
    """Draw chosen and rejected along training, a panel a loss; the panels of a row share an axis.

    Args:
        means: the grid's table.
        data: which data set.
        rows: losses, row by row.
        titles: loss → what to write.
    """
    found = {name: tables.curve(means, data, name) for name, _, _ in _LINES}
    columns = len(rows[0])
    fig, axes = figure(len(rows), columns, height=1.75, sharex=True, sharey="row", squeeze=False)
    for line, losses in zip(axes, rows, strict=True):
        for ax, loss in zip(line, losses, strict=True):
            ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
            for name, color, dashes in _LINES:  # chosen last, so that it lies on top
                some = found[name][found[name]["loss"] == loss]
                line_with_band(
                    ax, some["step"], some["value"], some["low"], some["high"], color, name, ls=dashes
                )
            ax.set_title(titles[loss])
    for ax in axes[-1]:
        ax.set_xlabel("step")
    fig.supylabel("change since the start (nats)", color=INK)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=2)
    return fig


def _bar(ax: Axes, row: float, interval: Interval, color: str, marker: str) -> None:
    if np.isfinite([interval.low, interval.high]).all():
        ax.plot([interval.low, interval.high], [row, row], color=color, lw=2.2, alpha=0.6)
    ax.plot(interval.value, row, marker, color=color, ms=5.5)


def _rows(ax: Axes, labels: Sequence[str]) -> None:
    ax.set_yticks(range(len(labels)), list(labels))
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")


def ends(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw where each loss ends, a row a loss: both answers, the margin, and the share of pairs in which both
    fell.

    Args:
        table: of ``tables.ends``.
        titles: loss → what to write.
    """
    fig, axes = figure(1, 3, height=0.95 + 0.27 * len(table), sharey=True)
    left, middle, right = axes
    for row, (_, loss) in enumerate(table.iterrows()):
        _bar(left, row + 0.12, loss["rejected"], REJECTED, "s")
        _bar(left, row - 0.12, loss["chosen"], CHOSEN, "o")
        _bar(middle, row, loss["margin"], NEUTRAL, "D")
        _bar(right, row, percent(loss["both_fell"]), CASE_COLORS["both_down"], "v")
    for ax in axes:
        ax.axvline(0, color=INK, lw=0.8, alpha=0.7)
        _rows(ax, [titles[str(name)] for name in table.index])
    left.set_xscale("symlog", linthresh=1)
    left.set_xticks([-1, 0, 1, 10], ["−1", "0", "1", "10"])
    left.minorticks_off()
    left.set(title="two answers", xlabel="change (nats)")
    middle.set(title="margin", xlabel="change (nats)")
    right.set(title="both fell", xlabel="% of pairs")
    return fig


_TERMS = {
    "own_pair": "own pair",
    "other_pairs": "other pairs",
    "preconditioner": "AdamW's turn",
    "curvature": "curvature",
    "total": "total",
}


def account(panels: Mapping[str, Mapping[str, Mapping[str, Interval]]]) -> Figure:
    """Draw the terms of the account of the chosen answer, a panel a data set, a mark a set of pairs.

    Args:
        panels: title → ``tables.account_rows``, with the sets "batch" and "test".
    """
    fig, axes = figure(len(panels), height=2.3, squeeze=False)
    looks = {
        "batch": (CHOSEN, "o", -0.14, "pairs of the batch"),
        "test": (ACCENT, "s", 0.14, "held-out pairs"),
    }
    for ax, (title, sets) in zip(axes[:, 0], panels.items(), strict=True):
        ax.axvline(0, color=INK, lw=0.8, alpha=0.7)
        for name, (color, marker, off, label) in looks.items():
            for row, term in enumerate(_TERMS):
                if term in sets[name]:
                    _bar(ax, row + off, sets[name][term], color, marker)
            ax.plot([], [], marker, color=color, ms=5.5, label=label)
        _rows(ax, list(_TERMS.values()))
        ax.set_title(title)
    axes[-1, 0].set_xlabel("change of the chosen answer (nats)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2)
    return fig


def on_the_plane(
    pairs: pd.DataFrame, losses: Sequence[str], titles: Mapping[str, str], data: Mapping[str, str]
) -> Figure:
    """Draw the held-out pairs after training on the plane, in the coordinates of each loss's own weights.

    Args:
        pairs: the grid's table. The place of a pair is (d_l b / d_w a, ρ), so the tent is the same for all.
        losses: a column each.
        titles: loss → what to write.
        data: data set → what to write, a row each.
    """
    fig, axes = figure(len(data), len(losses), height=2.4, sharex=True, sharey=True, squeeze=False)
    end = pairs[pairs["step"] == pairs["step"].max()]
    for line, (name, label) in zip(axes, data.items(), strict=True):
        for ax, loss in zip(line, losses, strict=True):
            plane(ax, ratio_range=(1 / 4, 4.0), cosine_range=(-0.25, 1.0), labels=False, line_labels=False)
            some = end[(end["data"] == name) & (end["loss"] == loss)]
            x = torch.tensor(some["weighed"].to_numpy(copy=True)).clamp(1e-6, 1e6)
            rho = torch.tensor(some["cosine"].to_numpy(copy=True))
            scatter_pairs(ax, PairGeometry(torch.ones_like(x), x * x, x * rho), size=16, alpha=0.6)
            ax.set_xlabel("")
            ax.set_ylabel("")
            ax.set_title(f"{titles[loss]}:\n{label}")  # side by side, one line is too long
        line[0].set_ylabel("gradient cosine ρ")
    for ax in axes[-1]:
        ax.set_xlabel(r"$d_l\,b\,/\,d_w\,a$")
    return fig


def knob_map(ax: Axes, table: pd.DataFrame, column: str, *, percent: bool, title: str) -> None:
    """Draw a quantity over β and the learning rate as a map with its numbers.

    Args:
        ax: where to draw.
        table: one row a β and rate: beta, rate and the column.
        column: what to draw.
        percent: write shares in percent.
        title: of the panel.
    """
    grid = table.pivot(index="beta", columns="rate", values=column).sort_index(ascending=False)
    values = grid.to_numpy()
    low, high = (0.0, 1.0) if percent else (float(values.min()), float(values.max()))
    strength = (values - low) / (high - low if high > low else 1.0)
    color = CASE_COLORS["both_down"] if percent else ACCENT
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            shade = 0.04 + 0.34 * float(strength[i, j])  # pale enough for the number on it
            ax.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, color=color, alpha=shade, lw=0))
            text = f"{100 * values[i, j]:.0f}" if percent else f"{values[i, j]:.1f}"
            ax.text(j, i, text, ha="center", va="center", color=INK, weight="bold")
    ax.set_xlim(-0.5, values.shape[1] - 0.5)
    ax.set_ylim(values.shape[0] - 0.5, -0.5)
    ax.set_xticks(range(values.shape[1]), [f"{rate:g}" for rate in grid.columns])
    ax.set_yticks(range(values.shape[0]), [f"{beta:g}" for beta in grid.index])
    ax.set_ylabel("β")
    ax.set_title(title)
    ax.grid(visible=False)
    ax.tick_params(length=0)


_RATE_LOOKS = ((CHOSEN, "-", "o"), (INK, "--", "s"), (CASE_COLORS["both_up"], "-.", "^"))


def by_margin(
    lines: Mapping[str, pd.DataFrame], dots: Mapping[str, pd.DataFrame], labels: Mapping[str, str]
) -> Figure:
    """Draw quantities against the margin, a panel a quantity and a curve a rate.

    Args:
        lines: column → ``tables.along_margin``; shares are drawn in percent.
        dots: column → the same for the ends of runs at other rates, drawn as crosses.
        labels: column → what to write on its axis.
    """
    fig, axes = figure(len(lines), height=2.4, sharex=True, squeeze=False)
    for ax, (column, table) in zip(axes[:, 0], lines.items(), strict=True):
        ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
        times = 100 if column == "both_fell" else 1
        for (rate, some), (color, dashes, marker) in zip(table.groupby("rate"), _RATE_LOOKS, strict=False):
            value, low, high = (times * some[name].to_numpy() for name in ("value", "low", "high"))
            if times == 100:
                low, high = low.clip(0, 100), high.clip(0, 100)
            spread = (value - low, high - value)
            ax.errorbar(
                some["margin"], value, spread, color=color, ls=dashes, marker=marker, ms=4.5,
                elinewidth=1, label=f"rate × {rate:g}",
            )  # fmt: skip
        ends = dots[column]
        ax.plot(
            ends["margin"], times * ends["value"], "x", color=REJECTED, ms=7, mew=1.8, label="other rates"
        )
        for _, end in ends.iterrows():
            spot = (end["margin"], times * end["value"])
            ax.annotate(
                f"{end['rate']:g}",
                spot,
                xytext=(6, 3),
                textcoords="offset points",
                color=REJECTED,
            )
        ax.set(xscale="log", ylabel=labels[column])
    lowest = min(float(lines["chosen"]["value"].min()), float(dots["chosen"]["value"].min()))
    axes[0, 0].set_ylim(1.15 * lowest, 0.1 * abs(lowest))
    ticks = [0.05, 0.1, 0.2, 0.5, 1, 2, 5]
    axes[-1, 0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[-1, 0].minorticks_off()
    axes[-1, 0].set_xlabel("margin gained (nats)")
    axes[0, 0].legend(loc="lower left")
    return fig
