"""Figures of the two steps, the margin, training dynamics and the probability."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from entanglement.stats import Interval
from entanglement_book.drawing import CASE_COLORS, CHOSEN, REJECTED, figure
from entanglement_book.studies.ch01_two_steps.figures import both_steps, judges
from entanglement_book.studies.ch02_margin import figures as side_figures, study as side_study
from entanglement_book.studies.ch05_dynamics import figures as dynamics_figures
from entanglement_book.studies.ch10_probability import figures as probability_figures


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_policies_of_one_margin_lie_on_one_line_in_their_cases_colors():
    moves = {"A": (1.0, -1.0), "B": (-1.0, -3.0), "C": (3.0, 1.0)}
    (ax,) = side_figures.same_margin(moves).axes
    dots = {
        tuple(line.get_xydata()[0]): to_hex(line.get_color()) for line in ax.lines if line.get_marker() == "o"
    }
    assert [dots[moves[name]] for name in "ABC"] == [
        CASE_COLORS[case] for case in ("ideal", "both_down", "both_up")
    ]
    (bold,) = [line for line in ax.lines if line.get_linewidth() == 1.8 and line.get_marker() == "None"]
    x, y = bold.get_xydata().T
    assert np.allclose(x - y, 2.0)


def test_the_compliance_has_a_dot_a_pair_and_a_curve_a_lesson():
    rows = [
        {
            "kind": kind,
            "way": way,
            "seed": seed,
            "step": step,
            "pair": "a",
            "rejected": -2.0 + 0.1 * step - seed,
        }
        for kind in ("same words", "other words")
        for way in (side_study.ONE, side_study.ALL, side_study.ALL_NLL, side_study.ONLY_LIKELIHOOD)
        for seed in range(3)
        for step in (0, 4)
    ]
    top, bottom = side_figures.compliance(pd.DataFrame(rows)).axes
    dots = {line.get_label(): line for line in top.lines if line.get_label() in ("same words", "other words")}
    assert len(dots) == 2
    before, after = dots["same words"].get_data()
    np.testing.assert_allclose(sorted(before), sorted(np.exp([-2.0, -3.0, -4.0])))
    assert (after > before).all()
    assert len([line for line in bottom.lines if len(line.get_xdata()) == 2]) == 4
    assert bottom.lines[0].get_ydata()[0] == pytest.approx(np.exp([-2.0, -3.0, -4.0]).mean())


def test_each_share_of_the_student_has_its_interval():
    said = [
        {"kind": kind, "seed": seed, "moment": moment, "ideal": ideal, "goes on": 5, "else": 95 - ideal}
        for kind in ("same words", "other words")
        for seed in range(3)
        for moment, ideal in (("before", 40), ("after", 20))
    ]
    (ax,) = side_figures.student(pd.DataFrame(said)).axes
    lines = [line for line in ax.lines if line.get_marker() in ("o", "s")]
    assert len(lines) == 6 and all(list(line.get_ydata()) == [0.4, 0.2] for line in lines)
    bars = [line.get_ydata() for line in ax.lines if line.get_marker() == "None"]
    assert len(bars) == 12 and all(
        low < share < high for (low, high), share in zip(bars, [0.4, 0.2] * 6, strict=True)
    )


def test_the_judges_stand_beside_a_coin():
    fig = judges({"a": Interval(60, 55, 65, 5)}, {"x": Interval(1, 0.5, 1.5, 5), "y": Interval(0, -1, 1, 5)})
    top, bottom = fig.axes
    assert [t.get_text() for t in bottom.get_yticklabels()] == ["x", "y"]
    assert [list(line.get_xdata()) for line in top.lines] == [[50, 50], [55, 65], [60]]


def two_steps():
    rows = []
    for seed in range(2):
        for phase, sign in (("sft", 1.0), ("dpo", -1.0)):
            for step in (0, 4):
                row = {"seed": seed, "phase": phase, "step": step}
                start = -5.0 if phase == "sft" else 20.0
                rows.append(row | {"chosen_logp": start + sign * step, "rejected_logp": -6.0 + seed})
    return pd.DataFrame(rows)


def test_both_steps_draw_chosen_blue_and_rejected_vermilion():
    axes = both_steps(two_steps()).axes
    assert len(axes) == 4
    colors = [line.get_color() for line in axes[0].lines[:2]]
    assert colors == [CHOSEN, REJECTED]
    assert axes[0].lines[0].get_ydata().tolist() == [0.0, 4.0]  # each step begins at zero
    assert axes[1].lines[0].get_ydata().tolist() == [0.0, -4.0]


def means():
    rows = []
    for loss, end in (("dpo", -1.0), ("rpo", 2.0)):
        for seed in range(3):
            for step in (0, 8):
                value = end * step / 8 + 0.01 * seed
                row = {"data": "sentiment", "loss": loss, "seed": seed, "step": step}
                rows.append(row | {"chosen": value, "rejected": 2 * value, "margin": -value})
    return pd.DataFrame(rows)


def test_a_panel_a_loss():
    fig = dynamics_figures.curves(means(), "sentiment", [["dpo"], ["rpo"]], {"dpo": "DPO", "rpo": "RPO"})
    assert [ax.get_title() for ax in fig.axes] == ["DPO", "RPO"]
    blue = [line for line in fig.axes[0].lines if line.get_color() == CHOSEN]
    assert blue[0].get_ydata()[-1] == pytest.approx(-0.99)


def test_pairs_stand_at_their_weighed_ratio():
    rows = [
        {"data": "d", "loss": "dpo", "step": 8, "weighed": 2.0, "cosine": 0.8},
        {"data": "d", "loss": "dpo", "step": 0, "weighed": 1.0, "cosine": 0.1},
    ]
    fig = dynamics_figures.on_the_plane(pd.DataFrame(rows), ["dpo"], {"dpo": "DPO"}, {"d": "data"})
    (dots,) = fig.axes[0].collections[-1:]
    np.testing.assert_allclose(dots.get_offsets(), [[2.0, 0.8]], rtol=1e-6)
    assert to_hex(dots.get_facecolor()[0]) == CASE_COLORS["both_down"]  # 0.8 > a/b = 1/2


def test_answers_have_an_interval_each():
    rows = {"chosen": Interval(-1.0, -2.0, 0.0, 3), "likeliest before": Interval(1.0, 0.5, 1.5, 3)}
    fig = probability_figures.answers({"near": rows, "far": rows})
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == list(rows)
    dots = [line for line in fig.axes[0].lines if line.get_marker() in "oD"]
    assert [float(line.get_xdata()[0]) for line in dots] == [-1.0, 1.0] and dots[0].get_color() == CHOSEN


def test_parts_of_the_mass_are_drawn_in_points():
    rows = [
        {"response": response, "place": place, "part": part, "value": value, "low": value, "high": value}
        for response in ("chosen", "rejected")
        for place in ("shared", "apart")
        for part, value in (("own", -0.02), ("top", 0.01), ("other", 0.0), ("rest", 0.01))
    ]
    (ax,) = probability_figures.mass(pd.DataFrame(rows)).axes
    dots = [line for line in ax.lines if line.get_marker() in "osD^"]
    assert sorted(round(float(line.get_xdata()[0]), 6) for line in dots) == [-2.0] * 4 + [0.0] * 2 + [1.0] * 8


def losses(**values):
    return {name: Interval(value, value - 1, value + 1, 3) for name, value in values.items()}


def test_scores_of_both_kinds_of_tweets_have_a_mark_each():
    moved = {"moved_positive": losses(dpo=2.0, ipo=1.0), "moved_negative": losses(dpo=0.5, ipo=-1.0)}
    (ax,) = probability_figures.label_moves(moved, {"dpo": "DPO", "ipo": "IPO"}).axes
    at = {m: [float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == m] for m in "^v"}
    assert at == {"^": [2.0, 1.0], "v": [0.5, -1.0]}


def test_accuracy_stands_beside_the_chosen_answer():
    fig = probability_figures.accuracies(
        losses(dpo=-6.0), losses(dpo=0.0), losses(dpo=-0.5, rpo=9.0), {"dpo": "DPO"}
    )
    left, right = fig.axes
    at = {m: [float(line.get_xdata()[0]) for line in left.lines if line.get_marker() == m] for m in "Do"}
    assert at == {"D": [-6.0], "o": [0.0]}
    assert [line.get_color() for line in right.lines if line.get_marker() == "o"] == [CHOSEN]


def test_ends_are_drawn_in_their_rows():
    one = Interval(1.0, 0.5, 1.5, 3)
    rows = {"chosen": one, "rejected": one, "margin": one, "both_fell": Interval(0.5, 0.4, 0.6, 3)}
    table = pd.DataFrame({"dpo": rows, "rpo": rows}).T
    left, _, right = dynamics_figures.ends(table, {"dpo": "DPO", "rpo": "RPO"}).axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["DPO", "RPO"]
    spots = [line.get_xydata()[0] for line in right.lines if line.get_marker() == "v"]
    assert [tuple(spot) for spot in spots] == [(50.0, 0.0), (50.0, 1.0)]


def test_an_account_has_no_own_pair_for_held_out_pairs():
    one = Interval(1.0, 0.5, 1.5, 3)
    terms = dict.fromkeys(("own_pair", "other_pairs", "preconditioner", "curvature", "total"), one)
    held_out = {name: value for name, value in terms.items() if name != "own_pair"}
    (ax,) = dynamics_figures.account({"near": {"batch": terms, "test": held_out}}).axes
    at = {m: [line for line in ax.lines if line.get_marker() == m and len(line.get_xdata())] for m in "os"}
    assert (len(at["o"]), len(at["s"])) == (5, 4)


def test_rates_share_the_axis_of_the_margin():
    row = {"step": 8, "margin": 0.5, "value": 0.25, "low": 0.2, "high": 0.3, "n": 3}
    lines = pd.DataFrame([row | {"rate": rate} for rate in (0.25, 1.0)])
    dots = pd.DataFrame([row | {"rate": 2.0, "margin": 2.0}])
    upper, lower = dynamics_figures.by_margin(
        {"chosen": lines, "both_fell": lines},
        {"chosen": dots, "both_fell": dots},
        {"chosen": "a", "both_fell": "b"},
    ).axes
    assert upper.get_xscale() == lower.get_xscale() == "log"
    assert sorted({float(line.get_ydata()[0]) for line in lower.lines if line.get_marker() in "osx"}) == [
        25.0
    ]
    assert [text.get_text() for text in lower.texts] == ["2"]


def test_the_map_writes_its_numbers():
    table = pd.DataFrame(
        [{"beta": b, "rate": r, "both_fell": b * r / 8} for b in (0.1, 1.0) for r in (1.0, 8.0)]
    )
    _, ax = figure()
    dynamics_figures.knob_map(ax, table, "both_fell", percent=True, title="both fell")
    written = {(round(t.get_position()[0]), round(t.get_position()[1])): t.get_text() for t in ax.texts}
    assert written[(1, 0)] == "100" and written[(1, 1)] == "10"  # the largest β is the top row
    assert [t.get_text() for t in ax.get_yticklabels()] == ["1", "0.1"]
