"""Figures of the audit: three vectors, told against found, signs by moment, what advice did, a guide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from entanglement.stats import Interval
from entanglement_book.drawing.arrows import arrow
from entanglement_book.drawing.charts import name_marks, two_answers
from entanglement_book.drawing.style import ACCENT, CASE_COLORS, CHOSEN, INK, NEUTRAL, REJECTED, figure

__all__ = ["after_advice", "guide", "rehearsed", "signs_by_moment", "three_arrows", "told_against_found"]

OPTIMIZERS = {"adamw": "AdamW", "sgd": "plain steps"}
#: What foretells: column or rule, title, color, marker and line.
_LOOKS = (
    ("says", "rehearsal, where it speaks", ACCENT, "o", "-"),
    ("told", "rehearsal, all", ACCENT, "o", ":"),
    ("own", "own pair", CASE_COLORS["both_up"], "s", "-"),
    ("label", "first token, told afterwards", INK, "^", "--"),
)


def three_arrows(held: np.ndarray, pulls: Mapping[str, np.ndarray]) -> Figure:
    """Draw the gradient of a held-out response and the steps that pairs and their mean ask for.

    Args:
        held: (2,).
        pulls: title → (2,); the last is the mean.
    """
    fig, ax = figure(height=2.6)
    normal = np.array([-held[1], held[0]]) * 3 / np.linalg.norm(held)
    ax.fill(
        *np.stack([normal, -normal, -normal - 3 * held, normal - 3 * held]).T, color=REJECTED, alpha=0.1, lw=0
    )
    colors = [NEUTRAL] * (len(pulls) - 1) + [ACCENT]
    for (title, tip), color in zip(pulls.items(), colors, strict=True):
        arrow(ax, tip, color)
        ax.text(tip[0], tip[1] + 0.07, title, color=color, ha="left" if tip[0] < -1.5 else "center")
    arrow(ax, held, CHOSEN)
    ax.text(held[0] + 0.07, held[1], "held-out response", color=CHOSEN, va="center")
    ax.text(-1.25, -0.72, "steps that lower it", color=REJECTED)
    ax.set(xlim=(-2.3, 2.3), ylim=(-0.9, 1.4), aspect="equal")
    return fig


def rehearsed(pairs: pd.DataFrame) -> Figure:
    """Draw what an audit tells of held-out pairs, apart against together.

    Args:
        pairs: of an ``AuditReport``; a pair whose answers differ in one token counts as a near-copy.
    """
    fig, ax = figure(height=3.4)
    held = pairs[pairs["held_out"]]
    apart = (held["chosen_whole"] - held["rejected_whole"]) / 2
    together = (held["chosen_whole"] + held["rejected_whole"]) / 2
    ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
    ax.axvline(0, color=INK, lw=0.8, alpha=0.7)
    near = held["edits"] == 1
    looks = (("near-copies", near, ACCENT, "o"), ("summaries", ~near, CASE_COLORS["both_up"], "^"))
    for title, mine, color, marker in looks:
        for says, face in ((held["chosen_says"] != 0, color), (held["chosen_says"] == 0, "none")):
            some = mine & says
            ax.plot(
                apart[some], together[some], marker, color=color, mfc=face, ms=6,
                label=title if face == color else None,
            )  # fmt: skip
    ax.set(xlabel="apart (nats)", ylabel="together (nats)")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def _panels(rows: Sequence[str], height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    fig, axes = figure(len(rows), len(OPTIMIZERS), height=height, squeeze=False, **options)
    for ax, title in zip(axes[0], OPTIMIZERS.values(), strict=True):
        ax.set_title(title)
    for line, title in zip(axes, rows, strict=True):
        line[0].set_ylabel(title)
    return fig, axes


def told_against_found(responses: pd.DataFrame, data: Mapping[str, str]) -> Figure:
    """Draw what was told of held-out responses against what training did, a panel a data set and optimizer.

    Args:
        responses: of the grid ``audits``, of one moment.
        data: names of the data sets → their titles.
    """
    fig, axes = _panels(list(data.values()), 2.0)
    for line, name in zip(axes, data, strict=True):
        for ax, optimizer in zip(line, OPTIMIZERS, strict=True):
            some = responses[(responses["data"] == name) & (responses["optimizer"] == optimizer)]
            ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
            ax.axvline(0, color=INK, lw=0.8, alpha=0.7)
            for side, color, marker in (("chosen", CHOSEN, "o"), ("rejected", REJECTED, "s")):
                mine = some[some["side"] == side]
                for open_, alpha in ((True, 0.25), (False, 0.6)):
                    rows = mine[(mine["says"] == 0) == open_]
                    ax.plot(
                        rows["told"], rows["found"], marker, ms=3, color=color, alpha=alpha,
                        mfc="none" if open_ else color, label=None if open_ else side,
                    )  # fmt: skip
            reach = max(float(some[["told", "found"]].abs().quantile(0.995).max()), 1e-9)
            ax.plot([-reach, reach], [-reach, reach], color=NEUTRAL, lw=1, ls="--")
            ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
            ax.locator_params(nbins=5)
    for ax in axes[-1]:
        ax.set_xlabel("told (nats)")
    fig.supylabel("found (nats)", color=INK)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2)
    return fig


def signs_by_moment(
    shares: Mapping[str, Mapping[tuple[str, str], Mapping[int, Interval]]], data: Mapping[str, str]
) -> Figure:
    """Draw the share of chosen responses whose sign was foretold, along training.

    Args:
        shares: of "says", "told", "own", "label": (data, optimizer) → step → share.
        data: names of the data sets → their titles.
    """
    fig, axes = _panels(list(data.values()), 1.75, sharex=True, sharey=True)
    for line, name in zip(axes, data, strict=True):
        for ax, optimizer in zip(line, OPTIMIZERS, strict=True):
            ax.axhline(0.5, color=NEUTRAL, lw=1, ls=":")
            for key, title, color, marker, style in _LOOKS:
                found = shares[key].get((name, optimizer), {})
                values = [interval.value for interval in found.values()]
                ax.plot(
                    list(found), values, marker=marker, ls=style, color=color, ms=4.5, lw=1.6, label=title
                )
                if key == "says":
                    for step, interval in found.items():
                        ends = np.clip([interval.low, interval.high], 0, 1)
                        ax.plot([step, step], ends, color=color, lw=2.2, alpha=0.35)
            ax.set(xscale="log", ylim=(-0.03, 1.03))
    for ax in axes[-1]:
        ticks = sorted({step for found in shares["told"].values() for step in found})
        ax.set_xticks(ticks, [str(step) for step in ticks], minor=False)
        ax.minorticks_off()
        ax.set_xlabel("training step")
    fig.supylabel("share of signs foretold", color=INK)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=1)
    return fig


def after_advice(panels: Mapping[str, Mapping[str, tuple[Interval, Interval]]]) -> Figure:
    """Draw where both answers end, a panel a setting and a row a way.

    Args:
        panels: title → way → (chosen, rejected), nats.
    """
    rows = [len(ways) for ways in panels.values()]
    fig, axes = figure(len(panels), height=0.62 + 0.24 * max(rows), squeeze=False)
    for ax, (title, ways) in zip(axes[:, 0], panels.items(), strict=True):
        two_answers(ax, ways, dict.fromkeys(ways, INK))
        ax.set_title(title)
    axes[-1, 0].set_xlabel("change of the mean answer (nats)")
    name_marks(fig, axes[0, 0])
    return fig


def _box(ax: Axes, y: float, text: str, color: str, x: float = 0.0, width: float = 4.4) -> None:
    lines = text.count("\n") + 1
    height = 0.24 * lines + 0.16
    ax.add_patch(
        FancyBboxPatch(
            (x, y - height / 2), width, height, boxstyle="round,pad=0.03,rounding_size=0.09",
            fc="none", ec=color, lw=1.4,
        )
    )  # fmt: skip
    ax.text(x + width / 2, y, text, ha="center", va="center", color=color)


def guide(steps: Sequence[tuple[str, str, str]]) -> Figure:
    """Draw a way through questions, from above: each has an answer that leads out and one that leads on.

    Args:
        steps: (question, what to do where the answer leads out, and what that answer and the other one are,
            "out|on"); the last one's question is where the way ends.
    """
    gap = 1.62
    height = gap * (len(steps) - 1) + 0.6
    fig, ax = figure(height=height)
    ax.set_axis_off()
    top = height - 0.3
    for place, (question, out, answers) in enumerate(steps):
        y = top - gap * place
        last = place == len(steps) - 1
        _box(ax, y, question, CASE_COLORS["ideal"] if last else INK)
        if last:
            continue
        leads, goes = answers.split("|")
        y_out = y - gap * 0.48
        _box(ax, y_out, out, ACCENT, x=1.05, width=3.35)
        below = y - 0.12 * (question.count("\n") + 1) - 0.1
        for x, tip in ((0.45, y - gap + 0.12 * (steps[place + 1][0].count("\n") + 1) + 0.12),):
            ax.annotate(
                "", xy=(x, tip), xytext=(x, below), arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.4}
            )
            ax.text(x - 0.07, (below + tip) / 2, goes, ha="right", va="center", color=INK)
        ax.annotate(
            "", xy=(1.02, y_out), xytext=(0.75, below),
            arrowprops={"arrowstyle": "-|>", "color": ACCENT, "lw": 1.4, "connectionstyle": "arc3,rad=0.3"},
        )  # fmt: skip
        ax.text(0.72, y_out, leads, ha="right", va="center", color=ACCENT)
    ax.set(xlim=(-0.15, 4.5), ylim=(-0.15, height))
    return fig
