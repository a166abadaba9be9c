"""The sentiment grid's cells, and the tables that the chapter reads from them."""

import pandas as pd
import pytest

from entanglement.training.account import TERMS
from entanglement_book.grids.grid import GRIDS
from entanglement_book.studies.ch08_sentiment import dials, grid as sentiment, numbers, tables

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


def _pairs(**norms):
    """Rows of single pairs, two seeds of two pairs each, at the ends of both phases."""
    rows = [
        {"condition": "main", "variant": variant, "seed": seed, "phase": phase, "step": step} | norms
        for phase, step in (("sft", 0), ("sft", 4), ("dpo", 0), ("dpo", 8))
        for variant in ("one_token", "short_suffix", "long_suffix")
        for seed in (0, 0, 1, 1)
    ]
    return pd.DataFrame(rows)


def test_the_authors_ratio_misses_a_rejected_response_that_rises():
    # a = 2, b = 1, c = 1.8: above b² and below a².
    shares = tables.ratio_shares(_pairs(chosen_norm=2.0, rejected_norm=1.0, cosine=0.9))
    assert len(shares) == 12
    for (_, when, name), share in shares.items():
        assert when in ("after SFT", "after DPO")
        assert share.value == (1 if name == "asked" else 0)
        assert share.low < share.high
    # a = 1, b = 2, c = 1.8: above a², and both see it.
    seen = tables.ratio_shares(_pairs(chosen_norm=1.0, rejected_norm=2.0, cosine=0.9))
    assert all(share.value == 1 for share in seen.values())


def test_the_longer_gradient_is_counted_by_seed():
    assert tables.norm_share(_pairs(chosen_norm=1.0, rejected_norm=2.0, cosine=0.0), "one_token").value == 1
    rows = _pairs(chosen_norm=1.0, rejected_norm=2.0, cosine=0.0)
    rows.loc[rows["seed"] == 1, "rejected_norm"] = 0.5
    share = tables.norm_share(rows, "one_token")
    assert (share.value, share.n) == (0.5, 2)


def test_a_case_is_counted_in_pairs_at_the_end():
    means = _means().assign(measured_pairs=10, ideal=0.25)
    means.loc[means["step"] == 8, "ideal"] = [0.5, 1.0, 0.5, 1.0]
    share = tables.case_share(means, "ideal", "one_token")
    assert (share.value, share.n) == (0.75, 2)
    assert 0 <= share.low < 0.75 < share.high <= 1


def test_a_cosine_and_a_share_stay_in_their_ranges_and_a_change_is_free():
    means = _means().assign(cosine=[-0.99, -0.99, -0.6, -0.6] * 2, ideal=1.0)
    curve = tables.along_training(means, "cosine")
    assert (curve["low"] >= -1).all() and (curve["high"] <= 1).all()
    assert (curve["low"] < curve["value"]).all()
    assert (tables.along_training(means, "ideal")[["low", "high"]].to_numpy() <= 1).all()
    assert tables.along_training(means, "cosine", change=True)["value"].abs().max() < 1e-12


def test_account_terms_sum_to_the_total(cell):
    shares = tables.account_shares(cell["account"])
    for _, rows in shares.groupby(["variant", "set"]):
        values = rows.set_index("term")["value"]
        assert values[list(TERMS)].sum() == pytest.approx(values["total"], abs=1e-9)
    total = tables.account_total(shares, "batch", "short_suffix")
    row = shares[(shares["set"] == "batch") & (shares["term"] == "total")].iloc[0]
    assert (total.value, total.n) == (row["value"], row["n"])
    with pytest.raises(ValueError, match="0 rows for set='batch', variant='long_suffix', term='total'"):
        tables.account_total(shares, "batch", "long_suffix")


def _account(turn=-1.5):
    """A step's account by hand: the batch's plain step gains 4 nats of margin, the step taken a quarter."""
    rows = []
    for seed in (0, 1):
        for response, own, other, turned in (("chosen", 1.5, 0.5, turn), ("rejected", -1.0, -1.0, 1.5)):
            for name, share in (("batch", own), ("test", 0.0)):
                total = share + other + turned - 0.25
                rows.append(
                    {"condition": "main", "variant": "one_token", "seed": seed, "step": 1, "set": name,
                     "response": response, "own_pair": share, "other_pairs": other, "preconditioner": turned,
                     "curvature": -0.25, "total": total}
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_the_other_length_of_the_plain_step_moves_nats_between_terms_and_keeps_the_total():
    taken, margin = (tables.account_shares(_account(), length=length) for length in ("taken", "margin"))

    def term(table, name, pairs="batch"):
        return tables.account_total(table, pairs, "one_token", name).value

    # The plain step gains (1.5 + 0.5) + (1 + 1) = 4, the step taken 4 − 1.5 − 1.5 = 1: a quarter.
    assert term(margin, "own_pair") == pytest.approx(1.5 / 4)
    assert term(margin, "other_pairs") == pytest.approx(0.5 / 4)
    assert term(margin, "preconditioner") == pytest.approx(-1.5 + 0.75 * 2)
    assert term(margin, "preconditioner", "test") == pytest.approx(-1.5 + 0.75 * 0.5)
    for pairs in ("batch", "test"):
        for name in ("curvature", "total"):
            assert term(margin, name, pairs) == term(taken, name, pairs)
    with pytest.raises(ValueError, match="length='short'; expected taken or margin"):
        tables.account_shares(_account(), length="short")


def _dial(falls, cosines=None, costs=None, sft=3):
    """A grid "dial" by hand: words → change of log π_w for each nat of margin, for three seeds."""
    rows = []
    for words, fall in falls.items():
        for seed in range(3):
            for step, margin in ((0, 0.0), (6, 1.0), (12, 2.0 + seed)):
                start = -1.0 - (costs or {}).get(words, words)
                rows.append(
                    {"words": words, "sft": sft, "seed": seed, "step": step, "phase": "dpo",
                     "chosen_logp": start + fall * margin + 0.01 * seed * margin,
                     "rejected_logp": start - 1 + (fall - 1) * margin + 0.01 * seed * margin,
                     "cosine": (cosines or {}).get(words, 0.5) + 0.01 * seed, "accuracy": 0.75}
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_what_the_shared_words_cost_is_counted_from_the_label_alone():
    ends = dials.ends(_dial({0: 0.0, 2: -0.5}, costs={0: 0.0, 2: 7.0}))
    assert ends.set_index(["words", "seed"])["left"].to_dict() == {
        (words, seed): 7.0 * (words == 2) for words in (0, 2) for seed in range(3)
    }
    last = ends[(ends["words"] == 2) & (ends["seed"] == 1)].iloc[0]
    assert last["margin"] == pytest.approx(3.0)
    assert last["chosen"] == pytest.approx(-0.49 * 3)


def test_runs_are_compared_at_the_margin_that_all_reached():
    means = _dial({0: 0.0, 2: -0.5})
    assert dials.reached(means) == 2.0
    even = dials.at_margin(means, 1.5).set_index(["words", "seed"])
    assert even.loc[(2, 0), "chosen"] == pytest.approx(-0.75)
    assert (even["chosen"] - even["rejected"]).to_numpy() == pytest.approx(1.5)
    assert len(dials.at_margin(means, 3.5)) == 2  # the third seed's runs alone went so far
    line = dials.along_margin(means[means["words"] == 2], [0.0, 1.0, 2.0, 2.1], ("words", "seed"))
    assert line["margin"].tolist() == [0.0, 1.0, 2.0]
    assert line["value"].to_numpy() == pytest.approx([0.0, -0.49, -0.98])


def test_each_form_and_condition_has_its_own_curve():
    rows = _dial({0: -0.25, 2: -0.5}).assign(condition="main")
    rows["variant"] = rows["words"].map({0: "one_token", 2: "long_suffix"})
    fast = rows.assign(condition="large_step", chosen_logp=lambda r: 3 * r["chosen_logp"])
    fast["rejected_logp"] = 3 * fast["rejected_logp"]
    forms, ways = {"one_token": "one", "long_suffix": "long"}, {"main": "usual", "large_step": "fast"}
    panels = dials.panels_along_margin(pd.concat([rows, fast]), forms, ways)
    assert list(panels) == ["one", "long"]
    ends = {(form, way): panels[form][way].iloc[-1] for form in panels for way in panels[form]}
    assert [ends["one", way]["margin"] for way in ("usual", "fast")] == [2.0, 6.0]
    at_one = {form: panels[form]["usual"].set_index("margin")["value"][1.0] for form in panels}
    assert at_one == {"one": pytest.approx(-0.24), "long": pytest.approx(-0.49)}


def test_the_two_figures_of_the_dials_show_what_the_runs_did():
    means = _dial(
        {0: 0.0, 1: -0.25, 2: -0.5}, cosines={0: -0.9, 1: 0.1, 2: 0.5}, costs={0: 0.0, 1: 1.0, 2: 9.0}
    )
    dose = dials.dose(means, 3)
    assert dose["cosine"]["words"].tolist() == [0, 1, 2]
    assert dose["cosine"]["value"].to_numpy() == pytest.approx([-0.89, 0.11, 0.51])
    assert dose["chosen"]["value"].to_numpy() == pytest.approx([0.02, -0.48, -0.98])
    left = dials.left_to_learn(means).set_index("words")
    assert left["left"].to_dict() == {1: 1.0, 2: 9.0}
    assert left.loc[2, "cosine"] == pytest.approx(0.51)
    assert left.loc[1, "chosen_low"] < left.loc[1, "chosen"] < left.loc[1, "chosen_high"]


def test_the_cost_of_the_words_may_order_the_cosines_where_their_number_does_not():
    means = _dial(
        {0: 0.0, 1: 0.0, 2: 0.0, 4: 0.0}, cosines={0: -0.9, 1: 0.6, 2: -0.5, 4: 0.1},
        costs={0: 0.0, 1: 9.0, 2: 0.1, 4: 2.0},
    )  # fmt: skip
    longer = _dial(
        {0: 0.0, 1: 0.0, 2: 0.0, 4: 0.0}, cosines={0: -0.9, 1: -0.6, 2: -0.8, 4: -0.7},
        costs={0: 0.0, 1: 0.05, 2: 0.01, 4: 0.02}, sft=12,
    )  # fmt: skip
    rank = numbers.of_rank(means, longer)
    assert rank["left"].value == pytest.approx(1.0)
    # Ranks of the cosine 6, 4, 5 after few steps and 3, 1, 2 after many: of the words, 1.5, 3.5, 5.5 twice.
    assert rank["words"].value == pytest.approx(-4 / (17.5 * 16) ** 0.5)
    # The fewer steps, the larger the cosine: a rank of 5 for the first three, of 2 for the others.
    assert rank["sft"].value == pytest.approx(13.5 / (17.5 * 13.5) ** 0.5)
    assert -1 <= rank["words"].low < rank["words"].high <= 1
    assert dials.crossing(means, longer) == (pytest.approx(0.1), pytest.approx(2.0))
    zero = _dial({0: 0.0, 1: 0.0}, cosines={0: -0.9, 1: -0.01}, costs={0: 0.0, 1: 1.0})  # not surely either
    assert dials.crossing(means, longer, zero) == (pytest.approx(0.1), pytest.approx(2.0))
    flat = _dial({0: 0.0, 1: 0.0}, cosines={0: -0.9, 1: -0.01}, costs={0: 0.0, 1: 0.03})
    assert dials.crossing(means, longer, flat) == (pytest.approx(0.02), pytest.approx(2.0))


#: Pairs by hand: two tweets of each label.
RIGHT = {"a": " positive", "b": " positive", "c": " negative", "d": " negative"}


def _labeled(bias, fall=0.0, condition="main"):
    """Rows of single pairs along DPO: the chosen answer moves by fall, and by half of bias to either side."""
    rows = []
    for variant, further in (("one_token", 0.0), ("short_suffix", -1.0), ("long_suffix", -2.0)):
        for seed in (0, 1):
            for pair, label in RIGHT.items():
                side = 1 if label == " positive" else -1
                for phase, step in (("sft", 0), ("sft", 64), ("dpo", 0), ("dpo", 32)):
                    moved = fall + further + side * (bias + 0.1 * seed) / 2 + 0.5 * (pair in "ac")
                    start = -9.0 if (phase, step) == ("sft", 0) else -1.0 - seed
                    rows.append(
                        {"condition": condition, "variant": variant, "seed": seed, "phase": phase,
                         "step": step, "pair": pair, "chosen_logp": start + moved * (step == 32),
                         "rejected_logp": -2.0}
                    )  # fmt: skip
    return pd.DataFrame(rows)


def test_a_label_bias_shows_as_a_difference_between_the_pairs_of_either_label():
    both = pd.concat([_labeled(0.5), _labeled(-3.0, condition="plain")])
    found = numbers.of_labels(both, RIGHT)
    # Seeds' biases 0.5 and 0.6; in each label one pair of two moves up by half a nat besides.
    assert found["bias_one_token"].value == pytest.approx(0.55)
    assert found["bias_one_token"].n == 2
    assert found["bias_one_token"].low < 0.5 < 0.6 < found["bias_one_token"].high
    assert found["positive_one_token"].value == pytest.approx(0.25 + 0.275)
    assert found["negative_one_token"].value == pytest.approx(0.25 - 0.275)
    assert found["positive_long"].value == pytest.approx(0.25 + 0.275 - 2)
    assert found["negative_short"].value == pytest.approx(0.25 - 0.275 - 1)
    assert numbers.of_labels(both, RIGHT, condition="plain")["bias_long"].value == pytest.approx(-2.95)
    # A fall that is the same on both sides is no bias, and labels that are swapped turn its sign.
    assert numbers.of_labels(_labeled(0.5, fall=-4), RIGHT)["bias_short"].value == pytest.approx(0.55)
    swapped = dict(zip(RIGHT, reversed(RIGHT.values()), strict=True))
    assert numbers.of_labels(both, swapped)["bias_one_token"].value == pytest.approx(-0.55)


def test_a_pair_without_a_label_is_not_left_out():
    with pytest.raises(ValueError, match="labels lacks c, d; expected the right label of every pair"):
        numbers.of_labels(_labeled(0.5), {"a": " positive", "b": " negative"})


def test_an_optimizer_is_told_by_what_it_does_for_each_nat_of_margin():
    account = pd.concat([_account(), _account(turn=0.5).assign(condition="plain")])
    of_parts = _account(turn=-0.5).rename(columns={"condition": "optimizer"}).assign(optimizer="momentum")
    ends = _means().assign(rejected_logp=lambda m: m["chosen_logp"] - m["step"] / 4)  # a margin of 2
    ends = ends[ends["variant"] == "long_suffix"]
    sft = ends.assign(phase="sft", chosen_logp=9.0)
    nano = {"account": account, "means": pd.concat([ends, sft])}
    moved = ends.rename(columns={"condition": "optimizer"}).assign(optimizer="momentum").drop(columns="phase")
    ways = numbers.by_optimizer(nano, {"account": of_parts, "means": moved})
    found = ways.set_index(["optimizer", "variant", "set"])["value"]
    # chosen 1.5 + 0.5 − 1.5 − 0.25 = 0.25, rejected −1 − 1 + 1.5 − 0.25 = −0.75: margin 1.
    assert found["main", "one_token", "batch"] == pytest.approx(0.25)
    assert found["momentum", "one_token", "batch"] == pytest.approx(1.25 / 2)
    assert found["plain", "one_token", "batch"] == pytest.approx(2.25 / 3)
    # Held out: the long suffix's chosen answer falls by 0.95 in the mean of both seeds.
    assert found["main", "long_suffix", "test"] == pytest.approx(-0.95 / 2)
    assert found["momentum", "long_suffix", "test"] == pytest.approx(-0.95 / 2)
    assert numbers.of_optimizers(ways)["batch_plain_one_token"].value == pytest.approx(2.25 / 3)
