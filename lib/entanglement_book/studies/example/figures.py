"""What the chapter draws: functions of geometry or tables, in the book's style and colors."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from entanglement.geometry import PairGeometry
from entanglement_book.drawing.plane import plane, scatter_pairs
from entanglement_book.drawing.style import figure

__all__ = ["on_the_plane"]


def on_the_plane(kinds: Mapping[str, PairGeometry]) -> Figure:
    """Draw the plane of norm ratio and cosine once a kind, its pairs on it; titles are the kinds' names."""
    fig, axes = figure(len(kinds), height=3.4, sharex=True, squeeze=False)
    for ax, (name, geometry) in zip(axes[:, 0], kinds.items(), strict=True):
        plane(ax, cosine_range=(-0.5, 1.0), line_labels=False)
        scatter_pairs(ax, geometry)
        ax.set_title(name)
    for ax in axes[:-1, 0]:
        ax.set_xlabel("")
    return fig
