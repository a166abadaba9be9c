"""Figures of rankings, contrast and generation: who drags whom, orders, codes, and all ways on both axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import MaxNLocator

from entanglement.stats import Interval
from entanglement_book.drawing.charts import forest, name_marks, two_answers
from entanglement_book.drawing.style import (
    ACCENT,
    CASE_COLORS,
    CHOSEN,
    INK,
    NEUTRAL,
    REJECTED,
    VARIANT_COLORS,
    figure,
)
from entanglement_book.studies.ch15_ranking.tables import Place

__all__ = ["apart_and_together", "as_table", "both_answers", "codes", "drags", "orders", "rises"]

_LOOKS = {
    "number": (INK, "D", "DPO, one number"),
    "rule": (ACCENT, "o", "rules"),
    "loss": (CASE_COLORS["both_up"], "v", "other losses"),
    "tokens": (VARIANT_COLORS["short_suffix"], "^", "tokens"),
    "request": (CASE_COLORS["ideal"], "s", "goals"),
    "reward": (CHOSEN, "P", "rewards"),
    "contrast": (REJECTED, "X", "contrast"),
    "imitation": (CASE_COLORS["both_down"], "*", "imitation"),
}


def drags(weights: np.ndarray, gram: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw what each candidate's weight does to each candidate, and the sum of a row: where it goes.

    Args:
        weights: (k,) d_j.
        gram: (k, k) inner products of the gradients.
        names: of the candidates.
    """
    parts = gram * weights  # row i: what j does to i
    shown = np.column_stack([parts, parts.sum(axis=1)])
    most = float(np.abs(shown).max())
    fig, ax = figure(height=3.3)
    # Opaque and light, with dark text: the same on a white and on a dark page.
    ax.imshow(shown, cmap="PuOr_r", vmin=-2.2 * most, vmax=2.2 * most, aspect="auto")
    for row, column in np.ndindex(shown.shape):
        value = round(float(shown[row, column]), 2)
        text = f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") if value else "0"
        bold = "bold" if column == len(names) else "normal"
        ax.text(column, row, text, ha="center", va="center", fontweight=bold, color="#222222")
    ax.axvline(len(names) - 0.5, color=INK, lw=2)
    ax.set_xticks(range(len(names) + 1), [*names, "in all"])
    ax.set_yticks(range(len(names)), list(names))
    ax.xaxis.set_ticks_position("top")
    ax.xaxis.set_label_position("top")
    ax.set(xlabel="pulled by its gradient …", ylabel="… the candidate moves by")
    ax.grid(visible=False)
    ax.tick_params(length=0)
    return fig


def rises(rows: Mapping[str, Mapping[str, Mapping[str, Interval]]], names: Sequence[str]) -> Figure:
    """Draw in how many lists each candidate rises, by a step on its own list and on another one.

    Args:
        rows: title of a panel → "own" and "other" → candidate → share.
        names: of the candidates.
    """
    fig, axes = figure(len(rows), height=2.0, sharex=True, squeeze=False)
    looks = (
        ("own", "a step on its own list", ACCENT, "o", -0.14),
        ("other", "on another list", INK, "s", 0.14),
    )
    for panel, (ax, (title, both)) in enumerate(zip(axes[:, 0], rows.items(), strict=True)):
        for kind, text, color, marker, shift in looks:
            for row, name in enumerate(names):
                one = both[kind][name]
                low, high = max(one.low, 0.0), min(one.high, 1.0)
                ax.plot([low, high], [row + shift] * 2, color=color, lw=2.2, alpha=0.5)
                label = None if row or panel else text
                ax.plot(one.value, row + shift, marker, color=color, ms=6, ls="", label=label)
        ax.set_yticks(range(len(names)), list(names))
        ax.set(xlim=(-0.04, 1.04), ylim=(len(names) - 0.5, -0.5))
        ax.set_title(title)
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", length=0)
    axes[-1, 0].set_xlabel("share of lists in which it rises")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def orders(ways: Mapping[str, Interval], start: float) -> Figure:
    """Draw how well each way orders held-out candidates.

    Args:
        ways: title → NDCG of what the candidates gained.
        start: NDCG of an order drawn at random.
    """
    fig, ax = figure(height=0.7 + 0.36 * len(ways))
    colors = [CASE_COLORS["both_down"] if row == 0 else ACCENT for row in range(len(ways))]
    forest(ax, list(ways), list(ways.values()), colors=colors, reference=start, xlabel="NDCG of the gains")
    return fig


def both_answers(ways: Mapping[str, tuple[Interval, Interval]]) -> Figure:
    """Draw what became of both answers, a row a way of training.

    Args:
        ways: title → changes of chosen and rejected, nats.
    """
    fig, ax = figure(height=1.0 + 0.36 * len(ways))
    two_answers(ax, ways, dict.fromkeys(ways, INK))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel("change of log π (nats)")
    name_marks(fig, ax)
    return fig


def codes(rows: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """Draw what a sentence's code costs and what it tells, one row a way of training.

    Args:
        rows: title → "kl" and "told", nats.
    """
    fig, ax = figure(height=1.0 + 0.42 * len(rows))
    ax.axvline(0, color=NEUTRAL, lw=1, ls="--")
    looks = (("kl", "what it costs", REJECTED, "s", -0.12), ("told", "what it tells", CHOSEN, "o", 0.12))
    for column, text, color, marker, shift in looks:
        for row, both in enumerate(rows.values()):
            one = both[column]
            ax.plot([one.low, one.high], [row + shift] * 2, color=color, lw=2.2, alpha=0.5)
            ax.plot(one.value, row + shift, marker, color=color, ms=6, ls="", label=None if row else text)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="nats a sentence")
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def apart_and_together(
    places: Mapping[str, Place], named: Mapping[str, tuple[float, float]], linear: float = 0.5
) -> Figure:
    """Draw all ways of training on two axes: how far both answers went together, and how far apart.

    Args:
        places: title → where it ends.
        named: title → where its name stands beside its mark, points.
        linear: up to which size the axis of *together* is linear; beyond, it is logarithmic.
    """
    fig, ax = figure(height=5.4)
    wide = np.linspace(0, 9, 400)
    edge = np.concatenate([np.column_stack([-wide / 2, wide])[::-1], np.column_stack([wide / 2, wide])])
    ax.add_patch(Polygon(edge, closed=True, color=CASE_COLORS["ideal"], alpha=0.13, lw=0))
    ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
    ax.axvline(0, color=INK, lw=0.8, alpha=0.7)
    for family, (color, marker, text) in _LOOKS.items():
        mine = [place for place in places.values() if place.family == family]
        for number, place in enumerate(mine):
            x, y = place.together, place.apart
            ax.plot([x.low, x.high], [y.value] * 2, color=color, lw=1.1, alpha=0.6)
            ax.plot([x.value] * 2, [y.low, y.high], color=color, lw=1.1, alpha=0.6)
            ax.plot(
                x.value, y.value, marker, color=color, ms=9 if marker == "*" else 6.5, ls="",
                label=None if number else text,
            )  # fmt: skip
    for title, shift in named.items():
        if title not in places:
            continue
        place = places[title]
        ax.annotate(
            title, (place.together.value, place.apart.value), textcoords="offset points", xytext=shift,
            color=_LOOKS[place.family][0],
        )  # fmt: skip
    ax.set_xscale("symlog", linthresh=linear)
    xs, ys = (
        np.array(
            [getattr(getattr(p, side), end) for p in places.values() for end in ("value", "low", "high")]
        )
        for side in ("together", "apart")
    )
    xs = xs[np.isfinite(xs)]
    middle = np.array([place.apart.value for place in places.values()])
    ax.set_xlim(1.6 * min(xs.min(), -linear), 1.6 * max(xs.max(), linear))
    # A long interval may leave the picture; its middle may not.
    ax.set_ylim(min(middle.min(), 0.0) - 0.2, max(middle.max(), ys[np.isfinite(ys)].max()) + 0.1)
    low, high = ax.get_xlim()
    ticks = [t for t in (-20, -5, -2, -0.5, 0, 0.5, 2, 5, 20) if low <= t <= high]
    ax.set_xticks(ticks, [f"{t:g}".replace("-", "\N{MINUS SIGN}") for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="together: mean change of both answers (nats)", ylabel="apart: change of the margin (nats)")
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def as_table(places: Mapping[str, Place]) -> pd.DataFrame:
    """Return the places as a table of texts, "mean [low, high]"."""
    rows = {
        title: {name: f"{getattr(place, name):+.2f}" for name in ("chosen", "rejected", "together", "apart")}
        for title, place in places.items()
    }
    return pd.DataFrame(rows).T
