"""What the grids on sentiment share: the reward model of a seed, and what is asked of drawn answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.pairs import PreferencePair
from entanglement.rewards import Answers, RewardModel, draw_answers, reward_accuracy, train_reward
from entanglement.uses import remembered
from entanglement_book.studies.shared.scales import at_scale
from entanglement_book.studies.shared.start import checkpoint, data_pairs, recipe, train_pairs

__all__ = ["DATA", "Numbers", "learned_reward", "numbers_of", "scored"]

DATA = "sentiment"


@dataclass(frozen=True)
class Numbers:
    """What these grids have beside the recipe.

    Attributes:
        reward_steps, reward_batch, reward_lr: of the reward model (AdamW, falling linearly).
        steps: batches of answers of the methods with one step a batch.
        clipped_steps, epochs: of PPO: batches, and steps on each.
        prompts, group: a batch.
        lr: of the policies that learn from rewards (AdamW).
        beta: price of a nat from the reference.
        draws: answers a held-out prompt.
        own_draws: answers a prompt, of which the best and the worst make a pair of the policy's own.
        own_pairs: pairs of a kind whose geometry is measured.
    """

    reward_steps: int
    reward_batch: int
    reward_lr: float
    steps: int
    clipped_steps: int
    epochs: int
    prompts: int
    group: int
    lr: float
    beta: float
    draws: int
    own_draws: int
    own_pairs: int


_BOOK = Numbers(
    reward_steps=40,
    reward_batch=16,
    reward_lr=5e-4,
    steps=24,
    clipped_steps=16,
    epochs=2,
    prompts=8,
    group=4,
    lr=2e-4,
    beta=0.1,
    draws=2,
    own_draws=4,
    own_pairs=48,
)
_SMOKE = replace(
    _BOOK, reward_steps=3, reward_batch=4, steps=3, clipped_steps=2, prompts=2, group=2, draws=1, own_pairs=3
)


def numbers_of(scale: str) -> Numbers:
    """Return the numbers of a scale.

    Raises:
        ValueError: not smoke, book or paper.
    """
    return at_scale(scale, _SMOKE, _BOOK, _BOOK)


@remembered(maxsize=1)
def learned_reward(scale: str, model: str, seed: int) -> tuple[RewardModel, float]:
    """Return the reward model of a seed, and the share of all held-out pairs that it gets right.

    Its trunk begins at the checkpoint of the policies.
    """
    numbers = numbers_of(scale)
    policy, tokenizer, parameters = checkpoint(scale, model, DATA, seed)
    policy.load_state_dict(parameters)
    reward = train_reward(
        policy, tokenizer, train_pairs(scale, model, DATA, seed), steps=numbers.reward_steps,
        lr=numbers.reward_lr, batch_size=numbers.reward_batch, seed=seed,
    )  # fmt: skip
    held_out = recipe(scale, model).test_pairs if scale == "smoke" else None
    return reward, reward_accuracy(reward, tokenizer, data_pairs(DATA, "test", held_out, seed))


def scored(
    policy: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    reward: RewardModel,
    pairs: Sequence[PreferencePair],
    *,
    draws: int,
    tokens: int,
    seed: int,
) -> dict[str, float]:
    """Return what a policy's own answers are worth: to the reward model, and in truth.

    Args:
        policy: drawn from.
        tokenizer: its.
        reward: the reward model.
        pairs: whose prompts are answered, and whose chosen response begins with the true label.
        draws: answers a prompt.
        tokens: at which an answer is cut.
        seed: of the draws.

    Returns:
        reward (mean), true, false (shares of answers that begin with the true label and with the other one),
        formed (share of answers that begin with a label and " sentiment").
    """
    answers: Answers = draw_answers(
        policy, tokenizer, [pair.prompt for pair in pairs], group=draws, tokens=tokens, seed=seed
    )
    texts = answers.texts(tokenizer)
    asked = [pair for pair in pairs for _ in range(draws)]

    def share(found: list[bool]) -> float:
        return float(torch.tensor(found).double().mean())

    def label(response: str) -> str:
        return f" {response.split()[0]}"

    begins = [(pair, text) for pair, text in zip(asked, texts, strict=True)]
    return {
        "reward": float(reward.of(answers).double().mean()),
        "true": share([text.startswith(label(pair.chosen)) for pair, text in begins]),
        "false": share([text.startswith(label(pair.rejected)) for pair, text in begins]),
        "formed": share([
            any(text.startswith(f"{label(side)} sentiment") for side in (pair.chosen, pair.rejected))
            for pair, text in begins
        ]),
    }  # fmt: skip
