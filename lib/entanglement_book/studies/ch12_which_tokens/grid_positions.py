"""The grid of places: does a mask find the contrasting token, or the place at which it stands, or its word?

The answers of the other grids begin with their contrasting token. Here the same words stand in three orders,
with that token first, in the middle, or last. A mask is trained on the first of them or on all three mixed;
and is tested on each, and on answers in which both label words stand once more, as shared tokens.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from entanglement.models import about_model, load_model
from entanglement.pairs import PreferencePair
from entanglement.token_ids import response_ids
from entanglement.training import align, sft
from entanglement.updates import TokenWeighted
from entanglement.updates.token_weights import LearnedMask
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.materials.tweets import LABELS, sentiment_pairs
from entanglement_book.studies.ch12_which_tokens.grid import ranking, token_table
from entanglement_book.studies.shared.start import recipe

__all__ = [
    "PLACES",
    "TEMPLATES",
    "TESTED",
    "TRAINED",
    "grid_cells",
    "known_shares",
    "placed_pairs",
    "run_cell",
]

#: Answers of ten tokens, in which the label stands for {}.
PLACES: dict[str, str] = {
    "first": "{} sentiment based on my judgement of the text.",
    "middle": " based on my judgement{} sentiment of the text.",
    "last": " sentiment based on my judgement of the text.{}",
}
_COPIES = " of positive and negative"
#: Kind of answers → the orders among which each pair's is drawn.
TEMPLATES: dict[str, tuple[str, ...]] = {
    **{place: (text,) for place, text in PLACES.items()},
    "mixed": tuple(PLACES.values()),
    "copies": (
        "{}" + _COPIES + " sentiment based on my judgement of the text.",
        _COPIES + " based on my judgement{} sentiment of the text.",
        _COPIES + " sentiment based on my judgement of the text.{}",
    ),
}
#: What masks are trained on, and what they are tested on.
TRAINED, TESTED = ("first", "mixed"), (*PLACES, "copies")


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: kind of answers × seed."""
    cells = [
        {"trained": kind, "seed": seed} for seed in range(recipe(scale, model).seeds) for kind in TRAINED
    ]
    return one_change(cells) if scale == "smoke" else cells


def placed_pairs(kind: str, split: str, n: int | None, seed: int) -> list[PreferencePair]:
    """Return the tweets' pairs with answers of a kind; the order of each pair's is drawn with ``seed``."""
    rng = random.Random(seed)
    pairs = []
    for pair in sentiment_pairs("one_token", split, n=n, seed=seed):  # type: ignore[arg-type]
        text = rng.choice(TEMPLATES[kind])
        chosen, rejected = text.format(pair.chosen), text.format(pair.rejected)
        pairs.append(PreferencePair(pair.prompt, chosen, rejected, pair.id))
    return pairs


def known_shares(
    pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase
) -> tuple[dict[int, float], dict[str, float]]:
    """Return how often what stands at a place, and how often a word, is the contrasting token of a pair.

    They are the weights of someone who knows places alone, or words alone. Answers of a pair must have
    equally many tokens.

    Returns:
        place → share, and token (as text) → share.
    """
    seen: dict[str, Counter[Any]] = {key: Counter() for key in ("place", "word", "places", "words")}
    for pair in pairs:
        sides = [response_ids(text, tokenizer) for text in (pair.chosen, pair.rejected)]
        for place, (one, other) in enumerate(zip(*sides, strict=True)):
            for token in (one, other):
                word = str(tokenizer.decode([token]))
                seen["places"][place] += 1
                seen["words"][word] += 1
                seen["place"][place] += one != other
                seen["word"][word] += one != other
    return (
        {place: seen["place"][place] / n for place, n in seen["places"].items()},
        {word: seen["word"][word] / n for word, n in seen["words"].items()},
    )


def _found(tokens: pd.DataFrame) -> dict[str, float]:
    """Return how well weights find the contrasting tokens of each pair, in the mean over pairs.

    Returns:
        pairs: how many; found: the chance that a contrasting token outweighs a shared one; copies: that it
        outweighs a shared copy of a label word (missing where there is none); inside, outside: mean weights
        of both kinds.
    """
    copies = tokens["contrast"] | tokens["token"].isin(LABELS)
    has_copies = bool((copies & ~tokens["contrast"]).any())
    by_pair = tokens.groupby("pair")
    return {
        "pairs": float(len(by_pair)),
        "found": float(np.mean([ranking(rows) for _, rows in by_pair])),
        "copies": float(np.mean([ranking(rows[copies[rows.index]]) for _, rows in by_pair]))
        if has_copies
        else float("nan"),
        "inside": float(tokens.loc[tokens["contrast"], "weight"].mean()),
        "outside": float(tokens.loc[~tokens["contrast"], "weight"].mean()),
    }


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "found": for held-out answers of each kind ("tested") and by weights of each kind ("by": "mask",
            "place" and "word" for ``known_shares`` of the trained pairs, "first" for the first token):
            pairs, found, copies, inside, outside (``_found``).
        "tokens": ``token_table`` of the first held-out pair, for each kind ("tested").
    """
    numbers = recipe(scale, model)
    seed, kind = int(cell["seed"]), cell["trained"]
    train = placed_pairs(kind, "train", None, seed)
    policy, tokenizer = load_model(model)
    sft(
        policy, tokenizer, train, steps=numbers.sft_steps, lr=numbers.sft_lr, batch_size=numbers.sft_batch,
        seed=seed,
    )  # fmt: skip
    reference, _ = load_model(model)
    reference.load_state_dict(policy.state_dict())
    reference.eval()
    torch.manual_seed(seed)
    mask = LearnedMask()
    align(
        policy,
        tokenizer,
        train,
        update=TokenWeighted(mask, reference),
        steps=numbers.steps,
        lr=numbers.lr,
        batch_size=numbers.batch,
        seed=seed,
    )
    places, words = known_shares(train, tokenizer)
    rows, tokens = [], []
    for tested in TESTED:
        test = placed_pairs(tested, "test", numbers.test_pairs, seed)[: numbers.geometry_pairs]
        own = token_table(mask, policy, reference, tokenizer, test)
        known = {
            "mask": own["weight"],
            "place": own["place"].map(places).fillna(0.0),
            "word": own["token"].map(words).fillna(0.0),
            "first": (own["place"] == 0).astype(float),
        }
        for by, weight in known.items():
            rows.append({"tested": tested, "by": by} | _found(own.assign(weight=weight)))
        one = own[own["pair"] == own["pair"].iloc[0]]
        tokens.append(one.assign(tested=tested))
    return {"found": pd.DataFrame(rows), "tokens": pd.concat(tokens, ignore_index=True)}


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the orders of words, for the provenance of a table."""
    about = about_model(model)
    return {
        "recipe": asdict(recipe(scale, model)),
        "orders": TEMPLATES,
        "trained": TRAINED,
        "tested": TESTED,
        "model": model,
        "about": about,
    }


GRIDS.add("positions", Grid("positions", grid_cells, run_cell, describe, models=("nano",)))
