"""How alike the two responses of a pair are, in tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from entanglement.rows import EncodedPair
from entanglement.rows.shapes import shared_start
from entanglement.signatures import checked

__all__ = ["alikeness", "edit_distance"]


@checked()
def edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens must be put in, left out or replaced to make one of the other (Levenshtein)."""
    first, second = list(one), np.asarray(list(other))
    places = np.arange(len(second) + 1)
    row = places.copy()
    for k, token in enumerate(first, 1):
        kept = np.empty_like(row)
        kept[0] = k
        kept[1:] = np.minimum(row[:-1] + (second != token), row[1:] + 1)
        row = np.minimum.accumulate(kept - places) + places  # tokens that are put in, all at once
    return int(row[-1])


@checked()
def alikeness(pair: EncodedPair) -> dict[str, int]:
    """Return prefix and suffix (tokens that the responses begin and end with alike; no token counts twice)
    and edits (``edit_distance``).
    """
    chosen, rejected = list(pair.chosen), list(pair.rejected)
    prefix = shared_start(chosen, rejected)
    chosen, rejected = chosen[prefix:], rejected[prefix:]
    suffix = shared_start(chosen[::-1], rejected[::-1])
    kept = [side[: len(side) - suffix] for side in (chosen, rejected)]
    return {"prefix": prefix, "suffix": suffix, "edits": edit_distance(kept[0], kept[1])}
