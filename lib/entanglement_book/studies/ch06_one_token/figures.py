"""Figures of one token. With three tokens everything happens in a triangle whose corners are the tokens.

A distribution p is the point Σ p_v (corner v); the gradient of log p_v is the arrow from p to corner v. The
triangle is regular when features are frozen, and takes another shape when they train.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Arc, Patch, Polygon

from entanglement.geometry import Case, PairGeometry
from entanglement.loglinear import TrainableOneToken
from entanglement_book.drawing.plane import plane, scatter_pairs, tent
from entanglement_book.drawing.style import (
    ACCENT,
    CASE_COLORS,
    CASE_LABELS,
    CHOSEN,
    INK,
    NEUTRAL,
    REJECTED,
    pick_axes,
)

__all__ = [
    "any_step",
    "arrows",
    "cloud",
    "falling_region",
    "inner_on",
    "sign_map",
    "trainable_corners",
    "triangle",
]

#: Chosen lower left, rejected lower right, the third token at the top; sides of length √2, as between
#: the unit vectors e_v.
REGULAR = math.sqrt(2) * np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
_NAMES = ("chosen", "rejected", "third token")
_COLORS = (CHOSEN, REJECTED, NEUTRAL)


def _array(values: object) -> np.ndarray:
    return np.asarray(torch.as_tensor(values, dtype=torch.float64))


def trainable_corners(pair: TrainableOneToken) -> np.ndarray:
    """Return the corners, (3, 2), of the triangle of a three-token instance whose W and h both train.

    Its sides are the lengths ‖∇(z_u − z_v)‖ = √(2‖h‖² + ‖W_u − W_v‖²). Chosen at the origin, rejected to its
    right, the third token above.

    Raises:
        ValueError: not one instance with V = 3.
    """
    if len(pair) != 1 or pair.weight.shape[1] != 3:
        raise ValueError(f"trainable_corners: weight is {tuple(pair.weight.shape)}; expected (1, 3, d).")
    chosen, rejected = int(pair.chosen[0]), int(pair.rejected[0])
    order = [chosen, rejected, 3 - chosen - rejected]
    rows = pair.weight[0, order]
    sides = 2 * pair.features[0].square().sum() + torch.cdist(rows, rows).square()  # (3, 3), squared
    w_l, w_u, l_u = (float(sides[i, j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    x = (w_l + w_u - l_u) / (2 * math.sqrt(w_l))
    return np.array([[0.0, 0.0], [math.sqrt(w_l), 0.0], [x, math.sqrt(w_u - x * x)]])


def triangle(ax: Axes, corners: np.ndarray = REGULAR) -> Polygon:
    """Draw the edges and name the corners; the axes themselves are hidden."""
    edge = Polygon(corners, closed=True, fill=False, edgecolor=INK, lw=1.2, zorder=3, joinstyle="round")
    ax.add_patch(edge)
    center = corners.mean(axis=0)
    for corner, name, color in zip(corners, _NAMES, _COLORS, strict=True):
        away = (corner - center) / np.linalg.norm(corner - center)
        side = "center" if abs(away[0]) < 0.3 else ("right" if away[0] < 0 else "left")
        level = "bottom" if away[1] > 0 else "top"
        if level == "top":
            side = "center"
        ax.annotate(
            name,
            corner,
            xytext=(6 * away[0], 6 if level == "bottom" else -6),
            textcoords="offset points",
            ha=side,
            va=level,
            color=color if color != NEUTRAL else INK,
        )
    ax.set_aspect("equal")
    ax.axis("off")
    ax.grid(visible=False)
    return edge


def _xy(point: np.ndarray) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _arrow(ax: Axes, start: np.ndarray, end: np.ndarray, color: str) -> None:
    ax.annotate(
        "",
        _xy(end),
        xytext=_xy(start),
        arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2.4, "shrinkA": 0, "shrinkB": 2},
        zorder=5,
    )


def arrows(
    ax: Axes | None, probs: Sequence[float], *, corners: np.ndarray = REGULAR, title: str = ""
) -> Axes:
    """Draw p, the two gradients as arrows to their corners, their angle, and the foot of p on the edge.

    Args:
        ax: where to draw; a new figure if None.
        probs: (3,) probabilities of chosen, rejected and the third token.
        corners: of the triangle, (3, 2).
        title: above the picture.
    """
    ax = pick_axes(ax)
    triangle(ax, corners)
    p = _array(probs) @ corners
    for corner, color in ((corners[0], CHOSEN), (corners[1], REJECTED)):
        _arrow(ax, p, corner, color)
    to_w, to_l = corners[0] - p, corners[1] - p
    angle_w, angle_l = (math.degrees(math.atan2(v[1], v[0])) % 360 for v in (to_w, to_l))
    radius = 0.3 * float(min(np.linalg.norm(to_w), np.linalg.norm(to_l)))
    ax.add_patch(Arc(_xy(p), 2 * radius, 2 * radius, theta1=angle_w, theta2=angle_l, color=ACCENT, lw=1.6))
    edge = (corners[1] - corners[0]) / np.linalg.norm(corners[1] - corners[0])
    foot = corners[0] + edge * float((p - corners[0]) @ edge)
    ax.plot(*zip(p, foot, strict=True), color=INK, lw=1.1, ls=":", zorder=4)
    ax.plot(*foot, "s", color=INK, ms=4.5, zorder=6)
    ax.plot(*p, "o", color=INK, ms=6, zorder=6)
    ax.annotate(r"$p$", p, xytext=(7, 4), textcoords="offset points", color=INK, fontsize=12)
    degrees = (angle_l - angle_w) % 360
    ax.set_title(f"{title}angle {min(degrees, 360 - degrees):.0f}°", loc="center", pad=20)
    return ax


def inner_on(points: np.ndarray) -> np.ndarray:
    """Return c/κ = ‖p‖² − p_w − p_l at points of the plane, (…, 2), by their barycentric coordinates p.

    Outside the triangle some coordinate is negative; the formula goes on, so contours can be cut at the edge.
    """
    basis = np.vstack([REGULAR.T, np.ones(3)])  # maps p to (x, y, 1)
    p = np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1) @ np.linalg.inv(basis).T
    return (p**2).sum(-1) - p[..., 0] - p[..., 1]


def sign_map(
    ax: Axes | None, paths: Sequence[torch.Tensor] = (), *, resolution: int = 120, every: int = 10
) -> Axes:
    """Draw c/κ = ‖p‖² − p_w − p_l over the three-token simplex, and paths of real steps on it.

    Args:
        ax: where to draw; a new figure if None.
        paths: (S, 3) probabilities after each step, in the order chosen, rejected, third.
        resolution: grid points along an edge, less one.
        every: a dot on the path after so many steps.
    """
    ax = pick_axes(ax)
    x = np.linspace(0, REGULAR[1, 0], resolution + 1)
    y = np.linspace(0, REGULAR[2, 1], resolution + 1)
    c = inner_on(np.stack(np.meshgrid(x, y), axis=-1))
    levels = [-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]
    calm, strong = CASE_COLORS["ideal"], ACCENT
    fills = [(calm, 0.34), (calm, 0.16), (strong, 0.12), (strong, 0.24), (strong, 0.38), (strong, 0.52)]
    filled = ax.contourf(x, y, c, levels=levels, colors=fills, zorder=0)
    lines = ax.contour(
        x, y, c, levels=levels[1:-1], colors=INK, linewidths=[0.7, 2.2, 0.7, 0.7, 0.7], zorder=1
    )
    outline = triangle(ax)
    ax.set_ylim(-0.12, REGULAR[2, 1] + 0.16)  # room for the names of the corners
    for drawn in (filled, lines):
        drawn.set_clip_path(outline)
    for value in (0.0, 0.25, 0.5, 0.75):
        # On the right edge p_w = 0 and c/κ = 2p_l² − 3p_l + 1: that is where the line meets it.
        p_l = (3 - math.sqrt(1 + 8 * value)) / 4
        at = _xy(np.array([0.0, p_l, 1 - p_l]) @ REGULAR)
        ax.annotate(f"{value:g}", at, xytext=(6, 1), textcoords="offset points", color=INK)
    q = (3 - math.sqrt(1.5)) / 6  # p_w = p_l = q on the symmetry axis, c/κ = 6q² − 6q + 1 = −¼
    at = _xy(np.array([q, q, 1 - 2 * q]) @ REGULAR)
    ax.annotate("−0.25", at, xytext=(0, -4), textcoords="offset points", ha="center", va="top", color=INK)
    for path in paths:
        track = _array(path) @ REGULAR
        ax.plot(track[:, 0], track[:, 1], color=CHOSEN, lw=1.6, zorder=4)
        ax.plot(track[::every, 0], track[::every, 1], "o", color=CHOSEN, ms=2.8, zorder=5)
        ax.plot(*track[0], "o", color=INK, ms=6.5, zorder=6)
        walked = np.cumsum(np.linalg.norm(np.diff(track, axis=0), axis=1))
        half = int(np.searchsorted(walked, 0.3 * walked[-1]))
        _head(ax, track[half], track[half + 1])
    handles = [
        Patch(color=strong, alpha=0.4, label="$c>0$: gradients agree"),
        Patch(color=calm, alpha=0.4, label="$c<0$: gradients oppose"),
        Line2D([], [], color=INK, lw=2.2, label=r"$c=0$: a circle"),
    ]
    if len(paths):
        handles.append(Line2D([], [], color=CHOSEN, lw=1.6, marker="o", ms=3, label="DPO, exact steps"))
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.06), title=r"$c\,/\,\kappa$")
    return ax


def _head(ax: Axes, start: np.ndarray, end: np.ndarray) -> None:
    ax.annotate(
        "",
        _xy(end),
        xytext=_xy(start),
        arrowprops={"arrowstyle": "-|>", "color": CHOSEN, "lw": 1.6, "mutation_scale": 14},
        zorder=5,
    )


def cloud(ax: Axes | None, geometry: PairGeometry) -> Axes:
    """Put one-token pairs on the plane, with ρ = ½ and the ideal regions' edges for r = ½ and r = 2."""
    ax = plane(ax, cosine_range=(-1.0, 1.0), ratio_range=(1 / 8, 8), labels=False, line_labels=False)
    scatter_pairs(ax, geometry, size=7, alpha=0.45)
    for r in (0.5, 2.0):
        tent(ax, r)
    ax.axhline(0.5, color=INK, lw=1)
    ax.annotate("ρ = ½", (0.13, 0.52), color=INK)
    places: list[tuple[Case, float, float]]
    places = [("ideal", 5.0, -0.12), ("both_down", 4.2, 0.75), ("both_up", 0.22, 0.75)]
    for case, x, y in places:
        style: dict[str, Any] = {
            "color": CASE_COLORS[case],
            "fontweight": "bold",
            "ha": "center",
        }
        ax.annotate(CASE_LABELS[case], (x, y), **style)
    return ax


def any_step(
    ax: Axes | None,
    sizes: Sequence[float] | torch.Tensor,
    chosen: Sequence[float] | torch.Tensor,
    rejected: Sequence[float] | torch.Tensor,
    others: Sequence[Sequence[float]] | torch.Tensor,
) -> Axes:
    """Draw the exact changes of all log-probabilities against the step size, both on wide scales.

    Args:
        ax: where to draw; a new figure if None.
        sizes: (S,) step sizes τ, in units of the logits.
        chosen, rejected: (S,) Δ log p, nats.
        others: (S, K) Δ log p of the other tokens; one thick line if they move together.
    """
    ax = pick_axes(ax)
    x = _array(sizes)
    ax.axhline(0, color=NEUTRAL, lw=0.9)
    ax.plot(x, _array(others), color=NEUTRAL, lw=4.5, alpha=0.45, solid_capstyle="round")
    ax.plot(x, _array(chosen), color=CHOSEN)
    ax.plot(x, _array(rejected), color=REJECTED)
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=1e-3, linscale=0.6)
    ticks = [-1e3, -1e1, -1e-1, -1e-3, 0, 1e-3, 1e-1, 1e1]
    ax.set_yticks(ticks, ["−1000", "−10", "−0.1", "−0.001", "0", "0.001", "0.1", "10"])
    ax.set_yticks([], minor=True)
    ax.set_xlabel(r"step size $\tau$ (logit units)")
    ax.set_ylabel(r"exact change of $\log p_v$ (nats)")
    ax.set_ylim(-8e3, 1e2)
    middle = int(0.55 * len(x))
    for name, values, at, offset, color in (
        ("chosen", _array(chosen), middle, (0, 9), CHOSEN),
        (f"all {_array(others).shape[1]} others", _array(others)[:, 0], middle, (12, 12), INK),
        ("rejected", _array(rejected), middle, (-66, -16), REJECTED),
    ):
        ax.annotate(name, (x[at], values[at]), xytext=offset, textcoords="offset points", color=color)
    return ax


def falling_region(ax: Axes | None, corners: np.ndarray, probs: Sequence[float], *, title: str = "") -> Axes:
    """Tint where in a three-token triangle a step lowers chosen (or raises rejected); draw p's two gradients.

    Chosen falls where p lies beyond the line through the chosen corner that is perpendicular to the edge
    chosen–rejected; rejected rises beyond the same line at the rejected corner.

    Args:
        ax: where to draw; a new figure if None.
        corners: (3, 2), such as ``REGULAR`` or ``trainable_corners``.
        probs: (3,) probabilities of chosen, rejected, third.
        title: above the picture.
    """
    ax = pick_axes(ax)
    outline = triangle(ax, corners)
    length = corners[1, 0]
    low = corners.min(axis=0) - 0.15 * np.ptp(corners, axis=0).max()
    high = corners.max(axis=0) + 0.15 * np.ptp(corners, axis=0).max()
    for left, right, color in (
        (low[0], 0.0, CASE_COLORS["both_down"]),
        (length, high[0], CASE_COLORS["both_up"]),
        (0.0, length, CASE_COLORS["ideal"]),
    ):
        patch = ax.axvspan(left, right, color=color, alpha=0.25, lw=0, zorder=0)
        patch.set_clip_path(outline)
    for x in (0.0, length):
        ax.plot([x, x], [0, high[1]], color=INK, lw=0.9, ls=":", zorder=1)
    p = _array(probs) @ corners
    for corner, color in ((corners[0], CHOSEN), (corners[1], REJECTED)):
        _arrow(ax, p, corner, color)
    ax.plot(*p, "o", color=INK, ms=6, zorder=6)
    ax.annotate(r"$p$", p, xytext=(7, 4), textcoords="offset points", color=INK, fontsize=12)
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    ax.set_title(title, loc="center")
    return ax
