"""Figures of the underspecified margin: policies on the level lines of the margin, and the side effects."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entanglement.geometry import Case
from entanglement.stats import mean_interval
from entanglement_book.drawing.style import CASE_COLORS, CHOSEN, INK, NEUTRAL, REJECTED, figure

__all__ = ["outcomes", "same_margin"]

#: Where each case lies in the plane: center (shares of half its width) and what is written there.
_CORNERS: dict[Case, tuple[float, float, str]] = {
    "ideal": (0.66, -0.6, "chosen up,\nrejected down"),
    "both_down": (-0.72, -0.15, "both down"),
    "both_up": (0.62, 0.92, "both up"),
}


def same_margin(policies: Mapping[str, tuple[float, float]], *, limit: float = 4.0) -> Figure:
    """Draw policies by what became of the two answers, over the level lines of the margin.

    Args:
        policies: label → (Δ log π_w, Δ log π_l), nats.
        limit: half the width of the axes, nats.
    """
    fig, ax = figure(width=5.6, height=4.8)
    for margin in np.arange(-2 * limit, 2 * limit + 0.1, 1.0):
        ax.plot([-limit, limit], [-limit - margin, limit - margin], color=NEUTRAL, lw=0.6, alpha=0.5)
    chosen, rejected = next(iter(policies.values()))
    margin = chosen - rejected
    ax.plot([-limit, limit], [-limit - margin, limit - margin], color=INK, lw=1.8)
    ax.axhline(0, color=REJECTED, lw=1, alpha=0.8)
    ax.axvline(0, color=CHOSEN, lw=1, alpha=0.8)
    for case, (x, y, text) in _CORNERS.items():
        ax.text(x * limit, y * limit, text, color=CASE_COLORS[case], ha="center", va="center", weight="bold")
    for label, (x, y) in policies.items():
        fate: Case = "ideal" if x > 0 > y else "both_down" if x < 0 else "both_up"
        ax.plot(x, y, "o", color=CASE_COLORS[fate], ms=9)
        ax.annotate(label, (x, y), xytext=(-11, 7), textcoords="offset points", ha="right", color=INK)
    ax.plot(0, 0, "o", color=INK, ms=6)
    ax.annotate("reference", (0, 0), xytext=(-7, 7), textcoords="offset points", ha="right", color=INK)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.set_xlabel(r"$\Delta\log\pi_w$ (nats)")
    ax.set_ylabel(r"$\Delta\log\pi_l$ (nats)")
    ax.grid(visible=False)
    return fig


def outcomes(changes: pd.DataFrame, shares: pd.DataFrame) -> Figure:
    """Draw both side effects: the rejected answer's change, and how often the ideal answer is drawn.

    Args:
        changes: one row a kind, way and seed: rejected (mean change, nats).
        shares: one row a kind, seed and moment ("before", "after"): ideal (share).
    """
    fig, (left, right) = figure(2, height=3.4, width_ratios=[1.5, 1.0])
    ways = list(dict.fromkeys(changes["way"]))
    for kind, shade, shift, marker in (
        ("same words", CASE_COLORS["both_up"], -0.14, "o"),
        ("other words", NEUTRAL, 0.14, "s"),
    ):
        for height, way in enumerate(ways):
            rows = changes[(changes["way"] == way) & (changes["kind"] == kind)]
            _interval(
                left, rows["rejected"].to_numpy(), height + shift, shade, marker, kind if not height else None
            )
    left.axvline(0, color=INK, lw=1)
    left.set_yticks(range(len(ways)), ways)
    left.set_ylim(len(ways) - 0.5, -0.5)
    left.set_xlabel("change of log π(compliance) (nats)")
    left.set_title("taught to refuse")
    left.legend(loc="lower left", title=None)
    for kind, shade, line, marker in (
        ("same words", CASE_COLORS["both_down"], "-", "o"),
        ("other words", NEUTRAL, "--", "s"),
    ):
        rows = shares[shares["kind"] == kind].pivot(index="moment", columns="seed", values="ideal")
        for number, seed in enumerate(rows):
            right.plot(
                [0, 1], rows[seed].loc[["before", "after"]], line, color=shade, marker=marker, ms=5, lw=1.4,
                label=None if number else kind,
            )  # fmt: skip
    right.set_xticks([0, 1], ["before", "after"])
    right.set_xlim(-0.25, 1.25)
    right.set_ylim(0, None)
    right.set_ylabel("share of draws that are ideal")
    right.set_title("taught not to ramble")
    right.legend(loc="lower left")
    return fig


def _interval(
    ax: Axes, values: np.ndarray, height: float, shade: str, marker: str, label: str | None
) -> None:
    found = mean_interval(values)
    ax.plot([found.low, found.high], [height, height], color=shade, lw=2)
    ax.plot(found.value, height, marker, color=shade, ms=7, label=label)
    ax.plot(values, np.full(len(values), height), "|", color=shade, ms=9, alpha=0.8)
