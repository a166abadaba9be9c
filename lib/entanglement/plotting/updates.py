"""Figures of chapter 10: the steps that rules take, and what comes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Wedge

from entanglement.plotting.style import ACCENT, CASE_COLORS, CHOSEN, INK, REJECTED, pick_axes

__all__ = ["safe_steps"]


def _arrow(ax: Axes, tip: np.ndarray, color: str, width: float) -> None:
    ax.annotate(
        "",
        xy=(float(tip[0]), float(tip[1])),
        xytext=(0, 0),
        arrowprops={"arrowstyle": "-|>", "color": color, "lw": width, "shrinkA": 0, "shrinkB": 0},
        zorder=3,
    )


def _degrees(vector: np.ndarray) -> float:
    return float(np.degrees(np.arctan2(vector[1], vector[0])))


def safe_steps(
    g_w: Sequence[float],
    g_l: Sequence[float],
    steps: Mapping[str, tuple[float, float]],
    ax: Axes | None = None,
) -> Axes:
    """Draw two gradients in a plane, the directions in which chosen rises and rejected falls, and some steps.

    All arrows have length 1: what is compared are directions.

    Args:
        g_w, g_l: (2,) gradients of the two responses.
        steps: label → (u_w, u_l); the step is u_w g_w − u_l g_l.
        ax: where to draw.
    """
    ax = pick_axes(ax)
    w, l = np.asarray(g_w, dtype=float), np.asarray(g_l, dtype=float)  # noqa: E741
    a2, b2, c = float(w @ w), float(l @ l), float(w @ l)
    low, high = (c / a2) * w - l, w - (c / b2) * l  # the band's ends: chosen fixed, rejected fixed
    ends = sorted((_degrees(low) % 360, _degrees(high) % 360))
    ax.add_patch(Wedge((0, 0), 1.12, *ends, color=CASE_COLORS["ideal"], alpha=0.2, lw=0))
    middle = np.radians(sum(ends) / 2)
    for vector, name, color in ((w, "$g_w$", CHOSEN), (l, "$g_l$", REJECTED)):
        tip = vector / np.linalg.norm(vector)
        _arrow(ax, tip, color, 2.6)
        ax.annotate(name, (1.08 * tip[0], 1.08 * tip[1]), color=color, ha="center", va="center", fontsize=12)
    for name, (up, down) in steps.items():
        step = up * w - down * l
        tip = step / np.linalg.norm(step)
        safe = step @ w >= -1e-9 and step @ l <= 1e-9
        color = INK if name == next(iter(steps)) else ACCENT
        _arrow(ax, tip, color if safe else CASE_COLORS["both_down"], 1.8)
        left = tip[0] < 0
        ax.annotate(
            name,
            (1.04 * tip[0], 1.04 * tip[1]),
            color=color if safe else CASE_COLORS["both_down"],
            ha="right" if left else "left",
            va="bottom" if tip[1] > 0.9 else "center",
            fontsize=9.5,
        )
    ax.annotate(
        "chosen up,\nrejected down",
        (0.55 * np.cos(middle), 0.55 * np.sin(middle)),
        color=CASE_COLORS["ideal"],
        ha="center",
        va="center",
        fontsize=9,
        weight="bold",
    )
    ax.plot(0, 0, "o", color=INK, ms=4, zorder=5)
    ax.set(xlim=(-1.5, 1.3), ylim=(-0.25, 1.3), aspect="equal", xlabel="$θ_1$", ylabel="$θ_2$")
    ax.grid(visible=False)
    return ax
