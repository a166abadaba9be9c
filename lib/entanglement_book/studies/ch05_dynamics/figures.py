"""Figures of training dynamics: curves of many losses, their pairs on the plane, the map of two knobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from entanglement.geometry import PairGeometry
from entanglement_book.drawing.charts import line_with_band
from entanglement_book.drawing.plane import plane, scatter_pairs
from entanglement_book.drawing.style import ACCENT, CASE_COLORS, CHOSEN, INK, NEUTRAL, REJECTED, figure
from entanglement_book.studies.ch05_dynamics import tables

__all__ = ["curves", "knob_map", "on_the_plane"]

_LINES = (("chosen", CHOSEN, "-"), ("rejected", REJECTED, "--"), ("margin", NEUTRAL, ":"))


def curves(
    means: pd.DataFrame, data: str, rows: Sequence[Sequence[str]], titles: Mapping[str, str]
) -> Figure:
    """Draw chosen, rejected and margin along training, a panel a loss; the panels of a row share an axis.

    Args:
        means: the grid's table.
        data: which data set.
        rows: losses, row by row.
        titles: loss → what to write.
    """
    found = {name: tables.curve(means, data, name) for name, _, _ in _LINES}
    fig, axes = figure(len(rows[0]), rows=len(rows), height=1.75, sharex=True, sharey="row", squeeze=False)
    for line, losses in zip(axes, rows, strict=True):
        for ax, loss in zip(line, losses, strict=True):
            ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
            for name, color, dashes in _LINES:
                some = found[name][found[name]["loss"] == loss]
                line_with_band(
                    ax, some["step"], some["value"], some["low"], some["high"], color, name, ls=dashes
                )
            ax.set_title(titles[loss], fontsize=10)
        line[0].set_ylabel("change (nats)")
    for ax in axes[-1]:
        ax.set_xlabel("step")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=3)
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
    fig, axes = figure(len(losses), rows=len(data), height=2.35, sharex=True, sharey=True, squeeze=False)
    end = pairs[pairs["step"] == pairs["step"].max()]
    for line, (name, label) in zip(axes, data.items(), strict=True):
        for ax, loss in zip(line, losses, strict=True):
            plane(ax, ratio_range=(1 / 4, 4.0), cosine_range=(-0.25, 1.0), labels=False, line_labels=False)
            some = end[(end["data"] == name) & (end["loss"] == loss)]
            x = torch.tensor(some["weighed"].to_numpy(copy=True)).clamp(1e-6, 1e6)
            rho = torch.tensor(some["cosine"].to_numpy(copy=True))
            scatter_pairs(ax, PairGeometry(torch.ones_like(x), x * x, x * rho), size=14, alpha=0.6)
            ax.set_xlabel("")
            ax.set_ylabel("")
        line[0].set_ylabel(f"{label}\ngradient cosine ρ")
    for ax, loss in zip(axes[0], losses, strict=True):
        ax.set_title(titles[loss], fontsize=10)
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
            ax.text(j, i, text, ha="center", va="center", fontsize=9.5, color=INK, weight="bold")
    ax.set_xlim(-0.5, values.shape[1] - 0.5)
    ax.set_ylim(values.shape[0] - 0.5, -0.5)
    ax.set_xticks(range(values.shape[1]), [f"{rate:g}" for rate in grid.columns])
    ax.set_yticks(range(values.shape[0]), [f"{beta:g}" for beta in grid.index])
    ax.set_xlabel("learning rate (multiples)")
    ax.set_title(title, fontsize=10)
    ax.grid(visible=False)
    ax.tick_params(length=0)
