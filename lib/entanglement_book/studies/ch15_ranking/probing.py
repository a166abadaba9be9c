"""A linear probe: whether a frozen model's embeddings tell the chosen response from the rejected one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.batches import grouped_logps
from entanglement.pairs import PreferencePair

__all__ = ["judged_by_logps", "probed"]

#: Parts of the cross-validation; the two responses of a prompt are in the same one.
PARTS = 5


def probed(chosen: torch.Tensor, rejected: torch.Tensor, seed: int, *, shuffled: bool = False) -> float:
    """Return the share of pairs whose chosen response gets the higher score of a probe that saw other pairs.

    The probe is a logistic regression on standardized embeddings of the responses behind their prompts.

    Args:
        chosen, rejected: (B, D) embeddings, B at least ``PARTS``.
        seed: of the shuffling.
        shuffled: whether in half of the pairs the responses change names before, so that there is nothing to
            find.
    """
    n = len(chosen)
    features = torch.cat([chosen, rejected]).double().numpy()
    labels = np.repeat([1, 0], n)
    if shuffled:
        swapped = np.random.default_rng(seed).permutation(n) < n // 2
        labels = np.concatenate([~swapped, swapped]).astype(int)
    groups = np.tile(np.arange(n), 2)
    scores = np.zeros(2 * n)
    for fit, judge in GroupKFold(n_splits=PARTS).split(features, labels, groups):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        scores[judge] = probe.fit(features[fit], labels[fit]).decision_function(features[judge])
    sign = np.where(labels[:n] == 1, 1, -1)
    return float((sign * (scores[:n] - scores[n:]) > 0).mean())


@torch.no_grad()
def judged_by_logps(
    policy: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]
) -> float:
    """Return the share of pairs whose chosen response is the likelier one."""
    logps = grouped_logps(policy, tokenizer, pairs, False)
    return float((logps.chosen > logps.rejected).double().mean())
