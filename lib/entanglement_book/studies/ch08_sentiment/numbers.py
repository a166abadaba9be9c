"""The numbers that the text of the chapter on sentiment quotes, and what it records for the ledger."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from entanglement.bounded import bounded_interval
from entanglement.stats import Interval, mean_interval
from entanglement_book.grids.stored import Stored
from entanglement_book.materials.tweets import LABELS
from entanglement_book.studies.ch08_sentiment import dials, tables
from entanglement_book.studies.ch08_sentiment.grid import recipe
from entanglement_book.studies.ch08_sentiment.grid_dial import SFT_STEPS

__all__ = [
    "OPTIMIZERS",
    "attempts",
    "by_optimizer",
    "of_account",
    "of_dials",
    "of_labels",
    "of_optimizers",
    "of_rank",
    "of_runs",
    "records",
]

Number = float | Interval
LONG, ONE = "long_suffix", "one_token"
#: What sets apart a run of the grid "sentiment" within one of its conditions.
RUN = ("variant", "seed")
#: Steps of fine-tuning after which all lengths of the suffix were tried, and the most.
FIRST = {"nano": SFT_STEPS["nano"][0], "smol": SFT_STEPS["pretrained"][0]}
MOST = SFT_STEPS["pretrained"][-1]
SHORT = {"one_token": "one_token", "short_suffix": "short", "long_suffix": "long"}


def _even(means: pd.DataFrame, condition: str = "main") -> tuple[dict[str, np.ndarray], float]:
    """Return the chosen answers' changes at the margin that all runs of a condition reached, and that margin.

    The changes are by variant, one a seed, in the order of the seeds.
    """
    some = means[(means["condition"] == condition) & (means["phase"] == "dpo")]
    margin = dials.reached(some, RUN)
    table = dials.at_margin(some, margin, RUN).sort_values("seed")
    return {str(name): rows["chosen"].to_numpy() for name, rows in table.groupby("variant")}, margin


def of_runs(stored: Stored, nano: Stored, other: Stored) -> dict[str, Number]:
    """Return what the main runs, and those from the base without labels, did.

    Args:
        stored: the grid "sentiment" of the model that the chapter was asked for.
        nano, other: of ``nano`` and of the base that saw no label.
    """
    means, found = stored["means"], dict[str, Number]()
    found["n_seeds"] = len(stored.provenance["seeds"])
    found["longer_long"] = tables.norm_share(stored["pairs"], LONG)
    found["both_down_long"] = tables.case_share(means, "both_down", LONG)
    found["both_up_long"] = tables.case_share(means, "both_up", LONG)
    curves = {
        "dw": tables.along_training(means, "chosen_logp", change=True),
        "dl": tables.along_training(means, "rejected_logp", change=True),
    }
    cosine = tables.along_training(means, "cosine")
    even, found["even"] = _even(nano["means"])
    found["further_long"] = mean_interval(even[LONG] - even[ONE])
    for variant, short in SHORT.items():
        found[f"cos_{short}_sft"] = tables.value_at(cosine, variant, 0)
        for name, curve in curves.items():
            found[f"{name}_{short}"] = tables.value_at(curve, variant)
        found[f"even_{short}"] = mean_interval(even[variant])
        for name, quantity in (("other", "chosen_logp"), ("other_cos", "cosine")):
            curve = tables.along_training(other["means"], quantity, change=name == "other")
            found[f"{name}_{short}"] = tables.value_at(curve, variant, 0 if name == "other_cos" else None)
    right = tables.along_training(other["means"], "accuracy", phase="sft")
    found["other_accuracy"] = tables.value_at(right, ONE)
    for condition in ("main", "large_step", "plain"):
        some = nano["means"][nano["means"]["condition"] == condition]
        for variant, short in ((ONE, "one_token"), (LONG, "long")):
            run = dials.changes(some[some["variant"] == variant], RUN).groupby(list(RUN)).last()
            for column in ("chosen", "margin"):
                found[f"{condition}_{column}_{short}"] = mean_interval(run[column].to_numpy())
    for name, condition in (("without", "main"), ("with", "eos")):
        curve = tables.along_training(nano["means"], "cosine", condition=condition)
        found[f"cos_{name}_end"] = tables.value_at(curve, ONE, 0)
    numbers = recipe("book")
    middle = numbers.long_sft_moments[2]
    found |= {"memo_steps": numbers.long_sft_steps, "memo_lr": numbers.long_sft_lr, "memo_middle": middle}
    for quantity, name, sign in (("cosine", "cos", 1), ("chosen_logp", "cost", -1)):
        memo = tables.along_training(nano["means"], quantity, condition="long_sft", phase="sft")
        for when, step in (("start", 0), ("middle", middle), ("end", None)):
            found[f"memo_{name}_{when}"] = sign * tables.value_at(memo, LONG, step).value
    return found


def of_dials(nano: pd.DataFrame, larger: pd.DataFrame, first: pd.DataFrame) -> dict[str, Number]:
    """Return what more words, and better known ones, did to both models.

    Args:
        nano, larger: tables "means" of the grid "dial".
        first: of the grid "first-token".
    """
    found: dict[str, Number] = {}
    for name, means in (("nano", nano), ("smol", larger)):
        sft = FIRST[name]
        begun, some = dials.ends(means), means[means["sft"] == sft]
        found[f"{name}_even"] = margin = dials.reached(some)
        even = dials.over_seeds(dials.at_margin(some, margin), "chosen", ("words",))
        whole = dials.over_seeds(begun[begun["sft"] == sft], "chosen", ("words",))
        cosine = dials.over_seeds(begun, "cosine")
        for words in (0, 1, 2, 4, 8, 12):
            found[f"{name}_even_{words}"] = even[(words,)]
            found[f"{name}_end_{words}"] = whole[(words,)]
            found[f"{name}_cos_{words}"] = cosine[(words, sft)]
        found[f"{name}_all_even"] = dials.reached(means)
    for name, means in (("nano", nano), ("smol", larger)):
        begun = dials.ends(means)
        left, cosine = dials.over_seeds(begun, "left"), dials.over_seeds(begun, "cosine")
        for sft in sorted({int(steps) for steps in means["sft"]}):
            some = means[means["sft"] == sft]
            found[f"{name}_sft{sft}_even"] = margin = dials.reached(some)
            found[f"{name}_left_{sft}"] = left[(8, sft)].value
            found[f"{name}_cos_8_{sft}"] = cosine[(8, sft)]
            even = dials.over_seeds(dials.at_margin(some, margin), "chosen", ("words",))
            for words in (0, 8):
                found[f"{name}_sft{sft}_even_{words}"] = even[(words,)]
    found |= {f"rank_{name}": rank for name, rank in of_rank(nano, larger).items()}
    found["left_below"], found["left_above"] = dials.crossing(nano, larger)
    found["n_dial"] = int(nano["seed"].nunique())
    own = larger[(larger["words"] == 8) & (larger["sft"] == FIRST["smol"])].assign(first="chat")
    own = own[own["seed"].isin(first["seed"].unique())]
    for name, means in (("chat", own), *first.groupby("first")):
        runs = dials.changes(means, ("seed",)).groupby("seed")
        found[f"first_{name}_cos"] = float(runs["cosine"].first().mean())
        found[f"first_{name}_dw"] = float(runs["chosen"].last().mean())
        found[f"first_{name}_dl"] = float(runs["rejected"].last().mean())
    for name, kind in (("nano", "nano"), ("smol", "pretrained")):
        found[f"{name}_steps"], _, found[f"{name}_few"], found[f"{name}_most"] = SFT_STEPS[kind]
    pretrained = recipe("book", "smollm2-135m")
    found |= {"smol_dpo": pretrained.dpo_steps, "smol_batch": pretrained.dpo_batch}
    # The label alone, at the first moment of DPO that is measured, and at the last.
    alone = larger[(larger["words"] == 0) & (larger["sft"] == FIRST["smol"])]
    found["smol_moment"] = moment = pretrained.moments[1]
    by_step = dials.changes(alone, ("seed",)).groupby("step")["chosen"]
    for name, step in (("early", moment), ("late", pretrained.dpo_steps)):
        found[f"smol_{name}"] = mean_interval(by_step.get_group(step).to_numpy())
    return found


def of_rank(nano: pd.DataFrame, larger: pd.DataFrame) -> dict[str, Interval]:
    """Return how well three numbers order the cosines before DPO of all runs that share a word.

    Args:
        nano, larger: tables "means" of the grid "dial".

    Returns:
        "left" for what the words still cost, "words" for how many there are, "sft" for how few steps of
        fine-tuning came before: Spearman's rank correlation with the cosine over both models and all
        fine-tunings, mean over seeds.
    """
    runs = pd.concat([dials.ends(means) for means in (nano, larger)])
    runs["sft"] = -runs["sft"]  # more steps, a lower cosine: so that all three are expected to be positive
    by_seed = [rows for _, rows in runs[runs["words"] > 0].groupby("seed")]
    return {
        column: bounded_interval(
            [stats.spearmanr(rows[column], rows["cosine"]).statistic for rows in by_seed], low=-1
        )
        for column in ("left", "words", "sft")
    }


def of_labels(
    pairs: pd.DataFrame, labels: Mapping[str, str], *, condition: str = "main"
) -> dict[str, Interval]:
    """Return the chosen answer's change over DPO where either label is right (nats, over seeds).

    A model that only learns to say one label more often raises the chosen answer where that label is right
    and lowers it where the other is.

    Args:
        pairs: the table of that name of the grid "sentiment".
        labels: the right label, one of ``LABELS``, of every pair of the table.
        condition: which runs.

    Returns:
        For one_token, short and long: "positive_…" and "negative_…", the mean change over the pairs of that
        label, and "bias_…", the first minus the second, seed by seed.

    Raises:
        ValueError: a pair without a label.
    """
    run = ("variant", "seed", "pair")
    some = pairs[pairs["condition"] == condition]
    ends = dials.changes(some, run).groupby(list(run))["chosen"].last().reset_index()
    if unknown := sorted(set(ends["pair"]) - set(labels)):
        raise ValueError(f"labels lacks {', '.join(unknown)}; expected the right label of every pair.")
    ends["right"] = ends["pair"].map(dict(labels))
    by_seed = ends.groupby(["variant", "right", "seed"])["chosen"].mean()
    found = {}
    for variant, short in SHORT.items():
        positive, negative = (by_seed[variant, label] for label in LABELS)
        for name, values in (("positive", positive), ("negative", negative), ("bias", positive - negative)):
            found[f"{name}_{short}"] = mean_interval(values.to_numpy())
    return found


def of_account(account: pd.DataFrame) -> dict[str, Number]:
    """Return the account's totals, and its terms for pairs of the batch under both lengths of the plain step.

    Args:
        account: the table of that name of the grid "sentiment" of ``nano``.
    """
    found: dict[str, Number] = {}
    by_length = {length: tables.account_shares(account, length=length) for length in ("taken", "margin")}
    plain = tables.account_shares(account, condition="plain")
    for variant, short in SHORT.items():
        found[f"acc_{short}"] = tables.account_total(by_length["taken"], "batch", variant)
        found[f"acc_held_{short}"] = tables.account_total(by_length["taken"], "test", variant)
        found[f"kept_{short}"] = tables.account_total(plain, "batch", variant)
        for length, table in by_length.items():
            for pairs in ("batch", "test"):
                for term, name in (("own_pair", "own"), ("preconditioner", "turn")):
                    found[f"{name}_{pairs}_{length}_{short}"] = tables.account_total(
                        table, pairs, variant, term
                    )
        found[f"bend_{short}"] = tables.account_total(plain, "test", variant, "curvature")
    return found


#: The grids' names of the optimizers → what to write, from AdamW to plain steps.
OPTIMIZERS = {
    "main": "AdamW, clipped",
    "adamw": "AdamW",
    "no_momentum": "scaling alone",
    "momentum": "momentum alone",
    "plain": "plain steps",
}


def by_optimizer(nano: Stored, parts: Stored) -> pd.DataFrame:
    """Return what became of the chosen answer for each nat of margin, by what the optimizer does.

    Args:
        nano: the grid "sentiment" of ``nano``: AdamW with clipping ("main") and plain steps.
        parts: the grid "optimizers".

    Returns:
        A row an optimizer (a name of ``OPTIMIZERS``), variant and set: "batch" for pairs of the batch in
        their own steps, from the account, and "test" for held-out pairs over the run. Columns value, low,
        high, n: the change of log π_w over that of the margin, over seeds.
    """

    def joined(table: str) -> pd.DataFrame:
        both = [nano[table].rename(columns={"condition": "optimizer"}), parts[table]]
        return pd.concat([rows[rows["optimizer"].isin(OPTIMIZERS)] for rows in both])

    keys = ["optimizer", "variant", "seed"]
    account = joined("account")
    sums = account[account["set"] == "batch"].groupby([*keys, "response"])["total"].sum().unstack("response")
    means = joined("means")
    means = means[means["phase"].isna() | (means["phase"] == "dpo")].drop(columns="phase")
    ends = dials.changes(means, keys).groupby(keys)[["chosen", "rejected"]].last()
    found = []
    for pairs, table in (("batch", sums), ("test", ends)):
        shares = table["chosen"] / (table["chosen"] - table["rejected"])
        for (optimizer, variant), values in shares.groupby(["optimizer", "variant"]):
            found.append((optimizer, variant, pairs, *mean_interval(values.to_numpy())))
    return pd.DataFrame(found, columns=["optimizer", "variant", "set", "value", "low", "high", "n"])


def of_optimizers(ways: pd.DataFrame) -> dict[str, Number]:
    """Return ``by_optimizer`` by name: <batch or test>_<optimizer>_<one_token or long>."""
    return {
        f"{row['set']}_{row['optimizer']}_{SHORT[row['variant']]}": Interval(
            row["value"], row["low"], row["high"], row["n"]
        )
        for row in ways.to_dict("records")
    }


def attempts(
    nano: Stored, other: Stored, dial: pd.DataFrame, larger: pd.DataFrame, rates: pd.DataFrame
) -> dict[str, Interval]:
    """Return what was tried to make the held-out answer of one token rise: its change over DPO (nats).

    Args:
        nano, other: the grid "sentiment" of ``nano`` and of the base without labels.
        dial, larger: tables "means" of the grid "dial" of ``nano`` and SmolLM2.
        rates: of the grid "rates".
    """
    found: dict[str, Interval] = {}

    def add(name: str, means: pd.DataFrame) -> None:
        found[name] = mean_interval(
            dials.changes(means, ("seed",)).groupby("seed")["chosen"].last().to_numpy()
        )

    def of(stored: Stored, condition: str) -> pd.DataFrame:
        means = stored["means"]
        return means[(means["condition"] == condition) & (means["variant"] == ONE)]

    for rate, rows in rates.groupby("rate"):
        add(f"nano, {rate:g} × the rate", rows)
    add("nano, as above", of(nano, "main"))
    add("nano, 4 × the rate", of(nano, "large_step"))
    add("nano, plain steps", of(nano, "plain"))
    for name, means in (("nano", dial), ("SmolLM2", larger)):
        for sft, rows in means[means["words"] == 0].groupby("sft"):
            if (name, sft) != ("nano", FIRST["nano"]):  # that is "as above"
                add(f"{name}, {sft} steps of SFT", rows)
    add("nano-unlabeled, as above", of(other, "main"))
    return found


def records(
    nano: Stored,
    other: Stored,
    dial: pd.DataFrame,
    larger: pd.DataFrame,
    ways: pd.DataFrame,
    by_label: Mapping[str, Interval],
    base_accuracy: float,
) -> Mapping[str, tuple[Number, Number]]:
    """Return what the chapter records: claim → (value, control).

    Args:
        nano, other: the grid "sentiment" of ``nano`` and of the base without labels.
        dial, larger: tables "means" of the grid "dial" of ``nano`` and SmolLM2.
        ways: from ``by_optimizer``.
        by_label: from ``of_labels``, of ``nano``.
        base_accuracy: the share of held-out tweets that ``nano-unlabeled`` labels rightly.
    """
    means = nano["means"]
    cosine = tables.along_training(means, "cosine")
    chosen = tables.along_training(means, "chosen_logp", change=True)
    even, _ = _even(nano["means"])
    few = larger[larger["sft"] == FIRST["smol"]]
    steps = dials.ends(few).pivot(index="seed", columns="words", values="cosine")
    known = dials.ends(larger[larger["sft"] == MOST]).pivot(index="seed", columns="words", values="cosine")
    margin = dials.reached(few)
    falls = dials.at_margin(few, margin).pivot(index="seed", columns="words", values="chosen")
    small = dial[dial["sft"] == FIRST["nano"]]
    nano_falls = dials.at_margin(small, dials.reached(small)).pivot(
        index="seed", columns="words", values="chosen"
    )
    memo = tables.along_training(nano["means"], "cosine", condition="long_sft", phase="sft")
    other_cosine = tables.along_training(other["means"], "cosine")
    right = tables.along_training(means, "accuracy", phase="sft")
    plain = tables.account_shares(nano["account"], condition="plain")
    held = tables.along_training(nano["means"], "chosen_logp", condition="plain", change=True)
    short = "short_suffix"
    rank = of_rank(dial, larger)
    optimizers = of_optimizers(ways)

    def over(column: pd.Series) -> Interval:
        return mean_interval(column.to_numpy())

    def further(table: pd.DataFrame) -> Interval:
        return tables.difference(table, "chosen_logp", short, ONE, change=True)

    return {
        "sentiment-cosine-order": (
            over(pd.Series(np.diff(steps.to_numpy(), axis=1).min(axis=1))),
            over(known[1] - known[0]),
        ),
        "sentiment-cosine-cost": (
            rank["left"],
            max(rank["words"], rank["sft"], key=lambda rival: rival.value),
        ),
        "sentiment-one-token-negative": (tables.value_at(cosine, ONE), tables.value_at(cosine, LONG)),
        "sentiment-chosen-rises": (tables.value_at(chosen, ONE), tables.value_at(chosen, LONG)),
        "sentiment-one-token-bias": (by_label["bias_one_token"], by_label["positive_long"]),
        "sentiment-chosen-falls": (mean_interval(even[LONG]), mean_interval(even[ONE])),
        "sentiment-chosen-falls-larger": (over(falls[8]), over(falls[0])),
        "sentiment-longer-falls-further": (
            mean_interval(even[LONG] - even[ONE]),
            over(nano_falls[1] - nano_falls[0]),
        ),
        "sentiment-more-words": (over(falls[12] - falls[1]), over(steps[12] - steps[1])),
        "sentiment-sft-accuracy": (tables.value_at(right, ONE), base_accuracy),
        "sentiment-plain-pair-rises": (
            tables.account_total(plain, "batch", LONG),
            tables.value_at(held, LONG),
        ),
        "sentiment-momentum": (optimizers["batch_no_momentum_long"], optimizers["batch_momentum_long"]),
        "sentiment-memorized": (tables.value_at(memo, LONG), tables.value_at(memo, LONG, 0)),
        "sentiment-unlabeled-short": (
            tables.value_at(other_cosine, short, 0),
            tables.value_at(cosine, short, 0),
        ),
        "sentiment-unlabeled-falls": (further(other["means"]), further(means)),
    }
