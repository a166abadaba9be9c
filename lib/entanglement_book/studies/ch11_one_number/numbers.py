"""The numbers that the text of one number, or the gradients quotes from the stored grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from entanglement.bounded import bounded_interval
from entanglement.stats import Interval, mean_interval
from entanglement_book.grids.stored import Stored
from entanglement_book.studies.ch11_one_number import ratios
from entanglement_book.studies.shared import constant_ratios as constants
from entanglement_book.studies.shared.update_tables import at_end, inside

__all__ = [
    "costs",
    "median_ratios",
    "of_elsewhere",
    "of_foretelling",
    "of_rates",
    "of_ratios",
    "of_recipe",
    "of_rules",
    "of_summaries",
    "off_there",
    "records",
]

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
        ends = constants.at_the_end(means)
        for ratio in (1.0, 1.005):
            for column in ("chosen", "rejected", "margin"):
                values = ends.loc[ends["ratio"] == ratio, column].to_numpy()
                found[f"{name}_{column}_{ratio:g}".replace(".", "")] = mean_interval(values)
        for answer, turn in ratios.turns_found(ends).items():
            found[f"{name}_turn_{answer}"] = mean_interval(turn.to_numpy())
    for name, means in (("", sweep), ("smol_", larger)):
        ends = constants.at_the_end(means)
        for ratio, short in ((constants.best_ratio(means), ""), (1.0, "_dpo")):
            gains = constants.smaller_gain(ends[ends["ratio"] == ratio])
            found[f"{name}gain_end{short}"] = mean_interval(gains.to_numpy())
    found["smol_best"] = constants.best_ratio(larger)
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


def of_recipe(table: Stored) -> dict[str, Number]:
    """Return the steps of fine-tuning, and the pairs that the training saw, of a table's recipe."""
    recipe = table.provenance["recipe"]
    return {"smol_sft": int(recipe["sft_steps"]), "smol_pairs": int(recipe["steps"] * recipe["batch"])}


def median_ratios(steps: pd.DataFrame) -> dict[str, Number]:
    """Return the median ratio of weights that rules took, in the mean over steps and seeds.

    Args:
        steps: the table of that name of the grid of update rules.
    """
    used = steps[(steps["rate"] == 1) & (steps["optimizer"] == "adamw")]
    by_rule = used.groupby("update", as_index=False)["ratio"].mean().set_index("update")["ratio"]
    return {f"ratio_{name}": float(by_rule[name]) for name in ("normalized", "band")}


def of_foretelling(turns: pd.DataFrame, sweep: pd.DataFrame) -> dict[str, Number]:
    """Return what a virtual step told at the margin of each seed's run, and by how much it was off.

    Args:
        turns: the table of the grid ``foretold``.
        sweep: of the grid of constant ratios.

    Returns:
        For "adamw" and "sgd": told and found_<answer>; off, over the seeds that were told, for the answer at
        which it was off most; n_told, the number of these seeds. Then guess_off for the guess that AdamW's
        training turns at 1, and limit_off for plain steps and inner products alone.
    """
    found: dict[str, Number] = {}
    limit = turns[turns["margin"] == 0].set_index("seed")
    for optimizer, direction in ratios.DIRECTIONS.items():
        ends = constants.at_the_end(sweep, optimizer=optimizer)
        gained = ends[ends["ratio"] == 1].set_index("seed")["margin"]
        told = ratios.foretold_turns(turns, direction, gained.to_dict()).dropna()
        turned = ratios.turns_found(ends)
        found[f"n_told_{optimizer}"] = len(told)
        found[f"gained_{optimizer}"] = mean_interval(gained.to_numpy())
        for answer in ("chosen", "rejected"):
            found[f"told_{optimizer}_{answer}"] = mean_interval(told[answer].to_numpy())
            found[f"found_{optimizer}_{answer}"] = mean_interval(turned[answer].to_numpy())
        found[f"off_{optimizer}"] = _off(told, turned)
        if optimizer == "adamw":
            found["guess_off"] = _off(told * 0 + 1, turned)
        else:
            found["limit_off"] = _off(limit[["chosen", "rejected"]], turned)
    return found


def _off(told: pd.DataFrame, turned: pd.DataFrame) -> Interval:
    """Return the mean distance over the seeds that were told, for the answer at which it is larger."""
    apart = (told - turned.loc[told.index]).abs()
    each = [mean_interval(apart[name].to_numpy()) for name in ("chosen", "rejected")]
    worst = max(each, key=lambda interval: interval.value)
    return worst._replace(low=max(worst.low, 0.0))  # no distance is below 0


def off_there(table: pd.DataFrame, data: str, setting: str) -> tuple[Interval, Interval]:
    """Return by how much what was told was off in one setting, for the answer at which it was off most, and
    the same for the guess that both answers turn at 1; over the seeds in which nothing of it is missing.

    Args:
        table: of ``ratios.everywhere``.
        data, setting: which rows.
    """
    rows = table[(table["data"] == data) & (table["setting"] == setting)]
    whole = rows.groupby("seed").filter(lambda some: some[["told", "found"]].notna().all(axis=None))
    told, found = (whole.pivot(index="seed", columns="answer", values=name) for name in ("told", "found"))
    return _off(told, found), _off(told * 0 + 1, found)


def of_elsewhere(table: pd.DataFrame) -> dict[str, Number]:
    """Return how well the order of turning points was foretold over models, data, optimizers and rates.

    Args:
        table: of ``ratios.everywhere``. Seeds that some setting lacks are left out.

    Returns:
        order: rank correlation of told and found over settings and answers, over seeds; order_rival: the same
        for who knows the data set and the answer alone, and has the mean of what was found there; n_told: the
        pairs of told and found; n_told_not: settings, answers and seeds where one of them is missing;
        n_told_seeds. For each data set, named by the part before a hyphen: too_low_<data>, by how much the
        told are too low, mean over answers and settings, over seeds; first_<data> and last_<data>, the
        smallest and the largest that was found, each the mean over seeds of a setting.
    """
    settings = table.groupby("seed").apply(lambda rows: len(rows[["data", "setting"]].drop_duplicates()))
    table = table[table["seed"].isin(settings.index[settings == settings.max()])]
    known = table.dropna(subset=["told", "found"])
    rival = known.groupby(["data", "answer"])["found"].transform("mean")
    by_seed = known.assign(rival=rival).groupby("seed")

    def order(by: str) -> Interval:
        each = [rows[by].corr(rows["found"], method="spearman") for _, rows in by_seed]
        return bounded_interval(np.array(each), low=-1.0, high=1.0)

    found: dict[str, Number] = {"order": order("told"), "order_rival": order("rival")}
    found |= {"n_told": len(known), "n_told_not": len(table) - len(known), "n_told_seeds": len(by_seed)}
    for data, rows in known.assign(low=known["found"] - known["told"]).groupby("data"):
        short = str(data).partition("-")[0]
        each = rows.groupby(["setting", "answer"])["found"].mean()
        found[f"too_low_{short}"] = mean_interval(rows.groupby("seed")["low"].mean().to_numpy())
        found |= {f"first_{short}": float(each.min()), f"last_{short}": float(each.max())}
    return found


def of_summaries(sweep: pd.DataFrame) -> dict[str, Number]:
    """Return where AdamW's runs on summaries turn and end, over seeds.

    Args:
        sweep: the table "means" of the grid ``ratio-summaries``.

    Returns:
        n_far, the seeds; far_turn_<answer>; far_<answer>_1 and _14, the changes at r = 1 and 1.4 (nats).
    """
    ends = constants.at_the_end(sweep)
    found: dict[str, Number] = {"n_far": int(ends["seed"].nunique())}
    for answer, turn in ratios.turns_found(ends).items():
        found[f"far_turn_{answer}"] = mean_interval(turn.to_numpy())
        for ratio, short in ((1.0, "1"), (1.4, "14")):
            values = ends.loc[ends["ratio"] == ratio, answer].to_numpy()  # type: ignore[index]
            found[f"far_{answer}_{short}"] = mean_interval(values)
    return found


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
    dpo, way = constants.constant(1.0), constants.constant(best)
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
    early = constants.stopped_early(everyone, dpo)
    found["early"] = mean_interval(constants.smaller_gain(early).to_numpy())
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


def records(facts: Mapping[str, Number]) -> dict[str, tuple[Number, Number]]:
    """Return what the ledger records of the grids: claim → (what was found, its control).

    Args:
        facts: of the functions above.
    """
    sources = {
        "ratio-parts": ("gain_end", "gain_end_dpo"),
        "ratio-parts-larger": ("smol_gain_end", "smol_gain_end_dpo"),
        "ratio-foretold": ("off_adamw", "guess_off"),
        "ratio-foretold-larger": ("off_smol", "guess_smol"),
        "ratio-foretold-order": ("order", "order_rival"),
        "ratio-rules-better": ("rule_minus", "dpo_minus"),
    }
    return {claim: (facts[found], facts[control]) for claim, (found, control) in sources.items()}
