"""The figures of sentiment with GPT-2: runs of the sentiment experiment, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entanglement.geometry import CASES
from entanglement.training.account import TERMS
from entanglement_book.drawing.charts import case_shares, line_with_band
from entanglement_book.drawing.style import (
    ACCENT,
    CASE_COLORS,
    INK,
    NEUTRAL,
    VARIANT_COLORS,
    VARIANT_LABELS,
    VARIANT_LINES,
    VARIANT_MARKERS,
    figure,
)
from entanglement_book.materials.tweets import VARIANTS

__all__ = [
    "MODEL_STYLES",
    "account_dots",
    "against_margin",
    "by_optimizer",
    "case_panels",
    "curves",
    "dose",
    "left_to_learn",
    "main_figure",
    "memorizing",
    "two_ratios",
]

TERM_LABELS = {
    "own_pair": "own pair",
    "other_pairs": "other pairs",
    "preconditioner": "optimizer's turn",
    "curvature": "curvature",
    "total": "total",
}


def curves(ax: Axes, curve: pd.DataFrame, *, zero: bool = True) -> Axes:
    """Draw a quantity along training, a line with its band a variant.

    Args:
        ax: where to draw.
        curve: from ``sentiment_tables.along_training``.
        zero: draw the line at 0.
    """
    if zero:
        ax.axhline(0, color=NEUTRAL, lw=1)
    for variant in VARIANTS:
        rows = curve[curve["variant"] == variant]
        if rows.empty:
            continue
        line_with_band(
            ax,
            rows["step"],
            rows["value"],
            rows["low"],
            rows["high"],
            color=VARIANT_COLORS[variant],
            label=VARIANT_LABELS[variant],
            ls=VARIANT_LINES[variant],
            marker=VARIANT_MARKERS[variant],
        )
    return ax


def main_figure(cosine: pd.DataFrame, chosen: pd.DataFrame, rejected: pd.DataFrame) -> Figure:
    """Draw cosine, Δ log π_w and Δ log π_l along DPO, three panels of three lines, one above the other."""
    fig, axes = figure(3, height=2.0, sharex=True)
    curves(axes[0], cosine)
    axes[0].set(ylabel="cosine ρ", ylim=(-1.08, 1.08))
    curves(axes[1], chosen)
    axes[1].set(ylabel="Δ log π_w (nats)")
    curves(axes[2], rejected)
    axes[2].set(xlabel="DPO step", ylabel="Δ log π_l (nats)")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=3)
    return fig


def case_panels(shares: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the shares of the cases along DPO, one panel a variant.

    Args:
        shares: case → curve from ``sentiment_tables.along_training``.
    """
    fig, axes = figure(3, height=1.9, sharex=True)
    for ax, variant in zip(axes, VARIANTS, strict=True):
        rows = {case: shares[case][shares[case]["variant"] == variant] for case in CASES}
        steps = rows["ideal"]["step"].to_numpy()
        case_shares(ax, steps, {case: r["value"].to_numpy() for case, r in rows.items()}, legend=False)
        ax.set_title(VARIANT_LABELS[variant])
    axes[-1].set_xlabel("DPO step")
    found: dict[str, Any] = {}
    for ax in axes:
        found |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    fig.legend(list(found.values()), list(found), loc="outside lower center", ncols=4)
    return fig


def account_dots(accounts: Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> Figure:
    """Draw the account of Δ log π over DPO: a row a term, a dot with its interval a variant.

    Args:
        accounts: how long the plain step is taken to be → ``tables.account_shares``. Dots of the first are
            full, those of the second hollow; terms that do not depend on the length are drawn once.
        titles: set → panel title.
    """
    fig, axes = figure(len(titles), height=3.6, sharex=True, squeeze=False)
    rows = [*TERMS, "total"]
    fixed = {"curvature", "total"}
    for ax, (name, title) in zip(axes[:, 0], titles.items(), strict=True):
        ax.axvline(0, color=INK, lw=1)
        for which, (length, account) in enumerate(accounts.items()):
            some = account[account["set"] == name].set_index(["variant", "term"])
            for place, variant in enumerate(VARIANTS):
                for y, term in enumerate(rows):
                    if (which and term in fixed) or (variant, term) not in some.index:
                        continue
                    if name != "batch" and term == "own_pair":
                        continue
                    row = some.loc[[(variant, term)]].iloc[0]
                    value, low, high = (float(row[end]) for end in ("value", "low", "high"))
                    ends = [[value - low], [high - value]] if np.isfinite(high) else None
                    ax.errorbar(
                        [value], [y + 0.26 * (place - 1) + 0.11 * which], xerr=ends,
                        fmt=VARIANT_MARKERS[variant],
                        color=VARIANT_COLORS[variant], mfc="none" if which else VARIANT_COLORS[variant],
                        ms=5, capsize=2, lw=1.3,
                    )  # fmt: skip
            ax.plot([], [], "o", color=NEUTRAL, mfc="none" if which else NEUTRAL, label=length)
        ax.set_yticks(range(len(rows)), [TERM_LABELS[term] for term in rows])
        ax.set_ylim(len(rows) - 0.45, -0.55)
        ax.set_title(title)
        ax.grid(visible=False, axis="y")
    for variant in VARIANTS:
        axes[0, 0].plot(
            [], [], VARIANT_MARKERS[variant], color=VARIANT_COLORS[variant], label=VARIANT_LABELS[variant]
        )
    axes[-1, 0].set_xlabel("Δ log π_w, summed over DPO (nats)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def by_optimizer(ways: pd.DataFrame, names: Mapping[str, str]) -> Figure:
    """Draw the chosen answer's change for each nat of margin, a row an optimizer, a panel a set of pairs.

    Args:
        ways: from ``numbers.by_optimizer``.
        names: optimizer → what to write, in order.
    """
    fig, axes = figure(2, height=2.3, sharex=True)
    titles = {"batch": "pairs of the batch, in their own steps", "test": "held-out pairs, over the run"}
    for ax, (pairs, title) in zip(axes, titles.items(), strict=True):
        ax.axvline(0, color=INK, lw=1)
        for place, variant in ((-0.15, "one_token"), (0.15, "long_suffix")):
            some = ways[(ways["set"] == pairs) & (ways["variant"] == variant)].set_index("optimizer")
            some = some.loc[[name for name in names if name in some.index]]
            ax.errorbar(
                some["value"], [list(names).index(name) + place for name in some.index],
                xerr=[some["value"] - some["low"], some["high"] - some["value"]],
                fmt=VARIANT_MARKERS[variant],
                color=VARIANT_COLORS[variant], ms=5, capsize=2, lw=1.4, label=VARIANT_LABELS[variant],
            )  # fmt: skip
        ax.set_yticks(range(len(names)), list(names.values()))
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_title(title)
        ax.grid(visible=False, axis="y")
    axes[1].set_xlabel("Δ log π_w for each nat of margin")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


#: How the two models are drawn wherever they stand in one panel.
MODEL_STYLES: dict[str, dict[str, Any]] = {
    "nano": {"color": NEUTRAL, "marker": "o", "ls": "-"},
    "smollm2-135m": {"color": ACCENT, "marker": "D", "ls": "--"},
}


def dose(curves: Mapping[str, Mapping[str, pd.DataFrame]], titles: Mapping[str, str]) -> Figure:
    """Draw what more shared words do: the cosine before DPO, and both answers' changes over it.

    Args:
        curves: quantity ("cosine", "chosen") → model → columns words, value, low, high.
        titles: model → what to write, its size included.
    """
    fig, axes = figure(2, height=2.5, sharex=True)
    words = sorted({int(w) for models in curves.values() for rows in models.values() for w in rows["words"]})
    for ax, (quantity, models) in zip(axes, curves.items(), strict=True):
        ax.axhline(0, color=INK, lw=1)
        for model, rows in models.items():
            rows = rows.sort_values("words")
            x = [words.index(int(w)) for w in rows["words"]]
            line_with_band(
                ax, x, rows["value"], rows["low"], rows["high"], label=titles[model], **MODEL_STYLES[model]
            )
        ax.set_ylabel({"cosine": "gradient cosine ρ", "chosen": "Δ log π_w (nats)"}[quantity])
    axes[0].set(ylim=(-1.08, 1.08), title="before DPO: how similar the two gradients are")
    axes[1].set(title="over DPO: the chosen answer", xlabel="words that both answers share")
    axes[1].set_xticks(range(len(words)), [str(w) for w in words])
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def left_to_learn(
    points: Mapping[str, pd.DataFrame], titles: Mapping[str, str], least: float = 0.03
) -> Figure:
    """Draw cosine and fall against what the shared words still cost, a mark a length and a fine-tuning.

    Args:
        points: model → columns left, cosine, cosine_low, cosine_high, chosen, chosen_low, chosen_high; a row
            a length of the suffix and of fine-tuning (nats).
        titles: model → what to write.
        least: cost below which all is drawn at one place (nats).
    """
    fig, axes = figure(2, height=2.7, sharex=True)
    for ax, quantity in zip(axes, ("cosine", "chosen"), strict=True):
        ax.axhline(0, color=INK, lw=1)
        for model, rows in points.items():
            style = MODEL_STYLES[model]
            values = rows[quantity]
            ends = [values - rows[f"{quantity}_low"], rows[f"{quantity}_high"] - values]
            ax.errorbar(
                rows["left"].clip(lower=least), values, yerr=ends, fmt=style["marker"], color=style["color"],
                ms=6, capsize=2, lw=1.2, label=titles[model],
            )  # fmt: skip
        ax.set_ylabel({"cosine": "gradient cosine ρ", "chosen": "Δ log π_w (nats)"}[quantity])
    axes[0].set(ylim=(-1.08, 1.08), title="before DPO")
    axes[1].set(title="over DPO", xlabel="what the shared words still cost before DPO (nats)", xscale="log")
    axes[1].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def memorizing(cosine: pd.DataFrame, logp: pd.DataFrame) -> Figure:
    """Draw cosine and log π_w against the number of SFT steps, the first few steps drawn wide."""
    fig, axes = figure(2, height=2.7)
    curves(axes[0], cosine)
    axes[0].set(title="gradient cosine ρ", ylabel="cosine", ylim=(-1.08, 1.08))
    curves(axes[1], logp)
    axes[1].set(title="chosen response", ylabel="log π_w (nats)")
    axes[1].set_yscale("symlog", linthresh=1)
    axes[1].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    steps = sorted(set(cosine["step"]))
    for ax in axes:
        ax.set_xscale("symlog", linthresh=max(1, steps[1]))
        ax.set_xlim(-0.1 * steps[1], 1.2 * steps[-1])
        ax.set_xticks(steps, [str(step) for step in steps])
        ax.minorticks_off()
        ax.set_xlabel("SFT steps")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig


def against_margin(panels: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """Draw the chosen answer's change against the margin gained, one panel a form of the answers.

    Args:
        panels: title → way of training → ``dials.along_margin``; the last way is drawn on top.
    """
    fig, axes = figure(len(panels), height=2.5, sharex=True, sharey=True, squeeze=False)
    styles = (("--", "D", ACCENT), (":", "s", CASE_COLORS["ideal"]), ("-", "o", NEUTRAL))
    for ax, (title, ways) in zip(axes[:, 0], panels.items(), strict=True):
        ax.axhline(0, color=INK, lw=1)
        for (dashes, marker, color), (way, rows) in zip(styles, ways.items(), strict=True):
            line_with_band(
                ax, rows["margin"], rows["value"], rows["low"], rows["high"], color=color, label=way,
                ls=dashes, marker=marker, ms=4,
            )  # fmt: skip
        ax.set(title=title, ylabel="Δ log π_w (nats)")
    axes[-1, 0].set_xlabel("margin gained (nats)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def two_ratios(shares: Mapping[tuple[str, str, str], Sequence[float]]) -> Figure:
    """Draw the share of pairs that each of two ratios calls entangled, a row a form and moment.

    Args:
        shares: from ``tables.ratio_shares``.
    """
    fig, ax = figure(height=2.7)
    rows = [(variant, when) for variant in VARIANTS for when in ("after SFT", "after DPO")]
    for which, name, label in (
        (0, "printed", "printed: c / ‖g_w‖²"),
        (1, "asked", "asked: c / min(‖g_w‖², ‖g_l‖²)"),
    ):
        for y, (variant, when) in enumerate(rows):
            value, low, high = (100 * float(v) for v in shares[(variant, when, name)][:3])
            ax.errorbar(
                [value], [y - 0.15 + 0.3 * which], xerr=[[value - low], [high - value]],
                fmt="D" if which else "o", color=ACCENT if which else NEUTRAL, ms=5, capsize=2, lw=1.4,
                label=label if y == 0 else None,
            )  # fmt: skip
    ax.set_yticks(range(len(rows)), [f"{VARIANT_LABELS[v]}, {when}" for v, when in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set(xlabel="pairs with a ratio above 1 (%)", xlim=(-2, 102))
    ax.grid(visible=False, axis="y")
    fig.legend(loc="outside lower center", ncols=2)
    return fig
