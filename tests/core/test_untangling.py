"""The grid of update rules, single steps, the quality of answers, and the tables that the chapter reads."""

import numpy as np
import pandas as pd
import pytest
import torch

from entanglement.batches import shuffled
from entanglement.gradients import pair_geometry
from entanglement.loglinear import suffix_pairs
from entanglement.outcomes import quality
from entanglement.pairs import collate
from entanglement.updates import get_update, list_rules
from entanglement_book.grids.grid import GRIDS
from entanglement_book.studies.ch11_one_number import grid as untangling, study as single_steps
from entanglement_book.studies.shared import update_tables
from entanglement_book.studies.shared.means import set_means
from entanglement_book.studies.shared.start import trained_sample
from entanglement_book.studies.shared.toys import sizes, tangled

pytestmark = pytest.mark.usefixtures("short_runs")


def test_distinct_and_repeated_tokens():
    answers = [[1, 2, 1], [1, 2]]
    assert quality.distinct(answers, 1) == pytest.approx(2 / 5)
    assert quality.distinct(answers, 2) == pytest.approx(2 / 3)  # 12, 21, 12
    assert quality.repeated(answers) == pytest.approx(1 / 5)
    assert quality.length(answers) == 2.5
    assert np.isnan(quality.distinct([[1]], 2)) and np.isnan(quality.repeated([[]]))


def test_a_model_is_at_no_distance_from_itself_and_ends_end_answers(tiny_model, tokenizer):
    model = tiny_model("gpt2-tied")
    found = quality.answer_quality(model, model, tokenizer, ["what a"], tokens=8, draws=20)
    assert found["kl"] == 0 and 0 < found["length"] <= 8
    other = tiny_model("gpt2-tied", seed=1)
    assert quality.answer_quality(model, other, tokenizer, ["what a"], tokens=8, draws=20)["kl"] > 0
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.lm_head.weight[tokenizer.eos_token_id] *= 100
        model.transformer.ln_f.bias.copy_(model.lm_head.weight[tokenizer.eos_token_id])
    assert quality.answer_quality(model, model, tokenizer, ["what a"], tokens=8)["length"] == 0


def test_what_is_drawn_depends_on_seed_number_and_length(tiny_model, tokenizer):
    model, other = tiny_model("gpt2-tied"), tiny_model("gpt2-tied", seed=1)

    def drawn(**options):
        return quality.answer_quality(model, other, tokenizer, ["what a", "the film"], **options)["kl"]

    same = drawn(tokens=4, draws=3)
    assert same == drawn(tokens=4, draws=3, seed=0)
    assert len({same, drawn(tokens=4, draws=3, seed=1), drawn(tokens=4, draws=2), drawn(tokens=5)}) == 4


def test_the_grid_has_its_seeds_and_rates():
    cells = pd.DataFrame(untangling.grid_cells("book"))
    plain = cells[cells["optimizer"] == "sgd"]
    assert plain.groupby("update")["seed"].nunique().min() >= 5 and "joint" in set(plain["update"])
    cells = cells[cells["optimizer"] == "adamw"]
    main = cells[cells["rate"] == 1.0]
    assert main.groupby("update")["seed"].nunique().min() >= 5 and set(main["update"]) == set(
        untangling.UPDATES
    )
    others = cells[cells["rate"] != 1.0]
    assert others.groupby(["update", "rate"])["seed"].nunique().min() == untangling.RATE_SEEDS
    for variant in untangling.UPDATES.values():
        variant.make()


def test_the_sample_is_of_pairs_that_were_trained_on():
    pairs = [f"pair {i}" for i in range(40)]
    sample = trained_sample("smoke", "nano", pairs, 1)
    numbers = untangling.recipe("smoke")
    batches = shuffled(len(pairs), numbers.steps, numbers.batch, 1)
    used = {pairs[i] for rows in batches for i in rows}
    assert len(set(sample)) == numbers.test_pairs and set(sample) <= used


def test_a_cell_carries_its_name_and_starts_at_nothing():
    cell = {"update": "band", "optimizer": "adamw", "rate": 1.0, "seed": 1}
    found = GRIDS["untangling"].compute("smoke", "nano", cell)
    assert set(found) == {"means", "steps", "answers"}
    for table in found.values():
        assert table[list(cell)].drop_duplicates().to_dict("records") == [cell]
    first = found["means"].query("step == 0")
    assert (first[["chosen", "rejected", "margin", "fell", "rose"]] == 0).all(axis=None)
    assert "answers" not in GRIDS["untangling"].compute("smoke", "nano", cell | {"rate": 4.0})
    plain = GRIDS["untangling"].compute("smoke", "nano", cell | {"optimizer": "sgd"})
    assert "answers" not in plain and not plain["means"]["chosen"].equals(found["means"]["chosen"])


def test_shares_are_of_pairs_that_moved_by_more_than_the_tolerance():
    rows = []
    for step, moves in ((0, (0.0,) * 4), (8, (-0.2, -0.3, 0.3, -0.04))):
        for pair, move in enumerate(moves):
            row = {"step": step, "set": "test", "pair": pair}
            rows.append(row | {"chosen_logp": -3 + move, "rejected_logp": -2.9 - 2 * move})
    last = set_means(pd.DataFrame(rows)).set_index("step").loc[8]
    assert last["fell"] == 0.5 and last["rose"] == 0.75
    assert last["both_fell"] == 0 and last["chosen"] == pytest.approx(-0.06)
    assert last["margin"] == pytest.approx(-0.18) and last["accuracy"] == 0.25


# --- tables -------------------------------------------------------------------------------------------------


def made():
    """Two updates, three seeds, margins that grow by 0.25 a step; "slow" never gets far."""
    rows = []
    for seed in range(3):
        for name, speed in (("joint", 1.0), ("band", 0.8), ("slow", 0.1)):
            for rate in (1.0, 4.0):
                for step in range(5):
                    margin = 0.25 * step * speed * rate
                    row = {"update": name, "optimizer": "adamw", "rate": rate, "seed": seed}
                    row |= {"set": "trained", "step": step}
                    row |= {"chosen": -margin + seed, "rejected": -2 * margin, "margin": margin}
                    rows.append(row | {"fell": margin / 2, "rose": 0.1 * seed, "accuracy": 1.0})
    return pd.DataFrame(rows)


def test_updates_are_compared_where_their_margin_is_the_same():
    found = update_tables.at_margin(made(), ["joint", "band", "slow"], 0.75)
    assert set(found["margin"]) == {0.75}
    joint = found[found["update"] == "joint"]
    np.testing.assert_allclose(joint["step"], 3.0)
    np.testing.assert_allclose(found[found["update"] == "band"]["step"], 3.75)
    np.testing.assert_allclose(found[found["update"] == "band"]["fell"], 0.375)
    assert found[found["update"] == "slow"]["step"].isna().all()
    fell = update_tables.fell_at(found)
    assert set(fell) == {"joint", "band"} and fell["joint"].value == pytest.approx(0.375)
    shown = update_tables.margin_table(found, {"joint": "DPO", "slow": "slow"})
    assert shown.loc["DPO", "seeds"] == "3 of 3" and shown.loc["slow", "chosen"] == "–"


def test_ends_are_those_of_the_last_step_and_the_asked_rate():
    found = update_tables.at_end(made(), "joint", "margin", pairs="trained")
    assert found.value == pytest.approx(1.0) and found.n == 3
    assert update_tables.at_end(made(), "joint", "margin", pairs="trained", rate=4.0).value == pytest.approx(
        4.0
    )
    with pytest.raises(ValueError, match="no rows for 'joint', 'test'"):
        update_tables.at_end(made(), "joint", "margin")
    answers = made()[["update", "seed"]].drop_duplicates()
    answers = answers.assign(kl=0.5, distinct_2=0.4, repeated=0.1, length=6.0)
    shown = update_tables.end_table(made(), answers, {"joint": "DPO"}, pairs="trained")
    assert shown.loc["DPO", "chosen kept"].startswith("0.50") and shown.loc["DPO", "KL"].startswith("0.50")
    assert shown.loc["DPO", "rejected not up"] == "0.90 [0.65, 1.00]"  # and not beyond 1


# --- single steps -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy():
    return tangled("refusal", "same words", "nano", sizes("smoke"), 0)


def test_one_step_each_leaves_the_model_as_it_was(toy):
    model, tokenizer, pairs = toy
    start = {name: value.clone() for name, value in model.state_dict().items()}
    updates = {name: get_update(name) for name in ("joint", "normalized")}
    found = single_steps.one_step_each(model, tokenizer, pairs, updates)
    assert len(found) == 2 * len(pairs)
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    # The size is that of DPO's own step without what the two gradients share.
    joint = found[found["update"] == "joint"]
    assert ((joint["chosen"] - joint["rejected"]).between(0, 0.0101)).all()
    with pytest.raises(ValueError, match=r"optimizer 'lion' is not known; expected"):
        single_steps.one_step_each(model, tokenizer, pairs, updates, optimizer="lion")
    with pytest.raises(ValueError, match=r"toy='poem'; expected one of refusal, teacher"):
        tangled("poem", "same words", "nano", sizes("smoke"), 0)


def test_a_step_is_as_large_as_asked_for_and_each_starts_anew(toy):
    model, tokenizer, pairs = toy
    some = list(pairs)[:2]
    updates = {"joint": get_update("joint"), "calibrated": get_update("calibrated")}
    found = single_steps.one_step_each(model, tokenizer, some, updates, optimizer="sgd", size=0.05)
    joint = found[found["update"] == "joint"]
    for pair, margin in zip(some, joint["chosen"] - joint["rejected"], strict=True):
        g = pair_geometry(model, collate([pair], tokenizer))
        shared = float(2 * g.inner / (g.chosen_sq + g.rejected_sq))
        assert margin == pytest.approx(0.05 * (1 - shared), rel=0.2)
    # A running average that went on from pair to pair would make the second one's step another.
    alone = single_steps.one_step_each(
        model, tokenizer, some[1:], {"calibrated": get_update("calibrated")}, optimizer="sgd", size=0.05
    )
    last = found[found["update"] == "calibrated"].iloc[1]
    assert alone.iloc[0][["chosen", "rejected"]].tolist() == last[["chosen", "rejected"]].tolist()


def test_outcomes_count_both_signs():
    table = pd.DataFrame(
        {"update": ["x"] * 4, "chosen": [1.0, -1.0, 0.0, 1.0], "rejected": [-1.0, -1.0, 0.0, 1.0]}
    )
    found = single_steps.outcome(table).loc["x"]
    assert found.tolist() == [0.75, 0.75, 0.5]


def test_exact_steps_begin_as_the_first_order_says_and_runs_agree_for_small_steps():
    pairs = suffix_pairs(4, 6, relation="scaled", strength=1.25, generator=torch.Generator().manual_seed(1))
    steps = single_steps.exact_steps(pairs, list(list_rules()), [1e-4])
    np.testing.assert_allclose(steps["chosen"] - steps["rejected"], 1e-4, rtol=1e-2)
    assert (steps[steps["update"] == "joint"]["chosen"] < 0).all()
    assert (steps[steps["update"] == "normalized"]["chosen"] > 0).all()
    runs = single_steps.exact_runs(
        pairs, {"DPO": ("dpo", "joint"), "normalized": ("dpo", "normalized")}, [1e-3, 1e-2], 0.02
    )
    assert set(runs["steps"]) == {20, 2}
    small, large = (runs[runs["eta"] == eta][["chosen", "rejected"]].to_numpy() for eta in (1e-3, 1e-2))
    np.testing.assert_allclose(small, large, rtol=0.02, atol=1e-4)
