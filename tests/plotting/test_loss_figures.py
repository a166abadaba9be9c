"""Figures of the chapter on losses."""

from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from entanglement.loglinear import suffix_pairs
from entanglement.losses import get_loss, loss_specs
from entanglement.stats import Interval
from entanglement_book.drawing import CASE_COLORS
from entanglement_book.studies.ch04_losses import figures as draw, loss_groups, study as loss_study

SPECS = {spec.name: spec for spec in loss_specs()}
TANGLED = suffix_pairs(1, 6, relation="scaled", strength=1.25, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def followed():
    names = ("dpo", "ipo", "rpo", "sft", "apo_down", "discopop")
    return {n: loss_study.descend(TANGLED, get_loss(n), margin=1.0, stride=0.1, steps=40) for n in names}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_equal_curves_are_one_group(followed):
    table = pd.concat(walk.assign(loss=name) for name, walk in followed.items())
    groups = draw.group_curves(table, "loss", "step", ["chosen", "rejected"])
    assert ["dpo", "ipo"] in groups and ["rpo"] in groups


def circles(ax, filled):
    return [
        line
        for line in ax.lines
        if line.get_marker() == "o" and (line.get_markerfacecolor() != "none") == filled
    ]


def test_the_bands_have_a_row_for_each_group_with_its_losses(followed):
    titles = {name: name.upper() for name in followed}
    groups = loss_groups.grouped(followed, SPECS)
    (ax,) = draw.bands(followed, groups, titles).axes
    words = [text.get_text() for text in ax.texts]
    for kind, names in groups.items():
        assert loss_groups.GROUPS[kind] in words
        assert any(" · ".join(titles[name] for name in names) == line for line in words)
    heights = {float(line.get_ydata()[0]) for line in ax.lines if line.get_marker() in "oX<>"}
    assert len(heights) == len(groups)


def test_rings_and_dots_stand_at_r_in_the_color_of_the_case(followed):
    one = {"rpo": followed["rpo"]}
    (ax,) = draw.bands(one, {"pull": ["rpo"]}, {"rpo": "RPO"}).axes
    for filled, at in ((False, 0), (True, -1)):
        (mark,) = circles(ax, filled)
        row = followed["rpo"].iloc[at]
        assert float(mark.get_xdata()[0]) == pytest.approx(row["r"])
        assert mark.get_color() == CASE_COLORS[row["case"]]
    start = followed["rpo"].iloc[0]
    inner = [patch for patch in ax.patches if patch.get_facecolor()[3] == 0.28]
    left = inner[0].get_xy() if hasattr(inner[0], "get_xy") else None
    assert float(left[0]) == pytest.approx(start["cosine"] * start["norm_ratio"])
    assert float(inner[0].get_width()) == pytest.approx(
        start["norm_ratio"] * (1 / start["cosine"] - start["cosine"])
    )


def test_a_jumping_ratio_has_its_ends_and_the_ratio_of_all_its_weights():
    pairs = suffix_pairs(1, 8, relation="scaled", strength=1.25, generator=torch.Generator().manual_seed(3))
    walk = loss_study.descend(pairs, get_loss("dpop"), margin=1.0, stride=0.1, steps=40)
    (ax,) = draw.bands({"dpop": walk}, {"jumps": ["dpop"]}, {"dpop": "DPOP"}).axes
    (diamond,) = [line for line in ax.lines if line.get_marker() == "D"]
    mean = float(loss_groups.effective_ratio(walk).iloc[0])
    assert float(diamond.get_xdata()[0]) == pytest.approx(mean) and 1 < mean < 51
    assert len(circles(ax, True)) == 1  # its end has a mark
    assert {round(float(line.get_xdata()[0])) for line in ax.lines if line.get_marker() == "|"} == {1, 51}


def test_negative_weights_are_a_cross(followed):
    groups = {"negative": ["discopop"]}
    (ax,) = draw.bands(followed, groups, {"discopop": "D"}).axes
    assert [line.get_marker() for line in ax.lines if line.get_marker() in "oX"] == ["X"]


def test_ends_stand_at_the_change_and_the_missing_are_named():
    found = {"dpo": Interval(-1.5, -1.6, -1.4, 9), "dpop": Interval(0.5, 0.4, 0.6, 9)}
    groups = {"one": ["dpo"], "jumps": ["dpop"], "negative": ["discopop"]}
    (ax,) = draw.ends(found, groups, {"dpo": "DPO", "dpop": "DPOP", "discopop": "DiscoPOP"}).axes
    dots = {float(dot.get_xdata()[0]): dot.get_color() for dot in circles(ax, True)}
    assert dots == {-1.5: CASE_COLORS["both_down"], 0.5: CASE_COLORS["ideal"]}
    assert "did not get there" in [text.get_text() for text in ax.texts]


def test_labels_keep_apart_and_inside():
    places = draw._spread([0.5, 0.5, 0.51, 0.99, 1.0], 0.1)
    ordered = sorted(places)
    assert min(b - a for a, b in pairwise(ordered)) >= 0.1 - 1e-9
    assert ordered[0] >= 0 and ordered[-1] <= 1


def test_a_panel_for_each_way_of_noticing():
    table = loss_study.fallen(["dpo", "bco", "sppo", "dpop", "rpo"], [0.0, 1.0, 2.0, 6.0, 10.0], beta=0.1)
    kinds = loss_groups.noticing(table)
    assert kinds == {"flat": ["dpo", "rpo"], "grows": ["bco"], "turns": ["sppo"], "steps": ["dpop"]}
    titles = {"dpo": "DPO", "bco": "BCO (pair)", "sppo": "SPPO", "dpop": "DPOP", "rpo": "RPO"}
    axes = draw.notices({"now": table}, kinds, titles).axes
    assert [ax.get_title("left") or ax.get_title() for ax in axes] == [
        loss_groups.NOTICES[kind] for kind in kinds
    ]
    (cross,) = [line for line in axes[2].lines if line.get_marker() == "x"]
    assert float(cross.get_xdata()[0]) == 2.0  # where r turns negative, the line ends
    assert [text.get_text() for text in axes[1].texts] == ["BCO"]
    labels = {text.get_text(): text.xy[1] for text in axes[0].texts}
    assert set(labels) == {"DPO", "RPO"} and labels["RPO"] > labels["DPO"]


def test_paths_stay_inside_their_axes(followed):
    some = {name: followed[name] for name in ("dpo", "rpo")}
    (ax,) = draw.paths(some, left=("dpo",)).axes
    assert {t.get_text(): t.get_ha() for t in ax.texts if t.get_text() in some} == {
        "dpo": "right",
        "rpo": "left",
    }
    (ax,) = draw.paths(some, limit=0.5).axes
    assert ax.get_xlim() == (-0.5, 0.5) and {t.get_text() for t in ax.texts} >= {"dpo", "rpo"}
