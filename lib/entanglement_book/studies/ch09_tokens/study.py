"""Which tokens make c: the inner product of a pair, split by what its tokens do.

c = Σ_{s,t} ⟨∇ log π(y^w_s|…), ∇ log π(y^l_t|…)⟩ runs over every chosen token s and every rejected token t. A
token is *shared* if it belongs to what the two responses have in common at their beginning or at their end,
and *contrasting* otherwise. Each term of the sum then has one of four kinds (``KINDS``), and the four sums
add up to c. Source: the token-by-token measurement of the paper's §4.3 (arXiv 2410.13828).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import pandas as pd
import torch
from torch import nn

from entanglement.bounded import summarize_bounded
from entanglement.gradients import Parameters, TokenGeometry, token_geometry
from entanglement.pairs import PairBatch, PreferencePair, collate
from entanglement.stats import summarize
from entanglement.token_ids import context_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "ALL_BLOCKS",
    "KINDS",
    "KIND_NAMES",
    "Block",
    "Kind",
    "TokenRoles",
    "after_first",
    "measure_tokens",
    "parts_of_cosine",
    "parts_of_inner",
    "rank_agreement",
    "suffix_table",
    "summarize_parts",
    "token_roles",
    "token_table",
    "turn_suffix",
]

Block = Literal["c", "a2", "b2"]
_SIDES: dict[Block, tuple[str, str]] = {
    "c": ("chosen", "rejected"),
    "a2": ("chosen", "chosen"),
    "b2": ("rejected", "rejected"),
}
ALL_BLOCKS: tuple[Block, ...] = ("c", "a2", "b2")
Kind = Literal["contrast", "mixed", "same_position", "other_position"]
#: In the order in which tables and figures show them.
KINDS: tuple[Kind, ...] = ("contrast", "mixed", "same_position", "other_position")
KIND_NAMES: dict[Kind, str] = {
    "contrast": "contrasting × contrasting",
    "mixed": "contrasting × shared",
    "same_position": "shared × shared, same position",
    "other_position": "shared × shared, other position",
}


@dataclass(frozen=True)
class TokenRoles:
    """What each of the N = n_w + n_l response tokens of a pair is; chosen tokens first, then rejected.

    Attributes:
        shared: (N,) True on tokens that both responses have, at their common beginning or end.
        partner: (N,) for a shared token the index, within its own side, of the token that it is aligned with
            on the other side; −1 for contrasting tokens.
        n_chosen: n_w.
    """

    shared: torch.Tensor
    partner: torch.Tensor
    n_chosen: int

    def kinds(self, block: Block = "c") -> list[list[Kind]]:
        """Return the kind of each term of c, (n_w, n_l), of a², (n_w, n_w), or of b², (n_l, n_l); nested
        lists.
        """
        n, shared, partner = self.n_chosen, self.shared.tolist(), self.partner.tolist()
        sides = {"chosen": range(n), "rejected": range(n, len(shared))}
        rows, columns = (sides[side] for side in _SIDES[block])

        def kind(s: int, t: int) -> Kind:
            if shared[s] and shared[t]:
                same = partner[s] == t - n if block == "c" else s == t
                return "same_position" if same else "other_position"
            return "mixed" if shared[s] or shared[t] else "contrast"

        return [[kind(s, t) for t in columns] for s in rows]


def token_roles(token_ids: torch.Tensor | Sequence[int], n_chosen: int) -> TokenRoles:
    """Align two responses: their longest common beginning, then their longest common end, is shared.

    Args:
        token_ids: (N,) response tokens, chosen first (``TokenGeometry.token_ids``).
        n_chosen: n_w, between 1 and N − 1.

    Raises:
        ValueError: ``n_chosen`` leaves one side empty.
    """
    ids = [int(i) for i in token_ids]
    if not 0 < n_chosen < len(ids):
        raise ValueError(f"token_roles: n_chosen={n_chosen}; expected between 1 and {len(ids) - 1}.")
    w, l = ids[:n_chosen], ids[n_chosen:]  # noqa: E741
    shortest = min(len(w), len(l))
    start = 0
    while start < shortest and w[start] == l[start]:
        start += 1
    end = 0
    while end < shortest - start and w[-1 - end] == l[-1 - end]:
        end += 1
    partner = torch.full((len(ids),), -1, dtype=torch.long)
    for i in range(start):
        partner[i] = partner[n_chosen + i] = i
    for i in range(1, end + 1):
        partner[n_chosen - i] = len(l) - i
        partner[len(ids) - i] = n_chosen - i
    return TokenRoles(partner >= 0, partner, n_chosen)


def token_table(
    geometry: TokenGeometry,
    roles: TokenRoles | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    blocks: Sequence[Block] = ("c",),
) -> pd.DataFrame:
    """Return one row for each term of c: a chosen token against a rejected token.

    Args:
        geometry: of one pair.
        roles: what each token is; by default found from the tokens themselves.
        tokenizer: to write the tokens out; without it they are ids.
        blocks: which sums to take apart: "c", "a2" (chosen against chosen), "b2" (rejected against rejected).

    Returns:
        Columns pair, block, s, t (offsets in their responses), first, second (the tokens), kind, inner (the
        inner product; those of a block sum to it), cosine (nan where a gradient is zero), logp_s, logp_t
        (nats).

    Raises:
        ValueError: ``roles`` of another number of tokens, or an unknown block.
    """
    roles = token_roles(geometry.token_ids, geometry.n_chosen) if roles is None else roles
    if len(roles.shared) != len(geometry.token_ids) or roles.n_chosen != geometry.n_chosen:
        raise ValueError(
            f"token_table: roles of {roles.n_chosen} + {len(roles.shared) - roles.n_chosen} tokens; "
            f"expected {geometry.n_chosen} + {geometry.n_rejected}."
        )
    ids = geometry.token_ids.tolist()
    tokens = [str(i) for i in ids] if tokenizer is None else [tokenizer.decode([i]) for i in ids]
    gram, cosine, logps = geometry.gram.tolist(), geometry.cosine.tolist(), geometry.logps.tolist()
    start = {"chosen": 0, "rejected": geometry.n_chosen}
    rows = []
    for block in blocks:
        if block not in _SIDES:
            raise ValueError(f"token_table: block {block!r}; expected one of {', '.join(_SIDES)}.")
        top, left = (start[side] for side in _SIDES[block])
        for s, line in enumerate(roles.kinds(block)):
            for t, kind in enumerate(line):
                i, j = top + s, left + t
                values = (gram[i][j], cosine[i][j], logps[i], logps[j])
                rows.append((geometry.id, block, s, t, tokens[i], tokens[j], kind, *values))
    columns = ["pair", "block", "s", "t", "first", "second", "kind", "inner", "cosine", "logp_s", "logp_t"]
    return pd.DataFrame(rows, columns=columns)


def measure_tokens(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    blocks: Sequence[Block] = ("c",),
    turned: bool = False,
    append_eos: bool = False,
    parameters: Parameters = "all",
) -> pd.DataFrame:
    """Return the token tables of many pairs, one under the other.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        pairs: what to measure; their ids must differ.
        blocks: as in ``token_table``.
        turned: the negative control. The rejected response's shared tokens are turned by one place
            (``turn_suffix``), so that no token meets its like at its own position; the kinds stay those of
            the original.
        append_eos: whether the end-of-sequence token is part of the response (then it is a shared token).
        parameters: as in ``gradients.token_geometry``.

    Raises:
        ValueError: as ``gradients.token_geometry``; or two pairs of one id.
    """
    room = context_length(tokenizer, model)
    batch = collate(pairs, tokenizer, append_eos=append_eos, max_length=room)
    if len(set(batch.ids)) != len(batch.ids):
        raise ValueError("measure_tokens: two pairs have the same id; expected different ones.")
    tables = []
    for i in range(len(batch)):
        one = batch.select(i)
        roles = _roles_of(one)
        one = turn_suffix(one) if turned else one
        tables.append(token_table(token_geometry(model, one, parameters), roles, tokenizer, blocks))
    return pd.concat(tables, ignore_index=True)


def _roles_of(batch: PairBatch) -> TokenRoles:
    ids = torch.cat([batch.input_ids[row][batch.response_mask[row]] for row in (0, 1)])
    return token_roles(ids, int(batch.chosen_len))


def parts_of_inner(table: pd.DataFrame, by: Sequence[str] = ("pair",)) -> pd.DataFrame:
    """Return how much of c (or a², b²) comes from each kind of token pair: one row for each group.

    Args:
        table: rows of ``token_table``.
        by: the columns that say which rows belong to one sum. Give "block" too if there are several.

    Returns:
        The ``by`` columns, one column for each of ``KINDS`` (0 where there are none), ``shared`` (same and
        other position together) and ``total``, the sum of all.

    Raises:
        ArithmeticError: the parts do not sum to the terms they came from, beyond rounding.
        ValueError: several blocks would be summed into one.
    """
    keys = list(by)
    if "block" not in keys and table["block"].nunique() > 1:
        raise ValueError("parts_of_inner: the table has several blocks; add 'block' to by.")
    groups = [table[key] for key in keys]
    wide = table.pivot_table(index=keys, columns="kind", values="inner", aggfunc="sum", observed=True)
    wide = wide.reindex(columns=list(KINDS)).fillna(0.0)
    wide.columns.name = None
    wide["shared"] = wide["same_position"] + wide["other_position"]
    wide["total"] = table["inner"].groupby(groups).sum()
    gap = (wide[list(KINDS)].sum(axis=1) - wide["total"]).abs()
    if bool((gap > 1e-9 * table["inner"].abs().groupby(groups).sum()).any()):
        raise ArithmeticError("parts_of_inner: the four parts do not sum to the whole.")
    return wide.reset_index()


def _norm_product(table: pd.DataFrame, keys: list[str], where: str) -> pd.Series:
    """Return ab of each group, from its blocks a2 and b2."""
    squares = table.groupby(["block", *keys])["inner"].sum()
    missing = {"a2", "b2"} - set(squares.index.get_level_values("block"))
    if missing:
        raise ValueError(f"{where}: the table has no block {', '.join(sorted(missing))}; measure it as well.")
    return (squares.loc["a2"] * squares.loc["b2"]).clip(lower=0.0) ** 0.5


def parts_of_cosine(table: pd.DataFrame, by: Sequence[str] = ("pair",)) -> pd.DataFrame:
    """Return how much of ρ = c/(ab) comes from each kind of token pair: one row for each group.

    Args:
        table: rows of ``token_table`` with the blocks c, a2 and b2.
        by: the columns that say which rows belong to one pair of responses.

    Returns:
        As ``parts_of_inner``, divided by ab; ``total`` is ρ. nan where a gradient is zero.

    Raises:
        ValueError: a block is missing.
    """
    keys = list(by)
    norms = _norm_product(table, keys, "parts_of_cosine")
    parts = parts_of_inner(table[table["block"] == "c"], keys).set_index(keys)
    return parts.div(norms.where(norms > 0), axis=0).reset_index()


def suffix_table(table: pd.DataFrame, by: Sequence[str] = ("pair",)) -> pd.DataFrame:
    """Return the terms of c in which a shared token meets itself, and how surprising the token is.

    Args:
        table: rows of ``token_table`` with the blocks c, a2 and b2.
        by: the columns that say which rows belong to one pair of responses.

    Returns:
        The rows of block "c" and kind "same_position", with surprise = −(log p_w + log p_l)/2, nats, the mean
        surprise of the one token in its two contexts, and share = inner/(ab), the term's part of ρ.

    Raises:
        ValueError: a block is missing.
    """
    keys = list(by)
    norms = _norm_product(table, keys, "suffix_table").rename("norms")
    rows = table[(table["block"] == "c") & (table["kind"] == "same_position")].join(norms, on=keys)
    rows["surprise"] = -(rows["logp_s"] + rows["logp_t"]) / 2
    rows["share"] = rows["inner"] / rows["norms"].where(rows["norms"] > 0)
    return rows.drop(columns="norms").reset_index(drop=True)


def summarize_parts(parts: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Return mean and interval of each part of ``parts_of_cosine``, ``unit`` a draw.

    The parts have no range of their own, and t intervals. Their total is a cosine and stays in [−1, 1].

    Returns:
        Index kind (``KINDS``, "shared", "total"); columns value, low, high, n.
    """
    long = parts.melt([unit], [*KINDS, "shared"], var_name="kind", value_name="part")
    apart = summarize(long, "part", ["kind"], unit=unit)
    total = summarize_bounded(parts.assign(kind="total"), "total", ["kind"], unit=unit, low=-1.0)
    return pd.concat([apart, total]).set_index("kind")


def after_first(table: pd.DataFrame, by: Sequence[str] = ("pair",)) -> pd.DataFrame:
    """Return the part of ρ that comes from the tokens after the first one in both responses.

    For responses that differ in their first token this is the suffix's part, whatever the suffixes are.

    Returns:
        The ``by`` columns and ``part``.

    Raises:
        ValueError: a block is missing, as ``parts_of_cosine``.
    """
    keys = list(by)
    norms = _norm_product(table, keys, "after_first")
    late = table[(table["block"] == "c") & (table["s"] > 0) & (table["t"] > 0)]
    sums = late.groupby(keys)["inner"].sum().reindex(norms.index, fill_value=0.0)
    return (sums / norms.where(norms > 0)).rename("part").reset_index()


def rank_agreement(
    rows: pd.DataFrame, by: Sequence[str] = ("pair",), shift: int = 0, *, column: str = "surprise"
) -> pd.DataFrame:
    """Return, for each pair, Spearman's correlation of surprise and inner product over its shared tokens.

    Args:
        rows: of ``suffix_table``.
        by: the columns that say which rows belong to one pair of responses.
        shift: the negative control: compare each token's surprise with the inner product of the one that
            stands this many places before it.
        column: what is compared with the inner product; "s" is the rival that only the place counts.

    Returns:
        The ``by`` columns and ``agreement``; nan with fewer than three tokens.
    """

    def one(group: pd.DataFrame) -> float:
        both = group.sort_values("s").assign(inner=lambda g: g["inner"].shift(shift)).dropna()
        return float(both[column].rank().corr(both["inner"].rank())) if len(both) > 2 else float("nan")

    found = rows.groupby(list(by))[["s", "surprise", "inner"]].apply(one)
    return found.rename("agreement").reset_index()


# --- negative controls --------------------------------------------------------------------------------------


def turn_suffix(batch: PairBatch) -> PairBatch:
    """Return a batch of one pair whose rejected response has its shared tokens turned by one place.

    The last shared token comes first and every other moves up by one; contrasting tokens stay where they are.
    The response keeps its length and its tokens, and loses the alignment.

    Raises:
        ValueError: more than one pair, or fewer than two shared tokens.
    """
    if len(batch) != 1:
        raise ValueError(f"turn_suffix: got {len(batch)} pairs; expected one (use batch.select(i)).")
    roles = _roles_of(batch)
    places = batch.response_mask[1].nonzero().squeeze(1)[roles.shared[roles.n_chosen :]]
    if len(places) < 2:
        raise ValueError(f"turn_suffix: {batch.ids[0]} has {len(places)} shared tokens; expected at least 2.")
    turned = batch.input_ids.clone()
    turned[1, places] = batch.input_ids[1, places].roll(1)
    return replace(batch, input_ids=turned)
