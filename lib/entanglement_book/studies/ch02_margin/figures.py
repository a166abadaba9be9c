"""Figures of the underspecified margin: policies on the level lines of the margin, and the side effects."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from entanglement.geometry import Case
from entanglement.stats import share_interval, summarize
from entanglement_book.drawing.charts import line_with_band
from entanglement_book.drawing.style import (
    ACCENT,
    CASE_COLORS,
    CHOSEN,
    INK,
    NEUTRAL,
    REJECTED,
    figure,
)
from entanglement_book.studies.ch02_margin.study import ALL, ALL_NLL, ONE, ONLY_LIKELIHOOD

__all__ = ["compliance", "same_margin", "student"]

#: Where each case lies in the plane: center (shares of half its width) and what is written there.
_CORNERS: dict[Case, tuple[float, float, str]] = {
    "ideal": (0.66, -0.6, "chosen up,\nrejected down"),
    "both_down": (-0.72, -0.15, "both down"),
    "both_up": (0.62, 0.92, "both up"),
}


def same_margin(policies: Mapping[str, tuple[float, float]], *, limit: float = 4.0) -> Figure:
    """Draw policies by what became of the two answers, over the level lines of the margin.

    Args:
        policies: label → (Δ log π_w, Δ log π_l), nats.
        limit: half the width of the axes, nats.
    """
    fig, ax = figure(height=4.6)
    for margin in np.arange(-2 * limit, 2 * limit + 0.1, 1.0):
        ax.plot([-limit, limit], [-limit - margin, limit - margin], color=NEUTRAL, lw=0.6, alpha=0.5)
    chosen, rejected = next(iter(policies.values()))
    margin = chosen - rejected
    ax.plot([-limit, limit], [-limit - margin, limit - margin], color=INK, lw=1.8)
    ax.axhline(0, color=REJECTED, lw=1, alpha=0.8)
    ax.axvline(0, color=CHOSEN, lw=1, alpha=0.8)
    for case, (x, y, text) in _CORNERS.items():
        ax.text(x * limit, y * limit, text, color=CASE_COLORS[case], ha="center", va="center", weight="bold")
    for label, (x, y) in policies.items():
        fate: Case = "ideal" if x > 0 > y else "both_down" if x < 0 else "both_up"
        ax.plot(x, y, "o", color=CASE_COLORS[fate], ms=9)
        ax.annotate(label, (x, y), xytext=(-11, 7), textcoords="offset points", ha="right", color=INK)
    ax.plot(0, 0, "o", color=INK, ms=6)
    ax.annotate("reference", (0, 0), xytext=(-7, 7), textcoords="offset points", ha="right", color=INK)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.set_xlabel(r"$\Delta\log\pi_w$ (nats)")
    ax.set_ylabel(r"$\Delta\log\pi_l$ (nats)")
    ax.grid(visible=False)
    return fig


#: Way, kind → color, line, label of the course of a lesson.
_COURSES = {
    (ALL_NLL, "same words"): (CASE_COLORS["both_up"], "-", "DPO + NLL"),
    (ONLY_LIKELIHOOD, "same words"): (ACCENT, "--", "NLL alone"),
    (ALL, "same words"): (CASE_COLORS["both_down"], "-.", "DPO"),
    (ALL_NLL, "other words"): (NEUTRAL, ":", "DPO + NLL, other words"),
}


def compliance(course: pd.DataFrame) -> Figure:
    """Draw the probability of the compliance: of each pair that was trained on alone, and of all, by steps.

    Args:
        course: as of ``run_refusals``, of several seeds.
    """
    fig, (top, bottom) = figure(2, height=4.0)
    alone = course[course["way"] == ONE].assign(p=lambda rows: rows["rejected"].map(math.exp))
    top.plot([0, 1], [0, 1], color=INK, lw=1, alpha=0.7)
    for kind, shade, marker in (
        ("other words", NEUTRAL, "s"),
        ("same words", CASE_COLORS["both_up"], "o"),
    ):
        by = alone[alone["kind"] == kind].pivot(index=["seed", "pair"], columns="step", values="p")
        top.plot(
            by[by.columns.min()], by[by.columns.max()], marker, color=shade, ms=5, alpha=0.75, label=kind
        )
    top.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    top.set_xlabel("P(compliance) before")
    top.set_ylabel("after")
    top.set_title("one pair alone, DPO")
    top.legend(loc="upper left")
    shown = course.assign(p=course["rejected"].map(math.exp))
    for (way, kind), (shade, line, label) in _COURSES.items():
        at = summarize(shown[(shown["way"] == way) & (shown["kind"] == kind)], "p", ["step"])
        low = at["low"].where(at["low"] == -math.inf, at["low"].clip(lower=0))
        line_with_band(bottom, at["step"], at["value"], low, at["high"], shade, label, ls=line)
    bottom.set_ylim(0, None)
    bottom.set_xlabel("step")
    bottom.set_ylabel("P(compliance)")
    bottom.set_title("all pairs")
    bottom.legend(loc="lower left")
    return fig


def student(said: pd.DataFrame) -> Figure:
    """Draw how often a student gives its teacher's answer, before and after DPO, with exact intervals.

    Args:
        said: as of ``run_distillation``, of several seeds: the numbers of drawn answers.
    """
    fig, ax = figure(height=3.8)
    seeds = sorted(said["seed"].unique())
    for kind, shade, line, marker, start in (
        ("same words", CASE_COLORS["both_down"], "-", "o", -0.16),
        ("other words", NEUTRAL, "--", "s", 0.04),
    ):
        for number, seed in enumerate(seeds):
            rows = said[(said["kind"] == kind) & (said["seed"] == seed)].set_index("moment")
            shares = []
            for moment in ("before", "after"):
                counts = rows.loc[moment, ["ideal", "goes on", "else"]].astype(int)
                shares.append(share_interval(int(counts["ideal"]), int(counts.sum())))
            shift = start + 0.12 * number / max(1, len(seeds) - 1)
            places = [shift, 1 + shift]
            for place, share in zip(places, shares, strict=True):
                ax.plot([place, place], [share.low, share.high], color=shade, lw=1.6)
            ax.plot(
                places, [share.value for share in shares], line, color=shade, marker=marker, ms=5, lw=1,
                label=None if number else kind,
            )  # fmt: skip
    ax.set_xticks([0, 1], ["before DPO", "after DPO"])
    ax.set_xlim(-0.35, 1.35)
    ax.set_ylim(0, None)
    ax.set_ylabel("share of the teacher's answer")
    ax.legend(loc="lower left", title="rejected answer in")
    return fig
