"""What a figure shows, as a table: each mark that stands at a place on the axes is a row or two."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryLocator
from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator

__all__ = ["COLUMNS", "figure_csv"]

COLUMNS = ("panel", "mark", "series", "x", "y", "value")

_Row = tuple[str, str, str, Any, Any, Any]


def _label(artist: Any) -> str:
    """The name that a legend would show; matplotlib's own begin with an underscore."""
    label = str(artist.get_label() or "")
    return "" if label.startswith("_") else " ".join(label.split())


def _groups(ax: Axes) -> dict[int, str]:
    """Names of the parts of bars and of points with intervals, which are those of their groups."""
    return {
        id(part): _label(group)
        for group in ax.containers
        for member in group
        for part in (member if isinstance(member, tuple) else (member,))
        if part is not None
    }


def _names(axis: Axis) -> dict[float, str]:
    """Words at an axis's ticks, where ticks were given as words."""
    if not isinstance(axis.get_major_locator(), FixedLocator | StrCategoryLocator):
        return {}
    ticks = [float(place) for place in axis.get_majorticklocs()]
    words = [" ".join(label.split()) for label in axis.get_major_formatter().format_ticks(ticks)]
    return {
        place: word
        for place, word in zip(ticks, words, strict=False)
        if re.search(r"[^\W\d_]", word.replace("mathdefault", ""))
    }


def _bars(bar: Rectangle, upright: bool) -> Iterator[tuple[float, float]]:
    """Where a bar begins, unless at 0, and ends, in the middle of its breadth."""
    (x, y), across, up = bar.get_xy(), bar.get_width(), bar.get_height()
    begin, end = (y, y + up) if upright else (x, x + across)
    middle = x + across / 2 if upright else y + up / 2
    for at in (begin, end) if begin else (end,):
        yield (middle, at) if upright else (at, middle)


def _in_data(ax: Axes, artist: Any) -> bool:
    """Whether an artist stands where its numbers say: lines across a whole panel do not."""
    return all(artist.get_transform().contains_branch_seperately(ax.transData))


def _marks(ax: Axes, panel: str) -> Iterator[_Row]:
    group = _groups(ax)

    def series(artist: Any) -> str:
        return group.get(id(artist)) or _label(artist)

    for line in ax.lines:
        if isinstance(line, Line2D) and _in_data(ax, line):
            x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            name = "line" if line.get_linestyle() not in ("None", "", " ") else "point"
            for a, b in zip(x.ravel(), y.ravel(), strict=False):
                yield panel, name, series(line), a, b, ""
    for bars in ax.containers:
        if isinstance(bars, BarContainer):
            for bar in bars:
                for a, b in _bars(bar, bars.orientation == "vertical"):
                    yield panel, "bar", _label(bars), a, b, ""
    for drawn in ax.collections:
        if isinstance(drawn, QuadMesh):
            yield from _cells(panel, series(drawn), np.asarray(drawn.get_array()))
        elif isinstance(drawn, PathCollection):
            values = drawn.get_array()
            for k, (a, b) in enumerate(np.asarray(drawn.get_offsets())):
                yield panel, "point", series(drawn), a, b, "" if values is None else values[k]
        elif isinstance(drawn, LineCollection | PolyCollection) and _in_data(ax, drawn):
            name = "interval" if isinstance(drawn, LineCollection) else "area"
            for path in drawn.get_paths():
                for a, b in np.asarray(path.vertices):
                    yield panel, name, series(drawn), a, b, ""
    for image in ax.images:
        yield from _cells(panel, series(image), np.asarray(image.get_array()))
    for text in ax.texts:
        if isinstance(text, Annotation) and text.arrow_patch is not None and text.xycoords == "data":
            for a, b in (text.xyann, text.xy):
                yield panel, "arrow", " ".join(text.get_text().split()), a, b, ""


def _cells(panel: str, series: str, values: np.ndarray) -> Iterator[_Row]:
    """Rows of a map: ``x`` counts columns and ``y`` rows, from 0."""
    if values.ndim == 2:
        for (row, column), value in np.ndenumerate(values):
            yield panel, "cell", series, column, row, value


def _written(value: Any, names: dict[float, str] | None = None) -> str:
    if isinstance(value, str):
        return value
    if names and value in names:
        return names[value]
    try:
        return f"{float(value):.6g}"
    except (TypeError, ValueError):  # a category, a date
        return str(value)


def figure_csv(fig: Figure) -> str:
    """Return what a figure shows as CSV.

    Args:
        fig: as it is drawn.

    Returns:
        A head line, ``COLUMNS``, and a row for each point, corner of a line or area, end of an interval,
        arrow or bar, or cell of a map, to six digits. ``panel``: its title, or its number from 1 and its
        axes' labels. ``series``: the legend's name. ``x``, ``y``: places on the axes, or the words that stand
        there. ``value``: of a cell, or of a colored point. "" where nothing stands at a place.
    """
    rows: list[list[str]] = []
    for number, ax in enumerate(fig.axes, 1):
        if not ax.get_visible() or hasattr(ax, "_colorbar"):
            continue
        named = ax.get_title() or ax.get_title("left")
        labels = " against ".join(label for label in (ax.get_ylabel(), ax.get_xlabel()) if label)
        panel = " ".join((named or f"{number}: {labels}".rstrip(": ")).split())
        across, up = _names(ax.xaxis), _names(ax.yaxis)
        rows += [
            [*row[:3], _written(row[3], across), _written(row[4], up), _written(row[5])]
            for row in _marks(ax, panel)
        ]
    if not rows:
        return ""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return out.getvalue()
