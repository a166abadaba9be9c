"""The figures of the chapter on sentiment: what is drawn is what was given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from entanglement.training.account import TERMS
from entanglement_book.studies.ch08_sentiment import figures as draw


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def marks(ax):
    """Return (x, y) of every mark with an interval, hollow ones apart."""
    found = {True: [], False: []}
    for container in ax.containers:
        line = container[0]
        hollow = str(line.get_markerfacecolor()) == "none"
        found[hollow] += list(zip(line.get_xdata(), line.get_ydata(), strict=True))
    return found[False], found[True]


def account(shift):
    rows = []
    for v, variant in enumerate(("one_token", "short_suffix", "long_suffix")):
        for pairs in ("batch", "test"):
            for t, term in enumerate((*TERMS, "total")):
                value = v + 0.1 * t + shift
                rows.append((variant, pairs, term, value, value - 0.5, value + 0.5, 5))
    return pd.DataFrame(rows, columns=["variant", "set", "term", "value", "low", "high", "n"])


def test_the_account_has_a_mark_a_term_and_variant_and_two_for_what_depends_on_the_length():
    fig = draw.account_dots({"long": account(0.0), "even": account(10.0)}, {"batch": "a", "test": "b"})
    (batch, test), full = fig.axes[:2], 3 * len((*TERMS, "total"))
    filled, hollow = marks(batch)
    assert len(filled) == full
    assert len(hollow) == full - 2 * 3  # curvature and total do not depend on it
    assert min(x for x, _ in hollow) == pytest.approx(10.0)
    assert len(marks(test)[0]) == full - 3  # a held-out pair has no own share
    # The long suffix's total: value 2.4, in the last row.
    assert (pytest.approx(2.4), pytest.approx(len(TERMS) + 0.26)) in filled
    assert [text.get_text() for text in batch.get_yticklabels()] == list(draw.TERM_LABELS.values())


def dose(start):
    return pd.DataFrame({"words": [0, 2, 12], "value": [start, 0.0, 0.5], "low": -0.9, "high": 0.9, "n": 5})


def test_more_words_are_drawn_at_equal_distances_and_each_model_has_its_line():
    curves = {q: {"nano": dose(-0.5), "smollm2-135m": dose(-0.25)} for q in ("cosine", "chosen")}
    fig = draw.dose(curves, {"nano": "N", "smollm2-135m": "S"})
    for ax in fig.axes[:2]:
        lines = {line.get_label(): line for line in ax.get_lines() if line.get_label() in "NS"}
        assert lines["N"].get_xdata().tolist() == [0, 1, 2]
        assert lines["N"].get_ydata().tolist() == [-0.5, 0.0, 0.5]
        assert lines["S"].get_ydata()[0] == -0.25
    assert [text.get_text() for text in fig.axes[1].get_xticklabels()] == ["0", "2", "12"]


def test_words_are_drawn_at_what_they_cost_and_no_further_left_than_the_edge():
    rows = pd.DataFrame({"left": [0.001, 10.0], "cosine": [-0.9, 0.9], "chosen": [0.0, -0.5]})
    for name in ("cosine", "chosen"):
        rows[f"{name}_low"], rows[f"{name}_high"] = rows[name] - 0.1, rows[name] + 0.05
    fig = draw.left_to_learn({"nano": rows}, {"nano": "N"}, least=0.03)
    for ax, name in zip(fig.axes, ("cosine", "chosen"), strict=False):
        assert marks(ax)[0] == [(0.03, rows[name][0]), (10.0, rows[name][1])]
    low, high = fig.axes[0].containers[0][2][0].get_segments()[0][:, 1]
    assert (low, high) == (pytest.approx(-1.0), pytest.approx(-0.85))


def test_ways_are_drawn_against_their_margin_the_last_on_top():
    line = pd.DataFrame({"margin": [0.0, 1.0], "value": [0.0, -0.5], "low": -1.0, "high": 0.1})
    fig = draw.against_margin({"p": {"far": line, "plain": line, "usual": 2 * line}})
    curves = [one for one in fig.axes[0].get_lines() if one.get_label() in ("far", "plain", "usual")]
    assert [one.get_label() for one in curves] == ["far", "plain", "usual"]
    assert curves[2].get_xdata().tolist() == [0.0, 2.0]
    assert curves[2].get_ydata().tolist() == [0.0, -1.0]


def test_both_ratios_have_their_mark_in_percent():
    shares = {
        (variant, when, name): (0.25 if name == "asked" else 0.125, 0.0, 0.5, 5)
        for variant in ("one_token", "short_suffix", "long_suffix")
        for when in ("after SFT", "after DPO")
        for name in ("printed", "asked")
    }
    fig = draw.two_ratios(shares)
    found, _ = marks(fig.axes[0])
    assert sorted({x for x, _ in found}) == [12.5, 25.0]
    assert sorted(round(y) for x, y in found if x == 25) == list(range(6))


def test_optimizers_stand_in_their_rows():
    rows = [(o, v, s, 0.5 * k, 0.0, 2.0, 5, 0.0) for k, o in enumerate(("main", "plain"))
            for v in ("one_token", "long_suffix") for s in ("batch", "test")]  # fmt: skip
    ways = pd.DataFrame(rows, columns=["optimizer", "variant", "set", "value", "low", "high", "n", "turn"])
    fig = draw.by_optimizer(ways, {"main": "AdamW", "momentum": "M", "plain": "plain"})
    for ax in fig.axes[:2]:
        found, _ = marks(ax)
        assert sorted(np.round(y + 0.01) for x, y in found if x == 0.5) == [2, 2]
        assert [text.get_text() for text in ax.get_yticklabels()] == ["AdamW", "M", "plain"]
