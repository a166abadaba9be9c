"""The numbers of which tokens matter: who falls, what finds the contrast, and masks beside one constant."""

import pandas as pd
import pytest

from entanglement.models import load_model
from entanglement.pairs import PreferencePair
from entanglement_book.studies.ch12_which_tokens import grid_positions as positions, numbers
from entanglement_book.studies.shared.constant_ratios import best_ratio, constant


@pytest.fixture(scope="module")
def nano():
    return load_model("nano")[1]


def pair_rows(weights, pair, label, suffix, before, seed=0):
    """Return the rows of one pair: the chosen answer's changes, and its label's lead before training."""
    base = {"weights": weights, "seed": seed, "pair": pair, "shared_before": -5.0}
    chosen = {"response": "chosen", "contrasting": label, "shared": suffix, "contrasting_before": before}
    rejected = {"response": "rejected", "contrasting": 0.0, "shared": 0.0, "contrasting_before": 0.0}
    return [base | chosen, base | rejected]


@pytest.fixture
def crosstab():
    rows = []
    for seed in (0, 1):
        for weights in ("everything", "contrasting"):
            rows += pair_rows(weights, "wrong", -1.0, 0.5, -2.0, seed)
            rows += pair_rows(weights, "right", -1.0, 0.5, 2.0, seed)
            rows += pair_rows(weights, "suffix", 0.1, -0.5, 2.0, seed)
            rows += pair_rows(weights, "suffix, wrong", -0.04, -0.02, -2.0, seed)
            rows += pair_rows(weights, "kept", -1.0, 0.96, 2.0, seed)  # by less than the tolerance
    return pd.DataFrame(rows)


def test_each_fallen_pair_has_one_fate(crosstab):
    row = numbers.fates(crosstab).iloc[0]
    assert row[["pairs", "fell", "all_wrong", "fell_wrong"]].tolist() == [5, 4, 2, 2]
    assert row[list(numbers.FATES)].tolist() == [1, 1, 2]
    facts = numbers.of_fates(crosstab)
    assert facts["wrong_all"].value == pytest.approx(40)
    assert facts["wrong_among_contrasting"].value == pytest.approx(50)
    assert (facts["if_wrong_contrasting"], facts["if_right_contrasting"]) == pytest.approx((100, 200 / 3))
    assert facts["suffix_contrasting"].value == pytest.approx((0.5 + 0.5 - 0.5 - 0.02 + 0.96) / 5)
    assert facts["suffix_only_contrasting"].value == pytest.approx(50)
    assert numbers.fate_counts(crosstab, {"contrasting": "told"})["told"]["suffix_only"] == 4


def test_places_and_words_are_known_by_how_often_they_are_contrasting(nano):
    pairs = [
        PreferencePair("a", " positive text", " negative text"),
        PreferencePair("b", " text positive", " text negative"),
        PreferencePair("c", " positive text", " negative text"),
    ]
    places, words = positions.known_shares(pairs, nano)
    assert places == pytest.approx({0: 2 / 3, 1: 1 / 3})
    assert words == {" positive": 1.0, " negative": 1.0, " text": 0.0}


@pytest.mark.parametrize("kind", positions.TEMPLATES)
def test_the_answers_of_a_kind_differ_in_one_token_at_its_places(nano, kind):
    places = set()
    for pair in positions.placed_pairs(kind, "test", 40, 1):
        one, other = (nano(text)["input_ids"] for text in (pair.chosen, pair.rejected))
        apart = [place for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        assert len(apart) == 1 and len(one) == (14 if kind == "copies" else 10)
        places.add(apart[0])
    wanted = {"first": {0}, "middle": {4}, "last": {9}, "mixed": {0, 4, 9}, "copies": {0, 8, 13}}
    assert places == wanted[kind]


def found_rows(trained, tested, seed, mask, place, copies=float("nan")):
    base = {"trained": trained, "tested": tested, "seed": seed, "pairs": 16.0}
    base |= {"inside": 0.9 if trained == "mixed" else 0.0, "outside": 0.2}
    rows = (("mask", mask), ("place", place), ("word", 0.5))
    return [base | {"by": by, "found": value, "copies": copies} for by, value in rows]


def test_the_worst_place_and_another_than_the_trained_one_judge_the_mask():
    rows = []
    for seed, worst in ((0, 0.7), (1, 0.8)):
        for tested, mask in (("first", 1.0), ("middle", worst), ("last", 0.9), ("copies", 0.1)):
            rows += found_rows("mixed", tested, seed, mask, 0.6, copies=0.3)
            place = 1.0 if tested == "first" else 0.4
            rows += found_rows("first", tested, seed, mask - 0.1, place, copies=0.1)
    found = pd.DataFrame(rows)
    facts = numbers.of_places(found)
    assert facts["mixed"].value == pytest.approx(0.75) and facts["mixed_place"] == pytest.approx(0.6)
    assert facts["elsewhere"].value == pytest.approx(0.65)
    assert facts["elsewhere_place"] == pytest.approx(0.4)  # not the trained place's own 1.0
    assert facts["copies"].value == facts["copies_word"] == pytest.approx(0.3)
    assert facts["copies_first"].value == pytest.approx(0.1)
    assert (facts["mixed_in"], facts["mixed_out"]) == pytest.approx((0.9, 0.2))


def training(update_column, name, gains, extra=None):
    rows = []
    for seed in (0, 1):
        for step, part in ((0, 0.0), (32, 1.0)):
            for pairs in ("test", "validation"):
                row = {update_column: name, "seed": seed, "step": step, "set": pairs, **(extra or {})}
                row |= {"chosen": gains[0] * part, "rejected": gains[1] * part, "accuracy": 0.75}
                row |= {"margin": (gains[0] - gains[1]) * part, "fell": 0.5 * part, "rose": 0.25 * part}
                rows.append(row)
    return rows


def grids(dpo=(-0.5, -1.5)):
    masks = training("weights", "everything", (-0.5, -1.5)) + training("weights", "contrasting", (-0.3, -1.3))
    ratios = [(1.0, dpo), (1.005, (0.5, -0.5)), (1.01, (1.5, 0.5))]
    sweep = []
    for ratio, ends in ratios:
        sweep += training("ratio", ratio, ends, {"optimizer": "adamw", "rate": 1.0})
    masks = pd.DataFrame([row for row in masks if row["set"] == "test"])
    return masks, pd.DataFrame(sweep)


def test_the_constant_is_chosen_on_validation_pairs_and_stands_beside_the_masks():
    masks, sweep = grids()
    ways = numbers.with_constants(masks, sweep)
    best = constant(best_ratio(sweep))
    assert best == "r = 1.005"
    facts = numbers.of_training(ways, ["everything", "contrasting"], best)
    # At a margin of 0.9: the constant's smaller gain is 0.45, the mask's −0.27.
    assert facts["constant_ahead"].value == pytest.approx(0.72)
    assert facts["minus_everything"].value == pytest.approx(-0.9)
    assert facts["ratio"] == 1.005 and facts["kept_not"].value == 0.5
    table = numbers.before_and_after(ways, {"contrasting": "told"})
    assert table.loc["before training", "accuracy"] == 0.75
    assert table.loc["told", ["chosen", "rejected"]].tolist() == pytest.approx([-0.3, -1.3])
    assert numbers.standing(ways, ["contrasting"])["contrasting"][0].value == pytest.approx(-0.27)


def test_runs_that_do_not_start_alike_are_no_rivals():
    with pytest.raises(ValueError, match="the same training"):
        numbers.with_constants(*grids(dpo=(-0.4, -1.4)))


def test_seeds_that_all_agree_at_an_end_leave_the_pairs_to_tell():
    found = numbers.chance(pd.Series([1.0, 1.0]), 16)
    assert (found.value, found.high, found.n) == (1, 1, 32)
    assert found.low == pytest.approx(0.025 ** (1 / 32))
    assert numbers.chance(pd.Series([0.0, 0.0]), 16).low == 0
    spread = numbers.chance(pd.Series([1.0, 0.98]), 16)
    assert spread.n == 2 and spread.low < 0.98 and spread.high == 1
