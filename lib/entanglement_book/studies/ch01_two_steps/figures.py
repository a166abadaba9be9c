"""Figures of RLHF in two steps: both steps of training on one time axis."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from entanglement.stats import summarize
from entanglement_book.drawing.charts import line_with_band
from entanglement_book.drawing.style import CHOSEN, INK, NEUTRAL, REJECTED, figure

__all__ = ["both_steps"]

#: Column → label, row of axes, color, line.
_LINES = {
    "chosen_logp": ("chosen", 0, CHOSEN, "-"),
    "rejected_logp": ("rejected", 0, REJECTED, "--"),
    "margin": ("margin", 1, NEUTRAL, "-"),
}


def both_steps(table: pd.DataFrame) -> Figure:
    """Draw the log-probabilities of held-out answers through SFT and then DPO, and the margin below.

    Both are changes since the base, so that a seed's choice of answers, long or short, is not in the bands.

    Args:
        table: columns seed, phase ("sft", then "dpo"), step, chosen_logp, rejected_logp.
    """
    names = ["chosen_logp", "rejected_logp"]
    base = table[(table["phase"] == "sft") & (table["step"] == 0)].set_index("seed")[names]
    change = table.copy()
    change[names] = table[names].to_numpy() - base.loc[table["seed"]].to_numpy()
    margin = change.assign(margin=change["chosen_logp"] - change["rejected_logp"])
    width = {phase: float(rows["step"].max()) for phase, rows in table.groupby("phase")}
    fig, axes = figure(
        2, rows=2, height=2.5, sharex="col", sharey="row", width_ratios=[width["sft"], width["dpo"]]
    )
    for column, (phase, title) in enumerate((("sft", "step one: SFT"), ("dpo", "step two: DPO"))):
        rows = margin[margin["phase"] == phase]
        top, bottom = axes[0, column], axes[1, column]
        for name, (label, row, color, line) in _LINES.items():
            at = summarize(rows, name, ["step"]).sort_values("step")
            line_with_band(
                axes[row, column], at["step"], at["value"], at["low"], at["high"], color, label, ls=line
            )
        bottom.axhline(0, color=INK, lw=0.8, alpha=0.6)
        top.set_title(title)
        bottom.set_xlabel("step")
    axes[0, 0].set_ylabel("change of log π (nats)")
    axes[1, 0].set_ylabel("change of margin (nats)")
    axes[0, 0].legend(loc="lower right")
    return fig
