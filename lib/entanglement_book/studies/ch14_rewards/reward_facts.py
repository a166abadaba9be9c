"""What the text of rewards instead of margins quotes, and what its claims are decided by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from entanglement.bounded import bounded_interval
from entanglement.stats import Interval, mean_interval
from entanglement_book.grids.stored import Stored
from entanglement_book.studies.ch14_rewards import numbers as tell
from entanglement_book.studies.ch14_rewards.bandit import still, tilted

__all__ = [
    "of_bandit",
    "of_copying",
    "of_own_pairs",
    "of_rewards",
    "of_trl",
    "shares_drawn",
    "with_bands",
]

Facts = dict[str, float | Interval]
#: Ways and arms by how their numbers' names end.
_WAYS = {
    "dpo": "dpo", "sft": "sft", "ppo": "ppo", "ppo-free": "ppo_free", "rloo": "rloo", "grpo": "grpo",
}  # fmt: skip
_LENGTHS = ["chosen_len", "rejected_len"]


def of_bandit(ends: Mapping[str, np.ndarray]) -> Facts:
    """Return how far each method ended from both optima: half the sum of differences.

    Args:
        ends: of ``bandit.ends``.
    """
    found: Facts = {}
    known = {"tilted": tilted(ends["reference"]), "still": still(ends["reference"])}
    for method in ("ppo", "rloo", "grpo"):
        for name, policy in known.items():
            found[f"{method}_{name}"] = float(np.abs(ends[method] - policy).sum() / 2)
    return found


def of_trl(table: pd.DataFrame) -> Facts:
    """Return the largest difference to TRL, and the least one between two methods.

    Args:
        table: of ``both_losses``.
    """
    apart = float((table["ours"] - table["TRL"]).abs().max())
    methods = float((table["ours"] - table["another"]).abs().min())
    return {"trl_apart": max(apart, float(table["gradient"].max())), "trl_methods": methods}


def of_rewards(rewards: Stored) -> Facts:
    """Return where each way ends: both answers of given pairs, reward, truth, KL, tokens read.

    Args:
        rewards: tables of the grid ``rewards``.
    """
    means, answers = rewards["means"], rewards["answers"]
    found: Facts = {"accuracy": bounded_interval(answers.groupby("seed")["accuracy"].first().to_numpy())}
    found["accuracy"] = tell.percent(found["accuracy"])  # type: ignore[arg-type]
    for way, name in _WAYS.items():
        for side in ("chosen", "rejected", "margin"):
            found[f"{side}_{name}"] = mean_interval(tell.at_the_end(means, side, way=way).to_numpy())
        both = tell.apart_together(means, way)
        for axis, moved in zip(("apart", "together"), both, strict=True):
            found[f"{axis}_{name}"] = mean_interval(moved.to_numpy())
        for column in ("reward", "kl", "length"):
            found[f"{column}_{name}"] = mean_interval(tell.answers_at(answers, way, column).to_numpy())
        before, after = (tell.answers_at(answers, way, "reward", first=first) for first in (True, False))
        found[f"rise_{name}"] = tell.difference(after, before)
        for column in ("true", "false", "formed", "repeated", "distinct_2"):
            ends = tell.answers_at(answers, way, column)
            if ends.notna().all():
                found[f"{column}_{name}"] = tell.percent(bounded_interval(ends.to_numpy()))
        found[f"read_{name}"] = float(tell.answers_at(answers, way, "read").mean()) / 1000
    for column in ("true", "formed"):
        first = tell.answers_at(answers, "dpo", column, first=True)
        found[f"{column}_before"] = tell.percent(bounded_interval(first.to_numpy()))
    found["move_together"] = tell.less_apart(means, ["ppo", "rloo"])
    found["move_together_dpo"] = tell.less_apart(means, ["dpo"])
    for way, name in _WAYS.items():
        change = tell.answers_at(answers, way, "true") - tell.answers_at(answers, way, "true", first=True)
        found[f"truth_{name}"] = mean_interval(change.to_numpy())
        found[f"truth_points_{name}"] = tell.percent(mean_interval(change.to_numpy()))
    for column in ("true", "reward", "formed"):
        found[f"patience_{column}"] = tell.stopped(answers, "ppo", "ppo-free", column)
        priced, free = (tell.answers_at(answers, way, column) for way in ("ppo", "ppo-free"))
        found[f"priced_{column}"] = tell.difference(priced, free)
        found[f"patience_points_{column}"] = tell.percent(tell.stopped(answers, "ppo", "ppo-free", column))
    then = tell.nearest(answers, "ppo-free", "ppo")
    found |= {f"patience_{name}": float(then[name].mean()) for name in ("step", "kl")}
    recipe, more = rewards.provenance["recipe"], rewards.provenance["numbers"]
    found |= {"set_seeds": float(recipe["seeds"]), "set_pairs": float(recipe["test_pairs"])}
    found |= {f"set_{name}": float(more[name]) for name in ("beta", "group", "reward_steps", "clipped_steps")}
    return found


def of_copying(copying: Stored) -> Facts:
    """Return which right answers fall in the toy, whether that is foretold, and what mends it.

    Args:
        copying: tables of the grid ``copying``.
    """
    single, means, drawn = copying["single"], tell.judged(copying["means"]), tell.judged(copying["drawn"])
    found: Facts = {}
    shares = {
        "told": tell.foretold(single, "plain"),
        "told_hesitant": tell.foretold(single, "hesitant"),
        "told_adamw": tell.foretold(single, "optimizer", optimized="adamw"),
        "told_adamw_plain": tell.foretold(single, "plain", optimized="adamw"),
    }
    size = int(copying.provenance["recipe"]["group"])
    among = {by: tell.among_hesitant(single, by, size) for by in ("plain", "all", "counting")}
    shares |= {"among": among["plain"], "among_all": among["all"], "among_counting": among["counting"]}
    shares["among_rival"] = max(among["all"], among["counting"])
    for name, share in shares.items():
        found |= {f"share_{name}": share, name: tell.percent(share)}
    judged = tell.judged(single)
    same = judged[(judged["optimized"] == "sgd") & (judged["kind"] == "same words")]
    found["n_right"] = float(len(same))
    found["fell"] = 100 * float((same["change"] < 0).mean())
    slow = same["length"] > tell.AT_ONCE
    found["fell_hesitant"] = 100 * float((same.loc[slow, "change"] < 0).mean())
    found["fell_at_once"] = 100 * float((same.loc[~slow, "change"] < 0).mean())
    other = judged[(judged["optimized"] == "sgd") & (judged["kind"] == "other words")]
    wordy = other["length"] > tell.AT_ONCE
    found["fell_hesitant_other"] = 100 * float((other.loc[wordy, "change"] < 0).mean())
    parts = tell.contributions(single)
    for row in parts[parts["fell"]].to_dict("records"):
        value, low, high = (float(row[name]) for name in ("value", "low", "high"))
        found[f"fell_{row['part']}"] = Interval(value, low, high, 0)
    ends = {}
    for arm in means["arm"].unique():
        for name, kind in (("same", "same words"), ("other", "other words")):
            for where, group in (("hesitant", "hesitant"), ("once", "at once")):
                cell = {"arm": arm, "kind": kind, "set": group}
                if (means[["arm", "kind"]] == [arm, kind]).all(axis=1).any():
                    ends[arm, name, where] = tell.at_the_end(means, "chosen", **cell)
                    found[f"{where}_{arm}_{name}"] = mean_interval(ends[arm, name, where].to_numpy())
    found["drag"] = tell.difference(ends["grpo", "other", "hesitant"], ends["grpo", "same", "hesitant"])
    drags = ends["grpo", "other", "hesitant"] - ends["grpo", "same", "hesitant"]
    found["drag_positive"] = float((drags > 0).sum())
    found["drag_once"] = tell.difference(ends["grpo", "other", "once"], ends["grpo", "same", "once"])
    for arm in ("hidden", "shuffled", "preserve", "slow", "upward", "grpo"):
        here, half = (ends[name, "same", "hesitant"] for name in (arm, "constant"))
        found[f"mend_{arm}"] = tell.difference(here, half)
    for arm in ("hidden", "shuffled", "preserve", "constant", "slow", "upward"):
        found[f"gain_{arm}"] = tell.at_equal_gain(copying["means"], arm)
    found["gain_other"] = tell.at_equal_gain(copying["means"], "grpo", "other words")
    for arm, share in shares_drawn(drawn).items():
        found[f"right_{arm}"] = tell.percent(share)
    rows = drawn[(drawn["kind"] == "same words") & (drawn["arm"] == "grpo")]
    before, after = (rows[rows["moment"] == name].set_index("seed") for name in ("before", "after"))
    found["right_before"] = tell.percent(bounded_interval(before["right"].to_numpy()))
    found["hesitant_before"] = tell.percent(bounded_interval(before["hesitant"].to_numpy()))
    found["hesitant_after"] = tell.percent(bounded_interval(after["hesitant"].to_numpy()))
    close = same[slow]
    found["told_sizes"] = float(close["plain"].corr(close["change"]))
    recipe = copying.provenance["recipe"]
    for name in ("group", "steps", "prompts"):
        found[f"set_toy_{name}"] = float(recipe[name])
    for name in ("hesitant", "right_at_once", "right_hesitant"):
        found[f"set_toy_{name}"] = 100 * float(recipe[name])
    found["n_toy_seeds"] = float(means["seed"].nunique())
    return found


def shares_drawn(drawn: pd.DataFrame, column: str = "right") -> dict[str, Interval]:
    """Return the share of right answers that each arm draws for held-out prompts after training.

    Args:
        drawn: of the grid ``copying``.
        column: of it.
    """
    rows = drawn[(drawn["kind"] == "same words") & (drawn["moment"] == "after")]
    return {
        str(arm): bounded_interval(some[column].to_numpy()) for arm, some in rows.groupby("arm", sort=False)
    }


def of_own_pairs(own: Stored) -> Facts:
    """Return how pairs of three sources differ, and what DPO on them does.

    Args:
        own: tables of the grid ``own-pairs``.
    """
    geometry, means = with_bands(own["geometry"]), own["means"]
    found: Facts = {}
    for source in ("given", "policy", "base"):
        rows = geometry[geometry["source"] == source].groupby("seed")
        found[f"cosine_{source}"] = bounded_interval(rows["cosine"].mean().to_numpy(), -1, 1)
        for column in ("chosen_len", "shared", "begin", "chosen_logp"):
            found[f"{column}_{source}"] = mean_interval(rows[column].mean().to_numpy())
        found[f"ratio_{source}"] = float(rows["norm_ratio"].median().mean())
        falls = rows["case"].apply(lambda cases: (cases == "both_down").mean())
        found[f"down_{source}"] = tell.percent(bounded_interval(falls.to_numpy()))
        for side in ("chosen", "rejected"):
            for name in ("own", "given"):
                ends = tell.at_the_end(means, side, source=source, set=name)
                found[f"{side}_{source}_{name}"] = mean_interval(ends.to_numpy())
        for name in ("own", "given"):
            margin = tell.at_the_end(means, "margin", source=source, set=name)
            found[f"margin_{source}_{name}"] = mean_interval(margin.to_numpy())
        found[f"kept_{source}"] = 100 * float(own["kept"].query("source == @source")["kept"].mean())
    for name, column in (("cosine", "cosine"), ("fall", "chosen")):
        for other in ("policy", "base"):
            signed = ("given", other) if name == "cosine" else (other, "given")
            found[f"{name}_less_{other}"] = tell.own_difference(geometry, column, *signed)
    for name, by in (("lengths", _LENGTHS), ("ratio", [*_LENGTHS, "band"])):
        matched, partners = tell.matched(geometry, "chosen", "policy", "given", by)
        found |= {f"fall_less_{name}": matched, f"partners_{name}": 100 * partners}
    drawn = geometry[geometry["source"] == "policy"]
    for name, picked in (("apart", drawn[drawn["begin"] == 0]), ("begin", drawn[drawn["begin"] > 0])):
        found |= {f"cosine_{name}": float(picked["cosine"].mean()), f"n_{name}": float(len(picked))}
        found[f"fall_{name}"] = float(picked["chosen"].mean())
    return found


def with_bands(geometry: pd.DataFrame) -> pd.DataFrame:
    """Return "geometry" of the grid ``own-pairs`` with band: log b/a below −0.3, between, above 0.3."""
    log = np.log(geometry["norm_ratio"].to_numpy())
    return geometry.assign(band=np.digitize(log, [-0.3, 0.3]))
