"""Figures of where the probability goes: token by token, in whole answers, and between the two labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from entanglement.stats import Interval
from entanglement_book.drawing.style import ACCENT, CHOSEN, INK, NEUTRAL, REJECTED, figure

__all__ = ["LOSS_ORDER", "accuracies", "answers", "label_moves", "mass"]

#: The losses in the order of the rows.
LOSS_ORDER = (
    "dpo", "ipo", "simpo", "kto", "bco", "sppo", "dpop", "slic_hf", "rpo", "cpo", "rrhf", "orpo",
)  # fmt: skip
_PARTS = {
    "own": ("its own token", CHOSEN, "o"),
    "other": ("the other answer's token", REJECTED, "s"),
    "top": ("the likeliest other token", ACCENT, "D"),
    "rest": ("all the rest", NEUTRAL, "^"),
}
_PLACES = (
    ("chosen", "shared", "chosen,\nup to the first\ndifference"),
    ("rejected", "shared", "rejected,\nup to the first\ndifference"),
    ("chosen", "apart", "chosen,\nafter it"),
    ("rejected", "apart", "rejected,\nafter it"),
)


def _bar(
    ax: Axes, row: float, interval: Interval, color: str, marker: str = "o", label: str | None = None
) -> None:
    if np.isfinite([interval.low, interval.high]).all():
        ax.plot([interval.low, interval.high], [row, row], color=color, lw=2.0, alpha=0.6)
    ax.plot(interval.value, row, marker, color=color, ms=5.5, label=label)


def _rows(ax: Axes, labels: Sequence[str]) -> None:
    ax.set_yticks(range(len(labels)), list(labels))
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")


def mass(table: pd.DataFrame) -> Figure:
    """Draw where probability went at the positions of both answers, a row a response and place.

    Args:
        table: ``tables.mass_shares``.
    """
    fig, ax = figure(height=4.4)
    ax.axvline(0, color=INK, lw=0.8)
    for row, (response, place, _) in enumerate(_PLACES):
        some = table[(table["response"] == response) & (table["place"] == place)].set_index("part")
        for number, (part, (name, color, marker)) in enumerate(_PARTS.items()):
            if part == "other" and place == "apart":
                continue  # the other answer's token has a meaning only where they part
            value, low, high = (100 * some[end].to_dict()[part] for end in ("value", "low", "high"))
            spot = row + (number - 1.5) * 0.17
            _bar(ax, spot, Interval(value, low, high, 0), color, marker, name if row == 0 else None)
    _rows(ax, [label for _, _, label in _PLACES])
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_xlabel("change of probability (points)")
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2)
    return fig


def answers(found: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """Draw how whole answers gained or lost, a panel a data set, a row an answer.

    Args:
        found: label → answer → interval of the change of log π (nats).
    """
    fig, axes = figure(len(found), height=2.2, sharex=True, squeeze=False)
    looks = {"chosen": (CHOSEN, "o"), "rejected": (REJECTED, "s")}
    for ax, (label, rows) in zip(axes[:, 0], found.items(), strict=True):
        ax.axvline(0, color=INK, lw=0.8)
        for height, (name, interval) in enumerate(rows.items()):
            _bar(ax, height, interval, *looks.get(name, (ACCENT, "D")))
        _rows(ax, list(rows))
        ax.set_title(label)
    axes[-1, 0].xaxis.set_major_locator(MaxNLocator(6))
    axes[-1, 0].set_xlabel("change of log-probability (nats)")
    return fig


def label_moves(moved: Mapping[str, Mapping[str, Interval]], titles: Mapping[str, str]) -> Figure:
    """Draw how the scores of positive and of negative tweets changed, a row a loss.

    Args:
        moved: "moved_positive" and "moved_negative" → loss → nats.
        titles: loss → what to write, in the order of the rows.
    """
    fig, ax = figure(height=1.2 + 0.3 * len(titles))
    ax.axvline(0, color=INK, lw=0.8)
    looks = {
        "moved_positive": ("positive tweets", ACCENT, "^"),
        "moved_negative": ("negative tweets", INK, "v"),
    }
    for name, (label, color, marker) in looks.items():
        off = -0.13 if name == "moved_positive" else 0.13
        for row, loss in enumerate(titles):
            _bar(ax, row + off, moved[name][loss], color, marker, label if row == 0 else None)
    _rows(ax, list(titles.values()))
    ax.set_xlabel("change of the score s (nats)")
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2)
    return fig


def accuracies(
    accuracy: Mapping[str, Interval],
    undrifted: Mapping[str, Interval],
    chosen: Mapping[str, Interval],
    titles: Mapping[str, str],
) -> Figure:
    """Draw the change of accuracy, as it is and with the drift taken out, and that of the chosen answer.

    Args:
        accuracy, undrifted: loss → points.
        chosen: loss → nats.
        titles: loss → what to write, in the order of the rows.
    """
    fig, (left, right) = figure(1, 2, height=1.3 + 0.3 * len(titles), sharey=True, width_ratios=[1.6, 1])
    for row, loss in enumerate(titles):
        first = row == 0
        _bar(left, row - 0.13, accuracy[loss], ACCENT, "D", "as it is" if first else None)
        _bar(left, row + 0.13, undrifted[loss], INK, "o", "label bias taken out" if first else None)
        _bar(right, row, chosen[loss], CHOSEN)
    for ax in (left, right):
        ax.axvline(0, color=INK, lw=0.8)
        _rows(ax, list(titles.values()))
    left.set(xlabel="change (points)", title="accuracy")
    right.set_xscale("symlog", linthresh=1)
    right.set_xticks([-1, 0, 1, 10], ["−1", "0", "1", "10"])
    right.minorticks_off()
    right.set(xlabel="change (nats)", title="chosen answer")
    handles, labels = left.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2)
    return fig
