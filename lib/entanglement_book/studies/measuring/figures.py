"""Figures of the appendix on measuring: the identity as three matrices, and what the two ways cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from entanglement_book.drawing.style import ACCENT, NEUTRAL, figure

__all__ = ["scaling", "three_matrices"]

_WAYS = {"one backward a token": (NEUTRAL, "s", "--"), "fast": (ACCENT, "o", "-")}
_AXES = {"response": "response tokens of each side", "width": "width of the model"}


def three_matrices(inputs: torch.Tensor, gradients: torch.Tensor) -> Figure:
    """Draw ⟨h_s, h'_t⟩, ⟨γ_s, γ'_t⟩ and their product entry by entry, (T, T') each."""
    fig, axes = figure(3, height=2.6)
    named = {
        r"$\langle h_s,h'_t\rangle$": inputs,
        r"$\langle\gamma_s,\gamma'_t\rangle$": gradients,
        "their product": inputs * gradients,
    }
    for ax, (title, values) in zip(axes, named.items(), strict=True):
        array = values.detach().numpy()
        limit = float(np.abs(array).max())
        mesh = ax.pcolormesh(array, cmap="PRGn_r", vmin=-limit, vmax=limit, edgecolors="none")
        ax.invert_yaxis()
        ax.set_aspect("equal")
        ax.grid(visible=False)
        ax.set(title=title, xlabel="position t", xticks=[], yticks=[])
        bar = fig.colorbar(mesh, ax=ax, location="bottom", aspect=16, pad=0.06, format="%.2g")
        bar.set_ticks([-limit, 0, limit])
    axes[0].set_ylabel("position s")
    return fig


def scaling(measured: pd.DataFrame) -> Figure:
    """Draw seconds and peak memory of a heat map against its tokens and against the model's width.

    Args:
        measured: columns axis ("response", "width"), value, way, seconds, peak_mb.
    """
    fig, grid = figure(2, rows=2, height=2.6)
    table = measured.assign(gigabytes=measured["peak_mb"] * 2**20 / 1e9)
    for row, (quantity, label) in enumerate((("seconds", "time (s)"), ("gigabytes", "peak memory (GB)"))):
        for column, (axis, name) in enumerate(_AXES.items()):
            ax = grid[row, column]
            for way, (color, marker, line) in _WAYS.items():
                some = table[(table["axis"] == axis) & (table["way"] == way)].sort_values("value")
                ax.plot(some["value"], some[quantity], color=color, marker=marker, ls=line, label=way)
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            values = sorted(set(table[table["axis"] == axis]["value"]))
            ax.set_xticks(values, [str(v) for v in values])
            low, high = table[quantity].min() / 1.3, table[quantity].max() * 1.3
            steps = (0.1, 0.3, 1, 3, 10, 30) if quantity == "seconds" else (0.5, 1, 2, 4, 8, 16)
            ticks = [t for t in steps if low < t < high]
            ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
            ax.set_ylim(low, high)
            ax.minorticks_off()
            ax.set(xlabel=name if row else "", ylabel="" if column else label)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2)
    return fig
