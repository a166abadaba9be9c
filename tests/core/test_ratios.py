"""Reading the grids of constant ratios: turning points, what was foretold, and rules beside a number."""

import numpy as np
import pandas as pd
import pytest

from entanglement_book.grids.stored import Stored
from entanglement_book.studies.ch11_one_number import numbers, ratios
from entanglement_book.studies.shared import constant_ratios as constants

RATIOS = (1.0, 1.005, 1.01, 1.02)
#: At the end of the made-up runs the chosen answer turns at 1.004 and the rejected one at 1.014.
TURNS = {"chosen": 1.004, "rejected": 1.014}


def made(*, steps=(0, 8, 16), sets=("validation", "test"), seeds=3, rate=1.0, optimizer="adamw"):
    """Runs in which both answers move in proportion to the steps, by 100 nats for each unit of the ratio."""
    rows = []
    for seed in range(seeds):
        for ratio in RATIOS:
            for step in steps:
                for name in sets:
                    part = step / 16
                    row = {"data": "d", "optimizer": optimizer, "rate": rate, "ratio": ratio, "seed": seed}
                    row |= {"step": step, "set": name}
                    row |= {k: part * 100 * (ratio - turn) for k, turn in TURNS.items()}
                    row |= {"margin": part * 1.0, "accuracy": 0.75 - 0.05 * part}
                    rows.append(row | {"fell": 0.25, "rose": 0.125})
    return pd.DataFrame(rows)


def test_an_answer_turns_between_two_ratios_that_were_tried():
    found = ratios.turns_found(constants.at_the_end(made()))
    assert list(found.index) == [0, 1, 2]
    np.testing.assert_allclose(found["chosen"], 1.004)
    np.testing.assert_allclose(found["rejected"], 1.014)
    ends = constants.at_the_end(made())
    ends.loc[ends["seed"] == 0, "chosen"] -= 0.3  # the mean over three seeds: a tenth lower
    assert ratios.turns_of_mean(ends) == pytest.approx((1.005, 1.014))


def test_an_answer_that_rises_everywhere_turns_nowhere():
    ends = constants.at_the_end(made())
    up = ends.assign(chosen=ends["chosen"] + 10)
    found = ratios.turns_found(up)
    assert found["chosen"].isna().all() and found["rejected"].notna().all()


def test_a_sweep_has_a_row_a_ratio():
    table = ratios.sweep(constants.at_the_end(made()))
    assert table["ratio"].tolist() == list(RATIOS)
    assert table["chosen"][0].value == pytest.approx(-0.4) and table["chosen"][0].n == 3


def test_the_smaller_gain_is_above_zero_only_if_both_signs_are_right():
    rows = pd.DataFrame({"chosen": [1.0, -0.5, 2.0], "rejected": [-0.25, -2.0, 0.5]})
    assert constants.smaller_gain(rows).tolist() == [0.25, -0.5, -0.5]


def test_the_best_ratio_is_chosen_on_validation_pairs_alone():
    runs = made()
    assert constants.best_ratio(runs) == 1.01  # gains −0.4, 0.1, 0.4, −0.6
    judged = runs["set"] == "test"
    runs.loc[judged, ["chosen", "rejected"]] = 0.0
    assert constants.best_ratio(runs) == 1.01
    assert constants.best_ratio(runs.assign(chosen=-1.0 * (runs["ratio"] - 1), rejected=-1.0)) == 1.0


def test_what_was_foretold_is_read_between_the_margins_that_were_looked_at():
    rows = [
        {
            "seed": 0,
            "direction": direction,
            "margin": margin,
            "chosen": 1 + margin,
            "rejected": 1 + 2 * margin,
        }
        for direction in ("plain", "sign")
        for margin in (0.0, 0.5, 1.0)
    ]
    table = pd.DataFrame(rows)
    table.loc[table["direction"] == "plain", "chosen"] = 9.0
    found = ratios.foretold_turns(table, "sign", {0: 0.75})
    assert found.loc[0].tolist() == [1.75, 2.5]
    assert ratios.foretold_turns(table, "sign", {0: 0.1}).loc[0, "chosen"] == 1.5  # 0 is the limit, no step


def test_ways_are_compared_after_as_many_steps_as_they_can_pay():
    ways = constants.as_ways(made())
    found = ratios.after_steps(ways, {"r = 1.01": 12.0, "r = 1": 16.0})
    at = found.groupby("update")[["chosen", "rejected", "margin"]].mean()
    np.testing.assert_allclose(at.loc["r = 1.01"], [0.45, -0.3, 0.75])
    np.testing.assert_allclose(at.loc["r = 1"], [-0.4, -1.4, 1.0])


def test_ways_stand_where_the_margin_is_a_share_of_dpos():
    ways = constants.as_ways(made())
    there = ratios.standing(ways, ["r = 1", "r = 1.01"], 0.5, itself="r = 1")
    assert there["r = 1.01"]["chosen"].value == pytest.approx(0.3)
    assert there["r = 1.01"]["gain"].value == pytest.approx(0.2)
    assert there["r = 1"]["gain"].value == pytest.approx(-0.2)
    slow = ways[~((ways["update"] == "r = 1.01") & (ways["step"] > 0))]
    assert set(ratios.standing(slow, ["r = 1", "r = 1.01"], 0.5, itself="r = 1")) == {"r = 1"}
    gains = ratios.gains_at_margin(ways, ["r = 1", "r = 1.01"], 0.5, itself="r = 1")
    np.testing.assert_allclose(gains["r = 1.01"], 0.2)
    assert ratios.gain_interval(ratios.after_steps(ways, {"r = 1": 16.0}), "r = 1").value == pytest.approx(
        -0.4
    )


def test_dpo_is_stopped_where_validation_pairs_say():
    ways = constants.as_ways(made())
    early = ways["step"] == 8
    ways.loc[early & (ways["set"] == "validation") & (ways["ratio"] == 1), ["chosen", "rejected"]] = [
        0.1,
        -0.1,
    ]
    found = constants.stopped_early(ways, "r = 1")
    assert set(found["step"]) == {8} and set(found["set"]) == {"test"}
    np.testing.assert_allclose(found["chosen"], -0.2)


def test_the_numbers_of_the_page_are_those_of_the_tables():
    runs = made()
    plain = made(optimizer="sgd")
    both = pd.concat([runs, plain])
    found = numbers.of_ratios(both, both)
    assert found["nano_chosen_1"].value == pytest.approx(-0.4)
    assert found["smol_rejected_1005"].value == pytest.approx(-0.9)
    assert found["nano_turn_chosen"].value == pytest.approx(1.004)
    assert found["gain_end"].value == pytest.approx(0.4) and found["gain_end_dpo"].value == pytest.approx(
        -0.4
    )
    assert found["smol_accuracy_before"] == pytest.approx(75) and found["smol_accuracy_dpo"] == pytest.approx(
        70
    )
    found = numbers.of_rates({"one": constants.at_the_end(runs)})
    assert found["slope_one"].value == pytest.approx(1.0) and found["turn_one"].value == pytest.approx(1.004)


def test_a_virtual_step_is_judged_by_the_answer_at_which_it_was_off_most():
    sweep = pd.concat([made(seeds=2), made(seeds=2, optimizer="sgd")])  # both gain a margin of 1
    rows = [
        {
            "seed": seed,
            "direction": direction,
            "margin": margin,
            "chosen": 1.003,
            "rejected": 1.018 + seed / 500,
        }
        for seed in range(2)
        for direction in ("plain", "sign")
        for margin in (0.0, 0.5, 1.0)
    ]
    turns = pd.DataFrame(rows)
    turns.loc[turns["margin"] == 0, ["chosen", "rejected"]] = [1.0, 1.002]
    found = numbers.of_foretelling(turns, sweep)
    assert found["off_adamw"].value == pytest.approx(0.005) and found["n_told_adamw"] == 2
    assert found["told_adamw_rejected"].value == pytest.approx(1.019)
    assert found["found_sgd_chosen"].value == pytest.approx(1.004)
    assert found["guess_off"].value == pytest.approx(0.014) and found["limit_off"].value == pytest.approx(
        0.012
    )
    far = turns[(turns["margin"] < 1) | (turns["seed"] == 0)]
    assert numbers.of_foretelling(far, sweep)["n_told_adamw"] == 1  # no step of the other gains as much


def test_only_margins_that_every_seed_reached_are_drawn():
    rows = [
        {"seed": seed, "direction": "sign", "margin": margin, "chosen": 1.0 + margin, "rejected": 1.1}
        for seed in range(2)
        for margin in (0.5, 1.0)
    ]
    table = pd.DataFrame(rows)
    assert ratios.told_by_margin(table, "sign")["margin"].tolist() == [0.5, 1.0]
    table.loc[3, ["chosen", "rejected"]] = np.nan
    told = ratios.told_by_margin(table, "sign")
    assert told["margin"].tolist() == [0.5] and told["chosen"][0].value == 1.5


def test_rules_are_set_beside_the_constant():
    runs = constants.as_ways(made())
    one = runs[runs["update"] == "r = 1.005"]
    band = one.assign(update="band", chosen=one["chosen"] + 0.05)  # gain 0.15 for 0.1 at the end
    batch = one.assign(update="normalized-batch")
    everyone = pd.concat([runs, band, batch])
    ways = ["r = 1", "r = 1.005", "band", "normalized-batch"]
    there = ratios.standing(everyone, ways, 1.0, itself="r = 1")
    found = numbers.of_rules(everyone, there, 1.005, {"band": 2.0, "normalized-batch": 2.5})
    assert found["gain_best"].value == pytest.approx(0.1) and found["gain_rule"].value == pytest.approx(0.15)
    assert found["rule_minus"].value > 0 > found["dpo_minus"].value
    assert found["half_margin"] == pytest.approx(0.5) and found["band_steps"] == 8
    assert found["compute_band"].value == pytest.approx(0.1)  # half the way, and 0.05
    assert found["fell_best"] == 25 and found["rose_band"] == 12.5
    assert found["accuracy_before"] == 75 and found["accuracy_best"] == 70
    assert found["accuracy_change"].value == pytest.approx(-5)


def test_costs_and_ratios_come_from_the_stored_tables():
    recipe = {"recipe": {"sft_steps": 3, "steps": 12, "batch": 8}}
    assert numbers.of_recipe(Stored({}, recipe)) == {"smol_sft": 3, "smol_pairs": 96}
    lines = [
        {"ours": "clipped to the band, nano", "ratio": 0.5},
        {"ours": "normalized, batch, nano", "ratio": 0.4},
    ]
    assert numbers.costs(lines) == {"band": 2.0, "normalized-batch": 2.5}
    steps = pd.DataFrame(
        [
            {"update": name, "rate": rate, "optimizer": "adamw", "ratio": ratio}
            for name, ratio in (("normalized", 1.4), ("band", 1.0))
            for rate in (1.0, 4.0)
        ]
    )
    steps.loc[steps["rate"] == 4, "ratio"] = 99.0
    assert numbers.median_ratios(steps) == {"ratio_normalized": 1.4, "ratio_band": 1.0}


def foretold(chosen, rejected, margins=(0.5, 1.5), seeds=2):
    rows = [
        {"seed": s, "direction": way, "margin": m, "chosen": chosen + s / 1000, "rejected": rejected}
        for s in range(seeds)
        for way in ("plain", "sign")
        for m in margins
    ]
    return pd.DataFrame(rows)


def test_what_was_told_stands_beside_what_was_found():
    table = ratios.told_beside_found(foretold(1.006, 1.02), made())  # of two of its seeds nothing was told
    assert sorted(table["seed"].unique()) == [0, 1] and table["gained"].unique().tolist() == [1.0]
    chosen = table[table["answer"] == "chosen"].set_index("seed")
    assert chosen["told"].tolist() == [1.006, 1.007]
    assert chosen["found"].tolist() == ratios.turns_found(constants.at_the_end(made()))["chosen"][:2].tolist()
    assert ratios.foretold_turns(foretold(1.0, 1.0), "sign", {9: 1.0}).isna().all(axis=None)  # no such seed
    short = ratios.told_beside_found(foretold(1.006, 1.02, margins=(0.25, 0.5)), made())
    assert short["told"].isna().all() and short["found"].notna().all()


def test_every_optimizer_and_rate_that_was_run_has_its_rows():
    runs = pd.concat([made(), made(optimizer="sgd").assign(rate=2.0)])
    table = ratios.everywhere({"near": {"nano": (foretold(1.006, 1.02), runs)}})
    assert list(dict.fromkeys(table["setting"])) == ["nano, AdamW", "nano, plain × 2"]
    assert set(table["data"]) == {"near"} and len(table) == 8


def test_how_far_off_one_setting_was_is_judged_by_its_worse_answer_and_beside_the_guess():
    runs = pd.concat([made(), made(optimizer="sgd").assign(rate=2.0)])
    table = ratios.everywhere({"near": {"nano": (foretold(1.006, 1.02), runs)}})
    turned = ratios.turns_found(constants.at_the_end(made())).loc[[0, 1]]
    off, guess = numbers.off_there(table, "near", "nano, AdamW")
    told = pd.DataFrame({"chosen": [1.006, 1.007], "rejected": [1.02, 1.02]})
    apart = (turned - told).abs().mean()
    assert off.value == pytest.approx(apart.max()) and off.n == 2
    assert guess.value == pytest.approx((turned - 1).abs().mean().max())


def order_of(told):
    """Return a table of four settings with told and found turning points, two seeds."""
    found = [1.0, 1.01, 1.3, 1.4]
    rows = [
        {"data": "near-copies" if f < 1.1 else "far", "setting": str(f), "answer": "chosen", "seed": s}
        | {"told": t, "found": f}
        for s in range(2)
        for t, f in zip(told, found, strict=True)
    ]
    return pd.DataFrame(rows)


def test_the_order_of_turning_points_is_judged_beside_who_knows_the_data_set_alone():
    found = numbers.of_elsewhere(order_of([1.01, 1.02, 1.5, 1.6]))
    assert found["order"].value == pytest.approx(1.0)
    assert found["order_rival"].value == pytest.approx(np.sqrt(0.8))  # ties within a data set
    assert found["too_low_far"].value == pytest.approx(-0.2) and found["n_told"] == 8
    assert found["too_low_near"].value == pytest.approx(-0.01)
    assert (found["first_far"], found["last_far"]) == (1.3, 1.4)
    assert numbers.of_elsewhere(order_of([1.6, 1.5, 1.02, 1.01]))["order"].value == pytest.approx(-1.0)
    assert numbers.of_elsewhere(order_of([1.01, np.nan, 1.5, 1.6]))["n_told_not"] == 2
    # A seed of a few settings only has no order of its own.
    few = order_of([1.6, 1.5, 1.02, 1.01]).query("data == 'far'").assign(seed=7)
    more = numbers.of_elsewhere(pd.concat([order_of([1.01, 1.02, 1.5, 1.6]), few]))
    assert more["n_told_seeds"] == 2 and more["order"].value == pytest.approx(1.0)


def test_what_the_page_says_of_summaries():
    runs = made().replace({"ratio": {1.005: 1.4}})
    found = numbers.of_summaries(pd.concat([runs, made(optimizer="sgd"), made(rate=2.0)]))
    assert found["n_far"] == 3 and found["far_chosen_1"].value == pytest.approx(-0.4)
    assert found["far_rejected_14"].value == pytest.approx(-0.9)  # made at the ratio that 1.4 replaces
