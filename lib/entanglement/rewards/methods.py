"""The methods that learn from rewards of drawn answers, each one declaration.

What sets them apart: where an answer's advantage comes from, where the price of leaving the reference is paid
(in the reward, or in the loss), of what a ratio is taken, and how tokens are averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from entanglement.registry import Registry
from entanglement.rewards.advantages import (
    generalized_advantages,
    group_relative,
    leave_one_out,
    token_rewards,
    whitened,
)
from entanglement.rewards.policy_losses import Average, Level
from entanglement.signatures import checked

__all__ = ["METHODS", "Drawn", "Method", "Penalty", "get_method"]

Penalty = Literal["reward", "k3", "corrected k3"]


@dataclass(frozen=True)
class Drawn:
    """What is known of R answers when their advantages are computed.

    Attributes:
        scores: (R,) their rewards.
        log_ratios: (R, K) log π − log π_ref of each token, nats.
        mask: (R, K) which tokens are there.
        group: answers a prompt.
        beta: price of a nat from the reference.
        values: (R, K) what was expected before each token, for a method with values.
    """

    scores: torch.Tensor
    log_ratios: torch.Tensor
    mask: torch.Tensor
    group: int
    beta: float
    values: torch.Tensor


@checked()
@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        credit: of ``Drawn`` → (advantages, value targets), each (R, K).
        level: of the ratios.
        average: of the tokens.
        penalty: where the price of leaving the reference is paid: in the reward; in the loss, as ``k3``; or
            there times the ratio, which makes its gradient that of KL(π ‖ π_ref).
        values: whether a value head is learned.
        about: one line for print.
    """

    credit: Callable[[Drawn], tuple[torch.Tensor, torch.Tensor]]
    level: Level
    average: Average
    penalty: Penalty
    values: bool
    about: str


METHODS: Registry[Method] = Registry("method", printed=("about",))


@checked()
def get_method(name: str) -> Method:
    """Return a method by name.

    Raises:
        ValueError: an unknown name, with the known ones.
    """
    return METHODS[name]


def _each_token(advantages: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    spread = advantages.to(torch.float32 if advantages.dtype != torch.float64 else torch.float64)
    whole = spread[:, None].expand(mask.shape) * mask
    return whole, torch.zeros_like(whole)


def _ppo(drawn: Drawn) -> tuple[torch.Tensor, torch.Tensor]:
    rewards = token_rewards(drawn.scores, drawn.log_ratios, drawn.mask, drawn.beta)
    advantages, targets = generalized_advantages(rewards, drawn.values, drawn.mask)
    return whitened(advantages, drawn.mask), targets


def _rloo(drawn: Drawn) -> tuple[torch.Tensor, torch.Tensor]:
    price = drawn.beta * (drawn.log_ratios * drawn.mask).sum(dim=1)
    return _each_token(leave_one_out(drawn.scores - price, drawn.group), drawn.mask)


def _grpo(drawn: Drawn) -> tuple[torch.Tensor, torch.Tensor]:
    return _each_token(group_relative(drawn.scores, drawn.group), drawn.mask)


METHODS.add(
    "ppo",
    Method(
        _ppo, "token", "tokens", penalty="reward", values=True,
        about="clipped ratios, advantages by a value head (arXiv 1707.06347, 1506.02438)",
    ),
)  # fmt: skip
METHODS.add(
    "rloo",
    Method(
        _rloo, "answer", "answers", penalty="reward", values=False,
        about="REINFORCE with the other answers as baseline (arXiv 2402.14740)",
    ),
)  # fmt: skip
METHODS.add(
    "grpo",
    Method(
        _grpo, "token", "answers", penalty="k3", values=False,
        about="clipped ratios, advantages in units of the group's spread (arXiv 2402.03300)",
    ),
)  # fmt: skip
METHODS.add(
    "grpo-corrected",
    Method(
        _grpo, "token", "answers", penalty="corrected k3", values=False,
        about="the same with a price whose gradient is unbiased, TRL's default (arXiv 2512.02556)",
    ),
)  # fmt: skip
