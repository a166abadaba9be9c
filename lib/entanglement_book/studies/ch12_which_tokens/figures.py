"""Figures of which tokens matter: weights of tokens, whether they find the contrast, and who falls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from entanglement.stats import Interval
from entanglement_book.drawing.charts import name_marks, two_answers
from entanglement_book.drawing.style import ACCENT, CASE_COLORS, CHOSEN, INK, NEUTRAL, REJECTED, figure

__all__ = ["at_the_same_margin", "finding", "token_grid", "who_falls"]

_SIDES = {"chosen": CHOSEN, "rejected": REJECTED}


def token_grid(tokens: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw the weights of one pair's tokens, a row a token and a column a weigher; each has a box for the
    chosen and one for the rejected answer, the fuller, the more its token weighs.

    Args:
        tokens: rows of ``grid.token_table`` for one pair: weights (name of the weigher), response, place,
            token, weight, contrast. The two answers are equally long.
        titles: name → what to write, in the columns' order.
    """
    fig, ax = figure(height=4.3)
    for column, name in enumerate(titles):
        for at, (side, color) in enumerate(_SIDES.items()):
            mine = tokens[(tokens["weights"] == name) & (tokens["response"] == side)]
            for place, weight in zip(mine["place"], mine["weight"], strict=True):
                box = (column - 0.32 + 0.33 * at, place - 0.4)
                ax.add_patch(Rectangle(box, 0.31, 0.8, color=color, alpha=0.75 * weight, lw=0))
                ax.add_patch(Rectangle(box, 0.31, 0.8, fill=False, edgecolor=INK, lw=0.6, alpha=0.5))
    head = tokens.drop_duplicates(["response", "place"])
    words: dict[int, str] = {}
    for place, rows in head.groupby("place"):
        words[int(str(place))] = " / ".join(dict.fromkeys(token.strip() or "·" for token in rows["token"]))
    ax.set_yticks(list(words), list(words.values()))
    marked = set(head.loc[head["contrast"], "place"])
    for place, label in zip(words, ax.get_yticklabels(), strict=True):
        if place in marked:
            label.set(color=ACCENT, weight="bold")
    looks = {"rotation": 35, "ha": "left", "rotation_mode": "anchor"}
    ax.set_xticks(range(len(titles)), list(titles.values()), **looks)
    ax.xaxis.tick_top()
    ax.set(xlim=(-0.5, len(titles) - 0.5), ylim=(max(words) + 0.5, -0.6))
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    boxes = [Rectangle((0, 0), 1, 1, color=color, alpha=0.75, lw=0) for color in _SIDES.values()]
    fig.legend(boxes, list(_SIDES), loc="outside lower center", ncols=2)
    return fig


def finding(rows: Mapping[str, tuple[Interval, float, float]], breaks: Sequence[int] = ()) -> Figure:
    """Draw how well three kinds of weights find the contrasting tokens, a row a case.

    Args:
        rows: label → chance for the mask, for the place alone, and for the word alone.
        breaks: rows above which a thin line is drawn.
    """
    fig, ax = figure(height=0.9 + 0.29 * len(rows))
    ax.axvline(0.5, color=NEUTRAL, lw=1, ls="--")
    for at in breaks:
        ax.axhline(at - 0.5, color=INK, lw=0.6, alpha=0.5)
    for row, (mask, place, word) in enumerate(rows.values()):
        ax.plot(place, row, "D", color=REJECTED, ms=6, mfc="none", mew=1.6)
        ax.plot(word, row, "s", color=INK, ms=9, mfc="none", mew=1.4)
        ax.plot([mask.low, mask.high], [row, row], color=ACCENT, lw=2.2, alpha=0.6)
        ax.plot(mask.value, row, "o", color=ACCENT, ms=5.5)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.5, -0.5))
    ax.set_xlabel("chance that contrast weighs more")
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    looks = (("learned mask", "o", ACCENT), ("place alone", "D", REJECTED), ("word alone", "s", INK))
    marks = [
        Line2D([], [], ls="", marker=m, color=c, ms=6, mfc=c if m == "o" else "none", label=text)
        for text, m, c in looks
    ]
    fig.legend(handles=marks, loc="outside lower center", ncols=3)
    return fig


def at_the_same_margin(ways: Mapping[str, tuple[Interval, Interval]], marked: Sequence[str]) -> Figure:
    """Draw both answers' changes at the same margin, one row a way of training.

    Args:
        ways: label → (chosen, rejected), nats, in the order of the rows.
        marked: labels of the ways that weigh no tokens.
    """
    fig, ax = figure(height=0.9 + 0.34 * len(ways))
    two_answers(ax, ways, {label: INK if label in marked else ACCENT for label in ways})
    ax.set_xlabel("change (nats)")
    name_marks(fig, ax)
    return fig


def who_falls(
    counts: Mapping[str, Mapping[str, int]], moves: Mapping[str, Interval], fates: Mapping[str, str]
) -> Figure:
    """Draw what had happened to the pairs whose chosen answer fell, and how far its parts moved in the mean.

    Args:
        counts: label of a way → fate → number of pairs.
        moves: label → change, nats.
        fates: fate → in words, in the order of the parts of a bar.
    """
    sizes = [len(counts) + 1.6, len(moves) + 0.6]
    fig, (bars, dots) = figure(2, height=0.3 * sum(sizes) / 2 + 0.7, gridspec_kw={"height_ratios": sizes})
    shades = (CASE_COLORS["both_down"], CASE_COLORS["both_up"], NEUTRAL)
    for row, parts in enumerate(counts.values()):
        left = 0
        for (fate, words), color in zip(fates.items(), shades, strict=True):
            n = parts[fate]
            bars.barh(row, n, left=left, color=color, alpha=0.6, label=words if row == 0 else None)
            bars.text(left + n / 2, row, f"{n}", ha="center", va="center")
            left += n
    bars.set_yticks(range(len(counts)), list(counts))
    bars.set_ylim(len(counts) - 0.5, -0.5)
    bars.set_xlabel("pairs whose chosen answer fell")
    dots.axvline(0, color=INK, lw=0.8, alpha=0.7)
    for row, change in enumerate(moves.values()):
        dots.plot([change.low, change.high], [row, row], color=CHOSEN, lw=2.4, alpha=0.6)
        dots.plot(change.value, row, "o", color=CHOSEN, ms=6)
    dots.set_yticks(range(len(moves)), list(moves))
    dots.set_ylim(len(moves) - 0.5, -0.5)
    dots.set_xlabel("mean change (nats)")
    for ax in (bars, dots):
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", length=0)
    fig.legend(loc="outside upper left", ncols=1)
    return fig
