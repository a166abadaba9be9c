"""The figure of the reproduction report: the whole ledger at a glance. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from entanglement_book.drawing.style import CASE_COLORS, INK, NEUTRAL, REJECTED, figure

__all__ = ["VERDICT_COLORS", "VERDICT_MARKERS", "ledger"]

#: In order. Marker and color tell the same, so that neither is needed alone.
VERDICT_MARKERS: dict[str, str] = {
    "reproduced": "o",
    "reproduced in part": "D",
    "not reproduced": "X",
    "not testable here": "_",
    "not run": ".",
}
VERDICT_COLORS: dict[str, str] = {
    "reproduced": CASE_COLORS["ideal"],
    "reproduced in part": CASE_COLORS["both_up"],
    "not reproduced": REJECTED,
    "not testable here": NEUTRAL,
    "not run": NEUTRAL,
}


#: Whose a claim is, by the first word of its source; whatever begins otherwise is of others.
OWNERS = {"paper": "paper", "authors'": "paper", "own": "own"}
OTHERS = "others"


def whose(source: str) -> str:
    """Return whose claim it is: the paper's, that of others, or our own."""
    return OWNERS.get(source.lower().replace(";", " ").split()[0], OTHERS)


def ledger(table: pd.DataFrame, titles: Mapping[str, str]) -> tuple[Axes, ...]:
    """Draw one marker a claim, a row a chapter: from left to right the paper's claims, others' and our own.

    Args:
        table: ``claims.ledger_table()``; uses notebook, source and verdict.
        titles: a chapter's name in the column notebook → what to write beside its row.

    Returns:
        The three axes.

    Raises:
        ValueError: a table without claims.
    """
    chapters = sorted(set(table["notebook"]))
    if not chapters:
        raise ValueError("ledger: the table has no claims; expected at least one.")
    owners = table["source"].map(whose)
    groups = {name: table[owners == name] for name in ("paper", OTHERS, "own")}
    widths = [max(2, rows["notebook"].value_counts().max() if len(rows) else 0) for rows in groups.values()]
    fig, axes = figure(1, 3, height=1.5 + 0.34 * len(chapters), sharey=True, width_ratios=widths)
    left, seen = axes[0], set[str]()
    for ax, (title, rows) in zip(axes, groups.items(), strict=True):
        widest = 1
        for y, chapter in enumerate(chapters):
            verdicts = rows.loc[rows["notebook"] == chapter, "verdict"]
            widest = max(widest, len(verdicts))
            for x, verdict in enumerate(verdicts):
                ax.plot(
                    x,
                    y,
                    VERDICT_MARKERS[verdict],
                    color=VERDICT_COLORS[verdict],
                    ms=6.5,
                    mew=2 if verdict == "not testable here" else 0.5,
                    ls="none",
                    label=None if verdict in seen else verdict,
                )
                seen.add(verdict)
        ax.set_title(f"{title}\n{len(rows)}", loc="center")
        ax.set_xlim(-0.6, widest - 0.4)
        ax.set_xticks([])
        ax.grid(visible=False)
        ax.tick_params(axis="y", length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
    left.set_yticks(range(len(chapters)), [_short(titles[c]) for c in chapters])
    left.set_ylim(len(chapters) - 0.4, -0.6)
    handles: dict[str, Any] = {}
    for ax in axes:
        lines, labels = ax.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    order = [name for name in VERDICT_MARKERS if name in handles]
    options: dict[str, Any] = {"loc": "outside lower center", "ncols": 2, "labelcolor": INK}
    fig.legend([handles[name] for name in order], order, **options)
    return tuple(axes)


def _short(title: str, length: int = 26) -> str:
    return title if len(title) <= length else f"{title[: length - 1].rstrip()}…"
