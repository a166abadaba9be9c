"""What a figure shows comes out of it as a table."""

import csv
import io

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from nbformat import v4

from entanglement_book.drawing.data import COLUMNS, figure_csv
from entanglement_book.press.site import _take_tables


@pytest.fixture(autouse=True)
def plain():
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        yield
    plt.close("all")


def rows(draw):
    fig, ax = plt.subplots()
    draw(ax)
    text = figure_csv(fig)
    head, *found = csv.reader(io.StringIO(text)) if text else [list(COLUMNS)]
    assert head == list(COLUMNS)
    return [tuple(row[1:]) for row in found]


#: mark: (how it is drawn, its rows without the panel)
DRAWN = {
    "line": (
        lambda ax: ax.plot([1, 2], [3, 1 / 3], label="a b"),
        [("line", "a b", "1", "3", ""), ("line", "a b", "2", "0.333333", "")],
    ),
    "points": (lambda ax: ax.plot([1], [3], "o"), [("point", "", "1", "3", "")]),
    "scatter": (lambda ax: ax.scatter([1], [3], c=[7], label="s"), [("point", "s", "1", "3", "7")]),
    "across": (lambda ax: (ax.axhline(1), ax.axvline(2), ax.axhspan(0, 1)), []),
    "bars": (
        lambda ax: ax.bar(["u", "v"], [1, -2], label="bars"),
        [("bar", "bars", "u", "1", ""), ("bar", "bars", "v", "-2", "")],
    ),
    "stacked": (
        lambda ax: ax.barh([4], [1], left=[2]),
        [("bar", "", "2", "4", ""), ("bar", "", "3", "4", "")],
    ),
    "intervals": (
        lambda ax: ax.errorbar([1], [2], yerr=[[0.5], [1.5]], fmt="o", label="e"),
        [("point", "e", "1", "2", ""), ("interval", "e", "1", "1.5", ""), ("interval", "e", "1", "3.5", "")],
    ),
    "map": (
        lambda ax: ax.imshow(np.array([[1.0, 2.0]])),
        [("cell", "", "0", "0", "1"), ("cell", "", "1", "0", "2")],
    ),
    "mesh": (
        lambda ax: ax.pcolormesh(np.array([[1.0], [2.0]])),
        [("cell", "", "0", "0", "1"), ("cell", "", "0", "1", "2")],
    ),
    "arrow": (
        lambda ax: ax.annotate("", xy=(1, 2), xytext=(0, 0), arrowprops={"arrowstyle": "->"}),
        [("arrow", "", "0", "0", ""), ("arrow", "", "1", "2", "")],
    ),
    "words": (
        lambda ax: (ax.plot([1], [0], "o"), ax.set_yticks([0], ["DPO\n(r = 1)"])),
        [("point", "", "1", "DPO (r = 1)", "")],
    ),
}


@pytest.mark.parametrize("mark", DRAWN)
def test_each_mark_is_a_row(mark):
    draw, expected = DRAWN[mark]
    assert rows(draw) == expected


def test_an_area_has_its_corners():
    found = rows(lambda ax: ax.fill_between([0, 1], [0, 0], [1, 2], label="band"))
    assert {row[:4] for row in found} == {("area", "band", x, y) for x, y in ("00", "01", "10", "12")}


def test_panels_are_told_apart_and_color_bars_left_out():
    fig, (one, two) = plt.subplots(1, 2)
    one.plot([1], [2], "o")
    one.set_title("First\npanel")
    fig.colorbar(two.scatter([1], [2], c=[3]))
    two.set(xlabel="steps", ylabel="nats")
    panels = [row[0] for row in csv.reader(io.StringIO(figure_csv(fig)))][1:]
    assert panels == ["First panel", "2: nats against steps"]


def test_a_caption_leads_to_the_table_which_the_page_does_not_hold():
    figure = {"name": "fig-a", "caption": "A figure."}
    outputs = [v4.new_output("display_data", {"image/svg+xml": "<svg>", "text/csv": "x\n1\n"})]
    drawn = v4.new_code_cell("x", outputs=outputs, metadata={"mystnb": {"figure": figure}})
    unnamed = v4.new_code_cell("x", outputs=[v4.new_output("display_data", {"text/csv": "x\n2\n"})])
    page = v4.new_notebook(cells=[drawn, unnamed, v4.new_code_cell("y")])
    assert _take_tables(page) == {"data/fig-a.csv": "x\n1\n"}
    assert list(page.cells[0].outputs[0].data) == ["image/svg+xml"] and not page.cells[1].outputs[0].data
    assert page.cells[0].metadata.mystnb.figure.caption == "A figure. {download}`Data <data/fig-a.csv>`"


def test_the_readmes_picture_is_what_is_drawn_today():
    """``book/_static/front.svg``: write it anew from here when the figure changes."""
    from pathlib import Path

    from entanglement_book.drawing.style import use_style
    from entanglement_book.press.figure_colors import adapt
    from entanglement_book.studies.ch03_entanglement import figures

    root = Path(__file__).resolve().parents[2]
    with matplotlib.rc_context():
        use_style()
        rejected = [[3.0, 1.0], [1.0, 2.0], [1.0, 0.0]]
        fig, _ = figures.three_steps([2.0, 1.0], rejected, ("both fall", "chosen ↑  rejected ↓", "both rise"))
        stream = io.StringIO()
        fig.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    assert (root / "book" / "_static" / "front.svg").read_text(encoding="utf-8") == adapt(stream.getvalue())
    assert "book/_static/front.svg" in (root / "README.md").read_text(encoding="utf-8")
