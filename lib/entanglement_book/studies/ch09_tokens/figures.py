"""Figures by token: heat maps of token gradients, cosines by kind, c as a sum, the suffix by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap, Normalize, SymLogNorm
from matplotlib.ticker import FixedLocator, NullLocator

from entanglement_book.drawing.style import ACCENT, CASE_COLORS, CHOSEN, INK, NEUTRAL, REJECTED, pick_axes
from entanglement_book.studies.ch09_tokens.study import KIND_NAMES, KINDS, Kind

__all__ = [
    "KIND_COLORS",
    "STAGE_COLORS",
    "colorbar",
    "cosines",
    "heat_map",
    "scatter_surprise",
    "stacked_parts",
    "suffix",
]

#: Green against purple, as on the one-token map of the sign of c: color-blind safe. At 0 it is the page's
#: ground, so that a dark page stays dark.
SIGNED = LinearSegmentedColormap.from_list(
    "signed",
    [(0.0, "#0f7d45ff"), (0.5, "#0f7d4500"), (0.5, "#8a3fc000"), (1.0, "#8a3fc0ff")],
)
#: The same with a pale middle, on which numbers can be read.
PALE = "PRGn_r"
KIND_COLORS: dict[Kind, str] = {
    "contrast": CASE_COLORS["ideal"],
    "mixed": NEUTRAL,
    "same_position": ACCENT,
    "other_position": CASE_COLORS["both_up"],
}
STAGE_COLORS = (NEUTRAL, ACCENT, CASE_COLORS["both_up"], CASE_COLORS["ideal"])
_MARKERS = ("s", "o", "^", "D")


def _shown(token: str) -> str:
    return token.strip() or "␣"


def heat_map(
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    ax: Axes | None = None,
    limit: float = 1.0,
    linear: float | None = None,
    numbers: bool | str = False,
    row_label: str = "chosen token",
    column_label: str = "rejected token",
    split: int | None = None,
    title: str = "",
) -> QuadMesh:
    """Draw a matrix of cosines or inner products: green below 0, purple above, first row at the top.

    Args:
        values: (R, C).
        rows, columns: tokens, as many as rows and columns.
        ax: where to draw; a new figure if None.
        limit: value of the strongest color, above 0.
        linear: for inner products of very different sizes: the colors are linear up to this size, and
            logarithmic beyond. By default they are linear throughout.
        numbers: whether to write the values into the cells; a string is their format.
        row_label, column_label: of the axes.
        split: for a whole Gram matrix, where the rejected tokens begin: two lines are drawn there.
        title: above the picture.

    Returns:
        The mesh, for ``colorbar``.

    Raises:
        ValueError: labels do not fit the matrix, or ``limit`` is not above 0.
    """
    matrix = np.asarray(values, dtype=float)
    if matrix.shape != (len(rows), len(columns)) or limit <= 0:
        raise ValueError(
            f"heat_map: a matrix {matrix.shape} with {len(rows)} and {len(columns)} labels, limit={limit!r}; "
            "expected as many labels and a positive limit."
        )
    ax = pick_axes(ax)
    norm: Normalize = Normalize(-limit, limit)
    if linear is not None:
        norm = SymLogNorm(linear, linscale=0.5, vmin=-limit, vmax=limit, base=10)
    mesh = ax.pcolormesh(matrix, cmap=PALE if numbers else SIGNED, norm=norm, edgecolors=INK, linewidth=0.25)
    ax.set_xticks(np.arange(len(columns)) + 0.5, [_shown(t) for t in columns])
    ax.set_yticks(np.arange(len(rows)) + 0.5, [_shown(t) for t in rows])
    if max(map(len, columns)) * len(columns) > 40:
        ax.tick_params(axis="x", labelrotation=90)
    ax.tick_params(length=0)
    ax.invert_yaxis()
    ax.set_aspect("equal")
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xlabel(column_label)
    ax.set_ylabel(row_label)
    ax.set_title(title)
    if numbers:
        spec = numbers if isinstance(numbers, str) else "+.2f"
        for (i, j), value in np.ndenumerate(matrix):
            light = abs(value) < 0.6 * limit
            ax.text(
                j + 0.5,
                i + 0.5,
                f"{value:{spec}}".replace("-", "−"),
                ha="center",
                va="center",
                color="#202020" if light else "#ffffff",
                fontsize=7.5 if len(columns) > 4 else 11,
            )
    if split is not None:
        ax.axvline(split, color=REJECTED, lw=1.6)
        ax.axhline(split, color=REJECTED, lw=1.6)
        ax.axvline(split - 0.06, color=CHOSEN, lw=1.6)
        ax.axhline(split - 0.06, color=CHOSEN, lw=1.6)
    return mesh


def colorbar(mesh: QuadMesh, ax: Axes | Sequence[Axes], label: str, *, location: str = "right") -> None:
    """Put a color scale beside one heat map, or several of one scale."""
    figure = mesh.figure
    bar = figure.colorbar(mesh, ax=ax, shrink=0.8, pad=0.02, location=location)
    bar.set_label(label)
    if isinstance(mesh.norm, SymLogNorm):
        linear, limit = mesh.norm.linthresh, float(mesh.norm.vmax or 1.0)
        powers = [10.0**k for k in range(-9, 10) if linear <= 10.0**k <= limit]
        ticks = [*(-p for p in reversed(powers)), 0.0, *powers]
        bar.ax.xaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.locator = FixedLocator(ticks)
        bar.formatter = mpl.ticker.FuncFormatter(
            lambda value, _: (
                f"${'-' if value < 0 else ''}10^{{{round(np.log10(abs(value)))}}}$" if value else "0"
            )
        )
        bar.update_ticks()
    bar.outline.set_visible(False)


def cosines(
    table: pd.DataFrame, summary: pd.DataFrame, *, ax: Axes | None = None, marker_label: str = "mean"
) -> Axes:
    """Draw how the cosines of each kind are spread: a histogram a row, and the mean with its interval on it.

    Args:
        table: rows of ``study.token_table``; uses kind and cosine.
        summary: one row a kind: kind, value, low, high (``stats.summarize``).
        ax: where to draw; a new figure if None.
        marker_label: what the dot is, for the legend.
    """
    ax = pick_axes(ax)
    edges = np.linspace(-1, 1, 81)
    means = summary.set_index("kind")
    kinds = [kind for kind in KINDS if kind in means.index]
    for row, kind in enumerate(kinds):
        values = table.loc[table["kind"] == kind, "cosine"].dropna().to_numpy()
        counts, _ = np.histogram(values, edges)
        height = 0.78 * counts / max(counts.max(), 1)
        ax.fill_between(
            edges,
            row + 0.1,
            row + 0.1 - np.append(height, height[-1]),
            step="post",
            color=KIND_COLORS[kind],
            alpha=0.38,
            lw=0,
        )
        value, low, high = (float(means.loc[kind, name]) for name in ("value", "low", "high"))  # type: ignore[arg-type]
        if np.isfinite(low) and np.isfinite(high):
            ax.plot([low, high], [row + 0.22] * 2, color=KIND_COLORS[kind], lw=3, solid_capstyle="butt")
        ax.plot(
            [value],
            [row + 0.22],
            "o",
            color=KIND_COLORS[kind],
            ms=6,
            label=marker_label if row == 0 else None,
        )
    ax.axvline(0, color=NEUTRAL, lw=0.9, ls="--", zorder=0)
    ax.set_yticks(range(len(kinds)), [KIND_NAMES[kind].replace(", ", ",\n") for kind in kinds])
    ax.set_ylim(len(kinds) - 0.55, -0.8)
    ax.set_xlim(-1.02, 1.02)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("cosine between two token gradients")
    return ax


def stacked_parts(
    stages: Mapping[str, pd.DataFrame], totals: pd.DataFrame, *, ax: Axes | None = None
) -> Axes:
    """Draw ρ as a sum, a row a stage: parts below 0 to the left, above 0 to the right, and ρ as a dot.

    Args:
        stages: name → one row a kind: kind, value (means of ``study.parts_of_cosine``).
        totals: one row a stage, in the same order: value, low, high of ρ.
        ax: where to draw; a new figure if None.

    Raises:
        ValueError: a row's parts do not add up to its total.
    """
    ax = pick_axes(ax)
    for y, ((name, parts), total) in enumerate(zip(stages.items(), totals.to_dict("records"), strict=True)):
        values = parts.set_index("kind")["value"]
        if not np.isclose(values.sum(), total["value"], rtol=1e-6, atol=1e-9):
            raise ValueError(
                f"stacked_parts: the parts of {name!r} sum to {values.sum()}; expected {total['value']}."
            )
        ends = {True: 0.0, False: 0.0}
        for kind in KINDS:
            value = float(values[kind])
            start = ends[value > 0]
            ax.barh(y, value, left=start, height=0.5, color=KIND_COLORS[kind], alpha=0.75, lw=0)
            ends[value > 0] = start + value
        if np.isfinite(total["low"]) and np.isfinite(total["high"]):
            ax.plot([total["low"], total["high"]], [y + 0.36] * 2, color=INK, lw=2, solid_capstyle="butt")
        ax.plot([total["value"]], [y + 0.36], "o", color=INK, ms=6, label="ρ" if y == 0 else None)
    for kind in KINDS:
        ax.bar(0, 0, color=KIND_COLORS[kind], alpha=0.75, label=KIND_NAMES[kind])
    ax.axvline(0, color=NEUTRAL, lw=0.9)
    ax.set_yticks(range(len(stages)), list(stages))
    ax.set_ylim(len(stages) - 0.4, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("part of the cosine ρ = c/(ab)")
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.35, -0.17))
    return ax


def suffix(
    stages: Mapping[str, pd.DataFrame],
    tokens: Sequence[str],
    *,
    ax: Axes | None = None,
    ylabel: str = "part of the cosine ρ",
) -> Axes:
    """Draw, for each suffix token, what it contributes by meeting itself in the other response.

    Args:
        stages: name → one row a token, in order: value, low, high (``stats.summarize`` by position).
        tokens: the suffix's tokens.
        ax: where to draw; a new figure if None.
        ylabel: quantity and unit.
    """
    ax = pick_axes(ax)
    count = len(stages)
    for i, ((name, rows), color, marker) in enumerate(
        zip(stages.items(), STAGE_COLORS, _MARKERS, strict=False)
    ):
        x = np.arange(len(rows)) + 0.22 * (i - (count - 1) / 2)
        low, high = (rows[end].to_numpy(float) for end in ("low", "high"))
        finite = np.isfinite(low) & np.isfinite(high)
        ax.vlines(x[finite], low[finite], high[finite], color=color, lw=2)
        ax.plot(x, rows["value"].to_numpy(float), marker, color=color, ms=5.5, label=name)
    ax.axhline(0, color=NEUTRAL, lw=0.9)
    ax.set_xticks(range(len(tokens)), [_shown(t) for t in tokens], rotation=35, ha="right")
    ax.tick_params(axis="x", length=0)
    ax.grid(visible=False, axis="x")
    ax.set_ylabel(ylabel)
    ax.set_xlabel("token of the shared suffix")
    ax.legend(loc="best")
    return ax


def scatter_surprise(
    stages: Mapping[str, pd.DataFrame],
    *,
    ax: Axes | None = None,
    ylabel: str = "inner product with itself (nats²)",
) -> Axes:
    """Draw each suffix token's inner product with itself against its surprise, both on log scales.

    Args:
        stages: name → rows with surprise (nats) and inner; rows whose inner is not above 0 are left out and
            counted in the legend.
        ax: where to draw; a new figure if None.
        ylabel: quantity and unit.
    """
    ax = pick_axes(ax)
    for (name, rows), color, marker in zip(stages.items(), STAGE_COLORS, _MARKERS, strict=False):
        above = rows[rows["inner"] > 0]
        lost = len(rows) - len(above)
        label = f"{name} ({lost} not above 0)" if lost else name
        ax.scatter(
            above["surprise"],
            above["inner"],
            s=11,
            color=color,
            marker=marker,
            alpha=0.45,
            linewidths=0,
            label=label,
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel("surprise of the token, $-\\log p$ (nats)")
    ax.set_ylabel(ylabel)
    ax.legend(loc="best", markerscale=1.8)
    return ax
