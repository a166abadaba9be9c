"""The numbers that the text of beyond language quotes, and what its figures draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from entanglement.bounded import bounded_interval
from entanglement.objectives.aggregation import AGGREGATIONS
from entanglement.stats import Interval, mean_interval
from entanglement_book.studies.ch16_beyond_language.together import RULES

__all__ = [
    "advantages",
    "agreements",
    "ahead_of_habit",
    "ahead_of_the_commonest",
    "at_the_end",
    "changed_apart",
    "chosen",
    "closed_loop",
    "driver_difference",
    "edge_cosines",
    "expected",
    "foretold",
    "geometry_by_width",
    "last_cosine",
    "left_at_the_end",
    "loss_of_one",
    "narrow_minus_wide",
    "percent",
    "recall_points",
    "signs",
    "smaller_loss",
    "titled",
    "way_titles",
]


def way_titles() -> dict[str, str]:
    """Return what ways of training several tasks are called in print, in the order of the figure."""
    titles = {"sum": "plain sum", "by chance": "weights 1/chance", "by chance²": "weights 1/chance²"}
    titles |= {rule: AGGREGATIONS[rule].title for rule in RULES}
    titles |= {"gradnorm": "GradNorm", "held": "its weights, held"}
    return titles | {"separate": "separate networks"}


def percent(interval: Interval) -> Interval:
    """Return an interval of a share in percent."""
    return Interval(100 * interval.value, 100 * interval.low, 100 * interval.high, interval.n)


# --- tasks that share a trunk -------------------------------------------------------------------------------


def signs(rows: pd.DataFrame, by: str) -> float:
    """Return the share of signs foretold, falls and rises counting half each; ½ for a guess.

    Args:
        rows: of "foretold" of the grid ``sharing``.
        by: "seen" (by the inner products) or "kept" (by the sign at the moment before).

    Raises:
        ValueError: there were no falls, or no rises.
    """
    rows = rows.dropna(subset=[f"falls_{by}"])
    falls, rises = rows["falls"].sum(), rows["rises"].sum()
    if not falls or not rises:
        raise ValueError(f"signs: falls={falls:g}, rises={rises:g}; expected some of each.")
    return float((rows[f"falls_{by}"].sum() / falls + rows[f"rises_{by}"].sum() / rises) / 2)


def foretold(
    table: pd.DataFrame, kind: str, by: str = "seen", *, field: str = "digits", network: str = "shared"
) -> Interval:
    """Return ``signs`` over seeds, all widths and moments of a seed together.

    Args:
        table: "foretold" of the grid ``sharing``.
        kind: "one", "sum" or "training".
        by: "seen" or "kept".
        field, network: of the cells.
    """
    rows = table[(table["field"] == field) & (table["network"] == network) & (table["kind"] == kind)]
    return bounded_interval([signs(some, by) for _, some in rows.groupby("seed")], 0, 1)


def ahead_of_habit(table: pd.DataFrame, kind: str, field: str = "digits") -> Interval:
    """Return by how much the inner products foretell better than the sign before, over seeds."""
    rows = table[(table["field"] == field) & (table["network"] == "shared") & (table["kind"] == kind)]
    return mean_interval([signs(some, "seen") - signs(some, "kept") for _, some in rows.groupby("seed")])


def changed_apart(table: pd.DataFrame) -> float:
    """Return how many of the other tasks a step on one has changed at all, in separate networks."""
    rows = table[(table["network"] == "separate") & (table["kind"] == "one")]
    return float(rows["falls"].sum() + rows["rises"].sum())


def geometry_by_width(table: pd.DataFrame, column: str, field: str = "digits") -> dict[str, Interval]:
    """Return a column of "moments" over seeds, moments averaged first: label → interval, and last that of
    separate networks.
    """
    found = {}
    rows = table[table["field"] == field]
    for (network, width), some in rows.groupby(["network", "width"], sort=True):
        label = f"width {width}" if network == "shared" else f"separate, width {width}"
        found[label] = bounded_interval(some.groupby("seed")[column].mean().to_numpy(), 0, 1)
    return dict(sorted(found.items(), key=lambda item: item[0].startswith("separate")))


def narrow_minus_wide(table: pd.DataFrame, column: str) -> Interval:
    """Return a column of "moments" at the narrowest trunk minus at the widest, seed by seed, digits."""
    rows = table[(table["field"] == "digits") & (table["network"] == "shared")]
    means = rows.groupby(["width", "seed"])[column].mean().unstack("seed")
    return mean_interval((means.loc[means.index.min()] - means.loc[means.index.max()]).to_numpy())


# --- rules --------------------------------------------------------------------------------------------------


def _mean_left(table: pd.DataFrame) -> pd.DataFrame:
    """Return the losses that are left, tasks averaged: field, way, seed, step, passes, choice, judged."""
    keys = ["field", "way", "seed", "step", "passes"]
    return table.groupby(keys, as_index=False)[["choice", "judged", "accuracy"]].mean()


def chosen(table: pd.DataFrame, field: str, ways: Sequence[str], *, equal: str) -> pd.DataFrame:
    """Return, for each seed, the way and moment with the least loss on the first held-out set.

    Args:
        table: "tasks" of the grid ``tasks``.
        field: of the cells.
        ways: among which.
        equal: "step" or "passes": no moment after as many of them as a rule's training has.
    """
    rows = _mean_left(table[table["field"] == field])
    most = rows[rows["way"] == "pcgrad"][equal].max()
    some = rows[rows["way"].isin(ways) & (rows[equal] <= 1.01 * most)]  # steps are whole numbers
    return some.loc[some.groupby("seed")["choice"].idxmin()].set_index("seed").sort_index()


def left_at_the_end(table: pd.DataFrame, field: str, *, equal: str) -> dict[str, Interval]:
    """Return the loss that is left with each way, as a share of that at chance, over seeds; of each way's
    moments the one that the first held-out set chooses.
    """
    return {
        way: mean_interval(chosen(table, field, [way], equal=equal)["judged"].to_numpy())
        for way in way_titles()
        if way in set(table[table["field"] == field]["way"])
    }


def advantages(
    table: pd.DataFrame, field: str, ways: Sequence[str], others: Sequence[str], *, equal: str
) -> Interval:
    """Return how much more is left with the best of ``others`` than with the best of ``ways``, over seeds."""
    one, other = (chosen(table, field, names, equal=equal)["judged"] for names in (ways, others))
    return mean_interval((other - one).to_numpy())


# --- towers -------------------------------------------------------------------------------------------------


def at_the_end(looks: pd.DataFrame, way: str) -> pd.DataFrame:
    """Return a way's look with the best mean recall on the users' ninth tenth, a row a seed.

    Args:
        looks: of the grid ``towers``.
        way: of its cells.
    """
    rows = looks[looks["way"] == way].reset_index(drop=True)
    alone = way.removesuffix(" only")
    wanted = [alone] if alone != way else ["taste", "intent"]
    mean = rows[[f"{name}_choice" for name in wanted]].mean(axis=1)
    return rows.loc[mean.groupby(rows["seed"]).idxmax()].set_index("seed").sort_index()


def recall_points(looks: pd.DataFrame, ways: Sequence[str]) -> dict[str, tuple[Interval, Interval]]:
    """Return recall@20 of taste and of intent over seeds, by way."""
    found = {}
    for way in ways:
        rows = at_the_end(looks, way)
        taste, intent = (bounded_interval(rows[f"{name}_judged"], 0, 1) for name in ("taste", "intent"))
        found[way] = (taste, intent)
    return found


def smaller_loss(looks: pd.DataFrame, way: str) -> Interval:
    """Return what a way loses to separate towers in the objective that loses less, recall@20 over seeds; if
    it is positive, both lose.
    """
    apart, here = (at_the_end(looks, name) for name in ("separate", way))
    names = ["taste_judged", "intent_judged"]
    return mean_interval((apart[names] - here[names]).min(axis=1).to_numpy())


def loss_of_one(looks: pd.DataFrame, way: str, objective: str) -> Interval:
    """Return what a way loses to separate towers in one objective, recall@20 over seeds."""
    apart, here = (at_the_end(looks, name)[f"{objective}_judged"] for name in ("separate", way))
    return mean_interval((apart - here).to_numpy())


def last_cosine(looks: pd.DataFrame, way: str, *, first: bool = False) -> Interval:
    """Return the cosine of both gradients after a way's training, or before it, over seeds."""
    rows = looks[looks["way"] == way]
    step = rows["step"].min() if first else rows["step"].max()
    return bounded_interval(rows[rows["step"] == step]["cosine"].to_numpy(), -1, 1)


# --- driving ------------------------------------------------------------------------------------------------


def closed_loop(driving: pd.DataFrame, column: str) -> dict[str, Interval]:
    """Return a column of "driving" over seeds, by way."""
    found = {}
    for way, rows in driving.groupby("way", sort=False):
        found[str(way)] = bounded_interval(rows.groupby("seed")[column].mean().to_numpy(), 0, 1)
    return found


def expected(training: pd.DataFrame, objective: str, column: str = "held_out") -> dict[str, Interval]:
    """Return what each way ends with in one objective, over seeds."""
    rows = training[(training["objective"] == objective) & (training["step"] == training["step"].max())]
    return {
        str(way): bounded_interval(some.groupby("seed")[column].mean().to_numpy(), 0, 1)
        for way, some in rows.groupby("way", sort=False)
    }


def driver_difference(training: pd.DataFrame, objective: str, one: str, other: str) -> Interval:
    """Return by how much more of an objective one way ends with than another, in new situations, seed by
    seed.
    """
    rows = training[(training["objective"] == objective) & (training["step"] == training["step"].max())]
    means = rows.groupby(["way", "seed"])["held_out"].mean()
    return mean_interval((means[one] - means[other]).to_numpy())


def edge_cosines(cosines: pd.DataFrame, way: str, pair: tuple[str, str], *, last: bool = False) -> Interval:
    """Return the cosine of two objectives before training, or after it, over seeds.

    Args:
        cosines: of the grid ``driving``.
        way: of training.
        pair: of objectives.
        last: after it.
    """
    step = cosines["step"].max() if last else cosines["step"].min()
    rows = cosines[(cosines["way"] == way) & (cosines["step"] == step)]
    rows = rows[(rows["objective"] == pair[0]) & (rows["other"] == pair[1])]
    return bounded_interval(rows["cosine"].to_numpy(), -1, 1)


def agreements(agreement: pd.DataFrame, teachers: Sequence[str]) -> dict[str, list[Interval]]:
    """Return how often drivers do what each teacher does, in new situations, over seeds: one that always
    takes its commonest action, drivers of its own from fewer and more situations, and one for all, from more.

    Args:
        agreement: of ``imitated``.
        teachers: their objectives.
    """
    few, many = sorted(agreement["situations"].unique())
    columns = [("separate", many, "commonest"), ("separate", few, "agrees")]
    columns += [("separate", many, "agrees"), ("one", many, "agrees")]
    found: dict[str, list[Interval]] = {}
    for name in teachers:
        rows = agreement[agreement["objective"] == name].set_index(["way", "situations"]).sort_index()
        found[name] = [
            bounded_interval(rows.loc[(way, count), column].to_numpy(), 0, 1)
            for way, count, column in columns
        ]
    return found


def ahead_of_the_commonest(
    agreement: pd.DataFrame, situations: int, way: str = "separate", column: str = "agrees"
) -> Interval:
    """Return how much more often drivers do what a teacher does than one that always takes the teacher's
    commonest action, teachers averaged, over seeds.

    Args:
        agreement: of ``imitated``.
        situations: from how many they learned.
        way: of training.
        column: "agrees", or "turned" for drivers of another teacher.
    """
    rows = agreement[(agreement["way"] == way) & (agreement["situations"] == situations)]
    ahead = (rows[column] - rows["commonest"]).groupby(rows["seed"]).mean()
    return bounded_interval(ahead.to_numpy(), -1, 1)


def titled(found: Mapping[str, Interval], titles: Mapping[str, str]) -> dict[str, Interval]:
    """Return intervals under what a page calls them, in the order of the titles."""
    return {title: found[name] for name, title in titles.items() if name in found}
