"""What the text of rankings, contrast and generation quotes and its claims are decided by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from entanglement.bounded import bounded_interval
from entanglement.stats import Interval, mean_interval
from entanglement_book.grids.stored import Stored
from entanglement_book.materials.graded import GRADES
from entanglement_book.studies.ch15_ranking.tables import Place, before_and_after, over_seeds_of, step_time

__all__ = [
    "by_candidate",
    "of_codes",
    "of_contrast",
    "of_costs",
    "of_draws",
    "of_places",
    "of_rankings",
]

Number = float | Interval
Facts = dict[str, Number]
#: Losses of a whole ranking, which are told the grades.
_LISTWISE = ("ranknet", "lambdarank", "plackett_luce")


def _percent(found: Interval) -> Interval:
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    return Interval(100 * found.value, 100 * low, 100 * high, found.n)


def _points(found: Interval) -> Interval:
    return Interval(100 * found.value, 100 * found.low, 100 * found.high, found.n)


def _ends(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each way's and seed's last step."""
    return table[table["step"] == table.groupby(["way", "seed"])["step"].transform("max")]


def _gap(table: pd.DataFrame, column: str, ones: Iterable[str], other: str) -> Interval:
    """Return the mean of some ways less another one, seed by seed, in the seeds that all have."""
    by = table.pivot(index="seed", columns="way", values=column)
    return mean_interval((by[list(ones)].mean(axis=1, skipna=False) - by[other]).dropna().to_numpy())


def by_candidate(alone: pd.DataFrame, way: str, column: str) -> dict[str, Interval]:
    """Return a share of "alone" over seeds, by candidate; an interval ends where shares do."""
    found = {}
    for name in GRADES:
        share = over_seeds_of(alone, column, way=way, candidate=name)
        found[name] = share._replace(low=max(share.low, 0.0), high=min(share.high, 1.0))
    return found


def of_rankings(rankings: Stored) -> Facts:
    """Return who rises under a step that pushes three of four down (percent), what is foretold (percent, and
    as a share under share_…), and how well each way orders held-out candidates.

    Args:
        rankings: tables of that grid.
    """
    alone, found = rankings["alone"], Facts()
    for kind, column in (("own", "rose"), ("other", "elsewhere")):
        for name, share in by_candidate(alone, "softmax", column).items():
            found |= {f"{name}_{kind}": _percent(share), f"share_{name}_{kind}": share}
    copies = alone[(alone["way"] == "softmax") & (alone["candidate"] == "edited")]
    found["share_edited_own"] = bounded_interval(copies.groupby("seed")["rose"].mean())
    found["rival_rises"] = max(
        share.value
        for share in (
            by_candidate(alone, "softmax", "rose")["stranger"],
            by_candidate(alone, "softmax", "elsewhere")["edited"],
        )
    )
    found["sibling_graded"] = _percent(by_candidate(alone, "plackett_luce", "rose")["sibling"])
    first = alone[(alone["way"] == "softmax") & (alone["candidate"] == "true")]
    found["cosine_edited"] = over_seeds_of(first, "cosine_1")
    found["cosine_far"] = over_seeds_of(first, "cosine_3")
    mine = alone[alone["way"] == "softmax"]
    for column in ("told", "by_weight"):
        found[column] = _percent(over_seeds_of(mine, column))
    by_seed = mine.groupby("seed")[["told", "by_weight"]].mean()
    found["share_by_weight"] = float(by_seed["by_weight"].mean())
    found["told_ahead"] = bounded_interval(by_seed["told"] - by_seed["by_weight"], low=-1.0)
    order, moved = _ends(rankings["order"]), _ends(rankings["candidates"])
    found["ndcg_drawn"] = over_seeds_of(rankings["order"], "ndcg", step=0).value
    found["ndcg_before"] = over_seeds_of(rankings["order"], "ndcg_logp", step=0, way="sft")
    for way in order["way"].unique():
        found[f"ndcg_{way}"] = over_seeds_of(order, "ndcg", way=way)
        found[f"logp_{way}"] = over_seeds_of(order, "ndcg_logp", way=way)
        found[f"first_{way}"] = _percent(over_seeds_of(order, "first", way=way))
        for name in GRADES:
            found[f"{name}_{way}"] = over_seeds_of(moved, "change", way=way, candidate=name)
    found["lists_to_dpo"] = _gap(order, "ndcg", _LISTWISE, "dpo")
    found["sft_to_dpo"] = _gap(order, "ndcg", ["sft"], "dpo")
    found["lists_to_softmax"] = _gap(order, "ndcg", _LISTWISE, "softmax")
    found["lists_to_sft"] = _gap(order, "ndcg", _LISTWISE, "sft")
    return found


def of_contrast(contrast: Stored) -> Facts:
    """Return what InfoNCE and its rivals do to log-probabilities (nats) and to a probe (percentage points).

    Args:
        contrast: tables of that grid.
    """
    ends, probes, found = _ends(contrast["means"]), contrast["probes"], Facts()
    short = {
        "infonce": "nce",
        "infonce-swapped": "swapped",
        "infonce-half": "half",
        "sft": "sft",
        "dpo": "dpo",
    }
    for way, name in short.items():
        for column in ("chosen", "rejected", "margin"):
            found[f"{name}_{column}"] = over_seeds_of(ends, column, way=way)
        for column in ("probe", "likelier"):
            change = before_and_after(probes, way, column)
            found[f"{name}_{column}"] = _points(change)
            found[f"share_{name}_{column}"] = change
        found[f"{name}_contrast"] = before_and_after(probes, way, "contrast")
    found["labels_margin"] = _gap(ends, "margin", ["infonce"], "infonce-swapped")
    some = ends[ends["way"] == "infonce"]
    together = (some["chosen"] + some["rejected"]).abs() / 2
    found["more_together"] = mean_interval((together - some["margin"].abs()).to_numpy())
    start = probes[(probes["moment"] == "before") & (probes["way"] == "infonce")]
    for column in ("probe", "chance", "likelier", "nearer"):
        found[f"{column}_before"] = _percent(over_seeds_of(start, column))
    return found


def of_codes(codes: pd.DataFrame) -> Facts:
    """Return what the codes of sentences cost and tell, by way of training.

    Args:
        codes: of the grid ``sentences``.
    """
    return {
        f"{how}_{column}": over_seeds_of(codes, column, how=how)
        for how in codes["how"].unique()
        for column in ("kl", "told", "information", "active", "bound")
    }


def of_draws(preferred: Stored, contrast: Stored) -> Facts:
    """Return what a generator's draws are like, and what they do to fine-tuning, beside all texts alike.

    Args:
        preferred, contrast: tables of these grids.
    """
    draws = preferred["draws"][preferred["draws"]["way"] == "gan"]
    found: Facts = {name: over_seeds_of(draws, name) for name in ("told", "told_normal", "told_real")}
    found |= {name: _percent(over_seeds_of(draws, name)) for name in ("kept", "covered", "covered_uniform")}
    found = {f"gan_{name}": value for name, value in found.items()}
    ends = pd.concat([_ends(preferred["means"]), _ends(contrast["means"])], ignore_index=True)
    for column in ("margin", "chosen", "rejected"):
        found[f"gan_{column}"] = over_seeds_of(ends, column, way="gan")
        found[f"gan_to_sft_{column}"] = _gap(ends, column, ["gan"], "sft")
        found[f"permuted_to_sft_{column}"] = _gap(ends, column, ["gan-permuted"], "sft")
    return found


def of_places(places: Mapping[str, Place]) -> Facts:
    """Return how many ways there are, how many end with chosen up and rejected down, and the largest and
    smallest of both axes.

    Args:
        places: of ``every_place``.
    """
    together = np.array([place.together.value for place in places.values()])
    apart = np.array([place.apart.value for place in places.values()])
    names = {"DPO": "dpo", "SFT on chosen": "imitation", "InfoNCE": "contrast"}
    found: Facts = {
        "n_ways": float(len(places)),
        "n_right": float(sum(place.right for place in places.values())),
        "together_least": float(together.min()),
        "together_most": float(together.max()),
        "apart_most": float(apart.max()),
    }
    for title, name in names.items():
        found |= {f"{name}_together": places[title].together, f"{name}_apart": places[title].apart}
    families: dict[str, list[Place]] = {}
    for place in places.values():
        families.setdefault(place.family, []).append(place)
    for family in ("number", "rule", "tokens", "request", "reward"):
        mine = families[family]
        for side in ("together", "apart"):
            values = [getattr(place, side).value for place in mine]
            found |= {f"{family}_{side}_least": min(values), f"{family}_{side}_most": max(values)}
    one = next(place for title, place in places.items() if title.startswith("DPO, r"))
    more = abs(one.together.value) - abs(one.apart.value)
    found |= {"constant_together": one.together, "constant_apart": one.apart}
    return found | {"constant_more_together": more}


def of_costs(lines: Sequence[Mapping[str, Any]]) -> Facts:
    """Return how long a step takes, in steps of DPO.

    Args:
        lines: of the stored benchmark.
    """
    rules = [
        step_time(lines, "normalized"), step_time(lines, "normalized", metric="optimizer"),
        step_time(lines, "calibrated"), step_time(lines, "split"), step_time(lines, "band"),
    ]  # fmt: skip
    found: Facts = {"time_rule_least": min(rules), "time_rule_most": max(rules)}
    tokens = [step_time(lines, name) for name in ("contrasting", "two", "geometry", "learned")]
    found |= {"time_tokens_least": min(tokens), "time_tokens_most": max(tokens)}
    goals = [step_time(lines, "decoupled", level=level) for level in ("batch", "all")]
    return found | {"time_goals_least": min(goals), "time_goals_most": max(goals)}
