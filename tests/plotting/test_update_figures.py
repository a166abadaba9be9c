"""Figures of the update rules."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Wedge

from entanglement.stats import Interval
from entanglement_book.drawing import CASE_COLORS, CHOSEN, REJECTED
from entanglement_book.studies.ch11_one_number import figures as draw


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_wedge_lies_between_the_bands_ends_and_unsafe_steps_are_marked():
    ax = draw.safe_steps([1.0, 1.0], [3.0, 0.0], {"DPO": (1.0, 1.0), "center": (3.0, 2**0.5)})
    (wedge,) = [patch for patch in ax.patches if isinstance(patch, Wedge)]
    assert (wedge.theta1, wedge.theta2) == (pytest.approx(90), pytest.approx(135))
    colors = {text.get_text(): to_hex(text.get_color()) for text in ax.texts if text.get_text()}
    assert colors["DPO"] == CASE_COLORS["both_down"] != colors["center"]


def test_each_update_stands_where_it_ended():
    ends = {
        "DPO": (Interval(-0.8, -0.9, -0.7, 5), Interval(1.0, 0.9, 1.1, 5)),
        "rule": (Interval(2.0, 1.9, 2.1, 5), Interval(0.9, 0.8, 1.0, 5)),
    }
    line = {"1": (-0.8, 1.0), "1.02": (1.5, 0.95)}
    (ax,) = draw.together_and_apart(ends, {"DPO": "itself", "rule": "rule"}, line).axes
    assert any(line.get_xydata().tolist() == [[-0.8, 1.0], [1.5, 0.95]] for line in ax.lines)
    dots = {line.get_label(): line for line in ax.lines if line.get_markersize() == 8}
    assert to_hex(dots["DPO"].get_color()) == CASE_COLORS["both_down"] != to_hex(dots["rule"].get_color())
    assert [tuple(dot.get_xydata()[0]) for dot in dots.values()] == [(-0.8, 1.0), (2.0, 0.9)]
    assert dots["DPO"].get_marker() != dots["rule"].get_marker()
    blue = next(line for line in ax.lines if line.get_color() == CHOSEN).get_xydata()
    assert blue[-1][0] == pytest.approx(-blue[-1][1] / 2)  # chosen does not move: together = −apart/2


def test_step_sizes_have_a_line_a_rule_and_a_panel_a_run():
    steps = pd.DataFrame(
        [{"update": u, "nats": n, "safe": s} for u, s in (("a", 1.0), ("b", 0.0)) for n in (0.1, 1.0)]
    )
    runs = pd.DataFrame(
        [
            {"update": u, "eta": e, "chosen": -e, "rejected": -2 * e}
            for u in ("a", "b", "c")
            for e in (0.1, 1.0)
        ]
    )
    fig = draw.step_sizes(steps, runs, {name: name.upper() for name in "abc"})
    first, *others = fig.axes
    assert [line.get_ydata()[0] for line in first.lines] == [100.0, 0.0]
    assert [ax.get_title() for ax in others] == ["A", "B", "C"]
    colors = [line.get_color() for line in others[0].lines if line.get_marker() != "None"]
    assert colors == [CHOSEN, REJECTED]
    assert all(ax.get_ylim() == others[0].get_ylim() for ax in others)


def interval(value):
    return Interval(value, value - 0.1, value + 0.1, 5)


def test_a_sweep_is_green_between_the_two_turning_points():
    table = pd.DataFrame(
        {
            "ratio": [1.0, 1.01],
            "chosen": [interval(-0.5), interval(0.5)],
            "rejected": [interval(-1.5), interval(-0.5)],
        }
    )
    fig = draw.sweeps({"one": table, "two": table}, {"one": (1.005, 1.015), "two": (float("nan"), 1.015)})
    first, second = fig.axes
    spans = [(ax.patches[0].get_x(), ax.patches[0].get_width()) for ax in (first, second)]
    assert spans == [pytest.approx((0.5, 1.0)), pytest.approx((0.0, 1.5))]  # up at 1 already
    colors = {line.get_color(): list(line.get_ydata()) for line in first.lines if len(line.get_ydata()) == 2}
    assert colors[CHOSEN] == [-0.5, 0.5] and colors[REJECTED] == [-1.5, -0.5]


def test_ways_stand_in_rows_with_both_answers():
    ways = {"DPO": (interval(-0.4), interval(-1.2)), "r = 1.005": (interval(0.5), interval(-0.3))}
    (ax,) = draw.at_equal_margin(ways, {"DPO": "constant", "r = 1.005": "constant"}).axes
    dots = {(line.get_color(), *line.get_xydata()[0]) for line in ax.lines if len(line.get_xdata()) == 1}
    assert dots == {(CHOSEN, -0.4, 0), (REJECTED, -1.2, 0), (CHOSEN, 0.5, 1), (REJECTED, -0.3, 1)}
    assert [text.get_text() for text in ax.get_yticklabels()] == list(ways)


def test_what_was_told_stands_against_the_margin_and_what_was_found_is_a_band():
    table = pd.DataFrame(
        {
            "margin": [0.25, 0.5],
            "chosen": [interval(1.002), interval(1.003)],
            "rejected": [interval(1.008), interval(1.01)],
        }
    )
    fig = draw.told_and_found({"AdamW": table}, {"AdamW": (interval(1.002), interval(1.007))}, {"AdamW": 0.9})
    (ax,) = fig.axes
    bands = [(patch.get_y(), patch.get_height()) for patch in ax.patches]
    assert bands == [pytest.approx((-9.8, 20)), pytest.approx((-9.3, 20))]
    lines = {line.get_color(): list(line.get_ydata()) for line in ax.lines if line.get_marker() in "os"}
    assert lines[CHOSEN] == pytest.approx([0.2, 0.3]) and lines[REJECTED] == pytest.approx([0.8, 1.0])
