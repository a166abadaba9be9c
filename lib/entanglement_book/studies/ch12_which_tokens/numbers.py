"""The numbers that the text of which tokens matter quotes, and what its figures draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from entanglement.bounded import bounded_interval
from entanglement.stats import Interval, mean_interval, share_interval
from entanglement_book.studies.ch12_which_tokens.grid import ranking
from entanglement_book.studies.shared.constant_ratios import as_ways, constant, smaller_gain
from entanglement_book.studies.shared.means import TOLERANCE
from entanglement_book.studies.shared.update_tables import as_updates, at_end, at_margin

__all__ = [
    "FATES",
    "PLACES",
    "before_and_after",
    "chance",
    "copies",
    "costs",
    "fate_counts",
    "fates",
    "finding_rows",
    "moved",
    "of_fates",
    "of_finding",
    "of_places",
    "of_training",
    "placed",
    "standing",
    "with_constants",
    "worst_elsewhere",
    "worst_mixed",
]

Number = float | Interval
PLACES = ("first", "middle", "last")
#: What can have become of a pair whose chosen answer fell: column → in words.
FATES: dict[str, str] = {
    "wrong": "wrong label before, and it fell",
    "right": "right label before, and it fell",
    "suffix_only": "label kept: the suffix fell",
}


# --- training -------------------------------------------------------------------------------------------


def with_constants(masks: pd.DataFrame, sweep: pd.DataFrame) -> pd.DataFrame:
    """Return the ways to weigh tokens and DPO with constant ratios in one table of updates.

    Both grids have the same checkpoints, batches and held-out pairs, so what they know in common must agree:
    the model before training, and DPO itself, which is all tokens in the one and r = 1 in the other.

    Args:
        masks: "means" of the grid ``masking``.
        sweep: "means" of the grid ``ratio``.

    Raises:
        ValueError: they do not agree.
    """
    mine = as_updates(masks, "weights")
    theirs = as_ways(sweep[(sweep["optimizer"] == "adamw") & (sweep["rate"] == 1.0)])
    keys, values = ["seed", "step", "set"], ["chosen", "rejected", "accuracy"]
    one = mine[mine["update"] == "everything"].set_index(keys)[values]
    other = theirs[theirs["update"] == constant(1.0)].set_index(keys)[values]
    both = one.index.intersection(other.index)
    apart = (one.loc[both] - other.loc[both]).abs().max().max()
    if not len(both) or apart > 1e-3:
        raise ValueError(f"all tokens and r = 1 are {apart:.2g} apart; expected the same training.")
    return pd.concat([mine, theirs], ignore_index=True)


def before_and_after(ways: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Return the held-out pairs before training and after each way, a row a way: chosen, rejected (changes,
    nats), fell, rose, accuracy (shares), means over seeds.
    """
    columns = ["chosen", "rejected", "fell", "rose", "accuracy"]
    start = ways[(ways["step"] == 0) & (ways["set"] == "test")]
    shown = {"before training": start.groupby("seed")[columns].first().mean()}
    for name, title in titles.items():
        shown[title] = pd.Series({c: float(at_end(ways, name, c).value) for c in columns})
    return pd.DataFrame(shown).T


def standing(
    ways: pd.DataFrame, names: Sequence[str], share: float = 0.9
) -> dict[str, tuple[Interval, Interval]]:
    """Return the changes of both held-out answers when the margin is a share of what DPO ends with, for the
    ways that get there with every seed.
    """
    there = at_margin(ways, list(names), share, pairs="test", itself="everything")
    found = {}
    for name in names:
        rows = there[there["update"] == name]
        if rows["step"].notna().all():
            chosen, rejected = (mean_interval(rows[c].to_numpy()) for c in ("chosen", "rejected"))
            found[name] = (chosen, rejected)
    return found


def _last(ways: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the held-out pairs' rows after training in one way."""
    rows = ways[(ways["update"] == name) & (ways["set"] == "test")]
    return rows[rows["step"] == rows["step"].max()]


def of_training(ways: pd.DataFrame, names: Sequence[str], best: str) -> dict[str, Number]:
    """Return where the held-out answers end, and by how much masks differ from the best constant.

    Args:
        ways: of ``with_constants``.
        names: the ways to weigh tokens.
        best: the constant that is shown, by name.

    Returns:
        <name>_<column> for chosen, rejected, margin (nats), fell, rose, accuracy (percent), and the same for
        "constant"; there_<name>: share that fell (percent) at nine tenths of DPO's margin; minus_<name>:
        smaller gain there minus the constant's, seed by seed (nats), and constant_ahead, the other way
        round for the contrasting tokens; kept_not and kept_not_constant: shares that fell; accuracy_before
        (percent).
    """
    facts: dict[str, Number] = {"n_grid": int(ways["seed"].nunique()), "ratio": float(best.split("= ")[1])}
    every = {name: name for name in names} | {best: "constant"}
    for name, short in every.items():
        for column in ("chosen", "rejected", "margin"):
            facts[f"{short}_{column}"] = at_end(ways, name, column)
        for column in ("fell", "rose", "accuracy"):
            facts[f"{short}_{column}"] = _percent(_last(ways, name)[column])
    there = at_margin(ways, list(every), 0.9, pairs="test", itself="everything")
    gains = there.assign(gain=smaller_gain(there)).pivot_table(
        index="seed", columns="update", values="gain", dropna=False
    )
    for name, short in every.items():
        if name != best and gains[name].notna().all():
            facts[f"there_{short}"] = 100 * float(there.loc[there["update"] == name, "fell"].mean())
            facts[f"minus_{short}"] = mean_interval((gains[name] - gains[best]).to_numpy())
    behind = facts["minus_contrasting"]
    assert isinstance(behind, Interval)
    facts["constant_ahead"] = Interval(-behind.value, -behind.high, -behind.low, behind.n)
    for name, key in (("contrasting", "kept_not"), (best, "kept_not_constant")):
        facts[key] = bounded_interval(_last(ways, name)["fell"].to_numpy())
    start = ways[(ways["step"] == 0) & (ways["set"] == "test")]
    facts["accuracy_before"] = 100 * float(start["accuracy"].mean())
    return facts


def costs(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return how many times as long as DPO's own a step with token weights takes with ``nano``."""
    named = {
        "cost_told": "contrasting tokens, nano",
        "cost_two": "tokens by two references, nano",
        "cost_learned": "learned token mask, nano",
        "cost_geometry": "tokens by their geometry, nano",
    }
    by_name = {line["ours"]: 1 / line["ratio"] for line in lines}
    return {short: float(by_name[name]) for short, name in named.items()}


# --- finding the tokens ---------------------------------------------------------------------------------


def of_finding(tokens: pd.DataFrame, names: Sequence[str]) -> dict[str, Number]:
    """Return rank_<name>, the chance that a contrasting token outweighs a shared one, over seeds, and the
    learned mask's mean weight on both kinds of tokens.

    Args:
        tokens: of the grid ``masking``, whose answers all begin with the contrasting token.
        names: the ways to weigh.
    """
    facts: dict[str, Number] = {}
    for name in names:
        mine = tokens[tokens["weights"] == name].groupby("seed")
        each = pd.Series([ranking(rows) for _, rows in mine])
        facts[f"rank_{name}"] = chance(each, mine["pair"].nunique().min())
    learned = tokens[tokens["weights"] == "learned"]
    for contrast, name in ((True, "learned_in"), (False, "learned_out")):
        weights = learned[learned["contrast"] == contrast].groupby("seed")["weight"].mean()
        facts[name] = float(weights.mean())
    return facts


def chance(values: pd.Series, pairs: float) -> Interval:
    """Return the mean of chances over seeds, and an interval inside 0 and 1.

    It is over seeds (``bounded_interval``). Where all seeds have 1, or all have 0, there is no spread to go
    by; then it is the exact interval of a share, each pair counted once.

    Args:
        values: one a seed.
        pairs: over how many of each seed.
    """
    seeds = values.to_numpy()
    if seeds.min() == seeds.max() and seeds[0] in (0, 1):
        n = int(pairs) * len(seeds)
        return share_interval(n * int(seeds[0]), n)
    return bounded_interval(seeds)


def placed(found: pd.DataFrame) -> pd.DataFrame:
    """Return the chance that a contrasting token outweighs a shared one, by where it stood.

    Args:
        found: of the grid ``positions``.

    Returns:
        Columns trained, tested, seed, and a column a kind of weights ("mask", "place", "word", "first").
    """
    keys = ["trained", "tested", "seed", "pairs"]
    return found.pivot_table(index=keys, columns="by", values="found").reset_index()


def worst_mixed(table: pd.DataFrame) -> tuple[Interval, float]:
    """Return the chance at the worst of the three places, seed by seed, for the mask from mixed pairs; and at
    the three together, which is more, that of the best weights that know the place alone.

    Args:
        table: of ``placed``.
    """
    some = table[(table["trained"] == "mixed") & table["tested"].isin(PLACES)]
    worst = chance(some.groupby("seed")["mask"].min(), some["pairs"].min())
    return worst, float(some["place"].mean())


def worst_elsewhere(table: pd.DataFrame) -> tuple[Interval, float]:
    """Return the mask's chance at the worst pair of a trained and *another* tested place, seed by seed, and
    at the best of them that of the weight which knows the trained place alone.
    """
    some = table[table["trained"].isin(PLACES) & table["tested"].isin(PLACES)]
    some = some[some["trained"] != some["tested"]]
    place = some.groupby("seed")["place"].max().mean()
    return chance(some.groupby("seed")["mask"].min(), some["pairs"].min()), float(place)


def copies(found: pd.DataFrame, trained: str, by: str = "mask") -> Interval:
    """Return the chance that the contrasting token outweighs a shared copy of a label word.

    Args:
        found: of the grid ``positions``.
        trained: kind of the pairs that the mask was trained on.
        by: whose weights.
    """
    some = found[(found["trained"] == trained) & (found["tested"] == "copies") & (found["by"] == by)]
    return chance(some.set_index("seed")["copies"], some["pairs"].min())


def finding_rows(found: pd.DataFrame) -> dict[str, tuple[Interval, float, float]]:
    """Return the rows of the figure: what was trained and what tested → chance for the mask, over seeds, and
    for the place and the word alone. In the last rows it is the chance to outweigh a shared copy.

    Args:
        found: of the grid ``positions``.
    """
    table = placed(found)
    rows = {}
    for trained in ("first", "mixed"):
        for tested in PLACES:
            some = table[(table["trained"] == trained) & (table["tested"] == tested)]
            place, word = (float(some[by].mean()) for by in ("place", "word"))
            rows[f"{trained} → {tested}"] = (chance(some["mask"], some["pairs"].min()), place, word)
    for trained in ("first", "mixed"):
        chances = [copies(found, trained, by) for by in ("mask", "place", "word")]
        rows[f"{trained} → a copy"] = (chances[0], float(chances[1].value), float(chances[2].value))
    return rows


def of_places(found: pd.DataFrame) -> dict[str, Number]:
    """Return what the mask finds when the contrasting token moves.

    Returns:
        mixed and mixed_place: ``worst_mixed`` of the mask and of the place alone; elsewhere and
        elsewhere_place: ``worst_elsewhere``; mixed_in and mixed_out: mean weights of the mask from mixed
        pairs; copies, copies_first and copies_word: ``copies`` of the masks trained on mixed pairs and with
        the label first, and of the word alone.
    """
    table = placed(found)
    elsewhere, place = worst_elsewhere(table)
    mixed, place_mixed = worst_mixed(table)
    own = found[(found["trained"] == "mixed") & found["tested"].isin(PLACES) & (found["by"] == "mask")]
    return {
        "mixed": mixed,
        "mixed_place": place_mixed,
        "elsewhere": elsewhere,
        "elsewhere_place": place,
        "mixed_in": float(own["inside"].mean()),
        "mixed_out": float(own["outside"].mean()),
        "copies": copies(found, "mixed"),
        "copies_first": copies(found, "first"),
        "copies_word": float(copies(found, "mixed", "word").value),
    }


# --- who falls ------------------------------------------------------------------------------------------


def fates(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a weigher and seed, with numbers of held-out pairs: pairs (all), fell (their chosen
    answer fell by more than the tolerance), each of ``FATES`` (which add up to fell; a label fell if it lost
    more than the tolerance), all_wrong (the label was the less likely one before training) and fell_wrong
    (and the answer fell).

    Args:
        pairs: of the grid ``crosstab``.
    """
    keys = ["weights", "seed", "pair"]
    chosen = pairs[pairs["response"] == "chosen"].set_index(keys)
    rejected = pairs[pairs["response"] == "rejected"].set_index(keys).loc[chosen.index]
    fell = chosen["contrasting"] + chosen["shared"] < -TOLERANCE
    wrong = chosen["contrasting_before"] < rejected["contrasting_before"]
    label = chosen["contrasting"] < -TOLERANCE
    columns = {"pairs": fell | True, "fell": fell, "all_wrong": wrong, "fell_wrong": fell & wrong}
    columns |= {"wrong": fell & label & wrong, "right": fell & label & ~wrong, "suffix_only": fell & ~label}
    return pd.DataFrame(columns).astype(int).groupby(["weights", "seed"]).sum().reset_index()


def fate_counts(pairs: pd.DataFrame, titles: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Return, for each way, how many pairs met each of ``FATES``: title → fate → number, over all seeds."""
    table = fates(pairs).groupby("weights")[list(FATES)].sum().to_dict("index")
    return {title: {fate: int(table[name][fate]) for fate in FATES} for name, title in titles.items()}


def moved(pairs: pd.DataFrame, titles: Mapping[str, str]) -> dict[str, Interval]:
    """Return by how much label and suffix of the chosen answer changed, over seeds (nats): "label, <title>",
    "suffix, <title>" → change.
    """
    found = {}
    for part, column in (("label", "contrasting"), ("suffix", "shared")):
        for name, title in titles.items():
            rows = pairs[(pairs["response"] == "chosen") & (pairs["weights"] == name)]
            found[f"{part}, {title}"] = mean_interval(rows.groupby("seed")[column].mean().to_numpy())
    return found


def of_fates(pairs: pd.DataFrame) -> dict[str, Number]:
    """Return what became of the pairs whose chosen answer fell.

    Returns:
        n_pairs; wrong_all: percent of all pairs that had the wrong label before; for each weigher fallen_
        (how many), if_wrong_ and if_right_ (percent of the pairs with such a label before that fell, all
        seeds together), wrong_among_ (percent of the fallen with the wrong label before), <fate>_ (percent of
        these, over seeds), label_ and suffix_ (nats); suffix_spared: percent of the suffix's change under DPO
        that the mask takes away.
    """
    table = fates(pairs)
    one = table[table["weights"] == "contrasting"]
    facts: dict[str, Number] = {
        "n_pairs": int(one["pairs"].sum()),
        "wrong_all": _percent(one["all_wrong"] / one["pairs"]),
    }
    for name, rows in table.groupby("weights"):
        facts[f"fallen_{name}"] = int(rows["fell"].sum())
        facts[f"wrong_among_{name}"] = _percent(rows["fell_wrong"] / rows["fell"])
        facts[f"if_wrong_{name}"] = 100 * float(rows["fell_wrong"].sum() / rows["all_wrong"].sum())
        right = rows["fell"].sum() - rows["fell_wrong"].sum()
        facts[f"if_right_{name}"] = 100 * float(right / (rows["pairs"].sum() - rows["all_wrong"].sum()))
        for fate in FATES:
            facts[f"{fate}_{name}"] = _percent(rows[fate] / rows["fell"])
        for label, change in moved(pairs, {str(name): str(name)}).items():
            facts[label.replace(", ", "_")] = change
    whole = moved(pairs, {name: name for name in ("everything", "contrasting")})
    left = whole["suffix, contrasting"].value / whole["suffix, everything"].value
    return facts | {"suffix_spared": 100 * (1 - float(left))}


def _percent(shares: pd.Series) -> Interval:
    """Return the mean over seeds and its interval, which stays between 0 and 100."""
    found = bounded_interval(shares.to_numpy())
    return Interval(100 * found.value, 100 * found.low, 100 * found.high, found.n)
