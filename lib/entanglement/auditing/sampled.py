"""From a file to the rows that an audit looks at: a verdict on each, and a sample of those to train on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from entanglement.auditing.alikeness import alikeness
from entanglement.checks import share, whole
from entanglement.rows import TRAINED, EncodedPair, Judged, Row, TokensAs, judge, read_rows, recognize
from entanglement.rows.encoded import as_text
from entanglement.rows.shapes import LOOKED_AT, SHAPES
from entanglement.signatures import checked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Sample", "batch_of", "draw_sample"]

#: Verdicts on rows whose two responses are the same.
_SAME = ("identical", "identical_after_truncation")
#: Characters of a text, and of what is said of a row, that are shown.
_LONGEST, _SAID = 160, 300


@dataclass(frozen=True)
class Sample:
    """The rows of a file, and those that were drawn.

    Attributes:
        shape: of the rows.
        rows: one row a row of the file: place, verdict, said, trained, case ("equal" for two responses that
            are the same, else empty).
        about: one row a drawn pair, what is known of it before anything is computed.
        pairs: the drawn pairs' tokens; the first ``n_held`` are held out.
        n_held: how many are held out; the others fill whole batches.
    """

    shape: str
    rows: pd.DataFrame
    about: pd.DataFrame
    pairs: list[EncodedPair]
    n_held: int


def _shape_and_rows(data: str | Path, split: str, shape: str | None) -> tuple[str, Iterator[Row]]:
    rows = read_rows(data, split=split)
    if shape is not None:
        SHAPES[shape]  # an unknown one is told before anything is read
        return shape, rows
    first = list(islice(rows, LOOKED_AT))
    return recognize(first), chain(first, rows)


@checked(n=whole(0), batch_size=whole(1))
def batch_of(n: int, batch_size: int) -> int:
    """Return how many of n pairs make a batch, so that two of them or more make two batches at least."""
    return min(batch_size, max(1, n // 2))


def _shown(text: str, longest: int) -> str:
    """Return a text in one line, cut, and such that any file can hold it (no half of a surrogate pair)."""
    flat = " ".join(text.split()).encode("utf-8", "replace").decode()
    return flat if len(flat) <= longest else f"{flat[: longest - 1]}…"


def _about(one: Judged, pair: EncodedPair, held_out: bool) -> dict[str, Any]:
    assert one.comparison is not None
    text = as_text(one.comparison)
    found: dict[str, Any] = {"place": one.place, "verdict": one.verdict, "held_out": held_out}
    found |= {"chosen_len": len(pair.chosen), "rejected_len": len(pair.rejected)} | alikeness(pair)
    return found | {name: _shown(getattr(text, name), _LONGEST) for name in ("prompt", "chosen", "rejected")}


@checked(sample=whole(0), held_out=share, max_length=whole(1), batch_size=whole(1))
def draw_sample(
    data: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    sample: int,
    held_out: float,
    seed: int,
    batch_size: int = 1,
    tokens: TokensAs = "trl",
    max_length: int | None = None,
    shape: str | None = None,
    split: str = "train",
    strict: bool = False,
    watch: Callable[[Iterable[Row]], Iterable[Row]] = iter,
) -> Sample:
    """Read a file, judge its rows, and draw some of those that can be trained on.

    Args:
        data: as in ``read_rows``.
        tokenizer: the model's.
        sample: pairs that are drawn, at most.
        held_out: share of them that is held out; so is what fills no batch.
        seed: of the draw.
        batch_size: pairs a batch of the run; of fewer than two batches' pairs, halves are made.
        tokens: as in ``encode``.
        max_length: as in ``encode``.
        shape: of the rows; None to recognize it.
        split: of a data set that has several.
        strict: refuse a file with a row that cannot be trained on, and name the first.
        watch: what the rows go through as they are read, a bar say.

    Raises:
        ValueError: a file that cannot be read, an unknown shape, or a row that cannot be trained on
            (``strict``).
    """
    shape, rows = _shape_and_rows(data, split, shape)
    judged: list[Judged] = judge(watch(rows), shape, tokenizer, tokens=tokens, max_length=max_length)
    for one in judged if strict else ():
        if one.verdict not in TRAINED:
            raise ValueError(f"row {one.place} is {one.verdict}: {one.said}")
    table = pd.DataFrame(
        {
            "place": [one.place for one in judged],
            "verdict": [one.verdict for one in judged],
            "said": [_shown(one.said, _SAID) for one in judged],
            "trained": [one.verdict in TRAINED for one in judged],
            "case": ["equal" if one.verdict in _SAME else "" for one in judged],
        }
    )
    usable = [one for one in judged if one.verdict in TRAINED]
    drawn = random.Random(seed).sample(usable, min(sample, len(usable)))
    n_train = len(drawn) - round(held_out * len(drawn))
    # A row that fills no batch gives no gradient, and nothing that is read off the batches holds for it.
    n_held = len(drawn) - n_train // batch_of(n_train, batch_size) * batch_of(n_train, batch_size)
    pairs = [(one, one.encoded) for one in drawn if one.encoded is not None]
    about = pd.DataFrame([_about(one, pair, k < n_held) for k, (one, pair) in enumerate(pairs)])
    return Sample(shape, table, about, [pair for _, pair in pairs], n_held)
