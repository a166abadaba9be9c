"""Figures of which tokens matter: which tokens carry the loss."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from entanglement_book.drawing.style import ACCENT, CHOSEN, INK, REJECTED, figure

__all__ = ["token_strips"]

_SIDES = {"chosen": CHOSEN, "rejected": REJECTED}


def token_strips(tokens: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw the weights of one pair's tokens, a row a weigher; the fuller a box, the more its token weighs.

    Args:
        tokens: rows of ``masking.token_table`` for one pair: weights (name of the weigher), response, place,
            token, weight, contrast.
        titles: name → what to write, in the rows' order.
    """
    fig, axes = figure(rows=2, height=0.3 * len(titles) + 0.55, squeeze=False)
    longest = int(tokens["place"].max()) + 1
    for ax, (side, color) in zip(axes[:, 0], _SIDES.items(), strict=True):
        rows = tokens[tokens["response"] == side]
        for height, name in enumerate(titles):
            mine = rows[rows["weights"] == name]
            for place, share in zip(mine["place"], mine["weight"], strict=True):
                box = (place + 0.03, height - 0.42)
                ax.add_patch(Rectangle(box, 0.94, 0.84, color=color, alpha=0.55 * share, lw=0))
                ax.add_patch(Rectangle(box, 0.94, 0.84, fill=False, edgecolor=INK, lw=0.5, alpha=0.5))
        head = rows.drop_duplicates("place")
        for place, token, contrast in zip(head["place"], head["token"], head["contrast"], strict=True):
            ax.text(
                place + 0.5,
                -0.62,
                token.strip() or "·",
                color=ACCENT if contrast else INK,
                weight="bold" if contrast else "normal",
                ha="center",
                va="bottom",
                fontsize=8,
            )
        ax.set_yticks(range(len(titles)), list(titles.values()))
        ax.set(xlim=(0, longest), ylim=(len(titles) - 0.4, -1.1))
        ax.set_xticks([])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        ax.set_title(side, color=color, loc="left", fontsize=10)
    return fig
