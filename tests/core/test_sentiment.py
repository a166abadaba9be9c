"""The sentiment grid's cells, and the tables that the chapter reads from them."""

import pandas as pd
import pytest

from entanglement.training.account import TERMS
from entanglement_book.grids.grid import GRIDS
from entanglement_book.studies.ch08_sentiment import grid as sentiment, tables

CELL = {"condition": "main", "variant": "short_suffix", "seed": 1}


@pytest.fixture(scope="module")
def cell(short_runs):
    """The tables of one smoke-sized run of nano."""
    return GRIDS["sentiment"].compute("smoke", "nano", CELL)


def test_a_cell_measures_before_between_and_after(cell):
    means = cell["means"]
    recipe = sentiment.recipe("smoke")
    assert list(means[means["phase"] == "sft"]["step"]) == [0, recipe.sft_steps]
    assert list(means[means["phase"] == "dpo"]["step"]) == list(recipe.moments)
    between = means[
        ((means["phase"] == "sft") & (means["step"] > 0)) | ((means["phase"] == "dpo") & (means["step"] == 0))
    ]
    assert between["chosen_logp"].nunique() == 1  # the same model, measured twice
    assert set(cell["account"]["set"]) == {"batch", "test"}
    assert means[["condition", "variant", "seed"]].drop_duplicates().values.tolist() == [
        ["main", "short_suffix", 1]
    ]


def test_one_thread_and_one_seed_give_the_same_numbers(cell):
    again = GRIDS["sentiment"].compute("smoke", "nano", CELL)
    pd.testing.assert_frame_equal(again["means"], cell["means"], check_exact=True)


def test_the_grid_holds_every_condition_with_enough_seeds():
    cells = pd.DataFrame(sentiment.grid_cells("book"))
    assert set(cells["condition"]) == set(sentiment.CONDITIONS)
    assert cells.groupby(["condition", "variant"])["seed"].nunique().min() >= 5
    assert set(cells[cells["condition"] == "eos"]["variant"]) == {"one_token"}
    assert set(pd.DataFrame(sentiment.grid_cells("book", "smollm2-135m"))["condition"]) == {"main"}


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="smoke, book or paper"):
        sentiment.recipe("huge")
    with pytest.raises(ValueError, match="condition='other'"):
        sentiment.run_cell("smoke", "nano", {"condition": "other", "variant": "one_token", "seed": 0})


def _means():
    """Two seeds, two variants, two steps, by hand."""
    rows = []
    for variant, fall in (("one_token", 0.0), ("long_suffix", -1.0)):
        for seed in (0, 1):
            for step in (0, 8):
                rows.append(
                    {
                        "condition": "main",
                        "variant": variant,
                        "seed": seed,
                        "phase": "dpo",
                        "step": step,
                        "chosen_logp": -5.0 * seed + fall * step / 8 + 0.1 * seed * (step > 0),
                    }
                )
    return pd.DataFrame(rows)


def test_changes_are_taken_seed_by_seed():
    curve = tables.along_training(_means(), "chosen_logp", change=True)
    end = tables.value_at(curve, "long_suffix")
    assert end.value == pytest.approx(-0.95)
    assert end.n == 2
    # Seeds start 5 nats apart; that spread is not in the change.
    assert end.high - end.low < 2
    assert tables.value_at(curve, "one_token", 0).value == 0


def test_a_difference_of_variants_pairs_the_seeds():
    gap = tables.difference(_means(), "chosen_logp", "one_token", "long_suffix", change=True)
    assert gap.value == pytest.approx(1.0)
    assert gap.low == pytest.approx(1.0)  # the same in both seeds


def test_the_authors_ratio_misses_a_rejected_response_that_rises():
    rows = []
    for phase, step in (("sft", 0), ("sft", 4), ("dpo", 0), ("dpo", 8)):
        for variant in ("one_token", "short_suffix", "long_suffix"):
            for seed in (0, 1):
                # a = 2, b = 1, c = 1.8: above b² and below a².
                rows.append(
                    {
                        "condition": "main",
                        "variant": variant,
                        "seed": seed,
                        "phase": phase,
                        "step": step,
                        "chosen_norm": 2.0,
                        "rejected_norm": 1.0,
                        "cosine": 0.9,
                    }
                )
    table = tables.ratio_table(pd.DataFrame(rows))
    assert (table["c/‖g_w‖²"] == "0.45 [0.45, 0.45]").all()
    assert (table["c/min(‖g_w‖², ‖g_l‖²)"] == "1.80 [1.80, 1.80]").all()
    assert (table["share of pairs: first above 1"] == "0.00 [0.00, 0.00]").all()
    assert (table["share of pairs: second above 1"] == "1.00 [1.00, 1.00]").all()


def test_account_terms_sum_to_the_total(cell):
    shares = tables.account_shares(cell["account"])
    for _, rows in shares.groupby(["variant", "set"]):
        values = rows.set_index("term")["value"]
        assert values[list(TERMS)].sum() == pytest.approx(values["total"], abs=1e-9)
    total = tables.account_total(shares, "batch", "short_suffix")
    row = shares[(shares["set"] == "batch") & (shares["term"] == "total")].iloc[0]
    assert (total.value, total.n) == (row["value"], row["n"])
    with pytest.raises(ValueError, match="0 totals for set='batch', variant='long_suffix'"):
        tables.account_total(shares, "batch", "long_suffix")


def test_a_condition_with_one_variant_makes_a_table_of_one_row():
    means = _means()
    some = means[means["variant"] == means["variant"].iloc[0]].assign(cosine=0.5)
    sft = some.assign(phase="sft")
    assert len(tables.at_the_ends(pd.concat([some, sft]), "cosine")) == 1
