"""Figures of control."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import Polygon

from entanglement.geometry import PairGeometry
from entanglement.stats import Interval
from entanglement_book.drawing.style import WIDTH
from entanglement_book.studies.ch13_control import figures as draw


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_ellipse_is_what_a_step_of_length_one_reaches_and_holds_the_steps():
    pair = PairGeometry.from_vectors([1.0, 1.0], [3.0, 0.0])
    ax = draw.reachable({"one": pair}).axes[0]
    edge = max((line.get_xydata() for line in ax.lines), key=len) * 3  # in units of b = 3
    a2, b2, c = 2.0, 9.0, 3.0
    gram = np.array([[a2, c], [c, b2]])
    assert np.einsum("ni,ij,nj->n", edge, np.linalg.inv(gram), edge) == pytest.approx(1.0)
    tips = {line.get_label(): line.get_xydata()[0] * 3 for line in ax.lines if line.get_label()[0] != "_"}
    dpo = np.array([a2 - c, c - b2]) / np.sqrt(a2 + b2 - 2 * c)
    assert tips["DPO"] == pytest.approx(dpo) and tips["DPO"][0] < 0  # both fall
    assert tips["normalized"][0] > 0 > tips["normalized"][1]
    cone = next(patch for patch in ax.patches if isinstance(patch, Polygon)).get_xy()[1:-1]
    steps = np.linalg.solve(gram * [1, -1], (cone * 3).T)  # weights (x_w, x_l)
    assert steps.min() >= -1e-9


def test_paths_end_where_they_end_and_the_goal_is_marked():
    path = pd.DataFrame({"chosen": [0.0, -0.2, 1.0], "rejected": [0.0, -0.5, -1.0]})
    ax = draw.paths_to_goal({"one": path}, (1.0, -1.0))
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert lines["one"] == pytest.approx(path.to_numpy()) and lines["asked for"].tolist() == [[1.0, -1.0]]
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    assert left < -0.2 and right > 1 and low < -1 and high >= 0


def test_every_request_is_joined_to_what_came_of_it():
    near, far = Interval(0.4, 0.3, 0.5, 5), Interval(-0.6, -0.7, -0.5, 5)
    got = {"way": {"apart": {"trained": (near, far), "test": (near, far)}}}
    fig = draw.asked_and_got({"apart": (0.5, -0.5), "other": (1.0, 0.0)}, got, {"DPO": (-0.5, -1.4)})
    joined = [line.get_xydata().tolist() for line in fig.axes[0].lines if len(line.get_xydata()) == 2]
    assert joined.count([[0.5, -0.5], [0.4, -0.6]]) == 2
    texts = [text.get_text() for text in fig.axes[1].get_legend().get_texts()]
    assert sorted(texts) == ["DPO", "asked for", "held-out pairs", "trained pairs"]
    assert fig.axes[0].get_ylim()[0] < -1.4


def test_both_answers_stand_against_the_cost():
    rows = pd.DataFrame(
        {"seed": [0, 0, 1, 1], "step": [0, 1, 0, 1], "cost": [0.0, 2.0, 0.0, 2.0]}
        | {"chosen": [0.0, 1.0, 0.0, 3.0], "rejected": [0.0, -1.0, 0.0, -1.0]}
    )
    fig = draw.against_cost({"a": rows, "b": rows}, "steps")
    ax = fig.axes[0]
    means = {line.get_label(): line.get_xydata() for line in ax.lines if line.get_label() in rows}
    assert means["chosen"].tolist() == [[0, 0], [2, 2]] and means["rejected"].tolist() == [[0, 0], [2, -1]]
    assert ax.get_xlabel() == "steps"


def test_every_way_has_a_row_with_both_answers_or_says_why_not():
    near, far = Interval(0.4, 0.3, 0.5, 5), Interval(-0.6, -0.7, -0.5, 5)
    families = {"one": "number", "two": "number", "three": "loss"}
    fig = draw.both_answers({"one": (near, far), "two": (far, near), "three": "never"}, families, "x")
    ax = fig.axes[0]
    spots = {(line.get_label(), *line.get_xydata()[0]) for line in ax.lines if line.get_label()[0] != "_"}
    assert spots == {("chosen", 0.4, 0), ("rejected", -0.6, 0), ("chosen", -0.6, 1), ("rejected", 0.4, 1)}
    bars = [line.get_xydata().tolist() for line in ax.lines if len(line.get_xydata()) == 2]
    assert [[0.3, 0], [0.5, 0]] in bars and [[-0.7, 1], [-0.5, 1]] in bars
    assert [text.get_text() for text in ax.texts] == ["never"] and ax.texts[0].xy[1] == 2
    assert [label.get_text() for label in ax.get_yticklabels()] == list(families)
    assert ax.get_ylim() == (2.5, -0.5)
    low, high = ax.get_xlim()
    assert low < -0.7 and high > 0.5
    levels = [line.get_ydata()[0] for line in ax.lines if list(line.get_xdata()) == [0, 1]]
    assert 1.5 in levels and 0.5 not in levels  # between families


def test_accuracy_stands_beside_its_cost_and_what_was_there_before():
    found = Interval(0.7, 0.6, 0.8, 5)
    fig = draw.costs_and_accuracy({"a": (found, 2.0), "b": (found, None)}, {"a": "rule", "b": "loss"}, 0.75)
    left, right = fig.axes
    dots = [line.get_xydata().tolist() for line in left.lines if len(line.get_xydata()) == 1]
    assert np.array(dots).squeeze().tolist() == [pytest.approx([70, 0]), pytest.approx([70, 1])]
    assert any(list(line.get_xdata()) == [75, 75] for line in left.lines)
    assert [line.get_xydata().tolist() for line in right.lines if len(line.get_xydata()) == 1] == [[[2, 0]]]


@pytest.mark.parametrize("panels", [2, 3])
def test_panels_stand_in_two_columns_and_a_free_cell_takes_the_legend(panels):
    pair = PairGeometry.from_vectors([1.0, 1.0], [3.0, 0.0])
    fig = draw.reachable({str(k): pair for k in range(panels)})
    assert fig.get_figwidth() == WIDTH
    legend = fig.legends[0] if panels == 2 else fig.axes[3].get_legend()
    assert [text.get_text() for text in legend.get_texts()][:2] == ["DPO", "normalized"]
