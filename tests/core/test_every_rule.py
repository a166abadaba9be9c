"""Everything that the chapters on untangling tried, side by side."""

import numpy as np
import pandas as pd
import pytest

from entanglement.stats import Interval
from entanglement_book.grids.load import load_tables
from entanglement_book.studies.ch11_one_number import grid as untangling
from entanglement_book.studies.ch12_which_tokens import grid as masking
from entanglement_book.studies.ch13_control import grid as controlling, numbers, tables as every_rule
from entanglement_book.studies.shared.constant_ratios import as_ways
from entanglement_book.studies.shared.titles import UPDATE_TITLES, WAY_TITLES, WEIGHER_TITLES
from entanglement_book.studies.shared.update_tables import end_table


@pytest.fixture(scope="module")
def stored():
    return {grid: load_tables(grid, "smoke") for grid in ("untangling", "masking", "controlling")}


@pytest.fixture
def lines():
    some = {"ratio": 0.5, "peak_mb": 30.0, "their_peak_mb": 20.0}
    ways = [*UPDATE_TITLES, *WEIGHER_TITLES, *WAY_TITLES]
    names = {every_rule.cost_line(way) for way in ways if way != "everything"} - {None}
    return [{"ours": f"{name}, nano"} | some for name in sorted(names)]


def test_every_way_of_the_grids_has_a_title_and_no_title_is_left_over():
    assert list(UPDATE_TITLES) == list(untangling.UPDATES)
    assert list(WEIGHER_TITLES) == list(masking.WEIGHERS)
    assert list(WAY_TITLES) == list(controlling.WAYS)


@pytest.mark.parametrize(
    ("way", "line"),
    [
        ("normalized", "normalized"),
        ("pcgrad", "normalized"),
        ("mgda", "normalized"),
        ("normalized-metric", "normalized in AdamW's metric"),
        ("normalized-batch", "normalized, batch"),
        ("band-25", "clipped to the band"),
        ("split", "split"),
        ("two", "tokens by two references"),
        ("all", "decoupled, all responses"),
        ("adversarial", "adversarial"),
        ("dpop", None),
    ],
)
def test_a_way_costs_what_its_line_of_the_benchmark_measured(way, line):
    assert every_rule.cost_line(way) == line


def test_a_way_that_is_no_update_is_not_taken_for_a_losss_own_step():
    with pytest.raises(ValueError, match="'another' is not known"):
        every_rule.cost_line("another")


CONSTANT = "r = 1.0025"


@pytest.fixture(scope="module")
def constants():
    return as_ways(load_tables("ratio", "smoke")["means"])


def test_every_way_has_a_row_and_dpo_is_the_unit_of_cost(stored, lines, constants):
    table = every_rule.every_rule(stored, lines, constants, CONSTANT)
    ways = len(untangling.UPDATES) + len(masking.WEIGHERS) - 1 + len(controlling.WAYS) - 1
    assert len(table) == ways + 1 and not table.isna().any().any()  # and the constant
    for title in ("DPO", f"{CONSTANT} for all pairs"):
        assert table.loc[title, ["time", "memory"]].tolist() == ["1.0", "1.0"]
    assert table.loc["PCGrad", ["time", "memory"]].tolist() == ["2.0", "1.5"]
    assert table.loc["DPOP", "time"] == "1.0"
    own = stored["untangling"]
    alone = end_table(own["means"], own["answers"], {"joint": "DPO"})
    assert table.loc["DPO", alone.columns].tolist() == alone.iloc[0].tolist()


def made(**margins):
    """Two seeds of ways whose margin grows linearly to a value at step 4, half of it by the chosen answer."""
    rows = []
    for name, (top, pull) in margins.items():
        for seed in (0, 1):
            for step in range(5):
                margin = top * (1 + 0.5 * seed) * step / 4
                row = {"update": name, "seed": seed, "step": step, "set": "test", "rate": 1.0}
                row |= {"optimizer": "adamw", "margin": margin, "chosen": pull * margin}
                row |= {"rejected": (pull - 1) * margin, "fell": 0.1, "rose": 0.2}
                rows.append(row | {"accuracy": 0.5 + 0.1 * step})
    return pd.DataFrame(rows)


def test_a_way_stands_beside_its_rivals_at_its_own_margin():
    means = made(way=(1.0, 0.75), rival=(2.0, 0.5), short=(0.6, 0.5))
    longer = means[(means["update"] == "short") & (means["step"] == 4)].assign(step=9, margin=3.0)
    means = pd.concat([means, longer])  # what it gains by more steps than the way's does not count
    found = every_rule.at_equal_margin(means, ["way", "rival", "short"], 1.0, itself="way")
    # The rival is there after half of the steps; both are at margins 1 and 1.5.
    assert found["way"]["chosen"].value == pytest.approx(0.75 * 1.25)
    assert found["way"]["gain"].value == pytest.approx(0.25 * 1.25)  # the rejected answer's
    assert found["rival"]["gain"].value == pytest.approx(0.5 * 1.25)
    assert found["rival"]["accuracy"].value == pytest.approx(0.7)
    assert found["short"] == 0  # seeds that got there
    gap = every_rule.beside_a_way(means, "way", "rival", "gain")
    assert gap.value == pytest.approx(-0.25 * 1.25) and gap.n == 2
    assert every_rule.beside_a_way(means, "way", "rival", "accuracy").value == pytest.approx(0.2)
    with pytest.raises(ValueError, match="finite"):
        every_rule.beside_a_way(means, "way", "short", "gain")
    rows = every_rule.at_own_margins(means, {"way": "W"}, {"rival": ("R", "number"), "short": ("S", "loss")})
    assert list(rows) == ["W", "R at 1.25", "S at 1.25"] and rows["S at 1.25"] == ("loss", 0)
    assert rows["R at 1.25"][1]["chosen"].value == pytest.approx(0.5 * 1.25)


def test_a_way_that_one_seed_keeps_from_the_margin_is_counted():
    means = made(way=(1.0, 0.5), late=(1.2, 0.5))
    means.loc[(means["update"] == "late") & (means["seed"] == 1), "margin"] *= 0.5
    assert every_rule.at_equal_margin(means, ["late"], 0.9, itself="way") == {"late": 1}


def test_the_start_and_an_early_stop_have_rows_of_their_own(stored, constants):
    means = every_rule.together(stored, constants)
    early = means[(means["update"] == "joint") & (means["set"] == "test") & (means["step"] == 1)]
    rows = every_rule.rows_at_end(means, early, CONSTANT)
    titles = list(rows)
    assert titles[:4] == ["before training", "DPO", "DPO, stopped early", f"{CONSTANT} for all pairs"]
    assert set(titles) == set(every_rule.families(CONSTANT))
    assert rows["before training"]["chosen"].value == 0 and rows["DPO"]["chosen"].value != 0
    assert rows["DPO, stopped early"]["chosen"].value == pytest.approx(early["chosen"].mean())
    own = stored["untangling"]["means"]
    first = own[(own["update"] == "band") & (own["set"] == "test") & (own["step"] == 0)]
    accuracy = first.groupby("seed")["accuracy"].mean().mean()
    assert rows["before training"]["accuracy"].value == pytest.approx(accuracy)
    assert all(
        isinstance(i, Interval) and np.isfinite(i.value) for row in rows.values() for i in row.values()
    )


def test_training_on_all_tokens_is_dpo_itself(stored):
    masks, own = stored["masking"]["means"], stored["untangling"]["means"]
    one = masks[masks["weights"] == "everything"]
    other = own[(own["update"] == "joint") & (own["rate"] == 1) & (own["optimizer"] == "adamw")]
    keys = ["seed", "set", "step"]
    both = one.set_index(keys)["margin"] - other.set_index(keys)["margin"]
    assert len(both) > 4 and abs(both).max() < 1e-4


def test_kto_without_an_estimate_of_the_kl_is_apo_zero(stored):
    means = stored["controlling"]["means"]
    kto, apo = (
        means[means["way"] == name].drop(columns="way").reset_index(drop=True) for name in ("kto", "apo_zero")
    )
    pd.testing.assert_frame_equal(kto, apo, rtol=1e-4, atol=1e-4)


def test_a_line_that_was_not_measured_is_named(stored, lines, constants):
    some = [line for line in lines if "split" not in line["ours"]]
    with pytest.raises(ValueError, match="split"):
        every_rule.every_rule(stored, some, constants, CONSTANT)


def test_rows_of_a_request_come_with_those_of_ways_without_one(stored):
    rows = every_rule.control_means(stored["controlling"]["means"], "chosen")
    assert set(rows["update"]) == {"itself", "batch", "kto", "apo_zero", "adversarial"}


def test_an_adversarial_step_costs_two_of_dpo_after_the_head_start():
    steps = pd.DataFrame({"seed": [0] * 3, "step": [1, 2, 3], "passes": [68.0, 80.0, 92.0]})
    assert every_rule.adversarial_cost(steps).tolist() == pytest.approx([68 / 6, 80 / 6, 92 / 6])


def test_what_the_text_quotes_of_ways_with_requests_and_of_dpo_stopped_there():
    pulls = {
        "itself": (0.4, 0.6),
        "batch": (0.8, 0.6),
        "all": (0.5, 0.6),
        "joint": (1.6, -0.3),
        CONSTANT: (2.0, 0.5),
    }
    means = made(**pulls)
    means.loc[(means["update"] == "itself") & (means["step"] > 0), "accuracy"] += 0.2
    found = numbers.of_everything(means, CONSTANT)
    assert found["itself_margin"].value == pytest.approx(0.4 * 1.25) and found["itself_fell"] == 10
    assert found["stopped_step"] == pytest.approx(1.0)  # a quarter of DPO's margin
    assert found["n_steps"] == means["step"].max()
    assert found["stopped_chosen"] == pytest.approx(-0.3 * 0.5)
    assert found["itself_gain_dpo"].value == pytest.approx((0.4 + 0.3) * 0.5)
    assert found["itself_gain_number"].value == pytest.approx((0.4 - 0.5) * 0.5)
    assert found["itself_accuracy_number"].value == pytest.approx(100 * (1.1 - 0.58))
    assert found["accuracy_before"] == pytest.approx(50) and found["accuracy_joint"] == pytest.approx(90)
    assert found["accuracy_change_itself"].value == pytest.approx(60)
