"""An arrow from the origin, as gradients and steps are drawn."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

__all__ = ["arrow"]


def arrow(ax: Axes, tip: np.ndarray, color: str, width: float = 2.2) -> None:
    """Draw an arrow from the origin to ``tip``, (2,)."""
    ax.annotate(
        "",
        xy=(float(tip[0]), float(tip[1])),
        xytext=(0, 0),
        arrowprops={"arrowstyle": "-|>", "color": color, "lw": width, "shrinkA": 0, "shrinkB": 0},
        zorder=3,
    )
