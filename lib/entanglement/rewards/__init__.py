"""Rewards in place of margins: learn what is preferred, draw answers, and step on their advantages.

``train_reward`` fits a reward model to pairs; ``reinforce`` improves a policy by rewards of its own
answers, with PPO, REINFORCE leave-one-out or GRPO (``METHODS``). ``group_gram`` gives the inner products of
a group's gradients, from which follows which of its answers a step will pull down.
"""

from __future__ import annotations

from entanglement.rewards.answers import Answers, draw_answers, read_answers
from entanglement.rewards.bradley_terry import RewardModel, pair_rewards, reward_accuracy, train_reward
from entanglement.rewards.group_gram import GroupGram, answer_gradients, group_gram
from entanglement.rewards.learning import method_loss, reinforce
from entanglement.rewards.methods import METHODS, get_method

__all__ = [
    "METHODS",
    "Answers",
    "GroupGram",
    "RewardModel",
    "answer_gradients",
    "draw_answers",
    "get_method",
    "group_gram",
    "method_loss",
    "pair_rewards",
    "read_answers",
    "reinforce",
    "reward_accuracy",
    "train_reward",
]
