"""The numbers that the text of controlling each response quotes."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from entanglement.geometry import PairGeometry
from entanglement.stats import Interval, mean_interval, share_interval
from entanglement_book.studies.ch13_control.grid import GOALS
from entanglement_book.studies.ch13_control.tables import beside_a_way, control_means, places_at_margin
from entanglement_book.studies.shared.titles import UPDATE_TITLES, WAY_TITLES
from entanglement_book.studies.shared.update_tables import at_end

__all__ = [
    "missed",
    "of_adversary",
    "of_all_ways",
    "of_everything",
    "of_goals",
    "of_judging",
    "of_paths",
    "of_requests",
    "settling",
]

Number = float | Interval


def of_requests(table: pd.DataFrame) -> dict[str, Number]:
    """Return which requests were met, pair by pair: requests of one pair are no independent draws.

    Args:
        table: of ``try_requests``, with a column kind ("near-copies", "other words").

    Returns:
        n_pairs, n_tried, n_feasible, n_met; share_met and share_by_dpo, the shares of *pairs* of which every
        feasible request was met, with exact intervals; met_by_dpo, the percentage of single requests;
        pairs_missed, the number of pairs with a feasible request that was not met; most_steps; price_near and
        price_other, median prices of "up, down".
    """
    feasible = table[table["verdict"] == "feasible"]
    pairs = feasible.groupby(["kind", "pair"])[["met", "met_by_dpo"]].all()
    prices = table[table["request"] == "up, down"].groupby("kind")["price"].median()
    return {
        "n_pairs": table.groupby(["kind", "pair"]).ngroups,
        "n_tried": len(table),
        "n_feasible": len(feasible),
        "n_met": int(feasible["met"].sum()),
        "share_met": share_interval(int(pairs["met"].sum()), len(pairs)),
        "share_by_dpo": share_interval(int(pairs["met_by_dpo"].sum()), len(pairs)),
        "pairs_missed": int((~pairs["met"]).sum()),
        "met_by_dpo": 100 * float(feasible["met_by_dpo"].mean()),
        "most_steps": int(feasible["steps"].max()),
        "price_near": float(prices["near-copies"]),
        "price_other": float(prices["other words"]),
    }


def settling(geometry: PairGeometry) -> float:
    """Return how many times as fast a loss with both goals settles the fast direction as the slow one: the
    ratio of the eigenvalues of the matrix of a², b² and c, for one pair.
    """
    a2, b2, c = (float(part) for part in (geometry.chosen_sq, geometry.rejected_sq, geometry.inner))
    middle, half = (a2 + b2) / 2, (((a2 - b2) / 2) ** 2 + c * c) ** 0.5
    return (middle + half) / (middle - half)


def of_paths(paths: Mapping[str, pd.DataFrame], geometry: PairGeometry, margin: float) -> dict[str, Number]:
    """Return how fast three ways get to a margin on one exact pair."""

    def until(name: str, left: float) -> int:
        missing = 1 - (paths[name]["chosen"] - paths[name]["rejected"]) / margin
        return int((missing < left).to_numpy().argmax())

    return {
        "cosine": float(geometry.cosine),
        "factor": settling(geometry),
        "half": until("a loss with both goals", 0.5),
        "ninety": until("a loss with both goals", 0.1),
        "planned_ninety": until("planned steps", 0.1),
        "path_kto": float(paths["KTO"]["chosen"].iloc[-1]),
    }


def missed(means: pd.DataFrame, name: str, goal: str = "apart") -> Interval:
    """Return how far the means of trained pairs ended from a request, nats."""
    rows = means[(means["update"] == name) & (means["set"] == "trained")]
    rows = rows[(rows["rate"] == 1) & (rows["optimizer"] == "adamw")]
    last = rows[rows["step"] == rows["step"].max()]
    t_w, t_l = GOALS[goal]
    gap = (last["chosen"] - t_w) ** 2 + (last["rejected"] - t_l) ** 2
    found = mean_interval((gap**0.5).to_numpy())
    return found._replace(low=max(found.low, 0.0))  # no distance is below 0


def of_goals(controlling: pd.DataFrame, own: pd.DataFrame) -> dict[str, Number]:
    """Return what came of requests in training.

    For the loss with goals also itself_parted_least and itself_parted_most: the margin of trained pairs over
    the requests, each of which asks for 1 nat.

    Args:
        controlling: "means" of that grid.
        own: "means" of the grid of update rules, with DPO itself.
    """
    found: dict[str, Number] = {"n_grid": int(controlling["seed"].nunique())}
    parted = []
    for goal in GOALS:
        rows = control_means(controlling, goal)
        parted.append(float(at_end(rows, "itself", "margin", pairs="trained").value))
        for side in ("chosen", "rejected"):
            found[f"batch_{goal}_{side}"] = at_end(rows, "batch", side, pairs="trained")
    found |= {"itself_parted_least": min(parted), "itself_parted_most": max(parted)}
    apart = control_means(controlling)
    found |= {f"missed_{name}": missed(apart, name) for name in ("itself", "batch", "all")}
    found["missed_joint"] = missed(own, "joint")
    found["kto_chosen"] = at_end(apart, "kto", "chosen")
    return found


def of_adversary(controlling: pd.DataFrame, cost: pd.Series, own: pd.DataFrame) -> dict[str, Number]:
    """Return what an adversary has moved at DPO's cost, and at its end.

    Args:
        controlling: "means" of that grid.
        cost: of ``adversarial_cost``, from step 0 on.
        own: "means" of the grid of update rules.
    """
    apart = control_means(controlling)
    budget = float(own["step"].max())
    spent = apart[(apart["update"] == "adversarial") & (apart["set"] == "test")]
    spent = spent.assign(cost=spent["step"].map(cost))
    then = spent[spent["cost"] <= budget].sort_values("step").groupby("seed").last()
    found: dict[str, Number] = {"equal_margin": mean_interval(then["margin"].to_numpy())}
    found["late_cost"] = float(cost.iloc[-1] / budget)
    for column in ("chosen", "rejected", "margin"):
        found[f"adversarial_{column}"] = at_end(apart, "adversarial", column)
    found["dpo_margin"] = at_end(own, "joint", "margin")
    return found


def of_judging(judged: pd.DataFrame, moved: pd.DataFrame) -> dict[str, Number]:
    """Return what rewards see of held-out pairs of one model, with intervals over pairs.

    Args:
        judged: ``judge_pairs`` of several judges, with a column judge ("drawn", "rejected").
        moved: of ``trained_for_first_word``.

    Returns:
        For each judge: <judge>_gap and <judge>_gap_draw (standard deviations), <judge>_told and
        <judge>_told_draw (percent). Then word_chosen, word_rejected and word_margin (nats).
    """
    found: dict[str, Number] = {"n_judged": int(judged["pair"].nunique())}
    for judge, rows in judged.groupby("judge"):
        for name in ("gap", "gap_draw"):
            found[f"{judge}_{name}"] = mean_interval(rows[name].to_numpy())
        for name in ("told", "told_draw"):
            found[f"{judge}_{name}"] = _points(share_interval(int(rows[name].sum()), len(rows)))
    for name in ("chosen", "rejected", "margin"):
        found[f"word_{name}"] = mean_interval(moved[name].to_numpy())
    return found


def of_everything(means: pd.DataFrame, constant: str) -> dict[str, Number]:
    """Return how ways with requests stand beside rivals at their own margin, and what became of accuracy.

    Args:
        means: of ``together``.
        constant: the name of the constant ratio that was chosen.

    Returns:
        For each way with requests: <way>_margin and <way>_fell (percent) at its end; <way>_<column>_<rival>,
        its value less the rival's at this margin (gain in nats, fell and accuracy in points), for "number",
        the constant, and "dpo". stopped_<column> for DPO at the margin of the loss with goals; n_steps, those
        of a whole run.
        accuracy_before, accuracy_<way> (percent) and accuracy_change_<way> (points).
    """
    found: dict[str, Number] = {}
    for way in ("itself", "batch", "all"):
        found[f"{way}_margin"] = at_end(means, way, "margin")
        found[f"{way}_fell"] = 100 * float(at_end(means, way, "fell").value)
        for rival, short in ((constant, "number"), ("joint", "dpo")):
            for column in ("gain", "fell", "accuracy"):
                gap = beside_a_way(means, way, rival, column)
                found[f"{way}_{column}_{short}"] = gap if column == "gain" else _points(gap)
    stopped = places_at_margin(means, ["joint"], 1.0, itself="itself")
    for column in ("step", "chosen", "rejected"):
        found[f"stopped_{column}"] = float(stopped[column].mean())
    found["stopped_fell"] = 100 * float(stopped["fell"].mean())
    found["n_steps"] = int(means[means["update"] == "joint"]["step"].max())
    test = means[(means["set"] == "test") & (means["rate"] == 1) & (means["optimizer"] == "adamw")]
    for way in ("joint", constant, "itself", "all"):
        mine = test[test["update"] == way]
        by = {
            step: mine[mine["step"] == step].set_index("seed")["accuracy"] for step in (0, mine["step"].max())
        }
        before, after = by.values()
        short = "best" if way == constant else way
        found[f"accuracy_{short}"] = 100 * float(after.mean())
        found[f"accuracy_change_{short}"] = _points(mean_interval((after - before).to_numpy()))
        found["accuracy_before"] = 100 * float(before.mean())
    return found


def _points(share: Interval) -> Interval:
    return Interval(100 * share.value, 100 * share.low, 100 * share.high, share.n)


def of_all_ways(
    ends: Mapping[str, Mapping[str, Interval]],
    there: Mapping[str, Mapping[str, Interval] | int],
    costs: pd.DataFrame,
    constant: str,
) -> dict[str, Number]:
    """Return what the figures of all ways show; of the ends, n_apart, the number of ways with the chosen
    answer up and the rejected one down, and raised_most, the largest rise of an answer.

    Args:
        ends: of ``rows_at_end``.
        there: of ``at_equal_margin``, by name.
        costs: of ``every_rule``.
        constant: the name of the constant ratio that was chosen.
    """
    reached = {name: row for name, row in there.items() if isinstance(row, Mapping)}
    moved = [(row["chosen"].value, row["rejected"].value) for row in ends.values()]
    found: dict[str, Number] = {
        "n_apart": sum(chosen > 0 > rejected for chosen, rejected in moved),
        "raised_most": max(max(both) for both in moved),
        "best": float(constant.removeprefix("r = ")),
        "n_ways": len(there),
        "n_reached": len(reached),
        "n_right": sum(row["chosen"].value > 0 > row["rejected"].value for row in reached.values()),
        "early_margin": ends["DPO, stopped early"]["margin"],
    }
    for name, short in ((constant, "best"), ("band", "band")):
        for column in ("chosen", "rejected", "gain"):
            found[f"{column}_{short}"] = reached[name][column]
    titles = WAY_TITLES | {"band": UPDATE_TITLES["band"]}
    for name in ("batch", "all", "adversarial", "band"):
        found[f"time_{name}"] = float(str(costs.loc[titles[name], "time"]))
    return found
