"""Losses of a ranking: two candidates are DPO, weights are slopes, exchanges change scikit-learn's NDCG."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.metrics import ndcg_score

from entanglement.losses import PairLogps, get_loss
from entanglement.ranking import RANKINGS, get_ranking, list_rankings

GRADES = torch.tensor([[3.0, 1.0, 0.0, 2.0], [1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), beta=st.sampled_from([0.1, 1.0, 3.0]))
def test_with_two_candidates_a_ranking_is_dpo(seed, beta):
    now, then = drawn(seed, 5, 2), drawn(seed + 1, 5, 2)
    dpo = get_loss("dpo", beta=beta)
    pairs = PairLogps(*now.T, *then.T)
    up, down = dpo.weights(pairs)
    for name in ("ranknet", "plackett_luce"):
        ranking = get_ranking(name, beta=beta)
        relevance = torch.tensor([1.0, 0.0]).expand(5, 2)
        torch.testing.assert_close(ranking(now, relevance, then), dpo(pairs))
        weights = ranking.weights(now, relevance, then)
        torch.testing.assert_close(weights, torch.stack([up, -down], 1))
        assert bool((weights[:, 0] > 0).all())
        turned = ranking.weights(now, relevance.flip(1), then)
        assert bool((turned[:, 0] < 0).all())


@pytest.mark.parametrize("name", list_rankings())
def test_no_loss_of_a_ranking_pulls_all_candidates_up(name):
    # All of them see differences of scores only: what is added to every candidate changes nothing.
    logps, ranking = drawn(0, 2, 4), get_ranking(name, beta=0.5)
    torch.testing.assert_close(ranking(logps + 7, GRADES), ranking(logps, GRADES))
    weights = ranking.weights(logps, GRADES)
    torch.testing.assert_close(weights.sum(1), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    assert bool((weights[:, 0] > 0).all()) and float(weights[0, 2]) < 0
    small = 1e-6
    for i in range(4):
        moved = logps.clone()
        moved[:, i] += small
        slope = (ranking(moved, GRADES) - ranking(logps, GRADES)) / small
        torch.testing.assert_close(slope, -weights[:, i], atol=1e-5, rtol=1e-4)


def test_plackett_luce_is_a_probability_of_orders():
    logps = drawn(3, 1, 4)
    total = 0.0
    for order in permutations(range(4)):
        relevance = torch.zeros(1, 4, dtype=torch.float64)
        relevance[0, list(order)] = torch.tensor([3.0, 2.0, 1.0, 0.0], dtype=torch.float64)
        total += math.exp(-float(get_ranking("plackett_luce", beta=1.0)(logps, relevance)))
    assert total == pytest.approx(1.0)


def test_equal_grades_are_not_compared():
    logps = drawn(4, 2, 4)
    for name in list_rankings():
        ranking = get_ranking(name)
        assert ranking.weights(logps, torch.ones(2, 4)).abs().max() == 0
        assert ranking(logps, torch.ones(2, 4)).abs().max() == 0
        swapped = logps.clone()
        swapped[1, [0, 1]] = logps[1, [1, 0]]  # both have grade 1
        torch.testing.assert_close(ranking(swapped, GRADES)[1], ranking(logps, GRADES)[1])


@pytest.mark.parametrize("seed", range(5))
def test_lambdarank_weighs_a_pair_by_what_its_exchange_changes_in_scikit_learns_ndcg(seed):
    scores, grades = drawn(seed, 1, 5), torch.tensor([[3.0, 2.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    gains = (2**grades - 1).numpy()
    expected = 0.0
    for i in range(5):
        for j in range(5):
            if grades[0, i] > grades[0, j]:
                exchanged = scores.clone()
                exchanged[0, [i, j]] = scores[0, [j, i]]
                change = ndcg_score(gains, scores.numpy()) - ndcg_score(gains, exchanged.numpy())
                expected -= abs(change) * math.log(torch.sigmoid(scores[0, i] - scores[0, j]))
    assert float(get_ranking("lambdarank", beta=1.0)(scores, grades)) == pytest.approx(expected)


def test_lambdarank_cares_for_the_top():
    # In order already, at equal distances: what moves the best one counts more than what moves the last two.
    scores = torch.tensor([[3.0, 2.0, 1.0, 0.0]], dtype=torch.float64)
    weights = get_ranking("lambdarank", beta=1.0).weights(scores, torch.tensor([[3.0, 2.0, 1.0, 0.0]]))[0]
    plain = get_ranking("ranknet", beta=1.0).weights(scores, torch.tensor([[3.0, 2.0, 1.0, 0.0]]))[0]
    assert weights[0] / -weights[3] > plain[0] / -plain[3]


def test_descending_along_the_weights_sorts_the_candidates():
    for name in list_rankings():
        logps, ranking = drawn(5, 2, 4), get_ranking(name, beta=1.0)
        before = np.mean([ndcg_score([g.tolist()], [s.tolist()]) for g, s in zip(GRADES, logps, strict=True)])
        for _ in range(400):
            logps = logps + 0.5 * ranking.weights(logps, GRADES)
        after = np.mean([ndcg_score([g.tolist()], [s.tolist()]) for g, s in zip(GRADES, logps, strict=True)])
        assert after == pytest.approx(1.0) and before < 0.999


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logps": torch.zeros(3)}, r"logps has shape \(3,\); expected \(B, k\) with k ≥ 2"),
        ({"relevance": torch.zeros(2, 3)}, r"relevance has shape \(2, 3\); expected \(B, k\)"),
        ({"ref_logps": torch.zeros(1, 4)}, r"ref_logps has shape \(1, 4\)"),
        ({"relevance": -torch.ones(2, 4)}, "relevance=-1; expected numbers of at least 0"),
    ],
)
def test_what_is_no_ranking_is_refused(change, message):
    given = {"logps": torch.zeros(2, 4), "relevance": torch.zeros(2, 4)} | change
    with pytest.raises(ValueError, match=message):
        get_ranking("ranknet")(**given)


def test_names_and_strengths_are_checked():
    with pytest.raises(ValueError, match="ranking loss 'ranknets' is not known; expected one of ranknet"):
        get_ranking("ranknets")
    with pytest.raises(ValueError, match=r"beta=0\.0; expected a positive finite number"):
        get_ranking("ranknet", beta=0.0)
    assert repr(get_ranking("lambdarank")) == "get_ranking('lambdarank', beta=0.1)"
    assert all(spec.title and spec.formula and spec.source for spec in RANKINGS.values())
