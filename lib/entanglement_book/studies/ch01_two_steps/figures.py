"""Figures of RLHF in two steps: the judges of pairs, and both steps of training."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from entanglement.stats import Interval, summarize
from entanglement_book.drawing.charts import forest, line_with_band
from entanglement_book.drawing.style import CHOSEN, INK, NEUTRAL, REJECTED, figure

__all__ = ["both_steps", "judges"]

#: Column → label, row of axes, color, line.
_LINES = {
    "chosen_logp": ("chosen", 0, CHOSEN, "-"),
    "rejected_logp": ("rejected", 0, REJECTED, "--"),
    "margin": ("margin", 1, NEUTRAL, "-"),
}


def judges(right: Mapping[str, Interval], weights: Mapping[str, Interval]) -> Figure:
    """Draw in how many held-out pairs each judge is right, and what the reward model looks at.

    Args:
        right: judge → share of the pairs, percent.
        weights: feature → reward per standard deviation.
    """
    fig, (top, bottom) = figure(2, height=1.9)
    forest(top, list(right), list(right.values()), reference=50, xlabel="right in % of held-out pairs")
    forest(
        bottom,
        list(weights),
        list(weights.values()),
        colors=NEUTRAL,
        reference=0,
        xlabel="reward per standard deviation",
    )
    bottom.locator_params(axis="x", nbins=4)
    return fig


def both_steps(table: pd.DataFrame) -> Figure:
    """Draw the log-probabilities of held-out answers through SFT and then DPO, and the margin below.

    Each step begins at zero, so that neither a seed's choice of answers nor its SFT is in DPO's bands. The
    panels have scales of their own.

    Args:
        table: columns seed, phase ("sft", then "dpo"), step, chosen_logp, rejected_logp.
    """
    names = ["chosen_logp", "rejected_logp"]
    keys = ["phase", "seed"]
    first = table[table["step"] == 0].set_index(keys)[names]
    change = table.copy()
    change[names] = table[names].to_numpy() - first.loc[pd.MultiIndex.from_frame(table[keys])].to_numpy()
    margin = change.assign(margin=change["chosen_logp"] - change["rejected_logp"])
    fig, axes = figure(2, 2, height=2.4, sharex="col")
    for column, (phase, title) in enumerate((("sft", "step one: SFT"), ("dpo", "step two: DPO"))):
        rows = margin[margin["phase"] == phase]
        for name, (label, row, color, line) in _LINES.items():
            at = summarize(rows, name, ["step"]).sort_values("step")
            line_with_band(
                axes[row, column], at["step"], at["value"], at["low"], at["high"], color, label, ls=line
            )
        for row in (0, 1):
            axes[row, column].axhline(0, color=INK, lw=0.8, alpha=0.6)
        axes[0, column].set_title(title)
        axes[1, column].set_xlabel("step")
    axes[0, 0].set_ylabel("change of log π (nats)")
    axes[1, 0].set_ylabel("change of margin (nats)")
    axes[0, 0].legend(loc="lower right")
    return fig
