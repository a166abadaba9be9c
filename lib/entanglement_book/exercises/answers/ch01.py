"""RLHF in two steps: the best policy for a reward, and what a trainer reports of a pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from entanglement_book.exercises.checking import Check

Policy = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def _normalized(weights: np.ndarray) -> np.ndarray:
    return np.asarray(weights / weights.sum())


def _tilted(reference: np.ndarray, reward: np.ndarray, beta: float) -> np.ndarray:
    return _normalized(reference * np.exp(reward / beta))


def _without_reference(reference: np.ndarray, reward: np.ndarray, beta: float) -> np.ndarray:
    return _normalized(np.exp(reward / beta))


def _times_beta(reference: np.ndarray, reward: np.ndarray, beta: float) -> np.ndarray:
    return _normalized(reference * np.exp(beta * reward))


def _not_normalized(reference: np.ndarray, reward: np.ndarray, beta: float) -> np.ndarray:
    return np.asarray(reference * np.exp(reward / beta))


def _away_from_reward(reference: np.ndarray, reward: np.ndarray, beta: float) -> np.ndarray:
    return _tilted(reference, -reward, beta)


def _reward_alone(reference: np.ndarray, reward: np.ndarray, beta: float) -> np.ndarray:
    return np.asarray(reward == reward.max(), dtype=float)


def _fixed(*values: float) -> np.ndarray:
    """An array that a reader's function cannot change."""
    found = np.array(values)
    found.setflags(write=False)
    return found


_REFERENCE, _OTHER, _REWARD = _fixed(0.6, 0.3, 0.1), _fixed(0.1, 0.3, 0.6), _fixed(0.0, 1.0, 2.0)

Side = Mapping[str, torch.Tensor]
Report = dict[str, float]


def _report(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> Report:
    """What is reported where these are the two log-ratios to the reference."""
    loss = -logsigmoid(beta * (chosen - rejected))
    return {
        "chosen reward": beta * float(chosen),
        "rejected reward": beta * float(rejected),
        "loss": float(loss),
    }


def _reported(policy: Side, reference: Side, beta: float) -> Report:
    sums = {side: (policy[side] - reference[side]).sum() for side in policy}
    return _report(sums["chosen"], sums["rejected"], beta)


def _forgotten(policy: Side, reference: Side, beta: float) -> Report:
    return _report(policy["chosen"].sum(), policy["rejected"].sum(), beta)


def _upside_down(policy: Side, reference: Side, beta: float) -> Report:
    return _reported(reference, policy, beta)


def _means(policy: Side, reference: Side, beta: float) -> Report:
    means = {side: (policy[side] - reference[side]).mean() for side in policy}
    return _report(means["chosen"], means["rejected"], beta)


def _ratios(policy: Side, reference: Side, beta: float) -> Report:
    right = _reported(policy, reference, beta)
    return {name: value if name == "loss" else value / beta for name, value in right.items()}


def _loss_of_the_exchanged(policy: Side, reference: Side, beta: float) -> Report:
    right = _reported(policy, reference, beta)
    gap = torch.tensor(right["rejected reward"] - right["chosen reward"])
    return {**right, "loss": float(-logsigmoid(gap))}


def _beta_twice(policy: Side, reference: Side, beta: float) -> Report:
    right = _reported(policy, reference, beta)
    gap = torch.tensor(right["chosen reward"] - right["rejected reward"])
    return {**right, "loss": float(-logsigmoid(beta * gap))}


def _pair(chosen: list[float], rejected: list[float]) -> dict[str, torch.Tensor]:
    return {
        "chosen": torch.tensor(chosen, dtype=torch.float64),
        "rejected": torch.tensor(rejected, dtype=torch.float64),
    }


# Two trainings of one pair, answers of three and five tokens. In the first both answers fall, by 1 and 3
# nats; in the second they part.
_BEFORE = _pair([-1.0, -0.5, -1.5], [-1.5, -0.5, -1.0, -0.5, -1.5])
_BOTH_FELL = _pair([-1.5, -0.4, -2.1], [-2.0, -1.0, -1.5, -0.5, -3.0])
_PARTED = _pair([-0.6, -0.2, -0.7], [-1.6, -0.7, -1.4, -0.5, -1.8])

CHECKS: dict[str, Check] = {
    "01.1": Check(
        right=_tilted,
        mistakes=[
            (
                _without_reference,
                "your policy does not depend on where it started: the reference is forgotten.",
            ),
            (
                _times_beta,
                "your β works the wrong way around. It is the price of moving away, so a large one must keep "
                "the policy near its reference.",
            ),
            (_not_normalized, "these are the right weights, and not yet probabilities: what is their sum?"),
            (_away_from_reward, "your policy avoids the reward: a sign is wrong."),
            (
                _reward_alone,
                "this is the best policy if moving away costs nothing. The objective has a second term.",
            ),
        ],
        inputs=[(_REFERENCE, _REWARD, 0.5), (_REFERENCE, _REWARD, 2.0), (_OTHER, _REWARD, 1.0)],
        praise="A small β goes where the reward is largest, and a large one stays near the reference.",
    ),
    "01.4": Check(
        right=_reported,
        mistakes=[
            (
                _forgotten,
                "the reference is forgotten: your rewards are β times the log-probabilities themselves.",
            ),
            (
                _upside_down,
                "policy and reference are swapped. An answer that became likelier has a positive reward.",
            ),
            (
                _means,
                "you take means over tokens. The probability of an answer is the product of its tokens' "
                "probabilities.",
            ),
            (_ratios, "your loss is right, and your rewards are plain log-ratios: a factor is missing."),
            (
                _loss_of_the_exchanged,
                "your rewards are right, and in your loss chosen and rejected are swapped.",
            ),
            (
                _beta_twice,
                "your rewards are right. In your loss a factor stands twice: the rewards have it already.",
            ),
        ],
        inputs=[(_BOTH_FELL, _BEFORE, 0.5), (_PARTED, _BEFORE, 0.5)],
        praise="In the first training both rewards are negative, and the loss is below log 2 all the same: "
        "it sees only their difference.",
    ),
}
