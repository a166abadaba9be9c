"""A reward model of the Bradley-Terry kind: what preference pairs were used for before DPO.

It gives every response a number, so that σ(reward of chosen − reward of rejected) is the probability that
chosen is preferred. Ours is linear in three features of prompt and response, one of them from a language
model; fitting it is logistic regression on differences. Source: Bradley and Terry 1952; Christiano et al.
2017 (arXiv 1706.03741), who put a network in the place of the linear function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.pairs import PreferencePair
from entanglement.training import measure

__all__ = ["FEATURES", "LinearReward", "fit_reward", "pair_features", "word_overlap"]

FEATURES: dict[str, str] = {
    "information": "nats per token by which the prompt makes the response likelier",
    "overlap": "share of the response's words that the prompt has, too",
    "length": "logarithm of the response's number of tokens",
}


def word_overlap(prompt: str, response: str) -> float:
    """Return the share of a response's words of three letters and more that occur in the prompt."""

    def words(text: str) -> set[str]:
        apart = "".join(c.lower() if c.isalnum() else " " for c in text).split()
        return {word for word in apart if len(word) > 2}

    own = words(response)
    return len(own & words(prompt)) / len(own) if own else 0.0


def pair_features(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    bare: str = "TL;DR:",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of the chosen and of the rejected responses, (n, 3) each, in ``FEATURES``' order.

    Args:
        model: read, not trained.
        tokenizer: the model's.
        pairs: n pairs.
        bare: stands for "no prompt" in the first feature.
    """
    model.eval()
    alone = [replace(pair, prompt=bare) for pair in pairs]
    given, without = (measure(model, tokenizer, {"all": some}) for some in (pairs, alone))

    def side(name: str) -> np.ndarray:
        n = given[f"{name}_len"].to_numpy(float)
        gain = (given[f"{name}_logp"] - without[f"{name}_logp"]).to_numpy() / n
        overlap = [word_overlap(pair.prompt, getattr(pair, name)) for pair in pairs]
        return np.column_stack([gain, overlap, np.log(n)])

    return side("chosen"), side("rejected")


@dataclass(frozen=True)
class LinearReward:
    """A reward that is a weighted sum of features.

    Attributes:
        weights: (k,) reward per unit of each feature.
    """

    weights: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the rewards (n,) of responses with features (n, k), up to a constant; no unit."""
        return np.asarray(features @ self.weights)

    def table(self, scale: np.ndarray) -> pd.Series:
        """Return each feature's weight per ``scale`` (k,), such as its standard deviation."""
        return pd.Series(self.weights * scale, index=list(FEATURES), name="reward per standard deviation")


def fit_reward(chosen: np.ndarray, rejected: np.ndarray, *, strength: float = 10.0) -> LinearReward:
    """Return the reward that minimizes the mean of −log σ(reward of chosen − reward of rejected).

    Args:
        chosen, rejected: (n, k) features of n pairs.
        strength: the larger, the weaker the pull of the weights to zero (on standardized differences).

    Raises:
        ValueError: shapes that do not agree, or no pairs.
    """
    if chosen.shape != rejected.shape or chosen.ndim != 2 or not len(chosen):
        raise ValueError(
            f"fit_reward: chosen has shape {chosen.shape}, rejected {rejected.shape}; expected two (n, k)."
        )
    difference = chosen - rejected
    scale = np.where(difference.std(axis=0) > 0, difference.std(axis=0), 1.0)
    # A judge who prefers y_w to y_l does not prefer y_l to y_w: each pair is seen from both sides, and there
    # is no intercept.
    x = np.concatenate([difference, -difference]) / scale
    y = np.repeat([1, 0], len(difference))
    found = LogisticRegression(fit_intercept=False, C=strength).fit(x, y)
    return LinearReward(found.coef_[0] / scale)
