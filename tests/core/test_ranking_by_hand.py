"""Losses of a ranking, worked out pair by pair."""

from __future__ import annotations

import math

import pytest
import torch

from entanglement.ranking import Ranking, get_ranking, list_rankings

SCORES, GRADES = [0.3, -1.2, 0.9, 0.1], [2.0, 0.0, 1.0, 1.0]
#: (i, j) with i the more relevant.
BETTER = [(0, 1), (0, 2), (0, 3), (2, 1), (3, 1)]


def softly(x):
    """−log σ(x)."""
    return math.log(1 + math.exp(-x))


def ranknet(s):
    return sum(softly(s[i] - s[j]) for i, j in BETTER) / len(BETTER)


def lambdarank(s):
    rank = {i: sum(s[j] > s[i] for j in range(4)) for i in range(4)}
    discount = [1 / math.log2(2 + place) for place in range(4)]
    gain = [2**grade - 1 for grade in GRADES]
    best = sum(g * d for g, d in zip(sorted(gain, reverse=True), discount, strict=True))
    return sum(
        abs((gain[i] - gain[j]) * (discount[rank[i]] - discount[rank[j]])) / best * softly(s[i] - s[j])
        for i, j in BETTER
    )


def plackett_luce(s):
    below = {i: [j for one, j in BETTER if one == i] for i in range(4)}
    return sum(math.log(sum(math.exp(s[j]) for j in [i, *below[i]])) - s[i] for i in range(4))


#: Loss → its value of four scores.
VALUES = {
    "ranknet": ranknet,
    "lambdarank": lambdarank,
    "plackett_luce": plackett_luce,
}


def test_every_loss_of_a_ranking_is_worked_out():
    assert set(list_rankings()) == set(VALUES)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_a_loss_is_what_was_worked_out_by_hand(name, beta):
    logps, grades = (torch.tensor([row], dtype=torch.float64) for row in (SCORES, GRADES))
    found = get_ranking(name, beta=beta)(logps, grades)
    assert float(found) == pytest.approx(VALUES[name]([beta * score for score in SCORES]))


@pytest.mark.parametrize("beta", [0.0, -1.0])
def test_a_ranking_refuses_a_strength_that_is_not_positive(beta):
    for make in (Ranking, get_ranking):
        with pytest.raises(ValueError, match=rf"beta={beta}; expected"):
            make("ranknet", beta)
