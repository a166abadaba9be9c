"""The grids of training dynamics and the tables that chapters read from them."""

import numpy as np
import pandas as pd
import pytest

from entanglement.losses import get_loss
from entanglement.training import Trajectory
from entanglement.training.account import TERMS
from entanglement_book.grids.grid import GRIDS
from entanglement_book.studies.ch05_dynamics import grid as dynamics, grid_knobs as knobs, tables
from entanglement_book.studies.ch10_probability import tables as probability_tables
from entanglement_book.studies.shared.means import step_means, with_weights
from entanglement_book.studies.shared.start import DATA, data_pairs, recipe

pytestmark = pytest.mark.usefixtures("short_runs")


@pytest.fixture(scope="module")
def cells(short_runs):
    """Two smoke-sized runs of nano from one checkpoint."""
    return {
        loss: GRIDS["dynamics"].compute("smoke", "nano", {"data": "sentiment", "loss": loss, "seed": 1})
        for loss in ("dpo", "rpo")
    }


def test_cells_start_from_one_checkpoint(cells):
    starts = {loss: found["means"].query("step == 0").iloc[0] for loss, found in cells.items()}
    assert starts["dpo"]["cosine"] == starts["rpo"]["cosine"]
    assert starts["dpo"]["chosen"] == starts["rpo"]["margin"] == 0
    ends = [found["means"].iloc[-1]["chosen"] for found in cells.values()]
    assert ends[0] != ends[1]


def test_a_cell_has_all_tables_and_carries_its_name(cells):
    assert set(cells["rpo"]) == {"means", "pairs", "mass", "tokens", "answers"}
    assert set(cells["dpo"]) == set(cells["rpo"]) | {"account"}
    for table in cells["dpo"].values():
        assert table[["data", "loss", "seed"]].drop_duplicates().values.tolist() == [["sentiment", "dpo", 1]]


def test_the_account_adds_up(cells):
    account = cells["dpo"]["account"]
    np.testing.assert_allclose(account[list(TERMS)].sum(axis=1), account["total"], atol=1e-9)
    held_out = account[account["set"] == "test"]
    assert (held_out["own_pair"] == 0).all() and (account.query("set == 'batch'")["own_pair"] != 0).all()


def test_the_grid_has_enough_losses_and_seeds():
    cells = pd.DataFrame(dynamics.grid_cells("book"))
    assert len(set(cells["loss"])) >= 10 and set(cells["data"]) == set(DATA)
    assert cells.groupby(["data", "loss"])["seed"].nunique().min() >= 5
    spots = pd.DataFrame(knobs.grid_cells("book"))
    assert spots.groupby(["beta", "rate"])["seed"].nunique().min() >= 3


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="smoke, book or paper"):
        recipe("huge")
    with pytest.raises(ValueError, match="smoke, book or paper"):
        knobs.knobs("huge")
    with pytest.raises(ValueError, match="data='poems'"):
        data_pairs("poems", "test", 2, 0)


def test_a_larger_rate_goes_further():
    means = {
        rate: knobs.run_cell("smoke", "nano", {"data": "sentiment", "beta": 0.1, "rate": rate, "seed": 0})
        for rate in (1.0, 4.0)
    }
    moved = [means[rate]["means"].iloc[-1][["chosen", "rejected"]].abs().sum() for rate in (1.0, 4.0)]
    assert moved[1] > 2 * moved[0]


def trajectory():
    """Two pairs, two moments, by hand: cosine 0.9, b/a = 1.5, lengths 4 and 8."""
    rows = []
    for step, gain in ((0, 0.0), (8, -1.0)):
        for pair in ("p", "q"):
            row = {"step": step, "set": "test", "pair": pair}
            row |= {"chosen_logp": -5.0 + gain, "rejected_logp": -6.0 + 2 * gain}
            row |= {"chosen_len": 4, "rejected_len": 8}
            row |= {"chosen_norm": 2.0, "rejected_norm": 3.0, "cosine": 0.9 if pair == "p" else np.nan}
            rows.append(row | {"case": "both_down"})
    return Trajectory(pd.DataFrame(rows), pd.DataFrame())


@pytest.mark.parametrize(
    ("loss", "r", "case"), [("dpo", 1.0, "both_down"), ("simpo", 2.0, "both_up"), ("dpop", 51.0, "both_up")]
)
def test_the_case_is_that_of_the_losss_own_weights(loss, r, case):
    found = with_weights(trajectory(), get_loss(loss))
    last = found[(found["step"] == 8) & (found["pair"] == "p")].iloc[0]
    assert last["r"] == pytest.approx(r) and last["case"] == case
    assert last["weighed"] == pytest.approx(1.5 / r)
    assert (last["chosen"], last["rejected"], last["margin"]) == (-1.0, -2.0, 1.0)


def test_shares_are_of_what_happened_and_cases_only_of_measured_pairs():
    means = step_means(with_weights(trajectory(), get_loss("dpo"))).set_index("step")
    assert means.loc[8, "fell"] == means.loc[8, "both_fell"] == 1.0
    assert means.loc[0, "both_fell"] == 0.0
    assert means.loc[8, "both_down"] == 1.0 and means.loc[8, "pairs"] == 2


def made():
    """A grid of two losses with three seeds; "simpo" gains 0.5 nats per unit of log r over "dpo"."""
    rng = np.random.default_rng(0)
    rows, means = [], []
    for seed in range(3):
        for number in range(6):
            log_r, base = rng.normal(), rng.normal()
            for loss, r, gain in (("dpo", 1.0, base), ("simpo", np.exp(log_r), base + 0.5 * log_r)):
                row = {"data": "summaries", "loss": loss, "seed": seed, "step": 8, "pair": f"{number}"}
                rows.append(row | {"chosen": gain, "r": r})
        for loss, end in (("dpo", -1.0), ("simpo", 1.0)):
            for step in (0, 8):
                row = {"data": "summaries", "loss": loss, "seed": seed, "step": step}
                means.append(row | {"chosen": end * step / 8 + 0.01 * seed})
    return pd.DataFrame(rows), pd.DataFrame(means)


def test_the_slope_is_that_which_was_put_in():
    pairs, _ = made()
    found = tables.length_slope(pairs, "summaries", "simpo")
    assert found.value == pytest.approx(0.5) and found.high - found.low < 1e-6
    assert tables.length_slope(pairs, "summaries", "dpo").value == pytest.approx(0.0)


def test_values_are_those_of_the_last_step():
    _, means = made()
    found = tables.at_end(means, "summaries", "dpo", "chosen")
    assert found.value == pytest.approx(-0.99) and found.low < -0.99 < found.high and found.n == 3
    curve = tables.curve(means, "summaries", "chosen")
    assert list(curve[curve["loss"] == "simpo"]["step"]) == [0, 8]
    with pytest.raises(ValueError, match="no rows"):
        tables.at_end(means, "sentiment", "dpo", "chosen")


def test_tokens_that_not_all_seeds_list_are_left_out():
    rows = []
    for seed in range(2):
        for token in ("a", "b", f"only {seed}"):
            row = {"data": "d", "loss": "dpo", "place": "after", "seed": seed, "token": token}
            rows.append(row | {"before": 0.1, "after": 0.2 + seed, "change": 0.1 + seed})
    found = probability_tables.token_table(pd.DataFrame(rows), "d", "dpo", "after")
    assert sorted(found.index) == ["'a'", "'b'"] and found.loc["'a'", "change"] == pytest.approx(0.6)


def test_where_all_seeds_agree_a_share_gets_the_exact_interval():
    rows = [
        {"data": "d", "loss": loss, "seed": seed, "step": 8, "pairs": 48, "both_fell": share}
        for loss, shares in (("flat", (0.0, 0.0, 0.0)), ("wide", (0.0, 0.1, 0.9)))
        for seed, share in enumerate(shares)
    ]
    flat, wide = (
        tables.share_at_end(pd.DataFrame(rows), "d", loss, "both_fell") for loss in ("flat", "wide")
    )
    assert flat.value == flat.low == 0 and flat.high == pytest.approx(1 - 0.025 ** (1 / 144))
    assert (wide.low, wide.high) == (0.0, 1.0) and wide.n == 3  # the t interval goes beyond both ends


def rates(seeds=2):
    """DPO's paths at two rates: the faster one loses 0.5 nats per nat of margin, the slower one 0.2."""
    rows = []
    for rate, slope, top in ((0.25, 0.2, 1.0), (1.0, 0.5, 4.0)):
        for seed in range(seeds):
            for step in range(5):
                margin = top * step / 4 * (1 + 0.1 * seed)
                row = {"update": "joint", "optimizer": "adamw", "set": "test", "rate": rate, "seed": seed}
                rows.append(row | {"step": step, "margin": margin, "chosen": -slope * margin})
    rows.append(rows[-1] | {"seed": 99})  # of one rate only
    return pd.DataFrame(rows)


def test_rates_are_compared_where_their_margins_are_the_same():
    paths = tables.paths_of_rates(rates())
    assert set(paths["seed"]) == {0, 1}
    ends = paths[paths["step"] == 4]
    late = ends.assign(margin=ends["margin"] * 1.5)  # between two moments of the faster run
    found = tables.slower_against(late, paths, (0.25, 1.0), "chosen")
    assert found["fast"].value == pytest.approx(-0.5 * 1.5 * 1.05)
    assert found["slow"].value == pytest.approx(-0.2 * 1.05)
    assert found["gap"].value == pytest.approx(found["fast"].value - found["slow"].value)
    line = tables.along_margin(paths, "chosen")
    assert line[line["rate"] == 1.0]["margin"].tolist() == pytest.approx([1.05, 2.1, 3.15, 4.2])


def test_a_margin_before_the_first_moment_is_not_guessed():
    paths = tables.paths_of_rates(rates())
    early = paths[paths["step"] == 4].assign(margin=0.3)
    with pytest.raises(ValueError, match="mean_interval"):
        tables.slower_against(early, paths, (0.25, 1.0), "chosen")


def test_a_constant_ratio_becomes_one_more_loss():
    like = pd.DataFrame([{"data": "sentiment", "pairs": 48}])
    row = {"data": "sentiment", "optimizer": "adamw", "rate": 1.0, "set": "test", "seed": 0, "step": 8}
    row |= dict.fromkeys(("rejected", "margin", "both_fell", "accuracy"), 0.0)
    sweep = pd.DataFrame([row | {"ratio": 1.0, "chosen": -1.0}, row | {"ratio": 1.005, "chosen": 0.5}])
    found = tables.shifted(sweep, 1.005, like)
    assert found["loss"].tolist() == ["dpo_shift"] and found["chosen"].tolist() == [0.5]
    assert found["pairs"].tolist() == [48]


def test_an_account_of_held_out_pairs_has_no_own_pair():
    rows = [
        {"data": "d", "set": name, "response": "chosen", "seed": seed}
        | dict.fromkeys([*TERMS, "total"], 1.0 + seed)
        for name in ("batch", "test")
        for seed in range(2)
    ]
    found = tables.account_rows(pd.DataFrame(rows), "d")
    assert "own_pair" in found["batch"] and "own_pair" not in found["test"]
    assert found["test"]["total"].value == pytest.approx(1.5)


def judged(move_positive, move_negative, start=(1.0, 2.0, 3.0)):
    """Tables of two grids: three positive and three negative tweets a seed, both kinds scored around 0."""
    pairs, runs, positive = [], [], {}
    for seed in range(2):
        for number, size in enumerate(start):
            for truth, move in (
                (True, move_positive),
                (False, -move_negative),
            ):  # a margin is the right way up
                name = f"{truth} {number}"
                positive[name] = truth
                row = {"data": "sentiment", "loss": "dpo", "seed": seed, "pair": name, "cosine": 0.5}
                pairs += [row | {"step": 0, "margin": 0.0}, row | {"step": 8, "margin": move}]
                run = {"condition": "main", "variant": "long_suffix", "phase": "dpo", "step": 0}
                run |= {"seed": seed, "pair": name, "chosen_logp": size - 5, "rejected_logp": -5.0}
                runs.append(run | {"cosine": 0.5})
    return pd.DataFrame(pairs), pd.DataFrame(runs), positive


def test_a_label_bias_costs_accuracy_and_is_taken_out_again():
    found = probability_tables.scores(*judged(2.5, 2.5))  # all scores rise by 2.5
    measured = probability_tables.measures(found).iloc[0]
    assert measured["accuracy_before"] == 100
    assert measured["accuracy"] == pytest.approx(100 * 4 / 6)  # the negative tweets at -1 and -2 cross
    assert measured["undrifted"] == measured["corrected"] == measured["ranked"] == 100
    assert measured["bias"] == pytest.approx(2.5)


def test_what_is_unlearned_is_no_bias():
    found = probability_tables.scores(*judged(-2.5, 2.5))  # both kinds go the wrong way
    measured = probability_tables.measures(found).iloc[0]
    assert measured["bias"] == pytest.approx(0)
    assert measured["accuracy"] == measured["undrifted"] == pytest.approx(100 * 2 / 6)
    assert measured["ranked"] < 50


def test_an_offset_is_that_of_the_other_pairs():
    values, truth = np.array([0.0, 4.0, 100.0, -2.0]), np.array([True, True, False, False])
    found = probability_tables._left_out(values, truth)
    assert found[2] == pytest.approx((2 - 2) / 2)  # without the 100 itself


def test_scores_need_one_checkpoint():
    pairs, runs, positive = judged(1.0, -1.0)
    with pytest.raises(ValueError, match="same checkpoints"):
        probability_tables.scores(pairs, runs.assign(cosine=0.4), positive)


def test_squeezing_is_the_rejected_answers_gain_over_the_chosen_ones():
    rows = [
        {"data": "d", "loss": "dpo", "place": "apart", "seed": seed, "response": name, "top": top + seed}
        for seed in range(2)
        for name, top in (("chosen", 0.1), ("rejected", 0.4))
    ]
    found = probability_tables.rejected_less_chosen(pd.DataFrame(rows), "d", "dpo")
    assert found.value == pytest.approx(0.3)
