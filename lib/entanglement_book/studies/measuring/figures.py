"""Figures of the appendix on measuring: the identity as three matrices, and what the two ways cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from entanglement_book.drawing.style import ACCENT, NEUTRAL, figure

__all__ = ["ratios", "scaling", "three_matrices"]

_WAYS = {"one backward a token": (NEUTRAL, "s", "--"), "fast": (ACCENT, "o", "-")}
_AXES = {"response": "response tokens of each side", "width": "width of the model"}


def three_matrices(inputs: torch.Tensor, gradients: torch.Tensor) -> Figure:
    """Draw ⟨h_s, h'_t⟩, ⟨γ_s, γ'_t⟩ and their product entry by entry, (T, T') each."""
    fig, _ = figure(height=5.8)
    fig.clear()
    grid = fig.add_gridspec(2, 2, height_ratios=(1, 1.4))
    axes = [fig.add_subplot(grid[0, 0]), fig.add_subplot(grid[0, 1]), fig.add_subplot(grid[1, :])]
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
        ax.set_ylabel("position s")
    return fig


def ratios(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw how many times faster each line of the benchmark is, and what was asked of it.

    What is measured stands above; what is held against a DPO step (update rules) below.

    Args:
        lines: with ours, theirs, ratio, and faster, the least that was asked, or None.
    """
    rules = [line for line in lines if line["theirs"].startswith("DPO step")]
    work = [line for line in lines if line not in rules]
    panels = [some for some in (work, rules) if some]
    heights = [0.66 * len(work), 0.3 * len(rules)]
    fig, axes = figure(
        len(panels), height=sum(heights) / len(panels) + 0.8, sharex=True, squeeze=False,
        height_ratios=[height for height in heights if height],
    )  # fmt: skip
    for ax, some in zip(axes[:, 0], panels, strict=True):
        for y, line in enumerate(some):
            ax.plot(line["ratio"], y, "o", color=ACCENT, ms=7, zorder=3)
            if line["faster"] is not None:
                ax.plot(line["faster"], y, "|", color=NEUTRAL, ms=13, mew=2.0)
        names = [fill(f"{line['ours']} against {line['theirs']}", 26) for line in some]
        names = [line["ours"].removesuffix(", nano") for line in some] if some is rules else names
        ax.set_yticks(range(len(some)), names)
        ax.invert_yaxis()
        ax.axvline(1, color=NEUTRAL, lw=1.2, ls="--", zorder=1)
        ax.set_xscale("log")
        ax.set_xticks([0.1, 1, 10, 50], ["0.1", "1", "10", "50"])
        ax.tick_params(axis="y", length=0)
    axes[-1, 0].set_xlabel("times faster")
    if rules:
        axes[-1, 0].set_title("rules, against a step", loc="right")
    return fig


def scaling(measured: pd.DataFrame) -> Figure:
    """Draw seconds and peak memory of a heat map against its tokens and against the model's width.

    Args:
        measured: columns axis ("response", "width"), value, way, seconds, peak_mb.
    """
    fig, grid = figure(2, 2, height=2.6)
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
