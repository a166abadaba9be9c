"""Which tokens make c: the inner product of a pair, split by what its tokens do.

c = Σ_{s,t} ⟨∇ log π(y^w_s|…), ∇ log π(y^l_t|…)⟩ runs over every chosen token s and every rejected token t. A
token is *shared* if it belongs to what the two responses have in common at their beginning or at their end,
and *contrasting* otherwise. Each term of the sum then has one of four kinds (``KINDS``), and the four sums
add up to c. Source: the token-by-token measurement of the paper's §4.3 (arXiv 2410.13828).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from torch import nn

from entanglement.gradients import Parameters, TokenGeometry, token_geometry
from entanglement.gradients.select import check_deterministic
from entanglement.logps import check_batch, model_device
from entanglement.pairs import PairBatch, PreferencePair, collate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "KINDS",
    "KIND_NAMES",
    "Kind",
    "OutputLayer",
    "TokenRoles",
    "measure_tokens",
    "output_layer_geometry",
    "parts_of_inner",
    "relabel",
    "suffix_table",
    "token_roles",
    "token_table",
    "turn_suffix",
]

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

    def kinds(self) -> list[list[Kind]]:
        """Return the kind of each term of c, (n_w, n_l) as nested lists."""
        shared, partner = self.shared.tolist(), self.partner.tolist()
        chosen, rejected = range(self.n_chosen), range(self.n_chosen, len(shared))

        def kind(s: int, t: int) -> Kind:
            if shared[s] and shared[t]:
                return "same_position" if partner[s] == t - self.n_chosen else "other_position"
            return "mixed" if shared[s] or shared[t] else "contrast"

        return [[kind(s, t) for t in rejected] for s in chosen]


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
) -> pd.DataFrame:
    """Return one row for each term of c: a chosen token against a rejected token.

    Args:
        geometry: of one pair.
        roles: what each token is; by default found from the tokens themselves.
        tokenizer: to write the tokens out; without it they are ids.

    Returns:
        Columns pair, s, t (offsets in the two responses), chosen, rejected (the tokens), kind, inner
        (⟨·,·⟩; they sum to c), cosine (nan where a gradient is zero), logp_w, logp_l (nats).

    Raises:
        ValueError: ``roles`` of another number of tokens.
    """
    roles = token_roles(geometry.token_ids, geometry.n_chosen) if roles is None else roles
    if len(roles.shared) != len(geometry.token_ids) or roles.n_chosen != geometry.n_chosen:
        raise ValueError(
            f"token_table: roles of {roles.n_chosen} + {len(roles.shared) - roles.n_chosen} tokens; "
            f"expected {geometry.n_chosen} + {geometry.n_rejected}."
        )
    n = geometry.n_chosen
    ids = geometry.token_ids.tolist()
    tokens = [str(i) for i in ids] if tokenizer is None else [tokenizer.decode([i]) for i in ids]
    kinds, inner = roles.kinds(), geometry.cross.tolist()
    cosine, logps = geometry.cross_cosine.tolist(), geometry.logps.tolist()
    rows = [
        (
            geometry.id,
            s,
            t,
            tokens[s],
            tokens[n + t],
            kinds[s][t],
            inner[s][t],
            cosine[s][t],
            logps[s],
            logps[n + t],
        )
        for s in range(n)
        for t in range(geometry.n_rejected)
    ]
    columns = ["pair", "s", "t", "chosen", "rejected", "kind", "inner", "cosine", "logp_w", "logp_l"]
    return pd.DataFrame(rows, columns=columns)


def measure_tokens(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    turned: bool = False,
    append_eos: bool = False,
    parameters: Parameters = "all",
) -> pd.DataFrame:
    """Return the token tables of many pairs, one under the other.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        pairs: what to measure; their ids must differ.
        turned: the negative control. The rejected response's shared tokens are turned by one place
            (``turn_suffix``), so that no token meets its like at its own position; the kinds stay those of
            the original.
        append_eos: whether the end-of-sequence token is part of the response (then it is a shared token).
        parameters: as in ``gradients.token_geometry``.

    Raises:
        ValueError: as ``gradients.token_geometry``; or two pairs of one id.
    """
    batch = collate(pairs, tokenizer, append_eos=append_eos)
    if len(set(batch.ids)) != len(batch.ids):
        raise ValueError("measure_tokens: two pairs have the same id; expected different ones.")
    tables = []
    for i in range(len(batch)):
        one = batch.select(i)
        ids = torch.cat([one.input_ids[row][one.response_mask[row]] for row in (0, 1)])
        roles = token_roles(ids, int(one.chosen_len))
        one = turn_suffix(one) if turned else one
        tables.append(token_table(token_geometry(model, one, parameters), roles, tokenizer))
    return pd.concat(tables, ignore_index=True)


def parts_of_inner(table: pd.DataFrame, by: Sequence[str] = ("pair",)) -> pd.DataFrame:
    """Return how much of c comes from each kind of token pair: one row a pair.

    Returns:
        The ``by`` columns, one column for each of ``KINDS`` (0 where a pair has none), ``shared`` (same and
        other position together) and ``c``, the sum of all.

    Raises:
        ArithmeticError: the parts do not sum to the terms they came from, beyond rounding.
    """
    keys = list(by)
    wide = table.pivot_table(index=keys, columns="kind", values="inner", aggfunc="sum", observed=False)
    wide = wide.reindex(columns=list(KINDS)).fillna(0.0)
    wide.columns.name = None
    wide["shared"] = wide["same_position"] + wide["other_position"]
    wide["c"] = table.groupby(keys)["inner"].sum()
    gap = (wide[list(KINDS)].sum(axis=1) - wide["c"]).abs()
    scale = table["inner"].abs().groupby([table[k] for k in keys]).sum()
    if bool((gap > 1e-9 * scale).any()):
        raise ArithmeticError("parts_of_inner: the four parts do not sum to c.")
    return wide.reset_index()


def suffix_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the shared tokens met by their own like: their share in c and how surprising they are.

    Returns:
        The rows of kind "same_position", with surprise = −(log p_w + log p_l)/2, nats: the mean surprise of
        the one token in its two contexts.
    """
    rows = table[table["kind"] == "same_position"].copy()
    rows["surprise"] = -(rows["logp_w"] + rows["logp_l"]) / 2
    return rows.reset_index(drop=True)


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
    places = batch.response_mask[1].nonzero().squeeze(1)
    ids = torch.cat([batch.input_ids[0][batch.response_mask[0]], batch.input_ids[1][places]])
    roles = token_roles(ids, int(batch.chosen_len))
    places = places[roles.shared[roles.n_chosen :]]
    if len(places) < 2:
        raise ValueError(f"turn_suffix: {batch.ids[0]} has {len(places)} shared tokens; expected at least 2.")
    turned = batch.input_ids.clone()
    turned[1, places] = batch.input_ids[1, places].roll(1)
    return replace(batch, input_ids=turned)


def relabel(
    pairs: Sequence[PreferencePair], old: tuple[str, str], new: tuple[str, str]
) -> list[PreferencePair]:
    """Return the pairs with the words that begin their responses replaced, ``old[i]`` by ``new[i]``.

    Raises:
        ValueError: a response that begins with neither of the old words.
    """

    def swap(text: str, name: str) -> str:
        for before, after in zip(old, new, strict=True):
            if text.startswith(before):
                return after + text.removeprefix(before)
        raise ValueError(f"relabel: a response of {name} begins with neither {old[0]!r} nor {old[1]!r}.")

    return [replace(p, chosen=swap(p.chosen, p.id), rejected=swap(p.rejected, p.id)) for p in pairs]


# --- the output layer alone ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class OutputLayer:
    """The token gradients with respect to the output matrix W alone, one pair, N = n_w + n_l tokens.

    Attributes:
        geometry: their inner products, ⟨h_s, h_t⟩⟨e_{y_s} − p_s, e_{y_t} − p_t⟩.
        hidden: (N, N) cos(h_s, h_t), the states that predict the tokens.
        residual: (N, N) cos(e_{y_s} − p_s, e_{y_t} − p_t). The cosine of the geometry is the product of the
            two.
    """

    geometry: TokenGeometry
    hidden: torch.Tensor
    residual: torch.Tensor


def output_layer_geometry(model: nn.Module, batch: PairBatch) -> OutputLayer:
    """Return the output layer's part of the token geometry, in closed form from one forward per response.

    The gradient of log softmax(W h)[y] with respect to W is (e_y − p) hᵀ, so no backward pass is needed. A
    tied embedding counts here only as output matrix.

    Args:
        model: a Hugging Face causal language model in evaluation mode.
        batch: one pair.

    Raises:
        ValueError: more than one pair, active dropout, or a model whose logits are not W h (+ bias) of its
            last hidden state.
    """
    where = "output_layer_geometry"
    if len(batch) != 1:
        raise ValueError(f"{where}: got {len(batch)} pairs; expected one (use batch.select(i)).")
    check_batch(batch, where)
    check_deterministic(model, where)
    batch = batch.to(model_device(model))
    parts: list[tuple[torch.Tensor, ...]] = []
    for row in (0, 1):
        real = batch.attention_mask[row].bool()
        ids, mask = batch.input_ids[row][real], batch.response_mask[row][real]
        columns = mask.nonzero().squeeze(1)
        with torch.no_grad():
            output: Any = model(input_ids=ids.unsqueeze(0), output_hidden_states=True, use_cache=False)
        h, z = output.hidden_states[-1][0, columns - 1], output.logits[0, columns - 1]  # (n, d), (n, V)
        _check_linear(model, h, z, where)
        probabilities = z.double().softmax(-1)
        score = nn.functional.one_hot(ids[columns], z.shape[-1]) - probabilities
        logps = probabilities.gather(1, ids[columns].unsqueeze(1)).squeeze(1).log()
        parts.append((h.double(), score, logps, ids[columns], columns))
    hidden, score, logps, ids, columns = (torch.cat(both).cpu() for both in zip(*parts, strict=True))
    products, overlaps = hidden @ hidden.T, score @ score.T
    geometry = TokenGeometry(products * overlaps, logps, ids, columns, len(parts[0][0]), batch.ids[0])
    return OutputLayer(geometry, _cosines(products), _cosines(overlaps))


def _check_linear(model: nn.Module, h: torch.Tensor, z: torch.Tensor, where: str) -> None:
    get: Any = getattr(model, "get_output_embeddings", None)
    head = get() if callable(get) else None
    if not isinstance(head, nn.Module):
        raise ValueError(f"{where}: {type(model).__name__} has no output embeddings.")
    with torch.no_grad():
        if not torch.allclose(head(h), z, rtol=1e-3, atol=1e-3):
            raise ValueError(
                f"{where}: the logits of {type(model).__name__} are not its output matrix times its last "
                "hidden state."
            )


def _cosines(gram: torch.Tensor) -> torch.Tensor:
    size = gram.diagonal().clamp(min=0).sqrt()
    return (gram / size[:, None] / size[None, :]).clamp(-1.0, 1.0)
