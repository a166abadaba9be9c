"""The figures of measuring gradients: every line of the benchmark has its dot, on its side of 1."""

import matplotlib as mpl
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt

from entanglement_book.studies.measuring import figures


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def line(ours, theirs, ratio, faster=None):
    return {"ours": ours, "theirs": theirs, "ratio": ratio, "faster": faster}


def test_each_line_has_a_dot_and_a_tick_where_something_was_asked():
    lines = [
        line("heat map", "the authors' way", 40.0, 25.0),
        line("pair geometry", "torch.func", 3.0),
        line("normalized, nano", "DPO step of nano, 32 pairs", 0.5, 0.45),
    ]
    work, rules = figures.ratios(lines).axes
    dots, ticks = (
        [
            [float(mark.get_xdata()[0]) for mark in ax.lines if mark.get_marker() == sign]
            for ax in (work, rules)
        ]
        for sign in ("o", "|")
    )
    assert dots == [[40.0, 3.0], [0.5]]
    assert ticks == [[25.0], [0.45]]
    assert next(t.get_text() for t in work.get_yticklabels()) == "heat map against the\nauthors' way"
    assert [t.get_text() for t in rules.get_yticklabels()] == ["normalized"]
    assert work.get_xscale() == "log" and work.yaxis_inverted()


def test_a_benchmark_without_rules_has_one_panel():
    assert len(figures.ratios([line("heat map", "the authors' way", 40.0)]).axes) == 1
