"""Figures that can be read on a telephone: narrow, their parts below each other, their text larger.

A page on a telephone is 342 pixels wide and shrinks a figure to that width. From ``WIDTH`` inches it shrinks
by 0.73, so text of 11 points is still 8 points tall there.
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

__all__ = ["TEXT", "WIDTH", "narrow_figure"]

#: Inches.
WIDTH = 4.9
#: Size of text in such a figure, points.
TEXT = 11.0


def narrow_figure(rows: int = 1, columns: int = 1, *, height: float, **options: Any) -> tuple[Figure, Any]:
    """Return ``plt.subplots`` of ``WIDTH``, ``height`` inches a row, with text of ``TEXT`` points or more.

    Args:
        rows, columns: of axes.
        height: of a row, inches.
        **options: of ``plt.subplots``.
    """
    named = ("xtick.labelsize", "ytick.labelsize", "axes.labelsize", "legend.fontsize", "font.size")
    sizes: Any = dict.fromkeys(named, TEXT) | {"axes.titlesize": TEXT + 0.5}  # its stub lists every key
    with mpl.rc_context(sizes):
        return plt.subplots(rows, columns, figsize=(WIDTH, height * rows), **options)
