"""The figures of token by token: what is drawn is what was given, and sums that do not add up are refused."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt

from entanglement_book.studies.ch09_tokens import figures
from entanglement_book.studies.ch09_tokens.study import KINDS


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_first_row_is_at_the_top_and_zero_is_the_pale_middle():
    mesh = figures.heat_map([[1.0, 0.0], [-1.0, 0.5]], [" a", " b"], [" c", " d"], numbers=True)
    ax = mesh.axes
    assert ax.yaxis_inverted()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in ax.texts] == ["+1.00", "+0.00", "−1.00", "+0.50"]
    assert mesh.norm.vmin == -1 and mesh.norm.vmax == 1
    purple, pale, green = (mesh.cmap(mesh.norm(v))[:3] for v in (1.0, 0.0, -1.0))
    assert purple[2] > purple[1] and green[1] > green[0]
    assert min(pale) > 0.9
    # Without numbers the middle is the page itself.
    bare = figures.heat_map([[1.0, 0.0]], ["a"], ["b", "c"])
    purple, nothing, green = (bare.cmap(bare.norm(v)) for v in (1.0, 0.0, -1.0))
    assert nothing[3] < 0.02 and purple[3] == green[3] == 1
    assert purple[2] > purple[1] and green[1] > green[0]


def test_small_inner_products_are_seen_on_a_logarithmic_scale():
    for linear, seen in ((None, False), (1.0, True)):
        mesh = figures.heat_map([[1000.0, -10.0]], ["a"], ["b", "c"], limit=1000, linear=linear)
        assert (mesh.cmap(mesh.norm(-10.0))[3] > 0.3) == seen
        assert mesh.cmap(mesh.norm(-10.0))[1] > 0.4
    figures.colorbar(mesh, mesh.axes, "inner product")
    marks = [t.get_text() for t in mesh.figure.axes[-1].get_yticklabels()]
    assert {"$-10^{3}$", "$-10^{0}$", "0", "$10^{0}$", "$10^{3}$"} <= set(marks)


def test_labels_must_fit_the_matrix():
    with pytest.raises(ValueError, match=r"a matrix \(1, 2\) with 1 and 1 labels"):
        figures.heat_map([[1.0, 0.0]], ["a"], ["b"])
    with pytest.raises(ValueError, match="limit=0"):
        figures.heat_map([[1.0]], ["a"], ["b"], limit=0)


def test_a_token_of_spaces_is_shown():
    ax = figures.heat_map([[1.0]], ["  "], ["x"]).axes
    assert ax.get_yticklabels()[0].get_text() == "␣"


def parts(*values):
    return pd.DataFrame({"kind": KINDS, "value": values})


def test_bars_of_a_row_end_at_their_sums_on_either_side():
    totals = pd.DataFrame({"value": [0.25], "low": [0.1], "high": [0.4]})
    ax = figures.stacked_parts({"now": parts(-0.5, 0.0, 1.0, -0.25)}, totals)
    widths = [bar.get_width() for bar in ax.patches[:4]]
    assert widths == [-0.5, 0.0, 1.0, -0.25]
    assert min(bar.get_x() + bar.get_width() for bar in ax.patches[:4]) == pytest.approx(-0.75)
    dot = next(line for line in ax.lines if line.get_marker() == "o")
    assert list(dot.get_xdata()) == [0.25]


def test_parts_that_do_not_add_up_are_refused():
    totals = pd.DataFrame({"value": [0.5], "low": [0.1], "high": [0.9]})
    with pytest.raises(ValueError, match=r"parts of 'now' sum to 0\.25"):
        figures.stacked_parts({"now": parts(-0.5, 0.0, 1.0, -0.25)}, totals)


def test_cosines_draws_a_dot_at_every_mean():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"kind": np.repeat(KINDS, 20), "cosine": rng.uniform(-1, 1, 80)})
    summary = pd.DataFrame({"kind": KINDS, "value": [-0.9, 0.0, 0.9, 0.1], "low": -1.0, "high": 1.0})
    ax = figures.cosines(table, summary)
    dots = [float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "o"]
    assert dots == [-0.9, 0.0, 0.9, 0.1]
    assert len(ax.collections) == 4


def test_suffix_has_a_marker_a_word_and_stage():
    rows = pd.DataFrame({"s": [1, 2], "value": [0.5, 0.1], "low": [0.4, -np.inf], "high": [0.6, np.inf]})
    ax = figures.suffix({"before": rows, "after": rows}, [" one", " two"])
    drawn = [line for line in ax.lines if line.get_label() in ("before", "after")]
    assert [list(line.get_ydata()) for line in drawn] == [[0.5, 0.1], [0.5, 0.1]]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["one", "two"]
    assert len(ax.collections[0].get_segments()) == 1  # an infinite interval is not drawn


def test_scatter_counts_what_a_log_axis_cannot_show():
    rows = pd.DataFrame({"surprise": [1.0, 2.0, 3.0], "inner": [1.0, -0.1, 2.0]})
    ax = figures.scatter_surprise({"now": rows})
    assert ax.get_legend().get_texts()[0].get_text() == "now (1 not above 0)"
    assert len(ax.collections[0].get_offsets()) == 2
    assert ax.get_xscale() == ax.get_yscale() == "log"
