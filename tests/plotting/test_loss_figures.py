"""Figures of the chapter on losses."""

from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from entanglement.loglinear import suffix_pairs
from entanglement.losses import get_loss
from entanglement_book.drawing import CASE_COLORS
from entanglement_book.studies.ch04_losses import figures as draw, study as loss_study


@pytest.fixture(scope="module")
def followed():
    pairs = suffix_pairs(1, 6, relation="scaled", strength=1.25, generator=torch.Generator().manual_seed(0))
    names = ("dpo", "ipo", "rpo", "sft", "apo_down", "discopop")
    return {n: loss_study.descend(pairs, get_loss(n), margin=1.0, stride=0.1, steps=40) for n in names}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_equal_curves_are_one_group(followed):
    table = pd.concat(walk.assign(loss=name) for name, walk in followed.items())
    groups = draw.group_curves(table, "loss", "step", ["chosen", "rejected"])
    assert ["dpo", "ipo"] in groups and ["rpo"] in groups


def test_the_band_has_a_row_a_loss_colored_by_its_case(followed):
    titles = {name: name.upper() for name in followed}
    (ax,) = draw.band(followed, titles).axes
    assert [t.get_text() for t in ax.get_yticklabels()] == list(titles.values())
    rho = followed["dpo"]["cosine"].iloc[0]
    rings = {float(line.get_ydata()[0]): line for line in ax.lines if line.get_markerfacecolor() == "none"}
    for height, name in enumerate(followed):
        if name in ("dpo", "rpo"):
            x = float(rings[height].get_xdata()[0])
            case = "both_down" if x < rho else "both_up" if x > 1 / rho else "ideal"
            assert rings[height].get_color() == CASE_COLORS[case] and case == followed[name]["case"].iloc[0]
    crosses = [line for line in ax.lines if line.get_marker() == "X"]
    assert len(crosses) == 1 and float(crosses[0].get_ydata()[0]) == 5  # DiscoPOP's negative weights


def test_labels_keep_apart_and_inside():
    places = draw._spread([0.5, 0.5, 0.51, 0.99, 1.0], 0.1)
    ordered = sorted(places)
    assert min(b - a for a, b in pairwise(ordered)) >= 0.1 - 1e-9
    assert ordered[0] >= 0 and ordered[-1] <= 1


def test_a_ratio_that_turns_negative_ends_its_line_with_a_cross():
    table = loss_study.fallen(["dpo", "sppo"], [0.0, 1.0, 2.0, 6.0, 10.0], beta=0.1)
    ax = draw.ratios(table, {"dpo": "DPO", "sppo": "SPPO"})
    (cross,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert float(cross.get_xdata()[0]) == 2.0
    assert {"DPO", "SPPO"} <= {text.get_text() for text in ax.texts}


def test_paths_stay_inside_their_axes(followed):
    some = {name: followed[name] for name in ("dpo", "rpo")}
    (ax,) = draw.paths(some, limit=0.5).axes
    assert ax.get_xlim() == (-0.5, 0.5) and {t.get_text() for t in ax.texts} == {"dpo", "rpo"}
