"""Random instances of the exact models, many at a time, for the chapters and the tests."""

from __future__ import annotations

import math
from typing import Literal

import torch

from entanglement.checks import Check, between, non_negative, positive, whole
from entanglement.loglinear.one_token import OneToken, TrainableOneToken
from entanglement.loglinear.sequence import LogLinear
from entanglement.signatures import checked

__all__ = [
    "Relation",
    "distinct_tokens",
    "random_log_linear",
    "random_one_token",
    "random_trainable",
    "simplex_grid",
    "suffix_pairs",
]

#: How the rejected suffix's states come from the chosen one's.
Relation = Literal["identical", "orthogonal", "scaled", "similar"]


_SCALE = positive | Check(
    "two of them, from low to high",
    lambda v: isinstance(v, tuple) and len(v) == 2 and all(map(positive.holds, v)) and v[0] <= v[1],
)


def _normal(*shape: int, generator: torch.Generator | None) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@checked(n=whole(0), vocab=whole(2))
def distinct_tokens(
    n: int, vocab: int, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two (n,) tensors of token ids, different in every place."""
    first = torch.randint(vocab, (n,), generator=generator)
    shift = torch.randint(1, vocab, (n,), generator=generator)
    return first, (first + shift) % vocab


@checked(n=whole(0), vocab=whole(2), scale=_SCALE)
def random_one_token(
    n: int,
    vocab: int = 50,
    *,
    scale: float | tuple[float, float] = (0.1, 10.0),
    generator: torch.Generator | None = None,
) -> OneToken:
    """Return n one-token instances with normal logits.

    Args:
        n: number of instances.
        vocab: V, at least 2.
        scale: standard deviation of the logits; a (low, high) range is drawn log-uniformly for each
            instance, so that flat and peaked distributions both occur.
        generator: source of randomness.
    """
    low, high = scale if isinstance(scale, tuple) else (scale, scale)
    u = torch.rand((n, 1), generator=generator, dtype=torch.float64)
    spread = torch.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    logits = spread * _normal(n, vocab, generator=generator)
    chosen, rejected = distinct_tokens(n, vocab, generator)
    return OneToken(logits, chosen, rejected)


@checked(n=whole(0), vocab=whole(2), dim=whole(1))
def random_trainable(
    n: int, vocab: int = 12, dim: int = 6, *, generator: torch.Generator | None = None
) -> TrainableOneToken:
    """Return n one-token instances with standard normal W (V, d) and h (d), both trainable."""
    weight = _normal(n, vocab, dim, generator=generator)
    features = _normal(n, dim, generator=generator)
    chosen, rejected = distinct_tokens(n, vocab, generator)
    return TrainableOneToken(weight, features, chosen, rejected)


@checked(n=whole(3))
def simplex_grid(n: int) -> torch.Tensor:
    """Return the (M, 3) interior points of the simplex with coordinates (i, j, k)/n, i + j + k = n, all ≥
    1.
    """
    points = [(i, j, n - i - j) for i in range(1, n - 1) for j in range(1, n - i)]
    return torch.tensor(points, dtype=torch.float64) / n


@checked(
    n=whole(0),
    n_w=whole(1),
    n_l=whole(1),
    vocab=whole(1),
    dim=whole(1),
    logit_scale=non_negative,
    similarity=between(0, 1, high_open=True),
)
def random_log_linear(
    n: int,
    n_w: int = 6,
    n_l: int = 8,
    *,
    vocab: int = 20,
    dim: int = 10,
    logit_scale: float = 1.0,
    similarity: float = 0.0,
    generator: torch.Generator | None = None,
) -> LogLinear:
    """Return n random pairs, each with its own W.

    Args:
        n: number of pairs.
        n_w, n_l: response lengths.
        vocab, dim: V and d.
        logit_scale: standard deviation of the logits.
        similarity: in [0, 1); correlation of every state with one direction of its pair. More of it means
            more entanglement.
        generator: source of randomness.
    """
    weight = logit_scale / math.sqrt(dim) * _normal(n, vocab, dim, generator=generator)
    common = _normal(n, 1, dim, generator=generator)

    def states(length: int) -> torch.Tensor:
        own = _normal(n, length, dim, generator=generator)
        return math.sqrt(similarity) * common + math.sqrt(1 - similarity) * own

    features_w, features_l = states(n_w), states(n_l)
    chosen = torch.randint(vocab, (n, n_w), generator=generator)
    rejected = torch.randint(vocab, (n, n_l), generator=generator)
    return LogLinear(weight, features_w, chosen, features_l, rejected)


@checked(
    draws=whole(0), suffix=whole(0), prefix=whole(0), vocab=whole(2), dim=whole(1), logit_scale=non_negative
)
def suffix_pairs(
    draws: int,
    suffix: int,
    *,
    relation: Relation = "identical",
    strength: float = 1.0,
    prefix: int = 0,
    vocab: int = 60,
    dim: int = 48,
    logit_scale: float = 1.4,
    shared_tokens: Literal["sampled", "uniform"] = "sampled",
    generator: torch.Generator | None = None,
) -> LogLinear:
    """Return pairs that share a prefix, differ in one token, and share a suffix (the suffix theorems).

    Use ``truncate(prefix + 1 + n)`` on the result to see the same pairs with a shorter suffix.

    Args:
        draws: number of pairs.
        suffix: number of shared tokens after the differing one; its states are drawn as ``relation`` says.
        relation: "identical" states in both responses; "orthogonal" at equal positions (same length);
            "scaled", h_l = strength · h_w; "similar", h_l with expected cosine ``strength`` to h_w and the
            same expected length.
        strength: see ``relation``; unused by the first two.
        prefix: number of shared tokens, with identical states, before the differing one.
        vocab, dim: V and d. States are standard normal, so ‖h‖² is about d.
        logit_scale: standard deviation of the logits.
        shared_tokens: "sampled" from the mean of the two responses' next-token distributions, so that the
            text is likely and neither side is favored; or "uniform" over the vocabulary.
        generator: source of randomness.

    Raises:
        ValueError: unknown relation or shared_tokens, or a strength outside its range.
    """
    if relation == "scaled":
        positive("strength", strength, "suffix_pairs, relation='scaled'")
    if relation == "similar":
        between(-1, 1)("strength", strength, "suffix_pairs, relation='similar'")
    weight = logit_scale / math.sqrt(dim) * _normal(draws, vocab, dim, generator=generator)
    head = _normal(draws, prefix + 1, dim, generator=generator)
    tail_w = _normal(draws, suffix, dim, generator=generator)
    noise = _normal(draws, suffix, dim, generator=generator)  # always drawn: relations stay comparable
    if relation == "identical":
        tail_l = tail_w
    elif relation == "scaled":
        tail_l = strength * tail_w
    elif relation == "similar":
        tail_l = strength * tail_w + math.sqrt(1 - strength**2) * noise
    else:
        square = tail_w.square().sum(-1, keepdim=True)
        tail_l = noise - (noise * tail_w).sum(-1, keepdim=True) / square * tail_w
        tail_l = tail_l * square.sqrt() / tail_l.norm(dim=-1, keepdim=True)
    states_w, states_l = torch.cat([head, tail_w], dim=1), torch.cat([head, tail_l], dim=1)
    tokens_w, tokens_l = (torch.zeros(draws, prefix + 1 + suffix, dtype=torch.long) for _ in range(2))
    if shared_tokens == "uniform":
        tokens_w[:] = torch.randint(vocab, tokens_w.shape, generator=generator)
    else:
        probs = sum(torch.einsum("btd,bvd->btv", h, weight).softmax(-1) / 2 for h in (states_w, states_l))
        drawn = torch.multinomial(torch.as_tensor(probs).reshape(-1, vocab), 1, generator=generator)
        tokens_w[:] = drawn.reshape(tokens_w.shape)
    tokens_l[:] = tokens_w
    tokens_w[:, prefix], tokens_l[:, prefix] = distinct_tokens(draws, vocab, generator)
    return LogLinear(weight, states_w, tokens_w, states_l, tokens_l)
