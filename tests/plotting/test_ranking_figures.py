"""The figures of rankings, contrast and generation."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from entanglement.stats import Interval
from entanglement_book.studies.ch15_ranking import figures as draw
from entanglement_book.studies.ch15_ranking.tables import Place


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def interval(value, half=0.1):
    return Interval(value, value - half, value + half, 5)


def place(family, chosen, rejected):
    return Place(
        family,
        interval(chosen - rejected),
        interval((chosen + rejected) / 2),
        interval(chosen),
        interval(rejected),
    )


def test_parts_of_a_row_add_up():
    gram = np.array([[1.0, 0.8], [0.8, 1.0]])
    fig = draw.drags(np.array([0.75, -0.25]), gram, ["best", "copy"])
    texts = [text.get_text() for text in fig.axes[0].texts]
    assert texts == ["+0.75", "−0.20", "+0.55", "+0.60", "−0.25", "+0.35"]


def test_shares_stay_within_bounds():
    rows = {"a loss": {kind: {"best": interval(0.98), "copy": interval(0.5)} for kind in ("own", "other")}}
    (ax,) = draw.rises(rows, ["best", "copy"]).axes
    ends = [x for line in ax.lines for x in line.get_xdata()]
    assert max(ends) == 1
    assert [label.get_text() for label in ax.get_yticklabels()] == ["best", "copy"]


def test_a_way_that_parts_both_answers_lies_in_the_wedge():
    places = {"good": place("request", 0.4, -0.3), "bad": place("number", -0.5, -1.3)}
    assert places["good"].right
    assert not places["bad"].right
    (ax,) = draw.apart_and_together(places, {"good": (5, 5), "absent": (0, 0)}).axes
    wedge = ax.patches[0].get_path()
    inside = {title: wedge.contains_point((p.together.value, p.apart.value)) for title, p in places.items()}
    assert inside == {"good": True, "bad": False}
    assert [text.get_text() for text in ax.texts] == ["good"]


def test_other_figures_have_a_row_each():
    both = {"one": (interval(0.1), interval(-0.2)), "two": (interval(0.3), interval(0.2))}
    kinds = {name: {"kl": interval(3.0), "told": interval(1.0)} for name in ("one", "two", "three")}
    orders = {name: interval(0.8) for name in ("one", "two")}
    for fig, rows in (
        (draw.both_answers(both), 2), (draw.codes(kinds), 3), (draw.orders(orders, 0.8), 2),
    ):  # fmt: skip
        assert len(fig.axes[0].get_yticklabels()) == rows
    assert list(draw.as_table({"a": place("rule", 1.0, 0.5)}).columns) == [
        "chosen",
        "rejected",
        "together",
        "apart",
    ]
