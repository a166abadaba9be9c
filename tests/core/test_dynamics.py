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
