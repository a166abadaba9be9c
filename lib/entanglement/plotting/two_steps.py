"""Figures of chapter 01: both steps of training on one time axis."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entanglement.plotting.style import CHOSEN, INK, NEUTRAL, REJECTED, figure
from entanglement.stats import summarize

__all__ = ["both_steps"]

_LINES = {"chosen_logp": ("chosen", CHOSEN, "-"), "rejected_logp": ("rejected", REJECTED, "--")}


def both_steps(table: pd.DataFrame) -> Figure:
    """Draw the log-probabilities of held-out answers through SFT and then DPO, and the margin below.

    Both are changes since the base, so that a seed's choice of answers, long or short, is not in the bands.

    Args:
        table: columns seed, phase ("sft", then "dpo"), step, chosen_logp, rejected_logp.
    """
    names = list(_LINES)
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
        for name, (label, color, line) in _LINES.items():
            _band(top, rows, name, color, line, label)
        _band(bottom, rows, "margin", NEUTRAL, "-", "margin")
        bottom.axhline(0, color=INK, lw=0.8, alpha=0.6)
        top.set_title(title)
        bottom.set_xlabel("step")
    axes[0, 0].set_ylabel("change of log π (nats)")
    axes[1, 0].set_ylabel("change of margin (nats)")
    axes[0, 0].legend(loc="lower right")
    return fig


def _band(ax: Axes, rows: pd.DataFrame, name: str, color: str, line: str, label: str) -> None:
    found = summarize(rows, name, ["step"]).sort_values("step")
    ax.plot(found["step"], found["value"], color=color, ls=line, label=label)
    ax.fill_between(found["step"], found["low"], found["high"], color=color, alpha=0.18, lw=0)
