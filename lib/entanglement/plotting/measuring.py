"""Figures of the appendix on measuring: the identity as three matrices, and what the two ways cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from entanglement.plotting.style import ACCENT, NEUTRAL, figure

__all__ = ["scaling", "three_matrices"]

_WAYS = {"one backward a token": (NEUTRAL, "s", "--"), "fast": (ACCENT, "o", "-")}
_AXES = {"response": "response tokens of each side", "width": "width of the model"}


def three_matrices(inputs: torch.Tensor, gradients: torch.Tensor) -> Figure:
    """Draw ⟨h_s, h'_t⟩, ⟨γ_s, γ'_t⟩ and their product entry by entry, (T, T') each."""
    fig, axes = figure(3, height=2.9)
    named = {"⟨h_s, h'_t⟩": inputs, "⟨γ_s, γ'_t⟩": gradients, "their product": inputs * gradients}
    for ax, (title, values) in zip(axes, named.items(), strict=True):
        array = values.detach().numpy()
        limit = float(np.abs(array).max())
        mesh = ax.pcolormesh(array, cmap="PRGn_r", vmin=-limit, vmax=limit, edgecolors="none")
        ax.invert_yaxis()
        ax.set_aspect("equal")
        ax.grid(visible=False)
        ax.set(title=title, xlabel="position t of the other")
        fig.colorbar(mesh, ax=ax, shrink=0.7)
    axes[0].set_ylabel("position s of the one")
    return fig


def scaling(measured: pd.DataFrame) -> Figure:
    """Draw seconds and peak memory of a heat map against its tokens and against the model's width.

    Args:
        measured: columns axis ("response", "width"), value, way, seconds, peak_mb.
    """
    fig, grid = figure(2, rows=2, height=2.6)
    for row, (quantity, label) in enumerate((("seconds", "time (s)"), ("peak_mb", "peak memory (MiB)"))):
        for column, (axis, name) in enumerate(_AXES.items()):
            ax = grid[row, column]
            for way, (color, marker, line) in _WAYS.items():
                some = measured[(measured["axis"] == axis) & (measured["way"] == way)].sort_values("value")
                ax.plot(some["value"], some[quantity], color=color, marker=marker, ls=line, label=way)
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            values = sorted(set(measured[measured["axis"] == axis]["value"]))
            ax.set_xticks(values, [str(v) for v in values])
            ax.minorticks_off()
            ax.set(xlabel=name if row else "", ylabel="" if column else label)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2)
    return fig
