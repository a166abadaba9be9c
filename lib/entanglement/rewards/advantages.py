"""From the rewards of drawn answers to the advantage of each token.

R answers of at most K tokens each; ``mask`` says which tokens are there. An advantage is a reward less what
was expected: by a learned value of each prefix (generalized advantage estimation), by the other answers to
the same prompt (leave-one-out), or by all of them, in units of their spread (group-relative). Groups are
consecutive rows of one prompt's answers.
"""

from __future__ import annotations

import torch

from entanglement.checks import finite_tensor, non_negative, share, whole
from entanglement.signatures import checked

__all__ = [
    "SPREAD_FLOOR",
    "generalized_advantages",
    "group_relative",
    "leave_one_out",
    "masked_mean",
    "token_rewards",
    "whitened",
]

#: Added to a standard deviation before dividing by it, as TRL does.
SPREAD_FLOOR = 1e-4
_ROWS, _TOKENS = finite_tensor("R"), finite_tensor("R", "K")


def _same_shape(name: str, value: torch.Tensor, like: torch.Tensor) -> None:
    if value.shape != like.shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; expected {tuple(like.shape)}.")


def _checked_mask(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the mask as truth values; each answer must have a token, and none behind a gap."""
    _same_shape("mask", mask, like)
    found = mask.bool()
    if not bool(found[:, 0].all()) or bool((found[:, 1:] & ~found[:, :-1]).any()):
        raise ValueError("mask has an answer that does not begin in the first column or has a gap.")
    return found


def _groups(rewards: torch.Tensor, group: int) -> torch.Tensor:
    if len(rewards) % group:
        raise ValueError(f"group={group}; expected a divisor of the {len(rewards)} rewards.")
    return rewards.view(-1, group)


@checked(values=_TOKENS, mask=_TOKENS)
def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of (R, K) values over the tokens that are there."""
    _same_shape("mask", mask, values)
    return (values * mask).sum() / mask.sum().clamp(min=1)


@checked(scores=_ROWS, log_ratios=_TOKENS, mask=_TOKENS, beta=non_negative)
def token_rewards(
    scores: torch.Tensor, log_ratios: torch.Tensor, mask: torch.Tensor, beta: float
) -> torch.Tensor:
    """Return the reward of each token, (R, K): −β log(π/π_ref) at every token, and the score at the last.

    Source: Ziegler et al. 2019, arXiv 1909.08593.

    Args:
        scores: (R,) of the whole answers.
        log_ratios: (R, K) log π − log π_ref of each token, nats.
        mask: (R, K) which tokens are there.
        beta: price of a nat.
    """
    found = _checked_mask(mask, log_ratios)
    if len(scores) != len(log_ratios):
        raise ValueError(f"scores has {len(scores)} rows; expected {len(log_ratios)}.")
    rewards = -beta * log_ratios * found
    last = found.sum(dim=1, keepdim=True) - 1
    return rewards.scatter_add(1, last, scores.to(rewards)[:, None])


@checked(rewards=_TOKENS, values=_TOKENS, mask=_TOKENS, discount=share, trace=share)
def generalized_advantages(
    rewards: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    *,
    discount: float = 1.0,
    trace: float = 0.95,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (advantages, value targets), each (R, K), 0 where there is no token.

    A_t = δ_t + γλ A_{t+1} with δ_t = r_t + γ V_{t+1} − V_t; behind an answer's last token V is 0. The
    target of V_t is A_t + V_t. Source: Schulman et al. 2016, arXiv 1506.02438.

    Args:
        rewards: (R, K) of each token.
        values: (R, K) what is expected before each token.
        mask: (R, K) which tokens are there.
        discount: γ.
        trace: λ: 1 for the sum of rewards less the value, 0 for one step.
    """
    found = _checked_mask(mask, rewards)
    _same_shape("values", values, rewards)
    values = values * found
    carried = torch.zeros_like(rewards[:, 0])
    following = torch.zeros_like(carried)
    advantages = torch.zeros_like(rewards)
    for t in reversed(range(rewards.shape[1])):
        surprise = rewards[:, t] + discount * following - values[:, t]
        carried = torch.where(found[:, t], surprise + discount * trace * carried, 0.0)
        following = values[:, t]
        advantages[:, t] = carried
    return advantages, (advantages + values) * found


@checked(values=_TOKENS, mask=_TOKENS)
def whitened(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return (R, K) values with mean 0 and standard deviation 1 over the tokens that are there, else 0."""
    mean = masked_mean(values, mask)
    spread = masked_mean((values - mean).square(), mask).sqrt()
    return (values - mean) / (spread + SPREAD_FLOOR) * mask


@checked(rewards=_ROWS, group=whole(2))
def leave_one_out(rewards: torch.Tensor, group: int) -> torch.Tensor:
    """Return each reward less the mean of the other answers' to the same prompt, (R,).

    Source: Kool et al. 2019; for language models Ahmadian et al. 2024, arXiv 2402.14740.

    Args:
        rewards: (R,), groups of consecutive rows.
        group: answers a prompt.
    """
    grouped = _groups(rewards, group)
    others = (grouped.sum(dim=1, keepdim=True) - grouped) / (group - 1)
    return (grouped - others).view(-1)


@checked(rewards=_ROWS, group=whole(2))
def group_relative(rewards: torch.Tensor, group: int) -> torch.Tensor:
    """Return each reward less its group's mean, over its group's standard deviation, (R,).

    Source: Shao et al. 2024, arXiv 2402.03300.

    Args:
        rewards: (R,), groups of consecutive rows.
        group: answers a prompt.
    """
    grouped = _groups(rewards, group)
    spread = grouped.std(dim=1, keepdim=True) + SPREAD_FLOOR
    return ((grouped - grouped.mean(dim=1, keepdim=True)) / spread).view(-1)
