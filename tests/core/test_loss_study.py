"""What the chapter on losses computes: ratios of weights, and paths of exact steps."""

import math

import pandas as pd
import pytest
import torch

from entanglement.loglinear import suffix_pairs
from entanglement.losses import get_loss, list_losses
from entanglement_book.studies.ch04_losses import study as loss_study


@pytest.fixture(scope="module")
def tangled():
    return suffix_pairs(5, 8, relation="scaled", strength=1.25, generator=torch.Generator().manual_seed(3))


def at(table, loss, nats):
    row = table[(table["loss"] == loss) & (table["fallen"] == nats)]
    return float(row["r"].iloc[0])


def test_ratios_after_a_fall_are_those_of_the_closed_forms():
    table = loss_study.fallen(["dpo", "bco", "nca", "dpop", "kto", "sppo", "rpo"], [0.0, 4.0, 40.0], beta=0.1)
    for t in (0.0, 4.0, 40.0):
        assert at(table, "dpo", t) == 1.0
        assert at(table, "bco", t) == pytest.approx(math.exp(0.1 * t))
        assert at(table, "nca", t) == pytest.approx(2 * math.exp(0.1 * t) - 1)
        assert at(table, "kto", t) == pytest.approx(1.0)
        assert at(table, "rpo", t) == pytest.approx(1 + 1 / (10 * 0.1 * 0.5))
    assert at(table, "dpop", 0.0) == 1.0 and at(table, "dpop", 4.0) == pytest.approx(51.0)
    assert at(table, "sppo", 4.0) == pytest.approx((5 + 4) / (5 - 4)) and at(table, "sppo", 40.0) < 0


def test_lengths_decide_where_losses_of_token_means_start():
    table = loss_study.at_reference(["dpo", "simpo", "ipo_norm"], lengths=(15, 10)).set_index("loss")
    assert table.loc["dpo", "r"] == 1.0
    assert table.loc["simpo", "r"] == pytest.approx(10 / 15)
    assert table.loc["ipo_norm", "r"] == pytest.approx(10 / 15)


@pytest.mark.parametrize("name", list_losses())
def test_one_exact_step_ends_in_the_case_that_the_weights_predict(tangled, name):
    rows = loss_study.one_step_cases(tangled, get_loss(name))
    assert len(rows) == 5 and (rows["measured"] == rows["predicted"]).all()


def test_predicting_with_equal_weights_is_wrong_for_unequal_ones(tangled):
    rows = loss_study.one_step_cases(tangled, get_loss("rpo"))
    assert set(rows["as_if_equal"]) == {"both_down"} and set(rows["measured"]) == {"both_up"}


def test_strict_losses_share_a_path_and_others_leave_it(tangled):
    walks = {
        name: loss_study.descend(tangled, get_loss(name), margin=1.0, stride=0.1)
        for name in ("dpo", "ipo", "rpo")
    }
    columns = ["step", "pair", "chosen", "rejected"]
    pd.testing.assert_frame_equal(walks["dpo"][columns], walks["ipo"][columns], rtol=1e-9)
    last = {name: walk.groupby("pair").last() for name, walk in walks.items()}
    assert (last["dpo"]["chosen"] < 0).all() and (last["rpo"]["chosen"] > 0).all()
    assert (last["dpo"]["margin"] >= 1.0).all()
    first = walks["dpo"][walks["dpo"]["step"] == 0]
    assert first["chosen"].abs().max() == 0 and (first["weighed"] - first["norm_ratio"]).abs().max() == 0


def test_a_step_is_as_long_as_the_stride_says(tangled):
    walk = loss_study.descend(tangled, get_loss("dpo"), margin=0.5, stride=0.01)
    one = walk[walk["pair"] == 0].sort_values("step")
    longest = one[["chosen", "rejected"]].diff().abs().max(axis=1).dropna()
    assert longest.between(0.009, 0.011).all()


def test_a_pair_that_no_longer_moves_stops(tangled):
    # The hinge rests once its margin is 1/β.
    walk = loss_study.descend(tangled, get_loss("hinge", beta=2.0), margin=5.0, stride=0.1)
    last = walk.groupby("pair").last()
    assert last["margin"].between(0.5, 0.8).all() and (last["d_w"] == 0).all()
