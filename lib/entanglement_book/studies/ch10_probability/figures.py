"""Figures of where the probability goes: position by position, and in whole answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from entanglement.stats import Interval
from entanglement_book.drawing.style import ACCENT, CHOSEN, INK, NEUTRAL, REJECTED, figure

__all__ = ["answers", "mass"]


def mass(found: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw where probability went at the positions of the rejected answer, a panel a data set.

    Args:
        found: label → ``tables.mass_shares``.
    """
    parts = {
        "own": ("its own token", REJECTED),
        "other": ("the other answer's token", CHOSEN),
        "top": ("the likeliest other token", ACCENT),
        "rest": ("all the rest", NEUTRAL),
    }
    places = {"shared": "up to the first\ndifference", "apart": "after it"}
    fig, axes = figure(len(found), height=3.0, squeeze=False)
    for ax, (label, table) in zip(axes[0], found.items(), strict=True):
        ax.axhline(0, color=INK, lw=0.8)
        for number, (part, (name, color)) in enumerate(parts.items()):
            for spot, place in enumerate(places):
                row = table[
                    (table["response"] == "rejected") & (table["place"] == place) & (table["part"] == part)
                ].iloc[0]
                x = spot + (number - 1.5) * 0.2
                ax.bar(x, 100 * row["value"], 0.17, color=color, label=name if spot == 0 else None)
                ends = np.array([[row["value"] - row["low"]], [row["high"] - row["value"]]])
                if np.isfinite(ends).all():
                    ax.errorbar(x, 100 * row["value"], 100 * ends, color=INK, lw=1.2, capsize=2)
        ax.set_xticks(range(2), list(places.values()))
        ax.set_title(label)
        ax.grid(visible=False, axis="x")
    axes[0, 0].set_ylabel("change of probability (points)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    return fig


def answers(found: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """Draw how whole answers gained or lost, a panel a data set, a row an answer.

    Args:
        found: label → answer → interval of the change of log π (nats).
    """
    fig, axes = figure(len(found), height=2.6, sharey=True, squeeze=False)
    colors = {"chosen": CHOSEN, "rejected": REJECTED}
    for ax, (label, rows) in zip(axes[0], found.items(), strict=True):
        ax.axvline(0, color=INK, lw=0.8)
        for height, (name, interval) in enumerate(rows.items()):
            color = colors.get(name, ACCENT)
            if np.isfinite([interval.low, interval.high]).all():
                ax.plot([interval.low, interval.high], [height, height], color=color, lw=2.2)
            ax.plot(interval.value, height, "o", color=color, ms=6.5)
        ax.set_yticks(range(len(rows)), list(rows))
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlabel("change of log-probability (nats)")
        ax.set_title(label)
        ax.grid(visible=False, axis="y")
    return fig
