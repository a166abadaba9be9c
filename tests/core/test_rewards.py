"""The Bradley-Terry reward model."""

import numpy as np
import pytest
import torch

from entanglement.logps import token_logps
from entanglement.pairs import PreferencePair, collate
from entanglement_book.studies.ch01_two_steps.rewards import (
    FEATURES,
    LinearReward,
    fit_reward,
    pair_features,
    word_overlap,
)


def judged(n, weights, seed=0):
    """Features of n pairs whose judge follows the Bradley-Terry model with these weights."""
    rng = np.random.default_rng(seed)
    one, two = rng.normal(size=(2, n, len(weights)))
    prefers = rng.random(n) < 1 / (1 + np.exp(-(one - two) @ weights))
    return np.where(prefers[:, None], one, two), np.where(prefers[:, None], two, one)


def test_the_judges_weights_are_found():
    weights = np.array([1.0, -2.0, 0.5])
    found = fit_reward(*judged(20_000, weights), strength=1e4)
    np.testing.assert_allclose(found.weights, weights, atol=0.1)


def test_swapped_pairs_give_the_opposite_reward():
    chosen, rejected = judged(500, np.array([1.0, -1.0]))
    one, other = fit_reward(chosen, rejected), fit_reward(rejected, chosen)
    np.testing.assert_allclose(one.weights, -other.weights, atol=1e-6)
    assert (one(chosen) > one(rejected)).mean() > 0.6 > 0.4 > (other(chosen) > other(rejected)).mean()


def test_only_differences_count():
    chosen, rejected = judged(300, np.array([1.0, -1.0]))
    shifted = fit_reward(chosen + 7.0, rejected + 7.0)
    np.testing.assert_allclose(shifted.weights, fit_reward(chosen, rejected).weights, atol=1e-8)


def test_shapes_that_do_not_agree_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        fit_reward(np.zeros((3, 2)), np.zeros((4, 2)))


@pytest.mark.parametrize(
    ("prompt", "response", "share"),
    [("the people liked it", "People LIKED.", 1.0), ("a day", "the film", 0.0), ("x", "", 0.0)],
)
def test_overlap_counts_words(prompt, response, share):
    assert word_overlap(prompt, response) == share


def test_information_is_what_the_prompt_adds_per_token(tokenizer, tiny_model):
    model = tiny_model("gpt2-tied")
    pair = PreferencePair("what a day", " positive people", " negative", "p")
    chosen, rejected = pair_features(model, tokenizer, [pair], bare="the")
    with torch.no_grad():
        sums = [
            [float(s) for s in token_logps(model, collate([p], tokenizer)).sums()]
            for p in (pair, PreferencePair("the", pair.chosen, pair.rejected, "p"))
        ]
    n = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (pair.chosen, pair.rejected)]
    assert chosen[0, 0] == pytest.approx((sums[0][0] - sums[1][0]) / n[0], abs=1e-5)
    assert rejected[0, 0] == pytest.approx((sums[0][1] - sums[1][1]) / n[1], abs=1e-5)
    assert chosen[0, 2] == pytest.approx(np.log(n[0])) and chosen.shape == (1, len(FEATURES))
    same, _ = pair_features(model, tokenizer, [pair], bare=pair.prompt)
    assert same[0, 0] == pytest.approx(0.0, abs=1e-6)  # nothing is added by the prompt to itself


def test_the_table_is_in_the_features_order():
    reward = LinearReward(np.array([1.0, 2.0, 3.0]))
    assert reward.table(np.array([1.0, 10.0, 100.0])).tolist() == [1.0, 20.0, 300.0]


def test_words_have_three_letters_or_more():
    assert word_overlap("the cat", "the cat sat on it") == pytest.approx(2 / 3)  # "on" and "it" are none
    assert word_overlap("on it", "on it") == 0.0


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_the_weights_minimize_the_loss_with_its_pull_to_zero(strength):
    chosen, rejected = judged(200, np.array([1.0, -2.0]))
    found = fit_reward(chosen, rejected, strength=strength)
    difference = chosen - rejected
    scale = difference.std(axis=0)
    x = difference / scale
    # ½‖w‖² + 2C Σ −log σ(x·w), each pair being seen from both sides: its slope is 0 where it is smallest.
    w = found.weights * scale
    slope = w - 2 * strength * (x / (1 + np.exp(x @ w))[:, None]).sum(axis=0)
    np.testing.assert_allclose(slope, 0, atol=2e-3 * max(1, strength * len(x)))
    assert (np.abs(found.weights) < np.abs(fit_reward(chosen, rejected, strength=10.0).weights)).all()


def test_a_feature_that_never_differs_gets_no_weight():
    chosen, rejected = judged(100, np.array([1.0, -1.0]))
    chosen[:, 1] = rejected[:, 1] = 3.0
    assert fit_reward(chosen, rejected).weights[1] == 0.0
