"""Where the probability goes when a response loses it, position by position.

At a position of a response two next-token distributions are compared, before and after training. What the
response's own token lost went to others: to the one that was likeliest before, to the other response's token,
or to the rest. Theory says that a push-down alone makes the likeliest other token rise ("squeezing", Ren
and Sutherland 2025, arXiv 2407.10490).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.batches import collate_for
from entanglement.checks import non_empty, torch_seed, whole
from entanglement.logps import model_device, response_logits
from entanglement.pairs import PairBatch, PreferencePair, with_names
from entanglement.sampling import continuation_logps, continue_prompts
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked
from entanglement.token_ids import response_ids

__all__ = ["answer_moves", "first_difference", "mass_moves", "next_token_probs", "token_moves"]


@checked()
def next_token_probs(model: nn.Module, batch: PairBatch) -> list[torch.Tensor]:
    """Return, for each of the 2B rows, the (n, V) distributions that predict its n response tokens."""
    batch = batch.to(model_device(model))
    with torch.no_grad():
        found = response_logits(
            model, batch.input_ids, batch.attention_mask, batch.position_ids, batch.response_mask
        )
    probs = found.logits[found.rows, found.slots].double().softmax(-1).cpu()
    counts = batch.response_mask.sum(1).tolist()
    return list(torch.split(probs, counts))


@checked()
def first_difference(chosen: Sequence[int], rejected: Sequence[int]) -> int:
    """Return the first place in which two lists of tokens differ; the shorter's length if none does."""
    for place, (w, l) in enumerate(zip(chosen, rejected, strict=False)):  # noqa: E741
        if w != l:
            return place
    return min(len(chosen), len(rejected))


@checked(pairs=non_empty, size=whole(1))
def mass_moves(
    before: nn.Module,
    after: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    size: int = 8,
) -> pd.DataFrame:
    """Return where probability went at the positions of held-out responses.

    Args:
        before, after: the model before and after training.
        tokenizer: of both.
        pairs: whose responses are read, each token given the true ones before it.
        size: pairs a batch.

    Returns:
        One row a response ("chosen", "rejected") and place ("shared" context, up to and with the first token
        that differs; "apart", after it): positions, and means over these of the change of probability of
        own, the response's own token; top, the token that was likeliest before, if that was another one (0
        otherwise); other, the other response's token at the place where they first differ, if neither; rest,
        all other tokens. The four sum to 0. top_share is the share of the positions whose likeliest token was
        another one; entropy the change of the entropy, nats.
    """
    rows = [row for place in _walk(before, after, tokenizer, pairs, size) for row in _moves(place)]
    table = pd.DataFrame(rows).groupby(["response", "place"], sort=True)
    return table.mean().assign(positions=table.size()).reset_index()


@checked(pairs=non_empty, most=whole(1), size=whole(1))
def token_moves(
    before: nn.Module,
    after: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    most: int = 6,
    size: int = 8,
) -> pd.DataFrame:
    """Return the tokens whose probability changed most, on average over positions.

    Args:
        before, after, tokenizer, pairs, size: as for ``mass_moves``.
        most: how many tokens to list at each end.

    Returns:
        One row a place ("first difference": the position where the two responses part, the same context for
        both; "after": the later positions of both) and token: token (as text), before and after (mean
        probabilities), change.
    """
    sums: dict[str, list[torch.Tensor]] = {}
    counts: dict[str, int] = {}
    for at in _walk(before, after, tokenizer, pairs, size):
        for t in range(at.split, len(at.tokens)):
            place = "first difference" if t == at.split else "after"
            if place == "first difference" and at.response == "rejected":
                continue  # the same position and context as the chosen response's
            old, new = sums.setdefault(place, [torch.zeros_like(at.old[0]), torch.zeros_like(at.new[0])])
            old += at.old[t]
            new += at.new[t]
            counts[place] = counts.get(place, 0) + 1
    rows = []
    for place, (old, new) in sums.items():
        was, is_now = old / counts[place], new / counts[place]
        order = (is_now - was).argsort()
        for token in [*order[:most].tolist(), *order[-most:].tolist()]:
            row: dict[str, object] = {"place": place, "token": str(tokenizer.decode([token]))}
            row |= {"before": float(was[token]), "after": float(is_now[token])}
            rows.append(row | {"change": float(is_now[token] - was[token])})
    return pd.DataFrame(rows)


@checked(pairs=non_empty, tokens=whole(1), seed=torch_seed)
def answer_moves(
    before: nn.Module,
    after: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    tokens: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how whole answers gained or lost, those of the pairs and those the models give themselves.

    Args:
        before, after: the model before and after training.
        tokenizer: of both.
        pairs: held-out pairs.
        tokens: length of the models' own answers.
        seed: of the draws.

    Returns:
        One row an answer: answer ("chosen", "rejected"; "likeliest before", "likeliest after", each model's
        answer of the likeliest next tokens; "drawn before", "drawn after", a draw from each), change (mean of
        log π after − before, nats; of "drawn before" it estimates −KL(before‖after), of "drawn after"
        KL(after‖before)), up (share of the prompts in which it rose), is_chosen and is_rejected (shares of
        the answers that begin as the chosen or the rejected response does, to the shorter one's end).
    """
    prompts = [pair.prompt for pair in pairs]
    found: dict[str, torch.Tensor] = {}
    same: dict[str, dict[str, float]] = {"chosen": {}, "rejected": {}}
    for name, model, drawn in (
        ("likeliest before", before, None),
        ("likeliest after", after, None),
        ("drawn before", before, seed),
        ("drawn after", after, seed),
    ):
        some = continue_prompts(model, tokenizer, prompts, tokens, seed=drawn)
        found[name] = continuation_logps(after, some) - continuation_logps(before, some)
        for side in same:
            texts = [getattr(pair, side) for pair in pairs]
            same[side][name] = _share_alike(some.ids.tolist(), texts, tokenizer)
    old, new = (_logps(model, tokenizer, pairs) for model in (before, after))
    for place, name in enumerate(same):
        found[name] = new[place] - old[place]
    rows = [
        {"answer": name, "change": float(gain.mean()), "up": float((gain > 0).double().mean())}
        | {f"is_{side}": share.get(name, float(name == side)) for side, share in same.items()}
        for name, gain in found.items()
    ]
    return pd.DataFrame(rows)


def _share_alike(
    answers: Sequence[list[int]], texts: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> float:
    alike = 0
    for answer, text in zip(answers, texts, strict=True):
        ids = response_ids(text, tokenizer)
        n = min(len(ids), len(answer))
        alike += list(ids[:n]) == answer[:n]
    return alike / len(answers)


def _batches(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair], size: int = 8
) -> Iterator[PairBatch]:
    named = with_names(pairs)
    for start in range(0, len(named), size):
        yield collate_for(model, named[start : start + size], tokenizer, append_eos=False)


def _logps(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]
) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        parts = [quick_logps(model, batch) for batch in _batches(model, tokenizer, pairs)]
    chosen, rejected = (torch.cat([part[side] for part in parts]).double() for side in (0, 1))
    return chosen, rejected


@dataclass(frozen=True)
class _Response:
    """One response of one pair: its tokens, those of the other one, and the two models' distributions."""

    response: str
    old: torch.Tensor  # (n, V)
    new: torch.Tensor  # (n, V)
    tokens: list[int]
    others: list[int]
    split: int


def _walk(
    before: nn.Module,
    after: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    size: int,
) -> Iterator[_Response]:
    for batch in _batches(after, tokenizer, pairs, size):
        old, new = next_token_probs(before, batch), next_token_probs(after, batch)
        tokens = [ids[mask].tolist() for ids, mask in zip(batch.input_ids, batch.response_mask, strict=True)]
        n = len(batch)
        for i in range(n):
            split = first_difference(tokens[i], tokens[i + n])
            for response, row, other in (("chosen", i, i + n), ("rejected", i + n, i)):
                yield _Response(response, old[row], new[row], tokens[row], tokens[other], split)


def _moves(at: _Response) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for t, token in enumerate(at.tokens):
        change = at.new[t] - at.old[t]
        top = int(at.old[t].argmax())
        rival = at.others[t] if t == at.split and t < len(at.others) else -1
        own = float(change[token])
        up = float(change[top]) if top != token else 0.0
        other = float(change[rival]) if rival >= 0 and rival not in (token, top) else 0.0
        row: dict[str, object] = {"response": at.response, "place": "shared" if t <= at.split else "apart"}
        row |= {"own": own, "top": up, "other": other, "rest": -own - up - other}
        row["top_share"] = float(top != token)
        row["entropy"] = float(torch.special.entr(at.new[t]).sum() - torch.special.entr(at.old[t]).sum())
        rows.append(row)
    return rows
