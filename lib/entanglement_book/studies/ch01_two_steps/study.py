"""The two steps of RLHF: fine-tuning on chosen summaries, a reward model, and DPO, from the same base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from pydantic import ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.models import load_model
from entanglement.pairs import PreferencePair
from entanglement.sampling import continue_prompts
from entanglement.training import align, sft
from entanglement_book.materials import tldr_pairs
from entanglement_book.materials.cached import cached_docstrings
from entanglement_book.studies.ch01_two_steps.rewards import LinearReward, fit_reward, pair_features

__all__ = ["Sizes", "TwoSteps", "greedy", "run_two_steps", "sizes", "summaries"]


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class Sizes:
    """How much is trained and measured: pairs, steps, pairs for the reward, batch, and seeds.

    ``longest`` is the longest docstring body that is taken, in characters: short prompts train fast.
    """

    train: PositiveInt
    test: PositiveInt
    sft_steps: NonNegativeInt
    dpo_steps: PositiveInt
    reward_pairs: PositiveInt
    batch: PositiveInt
    seeds: PositiveInt
    sft_lr: PositiveFloat = 5e-5
    dpo_lr: PositiveFloat = 1e-4
    longest: PositiveInt = 300


def sizes(scale: str) -> Sizes:
    """Return the sizes of a scale.

    Raises:
        ValueError: not smoke, book or paper.
    """
    found = {
        "smoke": Sizes(24, 6, 2, 2, 12, 4, 2),
        "book": Sizes(400, 40, 24, 18, 240, 16, 5),
        "paper": Sizes(2000, 200, 256, 125, 2000, 32, 5),
    }.get(scale)
    if found is None:
        raise ValueError(f"scale={scale!r}; expected smoke, book or paper.")
    return found


def summaries(scale: str, seed: int) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Return (train, held-out) pairs: a docstring's true first line against that of a sibling."""
    numbers = sizes(scale)
    read = [d for d in cached_docstrings() if len(d.body) <= numbers.longest]
    return (
        tldr_pairs("sibling", "train", n=numbers.train, seed=seed, docstrings=read),
        tldr_pairs("sibling", "test", n=numbers.test, seed=seed, docstrings=read),
    )


@dataclass(frozen=True)
class TwoSteps:
    """What one seed's runs show on held-out pairs.

    Attributes:
        table: one row a phase ("sft", "dpo") and step: chosen_logp, rejected_logp (means, nats), accuracy
            (share of pairs in which the chosen response is the likelier one).
        reward: the fitted reward model.
        spread: (k,) standard deviation of each of its features over the training responses.
        reward_right: per pair, whether the reward model gives the chosen response more.
        blind_right: the same for a reward model fitted to pairs whose two sides were swapped at random.
        implicit_right: per pair, whether DPO's implicit reward β log(π/π_ref) does.
        models: the base after SFT and after DPO, to sample from.
        tokenizer: of the models.
    """

    table: pd.DataFrame
    reward: LinearReward
    spread: np.ndarray
    reward_right: torch.Tensor
    blind_right: torch.Tensor
    implicit_right: torch.Tensor
    models: dict[str, nn.Module]
    tokenizer: PreTrainedTokenizerBase


def run_two_steps(
    model: str,
    train: Sequence[PreferencePair],
    test: Sequence[PreferencePair],
    numbers: Sizes,
    seed: int,
) -> TwoSteps:
    """Fine-tune, fit a reward model on the side, and align with DPO.

    Args:
        model: name of the base.
        train, test: pairs.
        numbers: sizes.
        seed: of all orders.
    """
    policy, tokenizer = load_model(model)
    held_out = {"test": list(test)}
    tuned = sft(
        policy, tokenizer, train, steps=numbers.sft_steps, lr=numbers.sft_lr, batch_size=numbers.batch,
        seed=seed, evaluate=held_out, evaluate_at=_moments(numbers.sft_steps),
    )  # fmt: skip
    after_sft, _ = load_model(model)
    after_sft.load_state_dict(policy.state_dict())
    features = pair_features(policy, tokenizer, train[: numbers.reward_pairs])
    reward = fit_reward(*features)
    swap = np.random.default_rng(seed).random((len(features[0]), 1)) < 0.5
    blind = fit_reward(np.where(swap, *features), np.where(swap, *features[::-1]))
    unseen = pair_features(policy, tokenizer, test)
    aligned = align(
        policy, tokenizer, train, steps=numbers.dpo_steps, lr=numbers.dpo_lr, batch_size=numbers.batch,
        seed=seed, evaluate=held_out, evaluate_at=_moments(numbers.dpo_steps),
    )  # fmt: skip
    table = aligned.table
    first, last = (
        table[table["step"] == step].set_index("pair") for step in (table["step"].min(), table["step"].max())
    )
    gain = last[["chosen_logp", "rejected_logp"]] - first[["chosen_logp", "rejected_logp"]]
    implicit = torch.tensor((gain["chosen_logp"] > gain["rejected_logp"]).to_numpy(copy=True))
    phases = [run.means().assign(phase=name) for name, run in (("sft", tuned), ("dpo", aligned))]
    return TwoSteps(
        pd.concat(phases, ignore_index=True).assign(seed=seed),
        reward,
        np.concatenate(features).std(axis=0),
        torch.tensor(reward(unseen[0]) > reward(unseen[1])),
        torch.tensor(blind(unseen[0]) > blind(unseen[1])),
        implicit,
        {"SFT": after_sft, "DPO": policy},
        tokenizer,
    )


def _moments(steps: int) -> list[int]:
    return sorted({round(steps * k / 3) for k in range(4)})


def greedy(model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompt: str, tokens: int = 24) -> str:
    """Return the model's likeliest continuation of a prompt, token by token, up to a line's end."""
    text = str(tokenizer.decode(continue_prompts(model, tokenizer, [prompt], tokens).ids[0]))
    return text.split("\n")[0].strip()
