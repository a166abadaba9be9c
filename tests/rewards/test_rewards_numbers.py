"""The numbers of rewards instead of margins: two optima, TRL's losses, and what is made of the tables."""

import numpy as np
import pandas as pd
import pytest

from entanglement_book.studies.ch14_rewards import bandit, numbers
from entanglement_book.studies.ch14_rewards.trl_batch import both_losses

SETS = ("at once", "hesitant")


def test_the_two_prices_stand_still_at_two_policies():
    reference = np.array([0.1, 0.2, 0.1, 0.15, 0.05, 0.2, 0.1, 0.1])
    worth = np.asarray(bandit.WORTH)
    one, other = bandit.tilted(reference), bandit.still(reference)
    for policy in (one, other):
        assert policy.min() > 0 and policy.sum() == pytest.approx(1)
    # The gradient in the logits: of worth less the divergence, and of GRPO's mean loss.
    gain = worth - bandit.BETA * np.log(one / reference)
    np.testing.assert_allclose(one * (gain - one @ gain), 0, atol=1e-12)
    spread = np.sqrt(other @ (worth - other @ worth) ** 2)
    pull = other * (worth - other @ worth) / spread - bandit.BETA * (other - reference)
    np.testing.assert_allclose(pull, 0, atol=1e-9)
    assert np.abs(one - other).sum() > 0.1


def test_methods_move_to_their_own_optimum():
    ends = bandit.ends(0, 30)
    assert list(ends) == ["reference", "ppo", "rloo", "grpo"]
    for name, known in (("ppo", bandit.tilted), ("rloo", bandit.tilted), ("grpo", bandit.still)):
        goal, other = known(ends["reference"]), {bandit.tilted, bandit.still} - {known}
        far = np.abs(ends[name] - goal).sum()
        assert far < 0.1 < np.abs(ends["reference"] - goal).sum()
        assert far < np.abs(ends[name] - other.pop()(ends["reference"])).sum()


def test_one_batch_has_trls_losses():
    table = both_losses(3)
    assert list(table.index) == ["rloo", "grpo", "grpo-corrected"]
    np.testing.assert_allclose(table["ours"], table["TRL"], atol=1e-4)
    assert (table["gradient"] < 1e-3).all() and ((table["ours"] - table["another"]).abs() > 1e-3).all()


def test_signs_count_falls_and_rises_half_each():
    truth = pd.Series([-1.0, 1.0, 1.0, 1.0])
    assert numbers.balanced_signs(truth, pd.Series([-1.0, 1.0, 1.0, -1.0])) == pytest.approx((1 + 2 / 3) / 2)
    assert numbers.balanced_signs(truth, pd.Series([1.0] * 4)) == 0.5
    with pytest.raises(ValueError, match="4 falls of 4"):
        numbers.balanced_signs(-truth.abs(), truth)


def test_seed_0_of_the_toy_does_not_count_where_there_are_more():
    table = pd.DataFrame({"seed": [0, 1, 2]})
    assert numbers.judged(table)["seed"].tolist() == [1, 2]
    assert len(numbers.judged(table[:2])) == 2


def single(rows):
    columns = ["seed", "prompt", "length", "change", "plain"]
    return pd.DataFrame(rows, columns=columns).assign(optimized="sgd", kind="same words", optimizer=0.0)


def test_hesitant_answers_are_counted_by_group():
    rows = [(1, "a", 4, -1.0, -2.0), (1, "a", 5, -1.0, 1.0), (1, "a", 3, 1.0, 1.0)]
    rows += [(2, "b", 4, 1.0, 1.0), (2, "b", 3, 2.0, 1.0), (2, "c", 6, 1.0, 1.0)]
    table = single(rows)
    found = {by: numbers.among_hesitant(table, by, 5) for by in ("plain", "all", "counting")}
    # a: two of them and two wrong; b: one and three; c: one and four.
    assert [round(4 * one.value) for one in found.values()] == [3, 2, 0]
    assert found["plain"].n == 3
    told = numbers.foretold(table[table["seed"] == 1], "hesitant")
    assert told.value == 1


def toy_means(ends):
    rows = [
        {"kind": kind, "arm": arm, "seed": seed, "step": step, "set": name, "chosen": value}
        for (kind, arm), path in ends.items()
        for seed in (1, 2)
        for step, values in path.items()
        for name, value in zip(SETS, values, strict=True)
    ]
    return pd.DataFrame(rows)


def test_an_arm_is_held_against_as_much_gain_of_less_training():
    path = {0: (0.0, 0.0), 1: (0.1, -0.4), 2: (0.2, -1.0)}
    means = toy_means(
        {
            ("same words", "grpo"): path,
            ("same words", "slow"): {0: (0.0, 0.0), 2: (0.1, -0.4)},
            ("same words", "preserve"): {0: (0.0, 0.0), 2: (0.15, -0.2)},
            ("other words", "grpo"): {0: (0.0, 0.0), 2: (0.3, 0.0)},
        }
    )
    assert numbers.at_equal_gain(means, "slow").value == pytest.approx(0)
    assert numbers.at_equal_gain(means, "preserve").value == pytest.approx(0.5)
    assert numbers.at_equal_gain(means, "grpo", "other words").value == pytest.approx(1.0)


def test_apart_and_together_are_half_the_difference_and_half_the_sum():
    rows = [("dpo", 1, 4, 1.0, -3.0), ("dpo", 1, 0, 0.0, 0.0), ("ppo", 1, 4, 2.0, 4.0)]
    means = pd.DataFrame(rows, columns=["way", "seed", "step", "chosen", "rejected"])
    apart, together = numbers.apart_together(means, "dpo")
    assert (apart[1], together[1]) == (2, -1)
    assert (
        numbers.less_apart(means, ["ppo", "dpo"]).value == -1
        and numbers.less_apart(means, ["ppo"]).value == 2
    )


def test_the_rival_is_the_moment_that_is_as_far_from_the_reference():
    rows = [
        ("free", s, step, kl, true)
        for s in (0, 1)
        for step, kl, true in ((0, 0, 0.9), (1, 1, 0.8), (2, 5, 0.1))
    ]
    rows += [("priced", s, step, kl, 0.7) for s in (0, 1) for step, kl in ((0, 0.0), (2, 1.5 + s * 3))]
    answers = pd.DataFrame(rows, columns=["way", "seed", "step", "kl", "true"])
    assert numbers.nearest(answers, "free", "priced")["step"].tolist() == [1, 2]
    found = numbers.stopped(answers, "priced", "free", "true")
    assert found.value == pytest.approx((0.7 - 0.8 + 0.7 - 0.1) / 2)


def test_pairs_are_matched_within_strata():
    rows = [
        ("one", 0, 5, 1.0),
        ("one", 0, 5, 3.0),
        ("one", 0, 9, 100.0),
        ("two", 0, 5, 1.0),
        ("two", 0, 7, 9.0),
    ]
    table = pd.DataFrame(rows, columns=["source", "seed", "length", "chosen"])
    more = pd.concat([table, table.assign(seed=1)])
    found, partners = numbers.matched(more, "chosen", "one", "two", ["length"])
    assert found.value == 1.0 and partners == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="seed 0: no pairs"):
        numbers.matched(more[more["length"] > 5], "chosen", "one", "two", ["length"])
