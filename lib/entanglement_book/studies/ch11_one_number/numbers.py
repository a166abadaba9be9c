"""The numbers that the text of one number, or the gradients quotes from the stored grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from entanglement.stats import Interval, mean_interval
from entanglement_book.studies.ch11_one_number import ratios
from entanglement_book.studies.shared.update_tables import at_end, inside

__all__ = ["costs", "median_ratios", "of_foretelling", "of_rates", "of_ratios", "of_rules"]

Number = float | Interval


def of_ratios(sweep: pd.DataFrame, larger: pd.DataFrame) -> dict[str, Number]:
    """Return where both models end and turn.

    Args:
        sweep, larger: tables of the grid of constant ratios, of ``nano`` and of SmolLM2.
    """
    found: dict[str, Number] = {
        "n_seeds_grid": int(sweep["seed"].nunique()),
        "nano_steps": int(sweep["step"].max()),
        "smol_steps": int(larger["step"].max()),
    }
    for name, means in (("nano", sweep), ("smol", larger)):
        ends = ratios.at_the_end(means)
        for ratio in (1.0, 1.005):
            for column in ("chosen", "rejected", "margin"):
                values = ends.loc[ends["ratio"] == ratio, column].to_numpy()
                found[f"{name}_{column}_{ratio:g}".replace(".", "")] = mean_interval(values)
        for answer, turn in ratios.turns_found(ends).items():
            found[f"{name}_turn_{answer}"] = mean_interval(turn.to_numpy())
    for name, means in (("", sweep), ("smol_", larger)):
        ends = ratios.at_the_end(means)
        for ratio, short in ((ratios.best_ratio(means), ""), (1.0, "_dpo")):
            gains = ratios.smaller_gain(ends[ends["ratio"] == ratio])
            found[f"{name}gain_end{short}"] = mean_interval(gains.to_numpy())
    found["smol_best"] = ratios.best_ratio(larger)
    for when, step in (("before", 0), ("dpo", larger["step"].max())):
        rows = larger[(larger["step"] == step) & (larger["set"] == "test") & (larger["ratio"] == 1)]
        rows = rows[rows["optimizer"] == "adamw"]
        found[f"smol_accuracy_{when}"] = 100 * float(rows["accuracy"].mean())
    return found


def costs(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return how many times as long as DPO's own a step of a rule takes with ``nano``, from the benchmark."""
    named = {"band": "clipped to the band, nano", "normalized-batch": "normalized, batch, nano"}
    by_name = {line["ours"]: 1 / line["ratio"] for line in lines}
    return {update: float(by_name[name]) for update, name in named.items()}


def median_ratios(steps: pd.DataFrame) -> dict[str, Number]:
    """Return the median ratio of weights that rules took, in the mean over steps and seeds.

    Args:
        steps: the table of that name of the grid of update rules.
    """
    used = steps[(steps["rate"] == 1) & (steps["optimizer"] == "adamw")]
    by_rule = used.groupby("update", as_index=False)["ratio"].mean().set_index("update")["ratio"]
    return {f"ratio_{name}": float(by_rule[name]) for name in ("normalized", "band")}


def of_foretelling(told: Mapping[str, tuple[pd.Series, pd.Series]], limit: pd.DataFrame) -> dict[str, Number]:
    """Return by how much a virtual step was off, seed by seed, for the answer at which it was most, and the
    middle of the two ratios that it told for AdamW.

    Args:
        told: "<optimizer>, <answer>" → (told, found), by seed.
        limit: columns chosen and rejected, told by inner products for plain steps.
    """

    def off(pairs: Mapping[str, tuple[pd.Series, pd.Series]]) -> Interval:
        each = [mean_interval((says - found).abs().to_numpy()) for says, found in pairs.values()]
        return max(each, key=lambda interval: interval.value)

    plain = {name: pair for name, pair in told.items() if name.startswith("plain")}
    adamw = {name: pair for name, pair in told.items() if name not in plain}
    middle = float(np.prod([float(says.mean()) for says, _ in adamw.values()]) ** (1 / len(adamw)))
    return {
        "told_middle": middle,
        "told_off_adamw": off(adamw),
        "guess_off_adamw": off({name: (found * 0 + 1, found) for name, (_, found) in adamw.items()}),
        "told_off_sgd": off(plain),
        "limit_off": off({name: (limit[name.split(", ")[1]], found) for name, (_, found) in plain.items()}),
    }


def of_rules(
    everyone: pd.DataFrame,
    there: Mapping[str, Mapping[str, Interval]],
    best: float,
    costs: Mapping[str, float],
) -> dict[str, Number]:
    """Return how rules and losses stand beside the constant that was chosen on validation pairs.

    Args:
        everyone: the tables of update rules and of constant ratios, as ways of training.
        there: of ``ratios.standing``.
        best: the constant.
        costs: update → how many times as long its step takes, for "band" and "normalized-batch".
    """
    dpo, way = ratios.constant(1.0), ratios.constant(best)
    rivals = [name for name in there if not name.startswith("r = ") and name not in ("dpop", "rpo")]
    rule = max(rivals, key=lambda name: there[name]["gain"].value)
    gains = ratios.gains_at_margin(everyone, [rule, way, dpo], 0.9, itself=dpo)
    found: dict[str, Number] = {"best": best}
    found |= {f"gain_{short}": there[name]["gain"] for short, name in (("best", way), ("rule", rule))}
    found["gain_dpo"] = there[dpo]["gain"]
    found["rule_minus"] = mean_interval((gains[rule] - gains[way]).to_numpy())
    found["dpo_minus"] = mean_interval((gains[dpo] - gains[way]).to_numpy())
    margin = there[way]["chosen"].value - there[way]["rejected"].value
    found["half_margin"] = margin / 2
    last = float(everyone["step"].max())
    found |= {"cost_band": costs["band"], "cost_batch": costs["normalized-batch"]}
    found["band_steps"] = last / costs["band"]
    then = ratios.after_steps(everyone, {"band": last / costs["band"], way: last})
    found |= {
        "compute_band": ratios.gain_interval(then, "band"),
        "compute_best": ratios.gain_interval(then, way),
    }
    early = ratios.stopped_early(everyone, dpo)
    found["early"] = mean_interval(ratios.smaller_gain(early).to_numpy())
    found["early_margin"] = mean_interval(early["margin"].to_numpy())
    for column in ("fell", "rose"):
        for name, short in ((way, "best"), ("band", "band")):
            share = inside(at_end(everyone, name, column))
            found[f"{column}_{short}"] = 100 * float(share.value)
    return found | _accuracy(everyone, way, dpo)


def _accuracy(everyone: pd.DataFrame, way: str, dpo: str) -> dict[str, Number]:
    some = everyone[(everyone["set"] == "test") & (everyone["optimizer"] == "adamw")]
    some = some[some["rate"] == 1]
    last = some["step"].max()

    def at(name: str, step: float) -> pd.Series:
        rows = some[(some["update"] == name) & (some["step"] == step)]
        return 100 * rows.set_index("seed")["accuracy"]

    before, best = at(dpo, 0), at(way, last)
    return {
        "accuracy_before": float(before.mean()),
        "accuracy_dpo": float(at(dpo, last).mean()),
        "accuracy_best": float(best.mean()),
        "accuracy_change": mean_interval((best - before).to_numpy()),
    }


def of_rates(rates: Mapping[str, pd.DataFrame]) -> dict[str, Number]:
    """Return, for runs of several lengths, where the chosen answer turns, and by how much both answers move
    together when r grows by a hundredth from 1, nats. A turning point is left out where some seed has none.

    Args:
        rates: name → ends of the runs.
    """
    found: dict[str, Number] = {}
    for name, ends in rates.items():
        together = ends.assign(together=(ends["chosen"] + ends["rejected"]) / 2)
        by = together.pivot_table(index="seed", columns="ratio", values="together")
        found[f"slope_{name}"] = mean_interval((by[1.01] - by[1.0]).to_numpy())
        turn = ratios.turns_found(ends)["chosen"]
        if turn.notna().all():
            found[f"turn_{name}"] = mean_interval(turn.to_numpy())
    return found
