"""Token by token: the block of inner products from states and errors, and its sums by kind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import normalize

from entanglement.loglinear import random_log_linear
from entanglement_book.exercises.checking import Check
from entanglement_book.studies.ch09_tokens.study import KINDS, token_roles

Tensor = torch.Tensor
Sums = dict[str, float]
Words = Sequence[str]


def _block(h_w: Tensor, s_w: Tensor, h_l: Tensor, s_l: Tensor) -> Tensor:
    return (h_w @ h_l.T) * (s_w @ s_l.T)


def _states_alone(h_w: Tensor, s_w: Tensor, h_l: Tensor, s_l: Tensor) -> Tensor:
    return h_w @ h_l.T


def _errors_alone(h_w: Tensor, s_w: Tensor, h_l: Tensor, s_l: Tensor) -> Tensor:
    return s_w @ s_l.T


def _added(h_w: Tensor, s_w: Tensor, h_l: Tensor, s_l: Tensor) -> Tensor:
    return h_w @ h_l.T + s_w @ s_l.T


def _turned(h_w: Tensor, s_w: Tensor, h_l: Tensor, s_l: Tensor) -> Tensor:
    return _block(h_w, s_w, h_l, s_l).T


def _cosines(h_w: Tensor, s_w: Tensor, h_l: Tensor, s_l: Tensor) -> Tensor:
    return _block(*(normalize(x, dim=-1) for x in (h_w, s_w, h_l, s_l)))


def _diagonal(h_w: Tensor, s_w: Tensor, h_l: Tensor, s_l: Tensor) -> Tensor:
    """As if only tokens at the same place had an inner product."""
    return _block(h_w, s_w, h_l, s_l) * torch.eye(len(h_w), len(h_l), dtype=h_w.dtype)


def _answers() -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """States and errors of random answers of three and two tokens, and of four and four."""
    random = torch.Generator().manual_seed(9)
    tried = []
    for n_w, n_l in ((3, 2), (4, 4)):
        pair = random_log_linear(1, n_w, n_l, vocab=5, dim=3, generator=random)
        tried.append(
            (pair.chosen_features[0], pair.scores("chosen")[0],
             pair.rejected_features[0], pair.scores("rejected")[0])
        )  # fmt: skip
    return tried


def _kinds(chosen: Words, rejected: Words) -> list[list[str]]:
    """The kinds of a block's entries, from the chapter's own alignment."""
    ids = {word: i for i, word in enumerate(sorted({*chosen, *rejected}))}
    roles = token_roles([ids[word] for word in (*chosen, *rejected)], len(chosen))
    return [[str(kind) for kind in row] for row in roles.kinds()]


def _summed(block: Tensor, kinds: list[list[str]]) -> Sums:
    sums = dict.fromkeys(map(str, KINDS), 0.0)
    for values, row in zip(block.tolist(), kinds, strict=True):
        for value, kind in zip(values, row, strict=True):
            sums[kind] += value
    return sums


def _by_kind(block: Tensor, chosen: Words, rejected: Words) -> Sums:
    return _summed(block, _kinds(chosen, rejected))


def _by_word(block: Tensor, chosen: Words, rejected: Words) -> Sums:
    """Every meeting of a word with itself counts as one with its copy."""
    kinds = _kinds(chosen, rejected)
    for s, row in enumerate(kinds):
        kinds[s] = ["same_position" if chosen[s] == rejected[t] else kind for t, kind in enumerate(row)]
    return _summed(block, kinds)


def _no_mixed(block: Tensor, chosen: Words, rejected: Words) -> Sums:
    """All that a contrasting token takes part in counts as contrasting."""
    kinds = _kinds(chosen, rejected)
    return _summed(block, [["contrast" if kind == "mixed" else kind for kind in row] for row in kinds])


def _half_shared(block: Tensor, chosen: Words, rejected: Words) -> Sums:
    """One shared token of the two is enough."""
    kinds = _kinds(chosen, rejected)
    return _summed(block, [["other_position" if kind == "mixed" else kind for kind in row] for row in kinds])


def _means(block: Tensor, chosen: Words, rejected: Words) -> Sums:
    kinds = _kinds(chosen, rejected)
    count = [kind for row in kinds for kind in row]
    return {
        kind: value / max(count.count(kind), 1) for kind, value in _by_kind(block, chosen, rejected).items()
    }


def _diagonal_alone(block: Tensor, chosen: Words, rejected: Words) -> Sums:
    return _by_kind(block * torch.eye(len(block), dtype=block.dtype), chosen, rejected)


def _blocks() -> list[tuple[Tensor, list[str], list[str]]]:
    """Made-up blocks of answers that differ in their first, second and last word."""
    random = torch.Generator().manual_seed(9)
    pairs = [
        ("good , good", "bad , good"),
        ("a good film , a film", "a bad film , a film"),
        ("it is good", "it is bad"),
    ]
    tried = []
    for first, second in pairs:
        chosen, rejected = first.split(), second.split()
        block = torch.randn(len(chosen), len(rejected), generator=random, dtype=torch.float64)
        tried.append((block, chosen, rejected))
    return tried


CHECKS: dict[str, Check] = {
    "09.2": Check(
        right=_block,
        mistakes=[
            (
                _states_alone,
                "the errors are missing: a token that the model is sure of has hardly a gradient.",
            ),
            (
                _errors_alone,
                "the states are missing: this is right where all states are the same and of length 1.",
            ),
            (_added, "you add the two factors. The gradient is a product of error and state."),
            (_turned, "your rows are rejected tokens. A row is to be a chosen one."),
            (_cosines, "these are cosines. The terms of c have lengths in them."),
            (
                _diagonal,
                "you keep tokens at the same place only. Every chosen token meets every rejected one.",
            ),
        ],
        inputs=_answers(),
        praise="Its entries sum to c, so each says what one pair of tokens adds to it.",
    ),
    "09.4": Check(
        right=_by_kind,
        mistakes=[
            (
                _by_word,
                "a word that comes twice meets itself at two places. Only one of them is its copy's.",
            ),
            (_no_mixed, "a contrasting token that meets a shared one is of a kind of its own."),
            (_half_shared, "one of the two tokens is shared, and that is not enough for shared × shared."),
            (_means, "these are means. The four numbers are to sum to c."),
            (_diagonal_alone, "you sum the diagonal only. Every entry of the block belongs to some kind."),
        ],
        inputs=_blocks(),
        praise="The four sum to c. Which of them is the largest says where the entanglement comes from.",
    ),
}
