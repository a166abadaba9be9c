"""The pairs of a training at scale, as rows of TRL, and those that are held out to be watched."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from entanglement.rows import SHAPES, Row, read_rows, recognize
from entanglement.rows.shapes import LOOKED_AT, Misfit
from entanglement_book.layout import UsageError
from entanglement_book.materials import tldr_pairs
from entanglement_book.scale.recipe import TLDR, Recipe

__all__ = ["Comparisons", "read_comparisons"]


class Comparisons(NamedTuple):
    """Rows with prompt, chosen and rejected, texts or messages.

    Attributes:
        train: rows to train on.
        probe: rows to watch.
        left_out: rows that could not be read.
    """

    train: list[dict[str, Any]]
    probe: list[dict[str, Any]]
    left_out: int


#: What is read for "docstrings": reading all packages that the book reads takes minutes, in each process.
_PACKAGES, _DOCSTRINGS = ("numpy",), 400


def _read(source: str, option: str, recipe: Recipe) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of a file or a data set, and how many could not be read."""
    if source == "docstrings":
        n = min(recipe.sample or _DOCSTRINGS, _DOCSTRINGS)
        pairs = tldr_pairs("sibling", "train", n=n, seed=recipe.seed, packages=_PACKAGES)
        return [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs], 0
    found: list[dict[str, Any]] = []
    left_out = 0
    try:
        rows: Iterable[Row] = read_rows(TLDR if source == "tldr" else source)
        first = list(islice(rows, LOOKED_AT))
        shape = SHAPES[recognize(first)]
        for row in chain(first, rows):
            try:
                if row.value is None or not shape.fits(row.value):
                    raise Misfit(row.wrong or "another shape")
                read = shape.read(row.value)
            except Misfit:
                left_out += 1
                continue
            if read.chosen == read.rejected:
                left_out += 1
                continue
            found.append({"prompt": read.prompt, "chosen": read.chosen, "rejected": read.rejected})
    except (ValueError, OSError) as error:
        raise UsageError(f"{option} {source!r}: {error}") from None
    return found, left_out


def read_comparisons(recipe: Recipe) -> Comparisons:
    """Return the pairs of a recipe: shuffled by its seed, cut to its sample, the probe's first.

    Every process that reads them gets the same.

    Raises:
        UsageError: data that cannot be read, or too few pairs for the probe and one to train on.
    """
    rows, left_out = _read(recipe.data, "--data", recipe)
    random.Random(recipe.seed).shuffle(rows)
    rows = rows[: recipe.sample]
    if recipe.held_out is None:
        if recipe.every and not Path(recipe.probe).exists():
            raise UsageError(f"--probe {recipe.probe!r}: there is no such file")
        probe = _read(recipe.probe, "--probe", recipe)[0] if recipe.every else []
    else:
        probe, rows = rows[: recipe.held_out], rows[recipe.held_out :]
    if not rows:
        raise UsageError(f"--data {recipe.data!r}: {len(probe)} pairs can be read, and none is left to train")
    return Comparisons(rows, probe, left_out)
