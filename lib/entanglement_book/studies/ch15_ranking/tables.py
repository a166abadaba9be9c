"""From stored grids to what the chapter on rankings, contrast and generation shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from entanglement.stats import Interval, mean_interval
from entanglement_book.bench.variants import line_of
from entanglement_book.grids.stored import Stored
from entanglement_book.studies.shared.constant_ratios import as_ways, best_ratio, constant
from entanglement_book.studies.shared.titles import UPDATE_TITLES, WAY_TITLES, WEIGHER_TITLES
from entanglement_book.studies.shared.update_tables import as_updates

__all__ = [
    "RANKING_TITLES",
    "Place",
    "before_and_after",
    "every_place",
    "last_of",
    "over_seeds_of",
    "step_time",
]

#: The ways of the grid "rankings", in the order of the figures.
RANKING_TITLES: dict[str, str] = {
    "sft": "fine-tuning on the true one",
    "dpo": "DPO, true against sibling",
    "ranknet": "RankNet",
    "lambdarank": "LambdaRank",
    "plackett_luce": "Plackett–Luce",
    "softmax": "one against the rest",
}
#: Ways of other grids on the near-copies: name → (title, family).
_OTHERS: dict[str, dict[str, tuple[str, str]]] = {
    "rewards": {
        "ppo": ("PPO", "reward"),
        "ppo-free": ("PPO, no price", "reward"),
        "rloo": ("RLOO", "reward"),
        "grpo": ("GRPO", "reward"),
    },
    "contrast": {
        "infonce": ("InfoNCE", "contrast"),
        "sft": ("SFT on chosen", "imitation"),
    },
    "preferred": {"gan": ("SFT, GAN-guided", "imitation")},
}


@dataclass(frozen=True)
class Place:
    """Where a way of training ends on held-out near-copies, nats.

    Attributes:
        family: of ways.
        apart: chosen's change minus rejected's.
        together: mean of the two changes.
        chosen, rejected: the changes.
    """

    family: str
    apart: Interval
    together: Interval
    chosen: Interval
    rejected: Interval

    @property
    def right(self) -> bool:
        """Whether chosen rises and rejected falls, in the mean."""
        return self.chosen.value > 0 > self.rejected.value


def last_of(means: pd.DataFrame) -> pd.DataFrame:
    """Return the held-out pairs' rows of each way's and seed's last step; the way is in "update"."""
    test = means[means["set"] == "test"]
    return test[test["step"] == test.groupby(["update", "seed"])["step"].transform("max")]


def _places(ends: pd.DataFrame, ways: Mapping[str, tuple[str, str]]) -> dict[str, Place]:
    found = {}
    for name, (title, family) in ways.items():
        mine = ends[ends["update"] == name].sort_values("seed")
        chosen, rejected = (mine[side].to_numpy() for side in ("chosen", "rejected"))
        found[title] = Place(
            family,
            mean_interval(chosen - rejected),
            mean_interval((chosen + rejected) / 2),
            mean_interval(chosen),
            mean_interval(rejected),
        )
    return found


def every_place(stored: Mapping[str, Stored]) -> dict[str, Place]:
    """Return where all ways of training of the last five chapters end: title → place.

    Args:
        stored: "untangling", "ratio", "masking", "controlling", "contrast", "rewards" and "preferred".
    """
    rules = stored["untangling"]["means"]
    rules = rules[(rules["rate"] == 1.0) & (rules["optimizer"] == "adamw")]
    ways = {"joint": ("DPO", "number")}
    found = _places(last_of(rules), ways)
    ratios = stored["ratio"]["means"]
    best = constant(best_ratio(ratios))
    ratios = as_ways(ratios[(ratios["optimizer"] == "adamw") & (ratios["rate"] == 1.0)])
    found |= _places(last_of(ratios), {best: (f"DPO, {best}", "number")})
    losses = ("dpop", "rpo")
    titles = {
        name: (title.removesuffix(" (a loss)"), "loss" if name in losses else "rule")
        for name, title in UPDATE_TITLES.items()
        if name != "joint"
    }
    found |= _places(last_of(rules), titles)
    masks = as_updates(stored["masking"]["means"], "weights")
    names = {name: (title, "tokens") for name, title in WEIGHER_TITLES.items() if name != "everything"}
    found |= _places(last_of(masks), names)
    asked = stored["controlling"]["means"]
    asked = as_updates(asked[asked["goal"].isin(["apart", "none"])], "way")
    goals = {name: (WAY_TITLES[name], "request") for name in ("itself", "batch", "all")}
    goals |= {"kto": (WAY_TITLES["kto"].removesuffix(" (a loss)"), "loss")}
    goals |= {"adversarial": (WAY_TITLES["adversarial"], "request")}
    found |= _places(last_of(asked), goals)
    for grid, those in _OTHERS.items():
        found |= _places(last_of(as_updates(stored[grid]["means"], "way")), those)
    return found


def step_time(lines: Sequence[Mapping[str, Any]], update: str, **options: object) -> float:
    """Return how long a step with an update takes, in steps of DPO, by the stored benchmark of ``nano``.

    Raises:
        ValueError: it was not measured.
    """
    title = f"{line_of(update, **options)}, nano"
    for line in lines:
        if line["ours"] == title:
            return 1 / line["ratio"]
    raise ValueError(f"the benchmark has no line {title!r}; run: make bench")


def over_seeds_of(table: pd.DataFrame, column: str, **values: object) -> Interval:
    """Return the interval over seeds of a column, in the rows that have the given values.

    Raises:
        ValueError: no such rows.
    """
    for name, value in values.items():
        table = table[table[name] == value]
    if table.empty:
        raise ValueError(f"no rows for {values}.")
    return mean_interval(table.groupby("seed")[column].mean().to_numpy())


def before_and_after(probes: pd.DataFrame, way: str, column: str) -> Interval:
    """Return a column of "probes" after training minus before, seed by seed."""
    mine = probes[probes["way"] == way].pivot(index="seed", columns="moment", values=column)
    return mean_interval((mine["after"] - mine["before"]).to_numpy())
