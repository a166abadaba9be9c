"""The picture that carries the book: the plane of cosine ρ against norm ratio b/a, and who moves which way.

A pair is a point. For weights with r = d_w/d_l > 0, the chosen response falls above the line ρ = r·a/b, and
the rejected one rises above ρ = b/(r·a). The two lines make a tent with its top at b/a = r, ρ = 1: under it
lies the ideal case, to its right both go down, to its left both go up (the theorem on the band).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea, VPacker
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from entanglement.geometry import CASES, Numbers, PairGeometry
from entanglement_book.drawing.style import (
    CASE_COLORS,
    CASE_LABELS,
    CHOSEN,
    INK,
    NEUTRAL,
    REJECTED,
    pick_axes,
)

__all__ = ["plane", "scatter_pairs", "tent"]

_ARROWS = {"ideal": ("↑", "↓"), "both_down": ("↓", "↓"), "both_up": ("↑", "↑")}
#: Axes narrower than this (inches) get the regions' names only.
WIDE = 4.0
_MARKERS = {"ideal": "o", "both_down": "v", "both_up": "^", "reversed": "X"}


def _turns(x: np.ndarray, r: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines at which chosen's and rejected's change turn sign, where b/a is x."""
    return r / x, x / r


def _ratio_axis(ax: Axes, low: float, high: float) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xlim(low, high)
    if high / low > 3:
        ticks = [
            2.0**k for k in range(math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9) + 1)
        ]
    else:
        ticks = [float(t) for t in MaxNLocator(6).tick_values(low, high) if low <= t <= high]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    fractions = {0.0625: "1/16", 0.125: "1/8", 0.25: "1/4", 0.5: "1/2"}
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: fractions.get(value, f"{value:g}")))


def _label(ax: Axes, case: str, x: float, y: float, wide: bool) -> None:
    """Write a case's name and, in the responses' colors, which way each goes, at axes coordinates."""
    up_w, up_l = _ARROWS[case]
    words: list[Artist] = [
        TextArea(f"chosen {up_w}", textprops={"color": CHOSEN}),
        TextArea(f"rejected {up_l}", textprops={"color": REJECTED}),
    ]
    name = TextArea(
        CASE_LABELS[case],  # type: ignore[index]
        textprops={"color": CASE_COLORS[case], "fontweight": "bold"},  # type: ignore[index]
    )
    rows: list[Artist] = [name]
    if wide:
        rows.append(HPacker(children=words, pad=0, sep=6))
    box = VPacker(children=rows, align="center", pad=0, sep=3)
    ax.add_artist(
        AnnotationBbox(box, (x, y), xycoords="axes fraction", frameon=False, pad=0, box_alignment=(0.5, 0.5))
    )


def plane(
    ax: Axes | None = None,
    *,
    r: float = 1.0,
    ratio_range: tuple[float, float] = (0.25, 4.0),
    cosine_range: tuple[float, float] = (-0.25, 1.0),
    r_band: tuple[float, float] | None = None,
    labels: bool = True,
    line_labels: bool = True,
) -> Axes:
    """Draw the plane: x is b/a = ‖g_l‖/‖g_w‖ on a log scale, y the gradient cosine ρ; regions tinted by case.

    Args:
        ax: where to draw; a new figure if None.
        r: d_w/d_l of the loss, above 0; 1 for every loss of strict margin form.
        ratio_range, cosine_range: ends of the axes.
        r_band: (low, high), the r that a loss takes over a run or a data set: between the two tents,
            dotted, a pair's case depends on where in that range r is.
        labels: whether to name the regions; line_labels: the two lines. Narrow axes get the short form.

    Returns:
        The axes. Put pairs on it with ``scatter_pairs`` and other losses with ``tent``.

    Raises:
        ValueError: r or an end of r_band or ratio_range is not above 0, or a range is empty.
    """
    low, high = ratio_range
    if not (0 < low < high and cosine_range[0] < cosine_range[1] <= 1.05):
        raise ValueError(
            f"plane: ratio_range={ratio_range}, cosine_range={cosine_range}; expected 0 < low < high, and a "
            "cosine range that ends at 1."
        )
    for value in (r, *(r_band or ())):
        if not 0 < value < math.inf:
            raise ValueError(f"plane: r={value!r}; expected a positive number.")
    ax = pick_axes(ax)
    floor, top = cosine_range[0], min(cosine_range[1], 1.0)
    x = np.unique(np.append(np.geomspace(low, high, 801), np.clip(r, low, high)))
    chosen, rejected = _turns(x, r)
    edge = np.clip(np.minimum(chosen, rejected), floor, top)
    ax.fill_between(x, floor, edge, color=CASE_COLORS["ideal"], alpha=0.13, lw=0, zorder=0)
    ax.fill_between(x, edge, top, where=x >= r, color=CASE_COLORS["both_down"], alpha=0.16, lw=0, zorder=0)
    ax.fill_between(x, edge, top, where=x <= r, color=CASE_COLORS["both_up"], alpha=0.16, lw=0, zorder=0)
    ax.plot(x[x >= r], chosen[x >= r], color=CHOSEN, lw=2.2, zorder=2)
    ax.plot(x[x <= r], rejected[x <= r], color=REJECTED, lw=2.2, zorder=2)
    if floor < 0:
        ax.axhline(0, color=NEUTRAL, lw=0.8, alpha=0.6, zorder=1)
    if r_band is not None:
        for end in r_band:
            tent(ax, end, ls=":")
    _ratio_axis(ax, low, high)
    ax.set_ylim(floor, top + 0.004 * (top - floor))
    ax.grid(visible=False)
    ax.set_xlabel(r"norm ratio  $b/a = \Vert g_l\Vert\,/\,\Vert g_w\Vert$")
    ax.set_ylabel(r"gradient cosine  $\rho$")

    def across(value: float) -> float:
        return math.log(value / low) / math.log(high / low)

    wide = ax.get_position().width * ax.figure.get_figwidth() > WIDE  # type: ignore[union-attr]
    if labels:
        peak = _across(min(max(r, low), high), low, high)
        _label(ax, "ideal", min(max(peak, 0.2), 0.8), 0.3, wide)
        for case, place, free in (
            ("both_down", peak + (0.68 if wide else 0.71) * (1 - peak), peak < 0.8),
            ("both_up", (0.32 if wide else 0.29) * peak, peak > 0.2),
        ):
            if free:
                # High up there is room for two lines; in narrow axes that is where the pairs crowd.
                edge = float(np.min(_turns(np.array(low * (high / low) ** place), r)))
                height = top - (0.25 if wide else 0.5) * (top - max(edge, floor))
                _label(ax, case, place, (height - floor) / (top - floor), wide)
    if line_labels and wide:
        equation = ("a/b", "b/a") if r == 1 else ("r\\,a/b", "b/(r\\,a)")
        _line_label(ax, r, 1, f"chosen unchanged, $\\rho = {equation[0]}$")
        _line_label(ax, r, -1, f"rejected unchanged, $\\rho = {equation[1]}$")
    return ax


def _across(value: float, low: float, high: float) -> float:
    return math.log(value / low) / math.log(high / low)


def _line_label(ax: Axes, r: float, side: int, text: str) -> None:
    """Write under the right (1) or left (−1) line of the tent, along it, what does not change there."""
    end = ax.get_xlim()[1 if side > 0 else 0]
    steep = r / end if side > 0 else end / r  # the cosine at which the line leaves the axes
    bottom, top = max(steep, ax.get_ylim()[0], 1e-6), 1.0
    if bottom >= top:
        return
    middle = bottom**0.68 * top**0.32
    x = r * middle ** (-side)
    # In display units the line's direction there; a short chord will do.
    near = middle * 1.001
    (x0, y0), (x1, y1) = ax.transData.transform([(x, middle), (r * near ** (-side), near)])
    angle = math.degrees(math.atan2((y1 - y0) * side, (x1 - x0) * side)) + (180 if side > 0 else 0)
    angle = (angle + 90) % 180 - 90
    ax.annotate(
        text,
        (x, middle),
        xytext=(-9 * math.sin(math.radians(abs(angle))) * side, -9 * math.cos(math.radians(angle))),
        textcoords="offset points",
        ha="center",
        va="center",
        rotation=angle,
        rotation_mode="anchor",
        color=CHOSEN if side > 0 else REJECTED,
    )


def tent(
    ax: Axes, r: float, *, color: str = INK, ls: str = "--", lw: float = 1.3, label: str | None = None
) -> None:
    """Draw the edge of the ideal region of a loss with another r on a plane: ρ = min(r·a/b, b/(r·a))."""
    if not 0 < r < math.inf:
        raise ValueError(f"tent: r={r!r}; expected a positive number.")
    low, high = ax.get_xlim()
    x = np.unique(np.append(np.geomspace(low, high, 801), np.clip(r, low, high)))
    ax.plot(
        x,
        np.minimum(*_turns(x, r)),
        color=color,
        ls=ls,
        lw=lw,
        label=label,
        zorder=2,
        scalex=False,
        scaley=False,
    )


def scatter_pairs(
    ax: Axes,
    geometry: PairGeometry,
    *,
    d_w: Numbers = 1.0,
    d_l: Numbers = 1.0,
    color: str | None = None,
    marker: str | None = None,
    size: float = 18.0,
    alpha: float = 0.75,
    label: str | None = None,
) -> list[PathCollection]:
    """Put pairs on a plane, colored and marked by their case for these weights, or all in one color.

    A pair beyond the axes is drawn hollow at their edge. One with a zero gradient has no place on the plane.

    Args:
        ax: axes of ``plane``.
        geometry: B pairs.
        d_w, d_l: weights that decide the case.
        color, marker: one for all pairs, instead of the case's.
        size: marker area, points².
        alpha: opacity. label: for a legend, given to the first group drawn.
    """
    cases = np.array(geometry.case(d_w, d_l))
    x, y = geometry.norm_ratio.numpy(), geometry.cosine.numpy()
    seen = (torch.isfinite(geometry.norm_ratio) & torch.isfinite(geometry.cosine)).numpy() & (x > 0)
    at_x, at_y = np.clip(x, *ax.get_xlim()), np.clip(y, *ax.get_ylim())
    beyond = (at_x != x) | (at_y != y)
    made: list[PathCollection] = []
    for case in CASES:
        shade, shape = color or CASE_COLORS[case], marker or _MARKERS[case]
        for hollow in (False, True):
            where = seen & (cases == case) & (beyond == hollow)
            if where.any():
                made.append(
                    ax.scatter(
                        at_x[where],
                        at_y[where],
                        s=size,
                        facecolors="none" if hollow else shade,
                        edgecolors=shade if hollow else "none",
                        marker=shape,
                        alpha=alpha,
                        linewidths=1.0 if hollow else 0,
                        clip_on=not hollow,
                        label=None if made else label,
                        zorder=3,
                    )
                )
    return made
