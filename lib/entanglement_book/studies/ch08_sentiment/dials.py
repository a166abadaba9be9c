"""Reading the grid of the two dials: how many words are shared, and how well they are known.

Intervals are over seeds. Runs are compared at the end of DPO and at equal margin, since a run that went
further has moved both answers further, whatever its words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from entanglement.bounded import bounded_interval
from entanglement.stats import Interval, mean_interval
from entanglement_book.studies.ch08_sentiment.tables import RANGES

__all__ = [
    "RUN",
    "along_margin",
    "at_margin",
    "changes",
    "crossing",
    "dose",
    "ends",
    "left_to_learn",
    "over_seeds",
    "panels_along_margin",
    "reached",
]

#: What sets a run of the grid "dial" apart.
RUN = ("words", "sft", "seed")


def changes(means: pd.DataFrame, run: Sequence[str]) -> pd.DataFrame:
    """Return the rows of DPO with the changes since its first step: chosen, rejected, margin (nats).

    Args:
        means: a grid's table of that name.
        run: the columns that set a run apart.
    """
    rows = means[means["phase"] == "dpo"] if "phase" in means else means
    rows = rows.sort_values([*run, "step"]).copy()
    starts = rows.groupby(list(run))[["chosen_logp", "rejected_logp"]].transform("first")
    rows["chosen"] = rows["chosen_logp"] - starts["chosen_logp"]
    rows["rejected"] = rows["rejected_logp"] - starts["rejected_logp"]
    rows["margin"] = rows["chosen"] - rows["rejected"]
    return rows


def ends(means: pd.DataFrame) -> pd.DataFrame:
    """Return where each run of the grid "dial" began and ended.

    Args:
        means: its table of that name.

    Returns:
        A row a run: ``RUN``; cosine (at the start of DPO), cosine_end; left, what the shared words cost at
        the start of DPO (nats: the cost of the chosen response less that of the label alone, after as much
        fine-tuning); chosen, rejected, margin (changes over DPO, nats); accuracy, accuracy_end.
    """
    groups = changes(means, RUN).groupby(list(RUN))
    first, last = groups.first(), groups.last()
    table = last[["chosen", "rejected", "margin"]].copy()
    table["cosine"], table["cosine_end"] = first["cosine"], last["cosine"]
    table["accuracy"], table["accuracy_end"] = first["accuracy"], last["accuracy"]
    label = first["chosen_logp"].xs(0, level="words")
    keys = pd.MultiIndex.from_frame(first.reset_index()[["sft", "seed"]])
    table["left"] = label.reindex(keys).to_numpy() - first["chosen_logp"].to_numpy()
    return table.reset_index()


def reached(means: pd.DataFrame, run: Sequence[str] = RUN) -> float:
    """Return the margin that every run gained by its end, rounded down to a tenth of a nat."""
    last = changes(means, run).groupby(list(run))["margin"].max().min()
    return float(np.floor(10 * last) / 10)


def at_margin(means: pd.DataFrame, margin: float, run: Sequence[str] = RUN) -> pd.DataFrame:
    """Return both answers' changes when the margin has grown by so much, by a line between measured steps.

    Args:
        means: a grid's table of that name.
        margin: nats.
        run: the columns that set a run apart.

    Returns:
        A row a run that grew its margin so far: ``run``, chosen and rejected (nats).
    """
    found = []
    for key, rows in changes(means, run).groupby(list(run)):
        way = np.maximum.accumulate(rows["margin"].to_numpy())  # the first time that it was reached
        if way[-1] >= margin:
            chosen = float(np.interp(margin, way, rows["chosen"]))
            found.append((*key, chosen, chosen - margin))
    return pd.DataFrame(found, columns=[*run, "chosen", "rejected"])


def along_margin(means: pd.DataFrame, margins: Sequence[float], run: Sequence[str]) -> pd.DataFrame:
    """Return the chosen answer's change against the margin gained: a row a margin that all runs reached.

    Args:
        means: runs that differ in their seed alone.
        margins: nats.
        run: the columns that set a run apart.

    Returns:
        Columns margin, value, low, high, n (nats; 95 % over seeds).
    """
    most = reached(means, run)
    rows = []
    for margin in margins:
        if margin <= most:
            rows.append((margin, *mean_interval(at_margin(means, margin, run)["chosen"].to_numpy())))
    return pd.DataFrame(rows, columns=["margin", "value", "low", "high", "n"])


def panels_along_margin(
    means: pd.DataFrame, variants: Mapping[str, str], conditions: Mapping[str, str]
) -> dict[str, dict[str, pd.DataFrame]]:
    """Return ``along_margin`` for conditions of the grid "sentiment", at every tenth of a nat.

    Args:
        means: its table of that name.
        variants: form of the answers → what to call it.
        conditions: condition → what to call it.

    Returns:
        The names of the forms → those of the conditions → the curve.
    """
    margins = np.arange(0, 10, 0.1).round(1)
    return {
        title: {
            name: along_margin(
                means[(means["condition"] == condition) & (means["variant"] == variant)],
                margins.tolist(),
                ("variant", "seed"),
            )
            for condition, name in conditions.items()
        }
        for variant, title in variants.items()
    }


def over_seeds(
    table: pd.DataFrame, column: str, by: Sequence[str] = ("words", "sft")
) -> dict[tuple[int, ...], Interval]:
    """Return the mean and interval over seeds of a column for each group.

    Args:
        table: a row a run.
        column: what is averaged; a cosine's interval stays within −1 and 1, an accuracy's within 0 and 1.
        by: what a group is.
    """
    low, high = next((r for name, r in RANGES.items() if column.startswith(name)), (-np.inf, np.inf))
    return {
        tuple(int(str(part)) for part in key): bounded_interval(rows[column].to_numpy(), low=low, high=high)
        for key, rows in table.groupby(list(by))
    }


def dose(means: pd.DataFrame, sft: int) -> dict[str, pd.DataFrame]:
    """Return what more shared words do after one length of fine-tuning.

    Args:
        means: the table of that name of the grid "dial".
        sft: steps of fine-tuning.

    Returns:
        "cosine" before DPO, and "chosen", the change of the chosen answer at the margin that all these runs
        reached: columns words, value, low, high, n.
    """
    some = means[means["sft"] == sft]
    tables = {"cosine": ends(some), "chosen": at_margin(some, reached(some))}
    return {
        quantity: pd.DataFrame(
            [(words, *found) for (words,), found in over_seeds(table, quantity, ("words",)).items()],
            columns=["words", "value", "low", "high", "n"],
        )
        for quantity, table in tables.items()
    }


def left_to_learn(means: pd.DataFrame) -> pd.DataFrame:
    """Return cosine and fall beside what the shared words still cost before DPO.

    Args:
        means: the table of that name of the grid "dial".

    Returns:
        A row a number of words (not 0) and of steps of fine-tuning: words, sft, left (nats, mean over seeds);
        cosine, before DPO, and chosen, the change at the margin that all runs reached, each with _low, _high.
    """
    begun, even = ends(means), at_margin(means, reached(means))
    left, found = over_seeds(begun, "left"), {"cosine": over_seeds(begun, "cosine")}
    found["chosen"] = over_seeds(even, "chosen")
    rows = []
    for (words, sft), cost in left.items():
        if words:
            row: dict[str, float] = {"words": words, "sft": sft, "left": cost.value}
            for name, intervals in found.items():
                value, low, high, _ = intervals[(words, sft)]
                row |= {name: value, f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def crossing(*means: pd.DataFrame) -> tuple[float, float]:
    """Return between which costs of the shared words the cosine turns positive, over several models.

    Args:
        means: tables of that name of the grid "dial", one a model.

    Returns:
        The largest cost up to which every cosine's interval lies below zero, and the smallest from which on
        every one lies above (nats).
    """
    left = pd.concat([left_to_learn(table) for table in means])
    unsure_below = left.loc[left["cosine_high"] >= 0, "left"].min()
    unsure_above = left.loc[left["cosine_low"] <= 0, "left"].max()
    return (
        float(left.loc[left["left"] < unsure_below, "left"].max()),
        float(left.loc[left["left"] > unsure_above, "left"].min()),
    )
