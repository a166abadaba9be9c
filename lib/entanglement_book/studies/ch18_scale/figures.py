"""Figures of the chapter on scale: told cost against measured cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entanglement_book.drawing.style import ACCENT, CHOSEN, INK, REJECTED, figure

__all__ = ["told_and_measured"]

#: Work → how it is drawn.
_MARKS = {"step": "o", "geometry": "s", "gradient": "^", "virtual": "D", "logps": "v"}


def told_and_measured(table: pd.DataFrame, quantity: str, titles: tuple[str, str]) -> Figure:
    """Draw told over measured cost against measured cost: the model above, the rival below.

    Args:
        table: of ``numbers.with_predictions``.
        quantity: "seconds" or "peak" (bytes).
        titles: of the two panels.
    """
    fig, axes = figure(2, height=2.6, sharex=True, sharey=True)
    scale = 1.0 if quantity == "seconds" else 1e6
    for ax, who, title in zip(axes, ("told", "rival"), titles, strict=True):
        ax.axhspan(0.75, 1.25, color=ACCENT, alpha=0.12, lw=0)
        ax.axhline(1, color=INK, lw=0.8, alpha=0.7)
        for part, color, filled in (("fitted", CHOSEN, False), ("held out", REJECTED, True)):
            for work, marker in _MARKS.items():
                some = table[(table["part"] == part) & (table["work"] == work)]
                ax.plot(
                    some[quantity] / scale, some[f"{who}_{quantity}"] / some[quantity], marker, ms=5.5,
                    color=color, mfc=color if filled else "none", mew=1.2, alpha=0.85,
                )  # fmt: skip
        ax.set(xscale="log", yscale="log", ylabel="told / measured", title=title)
        _plain_ticks(ax, table, quantity)
    axes[-1].set_xlabel("measured seconds" if quantity == "seconds" else "measured megabytes")
    axes[0].plot([], [], "o", color=CHOSEN, mfc="none", label="fitted")
    axes[0].plot([], [], "o", color=REJECTED, label="held out")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def _plain_ticks(ax: Axes, table: pd.DataFrame, quantity: str) -> None:
    """Give the ratio's axis a few plain numbers, as far as its values go."""
    ratios = np.concatenate([table[f"{who}_{quantity}"] / table[quantity] for who in ("told", "rival")])
    ticks = [
        t
        for t in (0.1, 0.2, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20)
        if ratios.min() / 1.6 < t < ratios.max() * 1.6
    ]
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_yticks([], minor=True)
