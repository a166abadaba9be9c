"""What else could make c grow or signs turn: other words, other states, a coin that picks the longer side.

Many pairs are made a few at a time, since a suffix of 2,048 tokens has 2,048 states in each answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from entanglement.loglinear.sequence import LogLinear
from entanglement.loglinear.simulate import Relation, suffix_pairs
from entanglement.stats import Interval

__all__ = ["GROWING", "exchange_suffixes", "exponent_interval", "growth_study", "other_words"]

#: What the two answers' suffixes have in common: name → (relation of their states, strength, same words?).
GROWING: dict[str, tuple[Relation, float, bool]] = {
    "identical": ("identical", 1.0, True),
    "noisy": ("similar", 0.95, True),
    "orthogonal": ("orthogonal", 1.0, True),
    "other words": ("identical", 1.0, False),
}


def other_words(pairs: LogLinear, generator: torch.Generator, position: int = 0) -> LogLinear:
    """Return the pairs with other words after ``position`` in the rejected response, in the same states.

    They are drawn from the model's own predictions, as the shared words were, and independently of them.
    """
    probs = _probabilities(pairs, "rejected")  # (B, T, V)
    drawn = torch.multinomial(probs.reshape(-1, probs.shape[-1]), 1, generator=generator)
    tokens = pairs.rejected.clone()
    tokens[:, position + 1 :] = drawn.reshape(tokens.shape)[:, position + 1 :]
    return replace(pairs, rejected=tokens)


def _probabilities(pairs: LogLinear, side: str) -> torch.Tensor:
    """Return the model's predictions at every position of a response, (B, T, V)."""
    states = pairs.chosen_features if side == "chosen" else pairs.rejected_features
    return torch.einsum("btd,bvd->btv", states, pairs.weight).softmax(-1)


def exchange_suffixes(pairs: LogLinear, which: torch.Tensor, position: int = 0) -> LogLinear:
    """Return the pairs with the suffix states of chosen and rejected exchanged in some of them.

    Args:
        pairs: with the same words after ``position`` in both responses.
        which: (B,) True for the pairs that are exchanged.
        position: of the differing token.
    """
    after = torch.arange(pairs.chosen.shape[1]) > position
    swap = which.reshape(-1, 1, 1) & after.reshape(1, -1, 1)
    h_w, h_l = pairs.chosen_features, pairs.rejected_features
    return replace(
        pairs,
        chosen_features=torch.where(swap, h_l, h_w),
        rejected_features=torch.where(swap, h_w, h_l),
    )


def _drift(pairs: LogLinear) -> torch.Tensor:
    """Return the part of c, (B,), that is left if every shared word's gradient is replaced by its mean.

    A shared word is drawn from (p_w + p_l)/2, so the mean of e_y − p_w is (p_l − p_w)/2.
    """
    half = (_probabilities(pairs, "rejected") - _probabilities(pairs, "chosen"))[:, 1:] / 2
    s_w = torch.einsum("btv,btd->bvd", half, pairs.chosen_features[:, 1:])
    s_l = torch.einsum("btv,btd->bvd", -half, pairs.rejected_features[:, 1:])
    return (s_w * s_l).sum((1, 2))


def growth_study(lengths: Sequence[int], draws: int, *, seed: int, at_a_time: int = 10) -> pd.DataFrame:
    """Measure c for each of ``GROWING`` and every suffix length, on pairs without a prefix.

    Returns:
        One row a pair: variant, n, draw, c, cosine, and drift, the part of c that the words' mean gradients
        make.
    """
    tables = []
    for variant, (relation, strength, same) in GROWING.items():
        generator = torch.Generator().manual_seed(seed)
        for start in range(0, draws, at_a_time):
            count = min(at_a_time, draws - start)
            longest = suffix_pairs(
                count, max(lengths), relation=relation, strength=strength, generator=generator
            )
            longest = longest if same else other_words(longest, generator)
            for n in lengths:
                pairs = longest.truncate(1 + n)
                g, drift = pairs.geometry(), _drift(pairs)
                columns = {"c": g.inner.numpy(), "cosine": g.cosine.numpy(), "drift": drift.numpy()}
                draw = range(start, start + count)
                tables.append(pd.DataFrame({"variant": variant, "n": n, "draw": draw, **columns}))
    return pd.concat(tables, ignore_index=True)


def exponent_interval(table: pd.DataFrame, variant: str, least: int, *, draws: int = 2000) -> Interval:
    """Return the slope of log mean c against log n for n ≥ ``least``, with a bootstrap interval over pairs.

    Args:
        table: of ``growth_study``.
        variant: of it.
        least: the shortest suffix.
        draws: of the bootstrap.

    Raises:
        ValueError: a mean is not positive.
    """
    rows = table[(table["variant"] == variant) & (table["n"] >= least)]
    wide = rows.pivot_table(index="draw", columns="n", values="c")
    x, c = np.log(wide.columns.to_numpy(float)), wide.to_numpy()
    picks = np.random.default_rng(0).integers(len(c), size=(draws, len(c)))
    means = np.vstack([c.mean(0), c[picks].mean(1)])
    if (means <= 0).any():
        raise ValueError(f"exponent_interval: a mean c of {variant!r} from n={least} on is not positive.")
    slopes = np.polyfit(x, np.log(means).T, 1)[0]
    low, high = np.quantile(slopes[1:], [0.025, 0.975])
    return Interval(float(slopes[0]), float(low), float(high), len(c))
