"""Advantages: torchrl's values, the definitions, and what must not matter."""

import pytest
import torch
from torchrl.objectives.value.functional import generalized_advantage_estimate

from entanglement.rewards.advantages import (
    SPREAD_FLOOR,
    generalized_advantages,
    group_relative,
    leave_one_out,
    masked_mean,
    token_rewards,
    whitened,
)
from entanglement.rewards.answers import Read
from entanglement.rewards.learning import _Values


@pytest.fixture
def rows():
    """Rewards, values and mask of five answers of 1 to 6 tokens."""
    draw = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(5, 6, dtype=torch.float64, generator=draw) for _ in range(2))
    mask = torch.arange(6) < torch.tensor([6, 1, 3, 5, 2])[:, None]
    return rewards, values, mask


@pytest.mark.parametrize(("discount", "trace"), [(1.0, 0.95), (0.9, 0.7), (1.0, 1.0), (0.99, 0.0)])
def test_generalized_advantages_are_torchrls(rows, discount, trace):
    rewards, values, mask = rows
    found, targets = generalized_advantages(rewards, values, mask, discount=discount, trace=trace)
    for i, row in enumerate(mask):
        n = int(row.sum())
        done = torch.zeros(n, 1, dtype=torch.bool)
        done[-1] = True
        value = values[i, :n, None]
        following = torch.cat([value[1:], torch.zeros(1, 1, dtype=value.dtype)])
        theirs, target = generalized_advantage_estimate(
            discount, trace, value, following, rewards[i, :n, None], done
        )
        torch.testing.assert_close(found[i, :n], theirs[:, 0])
        torch.testing.assert_close(targets[i, :n], target[:, 0])
        assert not found[i, n:].any() and not targets[i, n:].any()


def test_what_comes_behind_the_end_does_not_matter(rows):
    rewards, values, mask = rows
    other = generalized_advantages(torch.where(mask, rewards, 9.0), torch.where(mask, values, -9.0), mask)
    for one, two in zip(generalized_advantages(rewards, values, mask), other, strict=True):
        torch.testing.assert_close(one, two)


def test_without_discount_an_advantage_is_the_reward_to_come_less_the_value(rows):
    rewards, values, mask = rows
    found, targets = generalized_advantages(rewards, values, mask, trace=1.0)
    to_come = (rewards * mask).flip(1).cumsum(1).flip(1) * mask
    torch.testing.assert_close(targets, to_come)
    torch.testing.assert_close(found, (to_come - values) * mask)


def test_the_score_comes_at_the_last_token_and_each_nat_costs(rows):
    ratios, _, mask = rows
    scores = torch.arange(5.0, dtype=torch.float64)
    found = token_rewards(scores, ratios, mask, 0.1)
    torch.testing.assert_close(found.sum(1), scores - 0.1 * (ratios * mask).sum(1))
    free = token_rewards(scores, ratios, mask, 0.0)
    assert free[4].tolist() == [0, 4.0, 0, 0, 0, 0] and free[3].tolist() == [0, 0, 0, 0, 3.0, 0]


def test_whitened_is_whitened_where_there_are_tokens(rows):
    values, _, mask = rows
    found = whitened(values * 3 + 7, mask)
    assert float(masked_mean(found, mask)) == pytest.approx(0, abs=1e-12)
    assert float(masked_mean(found**2, mask)) == pytest.approx(1, abs=1e-3)
    assert not found[~mask].any()


def test_leave_one_out_is_the_reward_less_the_others_mean():
    rewards = torch.tensor([1.0, 2.0, 6.0, 0.0, 0.0, 3.0], dtype=torch.float64)
    found = leave_one_out(rewards, 3)
    assert found.tolist() == [1 - 4, 2 - 3.5, 6 - 1.5, 0 - 1.5, 0 - 1.5, 3.0]
    # The advantages of a group sum to 0, and one more reward for all changes nothing.
    torch.testing.assert_close(found.view(2, 3).sum(1), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(leave_one_out(rewards + 5, 3), found)


def test_group_relative_has_no_unit():
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0], dtype=torch.float64)
    found = group_relative(rewards, 4)
    assert found[:4].tolist() == pytest.approx(
        [0.75 / (0.5 + SPREAD_FLOOR)] + [-0.25 / (0.5 + SPREAD_FLOOR)] * 3
    )
    assert found[4:].tolist() == [0.0] * 4  # nothing is learned where all are equal
    torch.testing.assert_close(group_relative(rewards * 100, 4), found, rtol=1e-3, atol=0)


def test_what_is_no_group_and_no_mask_is_refused():
    rewards = torch.zeros(6)
    with pytest.raises(ValueError, match="group=4; expected a divisor of the 6"):
        leave_one_out(rewards, 4)
    ones = torch.ones(2, 3)
    for mask in (torch.tensor([[0, 1, 1], [1, 1, 1]]), torch.tensor([[1, 0, 1], [1, 1, 1]])):
        with pytest.raises(ValueError, match="mask has an answer"):
            generalized_advantages(ones, ones, mask)
    with pytest.raises(ValueError, match="values has shape"):
        generalized_advantages(ones, torch.ones(2, 2), ones)


def test_values_begin_at_zero_and_learn_what_is_expected_and_keep_it():
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(8, 3, 4, generator=draw)
    targets = states @ torch.tensor([1.0, -2.0, 0.5, 0.0]) + 0.7
    mask = torch.ones(8, 3)
    read, head = Read(torch.zeros(8, 3), states), _Values(0.05)
    assert not head.of(read).any()
    for _ in range(400):
        head.step(read, targets, mask)
    torch.testing.assert_close(head.of(read).detach(), targets, atol=0.05, rtol=0.0)
