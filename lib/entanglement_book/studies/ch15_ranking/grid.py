"""The grid of rankings: from one checkpoint, losses of four graded summaries beside DPO on two of them.

All ways read as many sequences a step. What each loss asks of a candidate is its weight; what the candidate
does under a step on its list alone is told by the Gram matrix of the four gradients, and then seen in a true
step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import ndcg_score
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.models import about_model
from entanglement.ranking import RankedList, get_ranking, list_geometry, list_logps, rank
from entanglement.ranking.lists import relevance_of
from entanglement_book.grids.grid import GRIDS, Grid, one_change
from entanglement_book.materials.cached import cached_docstrings
from entanglement_book.materials.graded import GRADES, graded_summaries
from entanglement_book.studies.shared.start import checkpoint, recipe

__all__ = ["BETA", "WAYS", "grid_cells", "pair_of", "run_cell"]

#: Name → (loss, whether it sees the true summary and the sibling's only, which makes it DPO).
WAYS: dict[str, tuple[str, bool]] = {
    "dpo": ("ranknet", True),
    "ranknet": ("ranknet", False),
    "lambdarank": ("lambdarank", False),
    "plackett_luce": ("plackett_luce", False),
}
BETA = 0.1
#: Length of the plain step on one list, in the space of all parameters.
LENGTH = 1e-3


def pair_of(some: RankedList) -> RankedList:
    """Return a list's true summary and its sibling's, as a ranking of two."""
    places = [list(GRADES).index(name) for name in ("true", "sibling")]
    picked = tuple(some.candidates[i] for i in places)
    return replace(some, candidates=picked, relevance=tuple(some.relevance[i] for i in places))


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: way × seed."""
    seeds = recipe(scale, model).seeds
    cells = [{"way": way, "seed": seed} for seed in range(seeds) for way in WAYS]
    return one_change(cells) if scale == "smoke" else cells


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables.

    Returns:
        "candidates": one row a moment and candidate, means over held-out lists: step, candidate, logp,
            change (since the start), nats.
        "order": one row a moment: step, ndcg (of the changes of log π, the implicit rewards; mean over lists;
            1 in the right order), first (share of lists whose true summary gained most).
        "alone": one row a candidate, from plain steps on one held-out list each, at the start: candidate,
            weight (mean d), pulled (share of lists that pull it up), fell (share in which it fell though
            pulled up), rose (share in which it rose though pushed down), told (share of signs foretold), and
            the mean cosines to the others, cosine_0 ….
    """
    numbers, seed = recipe(scale, model), int(cell["seed"])
    name, two = WAYS[cell["way"]]
    loss = get_ranking(name, beta=BETA)
    policy, tokenizer, start = checkpoint(scale, model, "summaries", seed)
    policy.load_state_dict(start)
    docstrings = cached_docstrings()
    train = graded_summaries("train", n=numbers.train_pairs, seed=seed, docstrings=docstrings)
    test = graded_summaries("test", n=numbers.test_pairs, seed=seed, docstrings=docstrings)
    alone = _alone(policy, tokenizer, test[: numbers.geometry_pairs], name, two=two)
    lists = [pair_of(some) for some in train] if two else train
    batch = max(numbers.batch // (2 if two else 4), 1)  # sequences a step as of the pairs' batches
    run = rank(
        policy, tokenizer, lists, loss=loss, steps=numbers.steps, lr=numbers.lr, batch_size=batch, seed=seed,
        evaluate={"test": test}, evaluate_at=numbers.moments,
    )  # fmt: skip
    table = run.table.pivot(index=["step", "list"], columns="candidate", values="logp")
    change = table - table.loc[0].reindex(table.index, level="list")
    rows, order = [], []
    for step in sorted(set(run.table["step"])):
        for candidate, label in enumerate(GRADES):
            rows.append(
                {"step": step, "candidate": label, "logp": float(table.loc[step][candidate].mean())}
                | {"change": float(change.loc[step][candidate].mean())}
            )
        gains = change.loc[step].to_numpy()
        grades = np.tile(list(GRADES.values()), (len(gains), 1))
        order.append(
            {"step": step, "ndcg": float(ndcg_score(grades, gains))}
            | {"first": float((gains.argmax(axis=1) == 0).mean()) if step else float("nan")}
        )
    return {"candidates": pd.DataFrame(rows), "order": pd.DataFrame(order), "alone": alone}


def _alone(
    policy: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    lists: list[RankedList],
    name: str,
    *,
    two: bool,
) -> pd.DataFrame:
    """Return what a plain step on one list does to its four candidates, told and seen; the policy is left as
    it was.
    """
    loss, k = get_ranking(name, beta=BETA), len(GRADES)
    geometry = list_geometry(policy, tokenizer, lists)
    with torch.no_grad():
        before = list_logps(policy, tokenizer, lists).double()
    weights = torch.zeros(len(lists), k, dtype=torch.float64)
    places = [list(GRADES).index(label) for label in ("true", "sibling")] if two else list(range(k))
    relevance = relevance_of(lists)[:, places]
    weights[:, places] = loss.weights(before[:, places], relevance, before[:, places])
    told = geometry.rates(weights)
    seen = torch.stack(
        [
            _after(policy, tokenizer, some, weights[i], float(geometry.step_norm(weights)[i])) - before[i]
            for i, some in enumerate(lists)
        ]
    )
    cosines = geometry.cosine.nanmean(0)
    rows = []
    for i, label in enumerate(GRADES):
        up, down = weights[:, i] > 0, weights[:, i] < 0
        rows.append(
            {
                "candidate": label,
                "weight": float(weights[:, i].mean()),
                "pulled": float(up.double().mean()),
                "fell": float((up & (seen[:, i] < 0)).double().mean()),
                "rose": float((down & (seen[:, i] > 0)).double().mean()),
                "told": float((told[:, i].sign() == seen[:, i].sign()).double().mean()),
            }
            | {f"cosine_{j}": float(cosines[i, j]) for j in range(k)}
        )
    return pd.DataFrame(rows)


def _after(
    policy: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    some: RankedList,
    weights: torch.Tensor,
    norm: float,
) -> torch.Tensor:
    """Return log π of a list's candidates, (k,), after a step of ``LENGTH`` along Σ d_j g_j."""
    parameters = [p for p in policy.parameters() if p.requires_grad]
    total = (weights.to(torch.float32) * list_logps(policy, tokenizer, [some])[0]).sum()
    gradients = torch.autograd.grad(total, parameters)
    kept = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p, g in zip(parameters, gradients, strict=True):
            p.add_(g, alpha=LENGTH / norm)
        found = list_logps(policy, tokenizer, [some])[0].double()
        for p, value in zip(parameters, kept, strict=True):
            p.copy_(value)
    return found


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the ways, for the provenance of the tables."""
    about = about_model(model)
    return {
        "recipe": asdict(recipe(scale, model)),
        "ways": WAYS,
        "beta": BETA,
        "model": model,
        "about": about,
    }


GRIDS.add("rankings", Grid("rankings", grid_cells, run_cell, describe, models=(), smoke="nano"))
