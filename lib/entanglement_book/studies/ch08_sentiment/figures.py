"""The figures of sentiment with GPT-2: runs of the sentiment experiment, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entanglement.geometry import CASES
from entanglement.training.account import TERMS
from entanglement_book.drawing.charts import case_shares, line_with_band
from entanglement_book.drawing.style import (
    ACCENT,
    CHOSEN,
    INK,
    NEUTRAL,
    REJECTED,
    VARIANT_COLORS,
    VARIANT_LABELS,
    VARIANT_LINES,
    VARIANT_MARKERS,
    figure,
)
from entanglement_book.materials.tweets import VARIANTS

__all__ = ["account_bars", "case_panels", "curves", "main_figure", "memorizing", "side_by_side"]

TERM_COLORS = dict(zip(TERMS, (CHOSEN, REJECTED, ACCENT, NEUTRAL), strict=True))
TERM_LABELS = {
    "own_pair": "own pair",
    "other_pairs": "other pairs of the batch",
    "preconditioner": "preconditioner",
    "curvature": "curvature",
}


def curves(ax: Axes, curve: pd.DataFrame, *, zero: bool = True) -> Axes:
    """Draw a quantity along training, a line with its band a variant.

    Args:
        ax: where to draw.
        curve: from ``sentiment_tables.along_training``.
        zero: draw the line at 0.
    """
    if zero:
        ax.axhline(0, color=NEUTRAL, lw=1)
    for variant in VARIANTS:
        rows = curve[curve["variant"] == variant]
        if rows.empty:
            continue
        line_with_band(
            ax,
            rows["step"],
            rows["value"],
            rows["low"],
            rows["high"],
            color=VARIANT_COLORS[variant],
            label=VARIANT_LABELS[variant],
            ls=VARIANT_LINES[variant],
            marker=VARIANT_MARKERS[variant],
        )
    return ax


def main_figure(cosine: pd.DataFrame, chosen: pd.DataFrame, rejected: pd.DataFrame) -> Figure:
    """Draw the chapter's figure: cosine, Δ log π_w and Δ log π_l along DPO, three panels of three lines."""
    fig, axes = figure(3, height=3.3)
    curves(axes[0], cosine)
    axes[0].set(title="gradient cosine ρ", xlabel="DPO step", ylabel="cosine", ylim=(-1.08, 1.08))
    curves(axes[1], chosen)
    axes[1].set(title="chosen", xlabel="DPO step", ylabel="Δ log π_w (nats)")
    curves(axes[2], rejected)
    axes[2].set(title="rejected", xlabel="DPO step", ylabel="Δ log π_l (nats)")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig


def case_panels(shares: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the shares of the cases along DPO, one panel a variant.

    Args:
        shares: case → curve from ``sentiment_tables.along_training``.
    """
    fig, axes = figure(3, height=2.9, sharey=True)
    for ax, variant in zip(axes, VARIANTS, strict=True):
        rows = {case: shares[case][shares[case]["variant"] == variant] for case in CASES}
        steps = rows["ideal"]["step"].to_numpy()
        case_shares(ax, steps, {case: r["value"].to_numpy() for case, r in rows.items()}, legend=False)
        ax.set(title=VARIANT_LABELS[variant], xlabel="DPO step")
        if ax is not axes[0]:
            ax.set_ylabel("")
    found: dict[str, Any] = {}
    for ax in axes:
        found |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    fig.legend(list(found.values()), list(found), loc="outside lower center", ncols=4)
    return fig


def account_bars(account: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw the account of Δ log π over DPO: stacked terms a variant, the total as a dot with its interval.

    Args:
        account: from ``sentiment_tables.account_shares``.
        titles: set → panel title.
    """
    fig, axes = figure(len(titles), height=3.4, sharey=True)
    for ax, (name, title) in zip(np.atleast_1d(axes), titles.items(), strict=True):
        ax.axhline(0, color=INK, lw=1)
        for place, variant in enumerate(VARIANTS):
            rows = account[(account["set"] == name) & (account["variant"] == variant)].set_index("term")
            if rows.empty:
                continue
            base = {True: 0.0, False: 0.0}
            for term in TERMS:
                value = float(rows["value"][term])
                ax.bar(place, value, 0.56, bottom=base[value > 0], color=TERM_COLORS[term], alpha=0.85, lw=0)
                base[value > 0] += value
            value, low, high = (float(rows[end]["total"]) for end in ("value", "low", "high"))
            ends = [[value - low], [high - value]] if np.isfinite(high) else None
            ax.errorbar([place + 0.36], [value], ends, fmt="D", color=INK, ms=5, capsize=3, lw=1.4)
        ax.set_xticks(range(len(VARIANTS)), [VARIANT_LABELS[v].replace(" ", "\n") for v in VARIANTS])
        ax.set_title(title)
        ax.grid(visible=False, axis="x")
    np.atleast_1d(axes)[0].set_ylabel("Δ log π_w, summed (nats)")
    handles: list[Any] = [
        *(_patch(TERM_COLORS[t]) for t in TERMS),
        np.atleast_1d(axes)[0].errorbar([], [], [], fmt="D", color=INK, ms=5, capsize=3),
    ]
    fig.legend(handles, [*(TERM_LABELS[t] for t in TERMS), "total"], loc="outside lower center", ncols=3)
    return fig


def _patch(color: str) -> Any:
    """A filled square, for a legend."""
    from matplotlib.patches import Patch

    return Patch(facecolor=color, alpha=0.85)


def memorizing(cosine: pd.DataFrame, logp: pd.DataFrame) -> Figure:
    """Draw cosine and log π_w against the number of SFT steps, the first few steps drawn wide."""
    fig, axes = figure(2, height=3.2)
    curves(axes[0], cosine)
    axes[0].set(title="gradient cosine ρ", ylabel="cosine", ylim=(-1.08, 1.08))
    curves(axes[1], logp)
    axes[1].set(title="chosen response", ylabel="log π_w (nats)")
    axes[1].set_yscale("symlog", linthresh=1)
    axes[1].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    steps = sorted(set(cosine["step"]))
    for ax in axes:
        ax.set_xscale("symlog", linthresh=max(1, steps[1]))
        ax.set_xlim(-0.1 * steps[1], 1.2 * steps[-1])
        ax.set_xticks(steps, [str(step) for step in steps])
        ax.minorticks_off()
        ax.set_xlabel("SFT steps")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig


def side_by_side(panels: Mapping[str, pd.DataFrame], ylabel: str, xlabel: str = "DPO step") -> Figure:
    """Draw one quantity under several conditions, one panel each, on a common scale."""
    fig, axes = figure(len(panels), height=3.1, sharey=True)
    for ax, (title, curve) in zip(axes, panels.items(), strict=True):
        curves(ax, curve)
        ax.set(title=title, xlabel=xlabel)
    axes[0].set_ylabel(ylabel)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig
