"""What the labs of several chapters show, as ``put_data`` takes it: plain lists and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from entanglement.loglinear import LogLinear
from entanglement.losses import loss_specs

__all__ = ["losses_and_ratios", "pair_to_step", "tokens_of_pair"]


def pair_to_step(
    pair: LogLinear, words: Sequence[str], factors: Sequence[float] = (1.0,), length: int = 0
) -> dict[str, Any]:
    """Return a pair for the lab ``steps``: the two answers differ in their first token and share the others.

    Args:
        pair: one pair whose answers have the same states.
        words: V names of the tokens: those of the two that differ, chosen first, then of the others in order.
        factors: by which the lab may multiply the rejected answer's states at the shared tokens.
        length: number of shared tokens at the start.

    Raises:
        ValueError: not one pair of that form.
    """
    if len(pair) != 1 or not torch.equal(pair.chosen_features, pair.rejected_features):
        raise ValueError("pair_to_step: expected one pair whose answers have the same states.")
    if not torch.equal(pair.chosen[:, 1:], pair.rejected[:, 1:]) or len(words) != pair.weight.shape[1]:
        raise ValueError(
            "pair_to_step: expected answers that differ in their first token, and a word a token."
        )
    first = [int(pair.chosen[0, 0]), int(pair.rejected[0, 0])]
    order = [*first, *(v for v in range(len(words)) if v not in first)]
    return {
        "weight": pair.weight[0].tolist(),
        "states": pair.chosen_features[0].tolist(),
        "first": first,
        "suffix": pair.chosen[0, 1:].tolist(),
        "words": [words[order.index(v)] for v in range(len(words))],
        "factors": list(factors),
        "length": length,
    }


def losses_and_ratios(start: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the losses with a finite ratio above 0 and positive weights, for the lab ``tent``.

    Args:
        start: columns loss, d_w, d_l, r, such as ``ch04_losses.study.at_reference``.
    """
    titles = {spec.name: spec.title for spec in loss_specs()}
    usual = start[(start["d_w"] > 0) & (start["d_l"] > 0)]
    return [
        {"title": titles[name], "r": r} for name, r in zip(usual["loss"], usual["r"].tolist(), strict=True)
    ]


def tokens_of_pair(
    tokens: Sequence[str], n_chosen: int, stages: Mapping[str, torch.Tensor], digits: int = 4
) -> dict[str, Any]:
    """Return one pair's inner products for the lab ``tokens``.

    Args:
        tokens: N words, those of the chosen answer first.
        n_chosen: how many those are.
        stages: title → (N, N) Gram matrix of the token gradients.
        digits: significant ones that are kept; the page's numbers have fewer.

    Raises:
        ValueError: a matrix of another size.
    """
    for title, gram in stages.items():
        if gram.shape != (len(tokens), len(tokens)):
            raise ValueError(
                f"tokens_of_pair: {title!r} is {tuple(gram.shape)}; expected {len(tokens)} rows and columns."
            )
    return {
        "chosen": list(tokens[:n_chosen]),
        "rejected": list(tokens[n_chosen:]),
        "stages": [
            {"title": title, "gram": [[float(f"{x:.{digits}g}") for x in row] for row in gram.tolist()]}
            for title, gram in stages.items()
        ],
    }
