"""Yeast genes and what they do: a table with 14 labels a row.

From MULAN's collection (Elisseeff and Weston 2001; Tsoumakas et al. 2011), as it comes in the wheel of river
(BSD-3-Clause): micro-array expression and phylogenetic profiles of 2,417 genes, 103 numbers each, and which
of 14 groups of functions a gene has.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from entanglement.archive import DataError
from entanglement.checks import one_of
from entanglement.signatures import checked
from entanglement.uses import remembered

__all__ = ["HELD_OUT", "yeast_genes"]

HELD_OUT = 717  # genes that nothing of ours is trained on
_SPLIT_SEED = 20241017


@remembered()
def _table() -> tuple[np.ndarray, np.ndarray]:
    try:
        from river.datasets import Yeast
    except ImportError as error:
        raise DataError("the package 'river' is not installed; install requirements.lock.") from error
    rows = list(Yeast())
    features = np.array([list(given.values()) for given, _ in rows], dtype=np.float32)
    labels = np.array([list(asked.values()) for _, asked in rows], dtype=np.float32)
    return features, labels


@checked(split=one_of("train", "test"))
def yeast_genes(split: Literal["train", "test"]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is known of the genes of a split, and their labels.

    Returns:
        features (n, 103), each with mean 0 and standard deviation 1 over the training split, and labels
        (n, 14), 0 or 1; both float32.

    Raises:
        DataError: river is not installed.
    """
    features, labels = _table()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    test, train = order[:HELD_OUT], order[HELD_OUT:]
    mean, spread = features[train].mean(0), features[train].std(0)
    rows = train if split == "train" else test
    return torch.from_numpy((features[rows] - mean) / spread), torch.from_numpy(labels[rows])
