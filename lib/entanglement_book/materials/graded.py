"""Rankings of summaries: for one docstring the true one, a near-copy, a sibling's, and that of a stranger."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from entanglement.ranking import RankedList
from entanglement_book.materials.docstrings import Docstring, tldr_pairs

__all__ = ["GRADES", "graded_summaries"]

#: What a candidate is → how good it is. A near-copy says what the true summary says, one word aside; a
#: sibling's is of the same module; a stranger's is of another package.
GRADES: dict[str, float] = {"true": 3, "edited": 2, "sibling": 1, "stranger": 0}


def graded_summaries(
    split: Literal["train", "test"] = "train",
    *,
    n: int | None = None,
    seed: int = 0,
    docstrings: Sequence[Docstring] | None = None,
) -> list[RankedList]:
    """Return rankings of four candidates, in the order of ``GRADES``: prompt = a docstring's body.

    Args:
        split: as of ``tldr_pairs``: no module is in both.
        n: how many, drawn without replacement with ``seed``; None for all.
        seed: of the draws.
        docstrings: already read ones, to save the reading.

    Raises:
        ValueError: an unknown split, more rankings than there are, or docstrings of one package only.
    """
    edited = {p.id: p for p in tldr_pairs("edited", split, seed=seed, docstrings=docstrings)}
    siblings = tldr_pairs("sibling", split, n=n, seed=seed, docstrings=docstrings)
    by_package: dict[str, list[str]] = {}
    for pair in edited.values():
        by_package.setdefault(pair.id.partition(".")[0], []).append(pair.chosen)
    rng = random.Random(seed)
    found = []
    for pair in siblings:
        others = [name for name in by_package if name != pair.id.partition(".")[0]]
        if not others:
            raise ValueError(f"graded_summaries: all docstrings are of {pair.id.partition('.')[0]!r}.")
        stranger = rng.choice(by_package[rng.choice(others)])
        candidates = (pair.chosen, edited[pair.id].rejected, pair.rejected, stranger)
        found.append(RankedList(pair.prompt, candidates, tuple(GRADES.values()), pair.id))
    return found
