"""Where each method's advantages come from, worked out answer by answer."""

from __future__ import annotations

import pytest
import torch

from entanglement.rewards import METHODS, get_method
from entanglement.rewards.learning import _seen
from entanglement.rewards.methods import Drawn

BETA, TRACE = 0.3, 0.95


def drawn():
    """Two groups of three answers of one to three tokens."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(3) < torch.tensor([3, 1, 2, 3, 3, 2])[:, None]
    scores, log_ratios, values = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((6,), (6, 3), (6, 3))
    )
    return Drawn(scores, log_ratios * mask, mask, 3, BETA, values * mask)


def priced(some):
    """Each answer's reward less what leaving the reference costs."""
    return [float(score - BETA * row.sum()) for score, row in zip(some.scores, some.log_ratios, strict=True)]


def by_ppo(some):
    found = []
    for score, ratios, values, mask in zip(some.scores, some.log_ratios, some.values, some.mask, strict=True):
        n, later, row = int(mask.sum()), 0.0, [0.0] * 3
        for t in reversed(range(n)):
            reward = -BETA * float(ratios[t]) + (float(score) if t == n - 1 else 0.0)
            following = float(values[t + 1]) if t + 1 < n else 0.0
            later = reward + following - float(values[t]) + TRACE * later
            row[t] = later
        found.append(row)
    whole = torch.tensor(found, dtype=torch.float64)
    there = whole[some.mask]
    return ((whole - there.mean()) / (there.std(correction=0))) * some.mask


def by_rloo(some):
    paid = priced(some)
    rows = [paid[i] - sum(paid[j] for j in others(i)) / 2 for i in range(6)]
    return torch.tensor(rows, dtype=torch.float64)[:, None] * some.mask


def by_grpo(some):
    rows = []
    for i in range(6):
        group = some.scores[[i, *others(i)]]
        rows.append(float((some.scores[i] - group.mean()) / (group.std() + 1e-4)))
    return torch.tensor(rows, dtype=torch.float64)[:, None] * some.mask


def others(i):
    """The other two of an answer's group."""
    first = i - i % 3
    return [j for j in range(first, first + 3) if j != i]


#: Method → advantages (R, K) of what was drawn.
CREDITS = {
    "ppo": by_ppo,
    "rloo": by_rloo,
    "grpo": by_grpo,
    "grpo-corrected": by_grpo,
}


def test_every_method_is_worked_out():
    assert set(METHODS) == set(CREDITS)


@pytest.mark.parametrize("method", CREDITS)
def test_advantages_are_those_worked_out_by_hand(method):
    some = drawn()
    found, targets = get_method(method).credit(some)
    torch.testing.assert_close(found, CREDITS[method](some), rtol=1e-3, atol=1e-3, check_dtype=False)
    assert found.shape == targets.shape == (6, 3) and not found[~some.mask].any()
    assert bool(targets.any()) == get_method(method).values


def test_a_row_tells_of_whole_answers():
    """Two answers of one prompt: three tokens and one, each a nat from the reference."""
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    ones, advantages = torch.ones(2, 3), torch.tensor([[1.0] * 3, [-1.0] * 3])
    some = Drawn(torch.tensor([2.0, 0.0]), ones * mask, mask, 2, BETA, torch.zeros(2, 3))
    before, after = -ones, torch.tensor([[-1.5, -1.0, -1.0], [-1.0, 0.0, 0.0]])
    told = _seen(get_method("grpo"), some, advantages, before, after, before, 0.2)
    assert (told["kl"], told["length"], told["reward"], told["fell"]) == (2.0, 2.0, 1.0, 1.0)
    assert told["spread"] == pytest.approx(2**0.5) and told["clipped"] == 0
