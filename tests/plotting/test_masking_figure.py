"""The figures of which tokens matter."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from entanglement.stats import Interval
from entanglement_book.drawing import ACCENT
from entanglement_book.studies.ch12_which_tokens import figures as draw


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_box_is_as_full_as_its_token_weighs():
    rows = [
        {"weights": name, "response": side, "place": place, "token": f" {side[0]}{place}"}
        | {"contrast": place == 0, "weight": weight * (place == 0)}
        for name, weight in (("a", 1.0), ("b", 0.5))
        for side in ("chosen", "rejected")
        for place in (0, 1)
    ]
    fig = draw.token_grid(pd.DataFrame(rows), {"a": "A", "b": "B"})
    (ax,) = fig.axes
    fills = [patch.get_alpha() for patch in ax.patches if patch.get_fill()]
    assert fills == pytest.approx([0.75, 0.0, 0.75, 0.0, 0.375, 0.0, 0.375, 0.0])
    colors = {label.get_text(): label.get_color() for label in ax.get_yticklabels()}
    assert colors["c0 / r0"] == ACCENT != colors["c1 / r1"]


def test_the_mask_and_its_rivals_stand_in_their_rows():
    mask = Interval(0.9, 0.8, 1.0, 5)
    fig = draw.finding({"a": (mask, 0.4, 0.5), "b": (mask._replace(value=0.7), 0.3, 0.2)}, [1])
    spots = {
        (line.get_marker(), line.get_ydata()[0]): line.get_xdata()[0]
        for line in fig.axes[0].lines
        if line.get_marker() in "oDs"
    }
    assert spots == {("o", 0): 0.9, ("D", 0): 0.4, ("s", 0): 0.5, ("o", 1): 0.7, ("D", 1): 0.3, ("s", 1): 0.2}


def test_the_bars_of_the_fallen_add_up():
    fates = {"x": "one", "y": "other", "z": "third"}
    counts = {"way": {"x": 3, "y": 4, "z": 5}}
    fig = draw.who_falls(counts, {"label": Interval(-0.2, -0.3, -0.1, 5)}, fates)
    bars, dots = fig.axes
    assert [(bar.get_x(), bar.get_width()) for bar in bars.patches] == [(0, 3), (3, 4), (7, 5)]
    assert dots.lines[-1].get_xdata()[0] == -0.2
    assert [text.get_text() for text in fig.legends[0].get_texts()] == list(fates.values())


def test_rejected_answers_are_squares_at_the_same_margin():
    ends = {"way": (Interval(0.5, 0.4, 0.6, 5), Interval(-0.3, -0.4, -0.2, 5))}
    (ax,) = draw.at_the_same_margin(ends, ["way"]).axes
    marks = {line.get_marker(): line.get_xdata()[0] for line in ax.lines if line.get_marker() in "os"}
    assert marks == {"o": 0.5, "s": -0.3}
