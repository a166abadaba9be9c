"""The figures of beyond language."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from entanglement.stats import Interval
from entanglement_book.drawing import ACCENT, CHOSEN, REJECTED
from entanglement_book.materials import digit_scenes
from entanglement_book.studies.ch16_beyond_language import figures as draw


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def interval(value, half=0.1):
    return Interval(value, value - half, value + half, 3)


def spots(ax, markers):
    """Marker and color → the places of single marks."""
    return {
        (line.get_marker(), line.get_color(), round(float(line.get_ydata()[0]), 2)): line.get_xdata()[0]
        for line in ax.lines
        if line.get_marker() in markers
    }


def test_pictures_stand_under_their_digits():
    pictures = digit_scenes("test", 3, 0)
    fig = draw.scenes(pictures, 3)
    titles = [ax.get_title() for ax in fig.axes]
    assert titles == [f"{a}, {b}" for a, b in zip(pictures.first, pictures.second, strict=True)]
    assert np.array_equal(fig.axes[1].images[0].get_array(), pictures.images[1, 0].numpy())


def test_a_panel_has_its_widths_pairs_averaged_over_seeds():
    rows = [
        {"width": width, "network": network, "seed": seed, "step": step, "task": "a", "other": other}
        | {"ratio": width + seed + (0.5 if other == "c" else 0)}
        for width in (2, 8)
        for network in ("shared", "separate")
        for seed in (0, 1)
        for step in (1, 2)
        for other in ("b", "c")
    ]
    fig = draw.pair_lines(pd.DataFrame(rows), [2, 8])
    above, below = fig.axes
    curves = [line.get_ydata().tolist() for line in above.lines if line.get_marker() == "o"]
    assert curves == [[2.5, 2.5], [3.0, 3.0]]
    assert [line.get_ydata()[0] for line in below.lines if line.get_marker() == "o"] == [8.5, 9.0]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a, b", "a, c"]


def test_both_ways_to_foretell_stand_in_a_row():
    fig = draw.foretold_bars({"one": (interval(0.8), interval(0.5)), "sum": (interval(0.6), interval(0.4))})
    (ax,) = fig.axes
    found = {(marker, at): x for (marker, _, at), x in spots(ax, "os").items()}
    assert found == {("o", -0.13): 0.8, ("s", 0.13): 0.5, ("o", 0.87): 0.6, ("s", 1.13): 0.4}


def test_rules_have_another_color_than_constants():
    fig = draw.left({"Digits": {"plain sum": interval(0.5), "MGDA": interval(0.4)}}, ["MGDA"])
    (ax,) = fig.axes
    dots = {line.get_xdata()[0]: line.get_color() for line in ax.lines if line.get_marker() == "o"}
    assert dots[0.4] == ACCENT != dots[0.5] and ax.get_title() == "Digits"
    assert ax.lines[0].get_xdata()[0] == 0.5  # the dashed line stands at the first way


def test_constants_are_joined_and_rules_are_not():
    points = {name: (interval(x), interval(y)) for name, x, y in (("t", 0.3, 0.1), ("m", 0.25, 0.2))}
    points |= {"i": (interval(0.1), interval(0.3)), "separate": (interval(0.2), interval(0.15))}
    fig = draw.recalls(points, ["t", "m", "i"], {"separate": "two towers"})
    (ax,) = fig.axes
    assert list(ax.lines[0].get_xdata()) == [0.3, 0.25, 0.1]
    assert list(ax.lines[0].get_ydata()) == [0.1, 0.2, 0.3]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["constant weights", "two towers"]


def test_cosines_of_towers_are_curves_with_bands():
    rows = pd.DataFrame({"step": [0, 1], "value": [0.2, -0.4], "low": [0.1, -0.5], "high": [0.3, -0.3]})
    (ax,) = draw.tower_cosines({"one pair": rows}).axes
    assert ax.lines[1].get_ydata().tolist() == [0.2, -0.4] and len(ax.collections) == 1


def test_the_driver_is_marked_and_far_vehicles_are_left_out():
    vehicles = pd.DataFrame(
        {
            "x": [0.0, 20.0, 200.0],
            "y": [4.0, 0.0, 0.0],
            "speed": [25.0, 20.0, 1.0],
            "own": [True, False, False],
        }
    )
    case = pd.DataFrame({"objective": ["safety", "progress"], "faster": [0.0, 0.9], "slower": [1.0, 0.1]})
    above, below = draw.road(vehicles, case, ["faster", "slower"]).axes
    boxes = [(patch.get_x(), patch.get_y()) for patch in above.patches]
    assert boxes == [(-2.5, 3.0), (17.5, -1.0)]
    assert [text.get_text() for text in above.texts] == ["25", "20"]
    assert above.texts[0].get_color() == ACCENT != above.texts[1].get_color()
    assert [list(line.get_ydata()) for line in below.lines] == [[0.0, 1.0], [0.9, 0.1]]


def test_safety_and_progress_stand_in_their_rows():
    safety, progress = {"a": interval(0.9), "b": interval(0.5)}, {"a": interval(0.1), "b": interval(0.4)}
    (ax,) = draw.safety_and_progress(safety, progress, {"b": "B", "a": "A"}).axes
    assert spots(ax, "os") == {
        ("o", REJECTED, -0.12): 0.5, ("o", REJECTED, 0.88): 0.9, ("s", CHOSEN, 0.12): 0.4,
        ("s", CHOSEN, 1.12): 0.1,
    }  # fmt: skip
    assert [label.get_text() for label in ax.get_yticklabels()] == ["B", "A"]


def test_a_teachers_drivers_stand_below_each_other():
    rows = {"safety": [interval(v) for v in (0.1, 0.2, 0.3, 0.4)]}
    rows |= {"progress": [interval(v) for v in (0.5, 0.6, 0.7, 0.8)]}
    fig = draw.agreement(rows, ["a", "b", "c", "d"])
    (ax,) = fig.axes
    found = {(marker, at): x for (marker, _, at), x in spots(ax, "sv^o").items()}
    assert found[("s", -0.27)] == 0.1 and found[("o", 0.27)] == 0.4 and found[("v", 0.91)] == 0.6
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a", "b", "c", "d"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["safety", "progress"]
