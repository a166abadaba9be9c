"""The grid of rankings: from one checkpoint, losses of four graded summaries beside DPO and fine-tuning.

All ways read as many sequences a step. What each loss asks of a candidate is its weight; what the candidate
does under a step on its list alone is told by the Gram matrix of the four gradients, and then seen in a true
step.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import ndcg_score
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.models import about_model
from entanglement.pairs import PreferencePair
from entanglement.ranking import RankedList, get_ranking, list_geometry, list_logps, rank
from entanglement.ranking.lists import relevance_of
from entanglement.training import sft
from entanglement.training.settings import rate_share
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.materials.cached import cached_docstrings
from entanglement_book.materials.graded import GRADES, graded_summaries
from entanglement_book.studies.shared.start import checkpoint, recipe

__all__ = ["BETA", "WAYS", "Way", "alone", "grid_cells", "run_cell", "seen_by", "short_ones"]


@dataclass(frozen=True)
class Way:
    """One way to learn from lists.

    Attributes:
        loss: of the ranking losses; "" for fine-tuning on the true summary, which pushes nothing down.
        sees: the candidates that it reads.
        graded: whether it is told the grades, or only which candidate is the best.
    """

    loss: str = ""
    sees: tuple[str, ...] = tuple(GRADES)
    graded: bool = True


WAYS: dict[str, Way] = {
    "sft": Way(sees=("true",)),
    "dpo": Way("ranknet", sees=("true", "sibling")),
    "ranknet": Way("ranknet"),
    "lambdarank": Way("lambdarank"),
    "plackett_luce": Way("plackett_luce"),
    "softmax": Way("plackett_luce", graded=False),
}
BETA = 0.1
#: Length of the plain step on one list, in the space of all parameters.
LENGTH = 1e-3
#: Longest sequence, tokens, half of the recipe's: a longer docstring loses its beginning.
CONTEXT = 64


def seen_by(some: RankedList, way: Way, places: Sequence[int]) -> RankedList:
    """Return a list as a way of learning sees it.

    Args:
        some: candidates in the order of ``GRADES``.
        way: which of them it reads, and what it is told.
        places: the order in which they come: scores that tie are ranked by place, and no place may be better.
    """
    names = list(GRADES)
    picked = [i for i in places if names[i] in way.sees]
    best = max(some.relevance)
    grades = [some.relevance[i] if way.graded else float(some.relevance[i] == best) for i in picked]
    return replace(some, candidates=tuple(some.candidates[i] for i in picked), relevance=tuple(grades))


def short_ones(lists: Sequence[RankedList], tokenizer: PreTrainedTokenizerBase) -> list[RankedList]:
    """Return the lists whose candidates leave half of the context to the docstring."""
    longest = tokenizer.model_max_length // 2
    return [
        some
        for some in lists
        if max(len(ids) for ids in tokenizer(list(some.candidates))["input_ids"]) <= longest
    ]


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: way × seed."""
    return [{"way": way, "seed": seed} for seed in range(recipe(scale, model).seeds) for way in WAYS]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "candidates": one row a moment and candidate, over held-out lists: step, candidate, logp and change
            (since the start; means, nats), rose (share that rose).
        "order": one row a moment: step, ndcg (of the changes of log π, the implicit rewards; mean over lists;
            1 in the right order, equal changes count as drawn), first (share of lists whose true summary
            gained most), ndcg_logp (of log π itself).
        "alone", of the losses: ``alone`` on held-out lists at the start.
    """
    numbers, seed = recipe(scale, model), int(cell["seed"])
    way = WAYS[cell["way"]]
    policy, tokenizer, start = checkpoint(scale, model, "summaries", seed)
    policy.load_state_dict(start)
    tokenizer = copy.deepcopy(tokenizer)  # the checkpoint's own keeps its context
    tokenizer.model_max_length = CONTEXT
    sequences = numbers.batch // 2  # a step
    docstrings = cached_docstrings()
    options: dict[str, Any] = {"seed": seed, "docstrings": docstrings}
    train = short_ones(graded_summaries("train", n=numbers.train_pairs, **options), tokenizer)
    test = short_ones(graded_summaries("test", n=numbers.test_pairs, **options), tokenizer)
    moments = (0, numbers.steps)
    tables = {}
    if way.loss:
        tables["alone"] = alone(policy, tokenizer, test[: numbers.geometry_pairs], way, seed)
        orders = _orders(len(train), seed)
        run = rank(
            policy,
            tokenizer,
            [seen_by(some, way, order) for some, order in zip(train, orders, strict=True)],
            loss=get_ranking(way.loss, beta=BETA),
            steps=numbers.steps,
            lr=numbers.lr,
            batch_size=max(sequences // len(way.sees), 1),
            seed=seed,
            evaluate={"test": test},
            evaluate_at=moments,
        )
        found = run.table.pivot(index=["step", "list"], columns="candidate", values="logp")
        logps = {step: found.loc[step].to_numpy() for step in moments}
    else:
        logps = {0: _measured(policy, tokenizer, test)}
        pairs = [PreferencePair(x.prompt, x.candidates[0], x.candidates[2], x.id) for x in train]
        share = float(np.mean([rate_share(step, numbers.steps, 0.1) for step in range(1, numbers.steps + 1)]))
        # A constant rate, with the sum of the others' rates.
        sft(
            policy, tokenizer, pairs, steps=numbers.steps, lr=numbers.lr * share, batch_size=sequences,
            seed=seed,
        )  # fmt: skip
        logps[numbers.steps] = _measured(policy, tokenizer, test)
    rows, order = [], []
    grades = np.tile(list(GRADES.values()), (len(test), 1))
    for step, now in logps.items():
        change = now - logps[0]
        for place, candidate in enumerate(GRADES):
            rows.append(
                {"step": step, "candidate": candidate, "logp": float(now[:, place].mean())}
                | {"change": float(change[:, place].mean()), "rose": float((change[:, place] > 0).mean())}
            )
        first = float((change.argmax(axis=1) == 0).mean()) if step else float("nan")
        order.append(
            {"step": step, "ndcg": float(ndcg_score(grades, change)), "first": first}
            | {"ndcg_logp": float(ndcg_score(grades, now))}
        )
    return {"candidates": pd.DataFrame(rows), "order": pd.DataFrame(order)} | tables


def _orders(n: int, seed: int) -> list[list[int]]:
    """Return n orders of the candidates, drawn with a seed."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(len(GRADES)).tolist() for _ in range(n)]


@torch.no_grad()
def _measured(
    policy: nn.Module, tokenizer: PreTrainedTokenizerBase, lists: Sequence[RankedList]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return log π of the candidates, (B, k)."""
    return list_logps(policy, tokenizer, lists).double().numpy()


def _alone(policy: nn.Module, tokenizer: PreTrainedTokenizerBase, some: RankedList) -> torch.Tensor:
    """Return log π of one list's candidates, (1, k): in company, a long docstring is cut as the longest
    candidate of all lists wants it.
    """
    return torch.from_numpy(_measured(policy, tokenizer, [some]))


def alone(
    policy: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    lists: Sequence[RankedList],
    way: Way,
    seed: int,
) -> pd.DataFrame:
    """Return what a plain step on one list does to its four candidates, told and seen.

    Args:
        policy: also the reference; left as it was.
        tokenizer: its.
        lists: candidates in the order of ``GRADES``.
        way: with a loss.
        seed: of the order in which the loss gets them.

    Returns:
        One row a candidate: candidate, weight (mean d), down (share of lists that push it down), rose (share
        in which it rose), rose_down (share in which it rose though pushed down), told (share of signs that
        the Gram matrix foretold), by_weight (share of signs that are those of the weight; none for weights
        of 0), elsewhere (share in which it rose under the step on another list), and the mean cosines to the
        others, cosine_0 ….
    """
    loss, k = get_ranking(way.loss, beta=BETA), len(GRADES)
    geometry = list_geometry(policy, tokenizer, lists)
    before = torch.cat([_alone(policy, tokenizer, some) for some in lists])
    weights = torch.zeros(len(lists), k, dtype=torch.float64)
    names = list(GRADES)
    for row, (some, order) in enumerate(zip(lists, _orders(len(lists), seed), strict=True)):
        seen = seen_by(some, way, order)
        picked = [i for i in order if names[i] in way.sees]
        logps = before[row : row + 1, picked]
        weights[row, picked] = loss.weights(logps, relevance_of([seen]), logps)[0]
    told = geometry.rates(weights)
    own, other = torch.zeros_like(weights), torch.zeros_like(weights)
    for row, some in enumerate(lists):
        next_one = (row + 1) % len(lists)
        after = _after(
            policy, tokenizer, (some, lists[next_one]), weights[row], float(geometry.step_norm(weights)[row])
        )
        own[row], other[next_one] = after[0] - before[row], after[1] - before[next_one]
    cosines = geometry.cosine.nanmean(0)

    def share(where: torch.Tensor) -> float:
        return float(where.double().mean())

    rows = []
    for i, name in enumerate(GRADES):
        down, rose = weights[:, i] < 0, own[:, i] > 0
        asked = bool((weights[:, i] != 0).all())
        rows.append(
            {
                "candidate": name,
                "weight": float(weights[:, i].mean()),
                "down": share(down),
                "rose": share(rose),
                "rose_down": share(down & rose),
                "told": share(told[:, i].sign() == own[:, i].sign()),
                "by_weight": share(weights[:, i].sign() == own[:, i].sign()) if asked else float("nan"),
                "elsewhere": share(other[:, i] > 0),
            }
            | {f"cosine_{j}": float(cosines[i, j]) for j in range(k)}
        )
    return pd.DataFrame(rows)


def _after(
    policy: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    lists: Sequence[RankedList],
    weights: torch.Tensor,
    norm: float,
) -> torch.Tensor:
    """Return log π of the candidates of lists, (B, k), after a step of ``LENGTH`` along Σ d_j g_j of the
    first one's.
    """
    parameters = [p for p in policy.parameters() if p.requires_grad]
    total = (weights.to(torch.float32) * list_logps(policy, tokenizer, lists[:1])[0]).sum()
    gradients = torch.autograd.grad(total, parameters)
    kept = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p, g in zip(parameters, gradients, strict=True):
            p.add_(g, alpha=LENGTH / norm)
        found = torch.cat([_alone(policy, tokenizer, some) for some in lists])
        for p, value in zip(parameters, kept, strict=True):
            p.copy_(value)
    return found


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the ways, for the provenance of the tables."""
    return {
        "recipe": asdict(recipe(scale, model)),
        "ways": {name: asdict(way) for name, way in WAYS.items()},
        "beta": BETA,
        "context": CONTEXT,
        "model": model,
        "about": about_model(model),
    }


GRIDS.add("rankings", Grid("rankings", grid_cells, run_cell, describe, models=("nano",)))
