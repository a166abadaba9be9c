"""One style and one palette. Every color reads on white and on the book's dark ground (contrast at least 3).

Chosen is always blue and rejected always vermilion (Okabe and Ito's, the blue lighter for dark pages).
Figures have no ground of their own. Use ``use_style()`` once, in a notebook's import cell.
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entanglement.geometry import CASES, Case
from entanglement_book.drawing.data import figure_csv

__all__ = [
    "ACCENT",
    "CASE_COLORS",
    "CASE_LABELS",
    "CHOSEN",
    "INK",
    "NEUTRAL",
    "REJECTED",
    "TEXT",
    "VARIANT_COLORS",
    "VARIANT_LABELS",
    "VARIANT_LINES",
    "VARIANT_MARKERS",
    "WIDTH",
    "figure",
    "rc_parameters",
    "use_style",
]

CHOSEN = "#1a80c4"
REJECTED = "#d55e00"
#: Whatever is neither response: the margin, a reference, a total.
NEUTRAL = "#808080"
#: What the eye should find first when it is neither response.
ACCENT = "#7a6cf0"
#: Text, axes and ticks: as far from white as from the dark page.
INK = "#7b7b7b"

CASE_COLORS: dict[Case, str] = {
    "ideal": "#148f5c",
    "both_down": "#b553b0",
    "both_up": "#b58100",
    "reversed": "#808080",
}
CASE_LABELS: dict[Case, str] = {
    "ideal": "ideal",
    "both_down": "both down",
    "both_up": "both up",
    "reversed": "reversed",
}

VARIANT_COLORS: dict[str, str] = {
    "one_token": "#b58100",
    "short_suffix": "#1d8c93",
    "long_suffix": "#8561c5",
}
VARIANT_LABELS: dict[str, str] = {
    "one_token": "one token",
    "short_suffix": "short suffix",
    "long_suffix": "long suffix",
}
VARIANT_LINES: dict[str, str] = {"one_token": ":", "short_suffix": "--", "long_suffix": "-"}
VARIANT_MARKERS: dict[str, str] = {"one_token": "o", "short_suffix": "s", "long_suffix": "^"}

#: The width of a figure, inches, and the size of its text, points. A telephone's text is 342 pixels wide, and
#: a figure shrinks to that: from this width by 0.73, so that letters of 11 points are still 8 points tall.
WIDTH = 4.9
TEXT = 11.0


def rc_parameters() -> dict[str, Any]:
    """Return the style as matplotlib parameters.

    Text is drawn as paths with matplotlib's own font, and element ids come from a fixed salt, so the same
    figure is the same file everywhere.
    """
    return {
        "axes.axisbelow": True,
        "axes.edgecolor": INK,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.labelcolor": INK,
        "axes.labelsize": TEXT,
        "axes.linewidth": 0.9,
        "axes.prop_cycle": cycler(
            color=[CHOSEN, REJECTED, CASE_COLORS["ideal"], ACCENT, CASE_COLORS["both_up"]]
        ),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": INK,
        "axes.titlelocation": "left",
        "axes.titlesize": TEXT,
        "figure.constrained_layout.use": True,
        "figure.dpi": 96,
        "figure.facecolor": "none",
        "figure.figsize": (WIDTH, 3.6),
        "figure.labelsize": TEXT,
        "font.family": "DejaVu Sans",
        "font.size": TEXT,
        "grid.alpha": 0.22,
        "grid.color": INK,
        "grid.linewidth": 0.7,
        "legend.fontsize": TEXT,
        "legend.frameon": False,
        "legend.labelcolor": INK,
        "lines.linewidth": 2.0,
        "lines.markersize": 5,
        "mathtext.fontset": "dejavusans",
        "savefig.facecolor": "none",
        "savefig.transparent": True,
        "svg.fonttype": "path",
        "svg.hashsalt": "entanglement",
        "text.color": INK,
        "xtick.color": INK,
        "xtick.labelcolor": INK,
        "xtick.labelsize": TEXT,
        "ytick.color": INK,
        "ytick.labelcolor": INK,
        "ytick.labelsize": TEXT,
    }


def use_style() -> None:
    """Set the book's style; in a notebook, figures become SVG, the same on every run, byte for byte, with
    what they show as CSV beside it.
    """
    parameters: Any = rc_parameters()  # its stub lists every key as a literal
    mpl.rcParams.update(parameters)
    try:
        from IPython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # no notebook here
        return
    if (shell := get_ipython()) is not None:
        # Not the default tight box, whose size depends on the text's: constrained layout sees to that.
        set_matplotlib_formats("svg", bbox_inches=None, metadata={"Date": None, "Creator": None})
        _show_numbers(shell)


def _show_numbers(shell: Any) -> None:
    """Let a notebook's outputs hold each figure's numbers, as ``text/csv``."""
    from IPython.core.formatters import BaseFormatter
    from traitlets import ObjectName, Unicode

    class Csv(BaseFormatter):
        format_type = Unicode("text/csv")
        print_method = ObjectName("_repr_csv_")

    formatter = Csv(parent=shell.display_formatter)
    formatter.for_type(Figure, lambda fig: figure_csv(fig) or None)
    shell.display_formatter.formatters["text/csv"] = formatter


def figure(
    rows: int = 1, columns: int = 1, *, height: float = 3.6, width: float = WIDTH, **options: Any
) -> tuple[Figure, Any]:
    """Return ``plt.subplots`` in the book's width; panels stand below each other, for telephones.

    Args:
        rows, columns: of axes. More than two columns leave no room for text.
        height: of a row, inches.
        width: of the figure, inches, at most ``WIDTH``.
        **options: of ``plt.subplots``.

    Raises:
        ValueError: a wider figure.
    """
    if width > WIDTH:
        raise ValueError(f"figure: width={width!r}; expected at most {WIDTH} inches.")
    return plt.subplots(rows, columns, figsize=(width, height * rows), **options)


def pick_axes(ax: Axes | None) -> Axes:
    """Return ``ax``, or the axes of a new figure."""
    return figure()[1] if ax is None else ax


assert set(CASE_COLORS) == set(CASES)  # a case without a color is found at import
