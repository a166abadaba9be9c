"""Two digits in one picture, laid over each other: the classical multi-task benchmark in small.

The single digits are scikit-learn's ``load_digits``: 1,797 scans of 8 × 8 pixels from the UCI repository
(Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", CC BY 4.0), which come with the
package. The way to lay them over each other is that of MultiMNIST (Sabour, Frosst and Hinton 2017; as two
tasks: Sener and Koltun 2018); no picture of theirs is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from entanglement.checks import one_of, whole
from entanglement.signatures import checked
from entanglement.uses import remembered

__all__ = ["SIDE", "DigitScenes", "digit_scenes", "source_rows"]

#: Pixels along a picture's side; two digits of 8 pixels overlap in a square of 3 to 5.
SIDE = 12
_DIGIT = 8
#: Scans that only test pictures are made of.
HELD_OUT = 597
_SPLIT_SEED = 20241017  # fixed, so that no seed of a study moves a scan from one side to the other


@dataclass(frozen=True)
class DigitScenes:
    """Pictures of two digits, one at the upper left and one at the lower right.

    Attributes:
        images: (n, 1, SIDE, SIDE), float32, from 0 (paper) to 1 (ink).
        first, second: (n,) the digit at the upper left and the one at the lower right, from 0 to 9.
        rows: (n, 2) which scans of ``load_digits`` they are.
    """

    images: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    rows: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)


@remembered()
def _scans() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.images.astype(np.float32) / 16, found.target.astype(np.int64)


@checked(split=one_of("train", "test"))
def source_rows(split: Literal["train", "test"]) -> np.ndarray:
    """Return which scans the pictures of a split are made of; no scan is in both."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(_scans()[1]))
    return order[:HELD_OUT] if split == "test" else order[HELD_OUT:]


@checked(split=one_of("train", "test"), n=whole(1), seed=whole(0))
def digit_scenes(split: Literal["train", "test"], n: int, seed: int) -> DigitScenes:
    """Return pictures of two random digits, each moved by up to one pixel toward the middle.

    Where both leave ink, the darker one is seen.

    Args:
        split: which scans.
        n: how many pictures.
        seed: of the draw of scans and places.
    """
    pictures, labels = _scans()
    rng = np.random.default_rng([seed, split == "test"])
    rows = rng.choice(source_rows(split), size=(n, 2))
    moved = rng.integers(0, 2, size=(n, 2, 2))  # picture, digit, axis
    images = np.zeros((n, 1, SIDE, SIDE), dtype=np.float32)
    far = SIDE - _DIGIT
    for image, (one, other), (near, away) in zip(images[:, 0], rows, moved, strict=True):
        for row, (top, left) in ((one, near), (other, far - away)):
            window = image[top : top + _DIGIT, left : left + _DIGIT]
            np.maximum(window, pictures[row], out=window)
    first, second = (torch.from_numpy(labels[rows[:, side]]) for side in (0, 1))
    return DigitScenes(torch.from_numpy(images), first, second, torch.from_numpy(rows))
