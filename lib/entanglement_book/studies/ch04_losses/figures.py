"""Figures of the chapter on losses: where their ratios lie, where their paths lead, who notices a fall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entanglement.geometry import Case
from entanglement.stats import Interval
from entanglement_book.drawing.style import ACCENT, CASE_COLORS, CHOSEN, INK, NEUTRAL, REJECTED, figure
from entanglement_book.studies.ch04_losses.loss_groups import GROUPS, NOTICES, effective_ratio

__all__ = ["bands", "ends", "group_curves", "notices", "paths"]

_SHADES = (ACCENT, "#1d8c93", "#b58100", "#c2567e", "#148f5c", NEUTRAL, CHOSEN)
_LINE = 0.62  # height of a line of text, in rows


def group_curves(
    table: pd.DataFrame, key: str, along: str, value: Sequence[str], tolerance: float = 1e-6
) -> list[list[str]]:
    """Return which curves of a table are the same: lists of names, in order of appearance.

    Args:
        table: long table with columns ``key`` (the name), ``along`` and ``value``.
        tolerance: largest difference, relative to 1 + the value.
    """
    groups: list[tuple[np.ndarray, list[str]]] = []
    for name in dict.fromkeys(table[key]):
        curve = table[table[key] == name].sort_values(along)[[along, *value]].to_numpy(dtype=float)
        for other, names in groups:
            if curve.shape == other.shape and np.allclose(
                curve, other, rtol=tolerance, atol=tolerance, equal_nan=True
            ):
                names.append(name)
                break
        else:
            groups.append((curve, [name]))
    return [names for _, names in groups]


def _rows(groups: Mapping[str, Sequence[str]], titles: Mapping[str, str]) -> tuple[Figure, Axes, list[float]]:
    """Return axes with a row for each group, its kind and its losses written above, and the rows' heights."""
    texts = []
    for kind, names in groups.items():
        texts.append([GROUPS[kind], *_wrapped([titles[name] for name in names])])
    total = sum(len(text) for text in texts) * _LINE + len(texts) * 0.75
    fig, ax = figure(height=0.3 * total + 0.9)
    top, heights = 0.0, []
    for first, *others in texts:
        ax.text(0.015, top + 0.5 * _LINE, first, fontweight="bold", **_left(ax))
        for k, line in enumerate(others):
            ax.text(0.015, top + (k + 1.5) * _LINE, line, **_left(ax))
        heights.append(top + (len(others) + 1) * _LINE + 0.33)
        top = heights[-1] + 0.42
        ax.axhline(top, color=INK, lw=0.6, alpha=0.35)
    ax.set_ylim(top, 0)
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.spines["left"].set_visible(False)
    return fig, ax, heights


def _wrapped(names: Sequence[str], width: int = 50) -> list[str]:
    """Return lines of names, none of which is broken."""
    lines = [names[0]]
    for name in names[1:]:
        longer = f"{lines[-1]} · {name}"
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(name)
    return lines


def _left(ax: Axes) -> dict[str, Any]:
    return {"transform": ax.get_yaxis_transform(), "va": "center", "ha": "left", "zorder": 5}


def _above(ax: Axes, x: float, text: str, color: str, ha: str = "center") -> None:
    style: Any = {"color": color, "ha": ha, "va": "bottom", "fontweight": "bold"}
    ax.text(x, 1.003, text, transform=ax.get_xaxis_transform(), **style)


def _one_path(ax: Axes, rows: pd.DataFrame, height: float, x_range: tuple[float, float]) -> None:
    """Draw a loss's way along its row: r in the color of its case, a ring at the start, a dot at the end."""
    low, high = x_range
    x = rows["r"].clip(low * 1.12, high / 1.12).to_numpy()
    cases = rows["case"].tolist()
    jumped: set[tuple[float, float]] = set()
    for k in range(len(x) - 1):
        if abs(np.log(x[k + 1] / x[k])) <= np.log(3):
            ax.plot(x[k : k + 2], [height] * 2, color=CASE_COLORS[cases[k]], lw=3, zorder=2)
            continue
        ends = round(min(x[k : k + 2]), 3), round(max(x[k : k + 2]), 3)
        if ends not in jumped:  # it jumps to and fro
            jumped.add(ends)
            ax.plot(ends, [height] * 2, ":", color=NEUTRAL, lw=1.4, zorder=2)
            for i in (k, k + 1):
                ax.plot(x[i], height, "|", color=CASE_COLORS[cases[i]], ms=9, mew=2, zorder=3)
    for at, filled in ((0, False), (-1, True)):
        r, shade = float(rows["r"].iloc[at]), CASE_COLORS[cases[at]]
        marker = ">" if r > high else "<" if r < low else "o"
        style: Any = {
            "color": shade,
            "mfc": shade if filled else "none",
            "mew": 1.7,
            "ms": 5.5 if filled else 11,
        }
        ax.plot(x[at], height, marker, zorder=4, **style)


def bands(
    followed: Mapping[str, pd.DataFrame],
    groups: Mapping[str, Sequence[str]],
    titles: Mapping[str, str],
    *,
    x_range: tuple[float, float] = (1 / 32, 96.0),
) -> Figure:
    """Draw where each group's r lies, from its first step to its last, against one pair's band at the start.

    A ring is the first step, a dot the last, the line between them has the color of the case at that moment.
    Dotted: a jump. Diamond: for a group that jumps, the ratio of all weights along the way.

    Args:
        followed: loss → rows of ``study.descend`` for one pair.
        groups: kind → losses, of ``loss_groups.grouped``.
        titles: loss → what to write.
        x_range: ends of the axis. What lies beyond, an infinite or a zero ratio, is an arrow at the edge.
    """
    fig, ax, heights = _rows(groups, titles)
    start = next(iter(followed.values())).iloc[0]
    low, high = start["cosine"] * start["norm_ratio"], start["norm_ratio"] / start["cosine"]
    ax.axvspan(x_range[0], low, color=CASE_COLORS["both_down"], alpha=0.09, lw=0)
    ax.axvspan(low, high, color=CASE_COLORS["ideal"], alpha=0.28, lw=0)
    ax.axvspan(high, x_range[1], color=CASE_COLORS["both_up"], alpha=0.09, lw=0)
    for (kind, names), height in zip(groups.items(), heights, strict=True):
        for name in names:
            if kind == "negative":
                shade = CASE_COLORS[followed[name]["case"].iloc[0]]
                ax.plot(followed[name]["r"].iloc[0], height, "X", color=shade, ms=9)
                continue
            _one_path(ax, followed[name], height, x_range)
            if kind == "jumps":
                mean = float(effective_ratio(followed[name]).iloc[0])
                ax.plot(mean, height, "D", color=INK, ms=5.5, zorder=6)
                note: Any = {"xytext": (7, 9), "textcoords": "offset points"}
                ax.annotate(f"all its steps: {mean:.2f}", (mean, height), **note)
        last = pd.concat(followed[name].iloc[-1:] for name in names)
        if ((last["case"] == "ideal") & (last["cosine"] <= 0)).any():
            style: Any = {"color": CASE_COLORS["ideal"], "ha": "right", "va": "center"}
            words = "at the end c < 0"
            ax.text(0.985, height - _LINE - 0.02, words, transform=ax.get_yaxis_transform(), **style)
    ax.set_xscale("log", base=2)
    ticks = [1 / 16, 1 / 4, 1, 4, 16, 64]
    ax.set_xticks(ticks, [f"1/{1 / t:g}" if t < 1 else f"{t:g}" for t in ticks])
    ax.set_xlim(*x_range)
    ax.set_xlabel(r"$r=d_w/d_l$")
    _above(ax, x_range[0], "both fall", CASE_COLORS["both_down"], "left")
    _above(ax, float(np.sqrt(low * high)), "safe", CASE_COLORS["ideal"])
    _above(ax, x_range[1], "both rise", CASE_COLORS["both_up"], "right")
    return fig


def ends(
    found: Mapping[str, Interval],
    groups: Mapping[str, Sequence[str]],
    titles: Mapping[str, str],
    *,
    margin: float = 4.0,
) -> Figure:
    """Draw by how much the chosen response has changed when the margin has grown by ``margin`` nats.

    The rejected one has changed by ``margin`` less, so between 0 and ``margin`` the chosen response has not
    fallen and the rejected one has not risen.

    Args:
        found: loss → the chosen response's change, nats, with its interval. Losses that did not get so far
            are named in their row.
        groups: kind → losses. titles: loss → what to write.
    """
    fig, ax, heights = _rows(groups, titles)
    ax.axvspan(0, margin, color=CASE_COLORS["ideal"], alpha=0.28, lw=0)
    for names, height in zip(groups.values(), heights, strict=True):
        for name in names:
            if name not in found:
                continue
            value, low, high = found[name][:3]
            case: Case = "both_down" if value < 0 else "both_up" if value > margin else "ideal"
            ax.plot([low, high], [height] * 2, color=CASE_COLORS[case], lw=2.4)
            ax.plot(value, height, "o", color=CASE_COLORS[case], ms=6)
        missing = [titles[name] for name in names if name not in found]
        if missing:
            text = "did not get there" if len(missing) == len(names) else f"not there: {missing[0]}"
            where: Any = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center"}
            ax.text(0.985, height, text, style="italic", **where)
    values = [end for interval in found.values() for end in interval[1:3]]
    ax.set_xlim(min(values, default=0) - 1.5, max([*values, margin]) + 1.5)
    ax.set_xlabel(r"change of $\log\pi_w$ at that moment (nats)")
    left, right = ax.get_xlim()
    _above(ax, left, "both fell", CASE_COLORS["both_down"], "left")
    _above(ax, margin / 2, "goal", CASE_COLORS["ideal"])
    _above(ax, right, "both rose", CASE_COLORS["both_up"], "right")
    return fig


def paths(followed: Mapping[str, pd.DataFrame], *, left: Sequence[str] = (), limit: float = 6.0) -> Figure:
    """Draw both log-probabilities against each other as losses move one pair downhill.

    Args:
        followed: label → rows of ``study.descend`` for one pair.
        left: labels to write to the left of their path's end.
        limit: half the width of the axes, nats.
    """
    fig, ax = figure(height=4.9)
    ax.fill_between([0, limit], [-limit, -limit], [0, 0], color=CASE_COLORS["ideal"], alpha=0.13, lw=0)
    ax.text(0.96 * limit, -0.95 * limit, "goal", color=CASE_COLORS["ideal"], ha="right")
    ax.axhline(0, color=REJECTED, lw=1, alpha=0.7)
    ax.axvline(0, color=CHOSEN, lw=1, alpha=0.7)
    ax.plot([-limit, limit], [-limit, limit], ":", color=INK, lw=1.3, zorder=1)
    turned: Any = {"rotation": 45, "rotation_mode": "anchor", "color": INK}
    ax.text(-0.93 * limit, -0.9 * limit, "margin as at the start", va="bottom", **turned)
    reached: list[tuple[float, float]] = []
    for i, (label, rows) in enumerate(followed.items()):
        shade = _SHADES[i % len(_SHADES)]
        x, y = rows["chosen"].to_numpy(), rows["rejected"].to_numpy()
        outside = (np.abs(x) > limit) | (np.abs(y) > limit)
        last = int(np.argmax(outside)) if outside.any() else len(x)
        x, y = x[:last], y[:last]
        ax.plot(x, y, color=shade, lw=2.4)
        ax.plot(x[-1], y[-1], "o", color=shade, ms=5)
        near = any(np.hypot(x[-1] - u, y[-1] - v) < 0.12 * limit for u, v in reached)
        reached.append((x[-1], y[-1]))
        ax.annotate(
            label,
            (x[-1], y[-1]),
            xytext=(-7, 0) if label in left else (16, 7) if y[-1] < -0.9 * limit else (7, 10 if near else -4),
            textcoords="offset points",
            va="center",
            ha="right" if label in left else "left",
            color=shade,
            fontweight="bold",
            annotation_clip=False,
        )
    ax.plot(0, 0, "o", color=INK, ms=6)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.set_xlabel(r"change of $\log\pi_w$ (nats)")
    ax.set_ylabel(r"change of $\log\pi_l$ (nats)")
    return fig


def notices(
    tables: Mapping[str, pd.DataFrame],
    kinds: Mapping[str, Sequence[str]],
    titles: Mapping[str, str],
    *,
    top: float = 200.0,
    low: float = 0.04,
) -> Figure:
    """Draw r against how far both responses have fallen: a panel for each way of noticing, below each other.

    Args:
        tables: label of the setting → columns loss, fallen, r. The first is drawn solid, the second dashed.
        kinds: way → losses, of ``loss_groups.noticing``.
        titles: loss → what to write.
        top, low: ends of the axis; larger values, and infinite ones, are drawn at the top. A cross ends a
            line where r turns negative.
    """
    fig, axes = figure(len(kinds), height=1.8, sharex=True, squeeze=False)
    for ax, (kind, names) in zip(axes[:, 0], kinds.items(), strict=True):
        ends: list[tuple[float, float, str, str]] = []
        for k, (table, style) in enumerate(zip(tables.values(), ("-", (0, (4, 1.5))), strict=False)):
            same = group_curves(table[table["loss"].isin(names)], "loss", "fallen", ["r"])
            for i, group in enumerate(same):
                color = INK if kind == "flat" else _SHADES[i % len(_SHADES)]
                rows = table[table["loss"] == group[0]].sort_values("fallen")
                y = rows["r"].where(rows["r"] > 0).clip(low, top)
                known = y.notna().to_numpy()
                ax.plot(rows["fallen"], y, color=color, ls=style, lw=2)
                end = float(rows["fallen"][known].iloc[-1]), float(y[known].iloc[-1])
                if not known[-1]:
                    ax.plot(*end, "x", color=color, ms=8, mew=2)
                if k == 0:
                    ends += [(*end, color, titles[name].partition(" (")[0]) for name in group]
        _labels_at_ends(ax, ends, (low, 1.5 * top))
        ax.set(yscale="log", ylim=(low, 1.5 * top), title=NOTICES[kind])
        ax.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
        ax.set_ylabel("$r$")
    longest = max(float(table["fallen"].max()) for table in tables.values())
    axes[-1, 0].set_xlim(0, 1.62 * longest)
    axes[-1, 0].set_xticks([k for k in range(0, 101, 10) if k <= longest])
    axes[-1, 0].set_xlabel("both answers have fallen by (nats)")
    return fig


def _labels_at_ends(
    ax: Axes, ends: Sequence[tuple[float, float, str, str]], y_range: tuple[float, float]
) -> None:
    """Name curves at their ends (x, y, color, name), those that end together by one label."""
    clusters: list[list[tuple[float, float, str, str]]] = []
    for end in sorted(ends, key=lambda e: e[1]):
        if clusters and end[2] == clusters[-1][-1][2] and end[1] < 1.25 * clusters[-1][-1][1]:
            clusters[-1].append(end)
        else:
            clusters.append([end])
    low, high = np.log(y_range)
    places = _spread([(np.log(c[0][1]) - low) / (high - low) for c in clusters], 0.2)
    for cluster, place in zip(clusters, places, strict=True):
        x, _, color, first = min(cluster, key=lambda e: ends.index(e))
        names = [e[3] for e in cluster]
        text = ", ".join(names) if len(names) < 3 else f"{first} and {len(names) - 1} more"
        style: Any = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"}
        label = ax.annotate(text, (x, float(np.exp(low + place * (high - low)))), color=color, **style)
        label.set_in_layout(False)


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Return label heights between 0 and 1, in order, at least ``gap`` apart, near where they belong."""
    placed = np.array(heights, dtype=float)
    order = np.argsort(placed, kind="stable")
    ceiling = 1.0
    for i in order[::-1]:  # from the top down: none above the axes, none too near the one above
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    floor = 0.0
    for i in order:  # and back up, should the last have left the axes at the bottom
        placed[i] = max(placed[i], floor)
        floor = placed[i] + gap
    return placed.tolist()
