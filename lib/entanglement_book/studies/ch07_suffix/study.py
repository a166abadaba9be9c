"""The experiments on a shared suffix: the same pairs with ever longer shared suffixes, as tidy tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch

from entanglement.geometry import PairGeometry
from entanglement.loglinear.sequence import LogLinear
from entanglement.loglinear.simulate import Relation, suffix_pairs
from entanglement.loglinear.tabular import PositionTabular, PrefixTabular
from entanglement.stats import share_interval

__all__ = [
    "measure",
    "one_shared_token",
    "parting_responses",
    "share_table",
    "suffix_study",
    "table_geometry",
    "tabular_study",
]


def one_shared_token(chosen_length: float, rejected_length: float) -> LogLinear:
    """Return the smallest pair with a suffix: V = 2, W = 0, one differing token, then one shared token.

    The differing token's state is the unit vector (1, 0) in both responses; the shared token's state is
    (0, t), where t is ``chosen_length`` in the chosen response and ``rejected_length`` in the rejected one.
    Then g_w = (1, t)/√2 and g_l = (−1, t')/√2 in an orthonormal basis, a picture in the plane.
    """
    states = [[[1.0, 0.0], [0.0, float(t)]] for t in (chosen_length, rejected_length)]
    w, l = (torch.tensor([s], dtype=torch.float64) for s in states)  # noqa: E741
    zero = torch.zeros(2, 2, dtype=torch.float64)
    return LogLinear(zero, w, torch.tensor([[0, 0]]), l, torch.tensor([[1, 0]]))


def _shape(geometry: PairGeometry) -> pd.DataFrame:
    """One row a pair: a2, b2, c, cosine, ratio, case."""
    columns = {
        "a2": geometry.chosen_sq,
        "b2": geometry.rejected_sq,
        "c": geometry.inner,
        "cosine": geometry.cosine,
        "ratio": geometry.norm_ratio,
    }
    table = pd.DataFrame({name: value.numpy() for name, value in columns.items()})
    return table.assign(case=geometry.case())


#: Positions measured at a time: keeps every array to some 20 MB at V = 60.
POSITIONS = 40_000


def _parts(pairs: LogLinear) -> Iterator[LogLinear]:
    """Cut many long pairs into groups of at most ``POSITIONS`` positions."""
    count = max(1, POSITIONS // pairs.chosen.shape[1])
    fields = ("weight", "chosen_features", "chosen", "rejected_features", "rejected")
    for start in range(0, len(pairs), count):
        some = {name: getattr(pairs, name)[start : start + count] for name in fields}
        yield replace(pairs, **some)


def measure(pairs: LogLinear, position: int = 0, *, margin: float = 0.01) -> pd.DataFrame:
    """Measure pairs that differ in the token at ``position``: geometry, gap terms, and one real step.

    The step has d_w = d_l and, for each pair, the size at which the margin log π_w − log π_l grows by
    ``margin`` nats to first order.

    Returns:
        One row a pair: a2, b2, c, cosine, ratio (b/a), case; same_position, the part of c that products of
        equal suffix positions make; token, cross_talk, asymmetry, the terms of a² − c; cross_talk_variance,
        the variance of the suffix's cross-talk if its tokens are drawn from the model; suffix_distance_sq,
        ‖S_w − S_l‖²; first_w, first_l and exact_w, exact_l, the predicted and the exact change (nats).
    """
    parts = list(_parts(pairs))
    if len(parts) > 1:
        return pd.concat([measure(part, position, margin=margin) for part in parts], ignore_index=True)
    geometry = pairs.geometry()
    term, _ = pairs.gap_terms(position)
    s_w, s_l = pairs.scores("chosen"), pairs.scores("rejected")
    h_w, h_l = pairs.chosen_features, pairs.rejected_features
    after = slice(position + 1, None)
    equal = ((h_w * h_l).sum(-1) * (s_w * s_l).sum(-1))[:, after].sum(-1)
    tails = [torch.einsum("btv,btd->bvd", s[:, after], h[:, after]) for s, h in ((s_w, h_w), (s_l, h_l))]
    eta = margin / geometry.distance_sq
    first_w, first_l = geometry.predicted_change(1.0, eta, eta)
    exact_w, exact_l = pairs.change(1.0, eta, eta)
    # Tokens drawn from p_t make s_t(w) − s_t(l) a draw with mean 0 and this variance, position by position.
    p = s_w.neg().scatter_add(-1, pairs.chosen.unsqueeze(-1), torch.ones_like(s_w[..., :1]))[:, after]
    p_w, p_l = (
        p.gather(-1, tokens[:, position].reshape(-1, 1, 1).expand(-1, p.shape[1], 1)).squeeze(-1)
        for tokens in (pairs.chosen, pairs.rejected)
    )
    along = torch.einsum("btd,bd->bt", h_w[:, after], h_w[:, position])  # ⟨h_t, h_0⟩
    variance = (along.square() * (p_w + p_l - (p_w - p_l).square())).sum(-1)
    columns = {
        "same_position": equal,
        **term._asdict(),
        "cross_talk_variance": variance,
        "suffix_distance_sq": (tails[0] - tails[1]).square().sum((1, 2)),
        "first_w": first_w,
        "first_l": first_l,
        "exact_w": exact_w,
        "exact_l": exact_l,
    }
    terms = pd.DataFrame({name: value.numpy() for name, value in columns.items()})
    return pd.concat([_shape(geometry), terms], axis=1)


def without_crosstalk(pairs: LogLinear, position: int = 0) -> LogLinear:
    """Return the pairs with the suffix's states made orthogonal to h_0, the state of the differing token."""
    h_0 = pairs.chosen_features[:, position : position + 1]  # (B, 1, d)

    def project(states: torch.Tensor) -> torch.Tensor:
        along = (states * h_0).sum(-1, keepdim=True) / h_0.square().sum(-1, keepdim=True)
        after = (torch.arange(states.shape[1]) > position).reshape(1, -1, 1)
        return states - after * along * h_0

    return replace(
        pairs,
        chosen_features=project(pairs.chosen_features),
        rejected_features=project(pairs.rejected_features),
    )


def suffix_study(
    variants: Mapping[str, tuple[Relation, float]],
    lengths: Sequence[int],
    draws: int,
    *,
    seed: int,
    vocab: int = 60,
    dim: int = 48,
    margin: float = 0.01,
) -> pd.DataFrame:
    """Measure ``draws`` pairs for every variant of the suffix's states and every suffix length.

    A variant is a (relation, strength) of ``suffix_pairs``. All variants use the same seed, hence the same W,
    the same states of the chosen response and the same differing tokens; within a variant, the shorter
    suffixes are the beginnings of the longest.

    Returns:
        The columns of ``measure`` after variant, n and draw.
    """
    if draws < 1 or not lengths or min(lengths) < 0:
        raise ValueError(
            f"suffix_study: draws={draws}, lengths={list(lengths)}; expected at least 1 draw, lengths ≥ 0."
        )
    tables = []
    for variant, (relation, strength) in variants.items():
        generator = torch.Generator().manual_seed(seed)
        longest = suffix_pairs(
            draws,
            max(lengths),
            relation=relation,
            strength=strength,
            vocab=vocab,
            dim=dim,
            generator=generator,
        )
        for n in lengths:
            table = measure(longest.truncate(1 + n), margin=margin)
            tables.append(table.assign(variant=variant, n=n, draw=range(draws)))
    whole = pd.concat(tables, ignore_index=True)
    first = ["variant", "n", "draw"]
    return whole[first + [name for name in whole.columns if name not in first]]


def table_geometry(table: pd.DataFrame) -> PairGeometry:
    """Return the geometry of the pairs in a table with columns a2, b2 and c."""
    a2, b2, c = (torch.tensor(table[name].to_numpy(dtype=float)) for name in ("a2", "b2", "c"))
    return PairGeometry(a2, b2, c)


def share_table(
    table: pd.DataFrame, rows: Mapping[str, tuple[str, str]], lengths: Sequence[int]
) -> pd.DataFrame:
    """Return the share of the pairs in a case by suffix length, with Clopper–Pearson intervals, as text.

    Args:
        table: of ``suffix_study``.
        rows: name of the row → (variant, case that is counted, or "violated" for all but "ideal").
        lengths: suffix lengths, one column each.
    """

    def text(variant: str, case: str, n: int) -> str:
        some = table[(table.variant == variant) & (table.n == n)]
        count = int((some.case != "ideal").sum() if case == "violated" else (some.case == case).sum())
        share = share_interval(count, len(some))
        # A space and a dash at which no line breaks.
        return f"{share.value:.2f}\u00a0({share.low:.2f}\u2060–\u2060{share.high:.2f})"

    cells = [[text(variant, case, n) for n in lengths] for variant, case in rows.values()]
    return pd.DataFrame(cells, index=list(rows), columns=[f"n = {n}" for n in lengths])


def parting_responses(
    n: int, n_w: int, n_l: int, vocab: int, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids (n, n_w) and (n, n_l) that agree up to a random place and then go their own ways."""
    shortest = min(n_w, n_l)
    if shortest < 1 or vocab < 2:
        raise ValueError(
            f"parting_responses: n_w={n_w}, n_l={n_l}, vocab={vocab}; expected lengths ≥ 1 and vocab ≥ 2."
        )
    chosen = torch.randint(vocab, (n, n_w), generator=generator)
    rejected = torch.randint(vocab, (n, n_l), generator=generator)
    at = torch.randint(shortest, (n, 1), generator=generator)
    shift = torch.randint(1, vocab, (n, 1), generator=generator)
    other = (chosen.gather(1, at) + shift) % vocab
    same = torch.arange(shortest) < at
    rejected[:, :shortest] = torch.where(same, chosen[:, :shortest], rejected[:, :shortest])
    return chosen, rejected.scatter(1, at, other)


def tabular_study(
    lengths: Sequence[int], draws: int, *, seed: int, fixed: int = 1, vocab: int = 20, scale: float = 1.5
) -> pd.DataFrame:
    """Measure the two tabular models on pairs of edit distance 1, as what the responses share grows.

    For "prefix" n shared tokens come before the differing one and ``fixed`` after it; for
    "position" ``fixed`` come before and n after.

    Returns:
        One row a pair: model, n, draw, a2, b2, c, cosine, ratio, case.
    """
    kinds: dict[str, type[PrefixTabular | PositionTabular]]
    kinds = {"prefix": PrefixTabular, "position": PositionTabular}
    tables = []
    for model, kind in kinds.items():
        for n in lengths:
            generator = torch.Generator().manual_seed(seed)
            at = n if model == "prefix" else fixed
            chosen = torch.randint(vocab, (draws, n + 1 + fixed), generator=generator)
            shift = torch.randint(1, vocab, (draws,), generator=generator)
            rejected = chosen.clone()
            rejected[:, at] = (chosen[:, at] + shift) % vocab
            pairs = kind.build(chosen, rejected, vocab, scale=scale, generator=generator)
            table = _shape(pairs.geometry())
            tables.append(table.assign(model=model, n=n, draw=range(draws)))
    whole = pd.concat(tables, ignore_index=True)
    first = ["model", "n", "draw"]
    return whole[first + [name for name in whole.columns if name not in first]]
