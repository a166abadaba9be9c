"""Figures of rewards instead of margins: optima, two axes, the price, which answers fall, own pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from entanglement.bounded import bounded_interval
from entanglement.stats import Interval, mean_interval
from entanglement_book.drawing.charts import forest, line_with_band, name_marks, two_answers
from entanglement_book.drawing.style import ACCENT, CHOSEN, INK, NEUTRAL, REJECTED, figure
from entanglement_book.studies.ch14_rewards.numbers import AT_ONCE, apart_together, judged

__all__ = ["along", "axes_of_ways", "both_answers", "mends", "optima", "price", "who_falls"]

_GREEN, _GOLD = "#148f5c", "#b58100"
#: Ways of going on from the checkpoint: title, color, marker.
LOOKS: dict[str, tuple[str, str, str]] = {
    "dpo": ("DPO", REJECTED, "s"),
    "sft": ("SFT", NEUTRAL, "D"),
    "ppo": ("PPO", CHOSEN, "o"),
    "ppo-free": ("PPO, no price", CHOSEN, "x"),
    "rloo": ("RLOO", _GREEN, "^"),
    "grpo": ("GRPO", ACCENT, "v"),
}


def optima(words: Sequence[str], known: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> Figure:
    """Draw where two prices have to end, as bars, and where the methods ended, as dots, an answer a row.

    Args:
        words: the answers.
        known: title → probabilities; two of them.
        found: title → probabilities.
    """
    fig, ax = figure(height=0.9 + 0.44 * len(words))
    rows = np.arange(len(words))
    for shift, color, (title, values) in zip((-0.19, 0.19), (CHOSEN, ACCENT), known.items(), strict=True):
        ax.barh(rows + shift, values, height=0.34, color=color, alpha=0.3, label=title)
    looks = ((NEUTRAL, "|", 0.0), (CHOSEN, "o", -0.19), (_GREEN, "^", -0.19), (ACCENT, "v", 0.19))
    for (color, marker, shift), (title, values) in zip(looks, found.items(), strict=False):
        ax.plot(values, rows + shift, marker, color=color, ms=7, mew=1.6, ls="", label=title)
    ax.set_yticks(rows, list(words))
    ax.set(ylim=(len(words) - 0.5, -0.5), xlabel="probability of the answer")
    ax.grid(visible=False, axis="y")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def axes_of_ways(means: pd.DataFrame, ways: Sequence[str]) -> Figure:
    """Draw how far each way moves both answers apart and together, a mark a way with its intervals.

    Args:
        means: of the grid ``rewards``.
        ways: of its cells.
    """
    fig, ax = figure(height=4.0)
    for way in ways:
        title, color, marker = LOOKS[way]
        apart, together = (mean_interval(one.to_numpy()) for one in apart_together(means, way))
        ends = (apart.low, apart.high, together.low, together.high)
        errors = [[apart.value - apart.low], [apart.high - apart.value]]
        errors_up = [[together.value - together.low], [together.high - together.value]]
        known = bool(np.isfinite(ends).all())
        ax.errorbar(
            apart.value, together.value, xerr=errors if known else None, yerr=errors_up if known else None,
            fmt=marker, color=color, ms=7, elinewidth=1.2, label=title,
        )  # fmt: skip
    # One scale for both, so that the diagonals are straight.
    ax.set_xscale("symlog", linthresh=0.1)
    ax.set_yscale("symlog", linthresh=0.1)
    reach = 30.0
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
    line = np.array([-reach, reach])
    for sign in (1, -1):
        ax.plot(line, sign * line, color=INK, lw=0.8, ls="--", alpha=0.7)
    ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
    ax.axvline(0, color=INK, lw=0.8, alpha=0.7)
    ax.set(xlabel="apart, nats", ylabel="together, nats")
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def price(answers: pd.DataFrame, ways: Sequence[str]) -> Figure:
    """Draw how the learned reward rose, and how many answers are true and well-formed, against KL.

    Args:
        answers: of the grid ``rewards``.
        ways: of its cells, a line each; dashed without a price.
    """
    names = {"gain": "learned reward, gain", "true": "true label", "formed": "in the form"}
    fig, axes = figure(len(names), height=2.1, sharex=True)
    starts = answers[answers["step"] == 0].groupby("seed")["reward"].mean()  # reward models have offsets
    answers = answers.assign(gain=answers["reward"] - answers["seed"].map(starts))
    for ax, (column, name) in zip(axes, names.items(), strict=True):
        for way in ways:
            title, color, marker = LOOKS[way]
            rows = answers[answers["way"] == way]
            line = rows.groupby("step")[["kl", column]].mean()
            ax.plot(
                line["kl"], line[column], "--" if way.endswith("-free") else "-", marker=marker, color=color,
                lw=1.5, ms=6, label=title if column == "gain" else None,
            )  # fmt: skip
            ends = rows.loc[rows["step"] == rows["step"].max(), column].to_numpy()
            end = mean_interval(ends) if column == "gain" else bounded_interval(ends, 0, 1)
            if np.isfinite([end.low, end.high]).all():
                ax.plot([line["kl"].iloc[-1]] * 2, [end.low, end.high], color=color, lw=2.2, alpha=0.4)
        ax.set_ylabel(name)
    axes[-1].set_xlabel("KL from the reference, nats an answer")
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def who_falls(single: pd.DataFrame, parts: pd.DataFrame, kind: str = "same words") -> Figure:
    """Draw, above, the true change of each right answer against the foretold one; below, whence it comes.

    Args:
        single: of the grid ``copying``; plain steps.
        parts: of ``contributions``.
        kind: of the toy.
    """
    fig, (above, below) = figure(2, height=2.9, gridspec_kw={"height_ratios": [1.6, 1]})
    rows = judged(single)
    rows = rows[(rows["optimized"] == "sgd") & (rows["kind"] == kind)]
    hesitates = rows["length"] > AT_ONCE
    for some, color, marker, title in (
        (rows[~hesitates], CHOSEN, "o", "right, at once"),
        (rows[hesitates], REJECTED, "^", "right, hesitant"),
    ):
        above.plot(some["plain"], some["change"], marker, color=color, ms=4.5, alpha=0.55, ls="", label=title)
    above.axhline(0, color=INK, lw=0.8, alpha=0.7)
    above.axvline(0, color=INK, lw=0.8, alpha=0.7)
    above.set_xscale("symlog", linthresh=0.01)
    above.set_yscale("symlog", linthresh=0.01)
    above.set(xlabel="foretold change, nats", ylabel="true change, nats")
    above.legend(loc="upper left")
    names = {"own": "from itself", "from_right": "from other right", "from_wrong": "from wrong"}
    looks = {True: ("that fell", REJECTED, "^", 0.13), False: ("that rose", CHOSEN, "o", -0.13)}
    for fell, (title, color, marker, shift) in looks.items():
        mine = parts[parts["fell"] == fell].set_index("part")
        for row, part in enumerate(names):
            if part not in mine.index:
                continue
            one = mine.loc[part]
            if np.isfinite([one["low"], one["high"]]).all():
                below.plot([one["low"], one["high"]], [row + shift] * 2, color=color, lw=2.2, alpha=0.5)
            below.plot(one["value"], row + shift, marker, color=color, ms=7, label=None if row else title)
    below.axvline(0, color=INK, lw=0.8, alpha=0.7)
    below.set_yticks(range(len(names)), list(names.values()))
    below.set(ylim=(2.5, -0.5), xlabel="foretold change, nats")
    below.locator_params(axis="x", nbins=5)
    below.grid(visible=False, axis="y")
    below.tick_params(axis="y", length=0)
    below.legend(loc="best")
    return fig


def along(means: pd.DataFrame, titles: Mapping[tuple[str, str], str]) -> Figure:
    """Draw log π of right answers along GRPO, over the seeds that are judged.

    Args:
        means: of the grid ``copying``.
        titles: (kind, set) → title.
    """
    fig, ax = figure(height=4.0)
    looks = ((REJECTED, "-"), (REJECTED, "--"), (CHOSEN, "-"), (CHOSEN, "--"))
    rows = judged(means)
    rows = rows[rows["arm"] == "grpo"]
    for (color, style), ((kind, name), title) in zip(looks, titles.items(), strict=False):
        some = rows[(rows["kind"] == kind) & (rows["set"] == name)]
        curve = [(step, *mean_interval(one["chosen"].to_numpy())[:3]) for step, one in some.groupby("step")]
        step, value, low, high = (np.array(part) for part in zip(*curve, strict=True))
        line_with_band(ax, step, value, low, high, color, title, ls=style)
    ax.axhline(0, color=INK, lw=0.8, alpha=0.7)
    ax.set(xlabel="batches of answers", ylabel="change of log π, nats")
    fig.legend(loc="outside lower center", ncols=1)
    return fig


def mends(fell: Mapping[str, Interval], gained: Mapping[str, Interval]) -> Figure:
    """Draw, for each way to train the toy, what became of hesitant right answers.

    Args:
        fell: title → change of log π, nats.
        gained: title → the same minus GRPO's when as much was gained elsewhere (``numbers.at_equal_gain``).
    """
    fig, axes = figure(2, height=0.9 + 0.27 * len(fell), squeeze=False)
    panels = {"after training": (fell, INK), "minus GRPO's at equal gain": (gained, ACCENT)}
    for ax, (title, (rows, color)) in zip(axes[:, 0], panels.items(), strict=True):
        forest(ax, list(rows), list(rows.values()), colors=color, reference=0.0)
        ax.set_title(title)
    axes[-1, 0].set_xlabel("change of log π, nats")
    return fig


def both_answers(
    panels: Mapping[str, Mapping[str, tuple[Interval, Interval]]], xlabel: str = "change of log π, nats"
) -> Figure:
    """Draw what became of the chosen and the rejected answers, one panel a set of pairs, a row a source."""
    most = max(len(rows) for rows in panels.values())
    fig, axes = figure(len(panels), height=0.75 + 0.36 * most, squeeze=False)
    for ax, (title, rows) in zip(axes[:, 0], panels.items(), strict=True):
        two_answers(ax, rows, dict.fromkeys(rows, INK))
        ax.set_title(title)
    axes[-1, 0].set_xlabel(xlabel)
    name_marks(fig, axes[0, 0])
    return fig
