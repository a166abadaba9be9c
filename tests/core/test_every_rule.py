"""The table over everything that the chapters on untangling tried."""

import pandas as pd
import pytest

from entanglement_book.grids.load import load_tables
from entanglement_book.studies.ch11_one_number import grid as untangling
from entanglement_book.studies.ch12_which_tokens import grid as masking
from entanglement_book.studies.ch13_control import grid as controlling, tables as every_rule
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


def test_every_way_has_a_row_and_dpo_is_the_unit_of_cost(stored, lines):
    table = every_rule.every_rule(stored, lines)
    ways = len(untangling.UPDATES) + len(masking.WEIGHERS) - 1 + len(controlling.WAYS) - 1
    assert len(table) == ways and not table.isna().any().any()
    assert table.loc["DPO itself", ["time", "memory"]].tolist() == ["1.0", "1.0"]
    assert table.loc["PCGrad", ["time", "memory"]].tolist() == ["2.0", "1.5"]
    assert table.loc["DPOP (a loss)", "time"] == "1.0"
    own = stored["untangling"]
    alone = end_table(own["means"], own["answers"], {"joint": "DPO itself"})
    assert table.loc["DPO itself", alone.columns].tolist() == alone.iloc[0].tolist()


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


def test_a_line_that_was_not_measured_is_named(stored, lines):
    some = [line for line in lines if "split" not in line["ours"]]
    with pytest.raises(ValueError, match="split"):
        every_rule.every_rule(stored, some)


def test_rows_of_a_request_come_with_those_of_ways_without_one(stored):
    rows = every_rule.control_means(stored["controlling"]["means"], "chosen")
    assert set(rows["update"]) == {"itself", "batch", "kto", "apo_zero", "adversarial"}


def test_an_adversarial_step_costs_two_of_dpo_after_the_head_start():
    steps = pd.DataFrame({"seed": [0] * 3, "step": [1, 2, 3], "passes": [68.0, 80.0, 92.0]})
    assert every_rule.adversarial_cost(steps).tolist() == pytest.approx([68 / 6, 80 / 6, 92 / 6])
