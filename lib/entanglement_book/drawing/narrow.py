"""Figures that can be read on a telephone: narrow, their parts below each other, their text larger.

They are ``NARROW`` inches wide, and so keep text of 11 points at 8 points or more on a telephone.
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from entanglement_book.drawing.style import NARROW

__all__ = ["TEXT", "narrow_figure"]

#: Size of text in such a figure, points.
TEXT = 11.0


def narrow_figure(rows: int = 1, columns: int = 1, *, height: float, **options: Any) -> tuple[Figure, Any]:
    """Return ``plt.subplots`` of ``NARROW``, ``height`` inches a row, with text of ``TEXT`` points or more.

    Args:
        rows, columns: of axes.
        height: of a row, inches.
        **options: of ``plt.subplots``.
    """
    named = ("xtick.labelsize", "ytick.labelsize", "axes.labelsize", "legend.fontsize", "font.size")
    sizes: Any = dict.fromkeys(named, TEXT) | {"axes.titlesize": TEXT + 0.5}  # its stub lists every key
    with mpl.rc_context(sizes):
        return plt.subplots(rows, columns, figsize=(NARROW, height * rows), **options)
