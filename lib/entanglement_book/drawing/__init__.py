"""How the book draws: one style, one palette, and the plane that returns in every chapter.

Science modules never import this package; it may import them. A chapter's own figures live in a module of its
topic here and are functions of arrays or tables and an optional ``ax``.
"""

from __future__ import annotations

from entanglement_book.drawing.charts import case_shares, forest, line_with_band, two_answers
from entanglement_book.drawing.plane import plane, scatter_pairs, tent
from entanglement_book.drawing.style import (
    ACCENT,
    CASE_COLORS,
    CASE_LABELS,
    CHOSEN,
    INK,
    NEUTRAL,
    REJECTED,
    VARIANT_COLORS,
    VARIANT_LABELS,
    VARIANT_LINES,
    VARIANT_MARKERS,
    figure,
    use_style,
)

__all__ = [
    "ACCENT",
    "CASE_COLORS",
    "CASE_LABELS",
    "CHOSEN",
    "INK",
    "NEUTRAL",
    "REJECTED",
    "VARIANT_COLORS",
    "VARIANT_LABELS",
    "VARIANT_LINES",
    "VARIANT_MARKERS",
    "case_shares",
    "figure",
    "forest",
    "line_with_band",
    "plane",
    "scatter_pairs",
    "tent",
    "two_answers",
    "use_style",
]
