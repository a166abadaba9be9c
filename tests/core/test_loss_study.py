"""What the chapter on losses computes: ratios of weights, and paths of exact steps."""

import math

import pandas as pd
import pytest
import torch

from entanglement.loglinear import suffix_pairs
from entanglement.losses import get_loss, list_losses, loss_specs
from entanglement_book.studies.ch04_losses import loss_groups, numbers as loss_numbers, study as loss_study


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


def test_the_start_decides_for_losses_without_a_reference():
    def r(name, start):
        return float(loss_study.at_reference([name], (10, 10), start)["r"].iloc[0])

    level, ahead, behind = (-12.0, -12.0), (-12.0, -14.0), (-14.0, -12.0)
    assert [r("slic_hf", s) for s in (level, ahead, behind)] == pytest.approx([1.1, math.inf, 1.1])
    assert [r("rrhf", s) for s in (level, ahead, behind)] == pytest.approx([math.inf, math.inf, 2.0])
    assert r("orpo", level) == pytest.approx(14.976, abs=1e-3) and r("orpo", ahead) > 18
    assert r("cpo", level) == pytest.approx(3.0) and r("cpo", ahead) > 3.2
    for name in ("dpo", "rpo", "simpo", "dpo_shift", "kto"):
        assert r(name, level) == pytest.approx(r(name, ahead)) == pytest.approx(r(name, behind))


def test_losses_find_their_groups_by_their_paths(tangled):
    wanted = {
        "one": ["dpo", "ipo"],
        "means": ["simpo"],
        "constant": ["dpo_shift"],
        "falls": ["fdpo_js"],
        "rises": ["nca"],
        "jumps": ["dpop"],
        "pull": ["rpo"],
        "sft": ["orpo", "sft"],
        "zero": ["apo_down"],
        "negative": ["discopop"],
    }
    specs = {spec.name: spec for spec in loss_specs()}
    walks = {
        name: loss_study.descend(tangled, get_loss(name), margin=1.0, stride=0.1, steps=60)
        for names in wanted.values()
        for name in names
    }
    assert loss_groups.grouped(walks, specs) == wanted


def test_margins_that_fall_behind_a_falling_loss_are_counted():
    rows = [
        {"pair": p, "step": s, "margin": m, "value": v}
        for p, margins, values in (
            (0, (0.0, -0.2, 1.0), (1.0, 0.9, 0.8)),  # behind, and the loss falls
            (1, (0.0, 0.1, -0.2), (1.0, 0.9, 0.8)),  # behind too late
            (2, (0.0, -0.2, 0.0), (1.0, 1.1, 0.8)),  # the loss rises
            (3, (0.0, 0.2, 0.4), (1.0, 0.9, 0.8)),
        )
        for s, m, v in zip(range(3), margins, values, strict=True)
    ]
    found = loss_numbers.fell_behind(pd.DataFrame(rows), stride=1.0, way=1.0)
    assert found.value == 0.25 and found.n == 4


def test_orpo_s_margin_falls_while_its_loss_does_and_dpo_s_does_not(tangled):
    walks = {n: loss_study.descend(tangled, get_loss(n), stride=0.1, steps=30) for n in ("orpo", "dpo")}
    assert loss_numbers.fell_behind(walks["orpo"], 0.1).value == 1.0
    assert loss_numbers.fell_behind(walks["dpo"], 0.1).value == 0.0


def test_a_walk_has_its_loss_and_what_its_weights_were_multiplied_by(tangled):
    walk = loss_study.descend(tangled, get_loss("dpop"), margin=2.0, stride=0.05)
    first = walk[walk["step"] == 0]
    assert first["value"].tolist() == pytest.approx([math.log(2)] * 5)
    r = loss_groups.effective_ratio(walk)
    assert len(r) == 5 and r.between(1, 1.4).all()  # it switches between 1 and 51
    last = walk.groupby("pair").last()
    assert last["chosen"].abs().max() < 0.06 and (last["margin"] >= 2).all()


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
