"""The numbers that the text of rewards instead of margins quotes, and what its figures draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from entanglement.bounded import bounded_interval, clustered_share
from entanglement.stats import Interval, mean_interval
from entanglement_book.studies.ch14_rewards.copying import LONGEST, TOKENS

__all__ = [
    "AT_ONCE",
    "among_hesitant",
    "answers_at",
    "apart_together",
    "at_equal_gain",
    "at_the_end",
    "balanced_signs",
    "contributions",
    "difference",
    "foretold",
    "judged",
    "less_apart",
    "matched",
    "nearest",
    "own_difference",
    "percent",
    "stopped",
]

#: Tokens of an answer that does not hesitate: two digits and the end.
AT_ONCE = TOKENS - LONGEST


def percent(interval: Interval) -> Interval:
    """Return an interval of a share in percent."""
    return Interval(100 * interval.value, 100 * interval.low, 100 * interval.high, interval.n)


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of the toy without seed 0, on which its sizes were chosen; all of it at scale smoke."""
    return table[table["seed"] > 0] if table["seed"].nunique() > 2 else table


def at_the_end(means: pd.DataFrame, column: str, **cell: str) -> pd.Series:
    """Return a column of ``set_means`` at the last step, by seed.

    Args:
        means: of one of the grids.
        column: "chosen", "rejected", "margin", …
        **cell: values of other columns (way, kind, arm, source, set).
    """
    rows = means[(means[list(cell)] == pd.Series(cell)).all(axis=1)]
    last = rows[rows["step"] == rows["step"].max()]
    found: pd.Series = last.set_index("seed")[column].sort_index()
    return found


def difference(one: pd.Series, other: pd.Series) -> Interval:
    """Return one minus the other, seed by seed."""
    return mean_interval((one - other).to_numpy())


# --- given pairs, six ways and one without a price ----------------------------------------------------------


def apart_together(means: pd.DataFrame, way: str) -> tuple[pd.Series, pd.Series]:
    """Return, by seed, how far both answers of a held-out pair moved apart and how far together (nats): half
    the difference and half the sum of their changes.
    """
    chosen, rejected = (at_the_end(means, side, way=way) for side in ("chosen", "rejected"))
    return (chosen - rejected) / 2, (chosen + rejected) / 2


def less_apart(means: pd.DataFrame, ways: Sequence[str]) -> Interval:
    """Return |together| − |apart| over seeds, of the way where it is least; above 0 both move one way."""
    found = []
    for way in ways:
        apart, together = apart_together(means, way)
        found.append(mean_interval((together.abs() - apart.abs()).to_numpy()))
    return min(found, key=lambda interval: interval.value)


def answers_at(answers: pd.DataFrame, way: str, column: str, *, first: bool = False) -> pd.Series:
    """Return what was drawn for held-out prompts after a way's training, or before it, by seed."""
    rows = answers[answers["way"] == way]
    step = rows["step"].min() if first else rows["step"].max()
    found: pd.Series = rows[rows["step"] == step].set_index("seed")[column].sort_index()
    return found


def nearest(answers: pd.DataFrame, way: str, like: str, by: str = "kl") -> pd.DataFrame:
    """Return, for each seed, a way's moment that is the nearest to the end of another one.

    Args:
        answers: of the grid ``rewards``.
        way: whose moments; the first one, before training, is not among them.
        like: whose end.
        by: in which column, "kl" or "read".
    """
    rows = answers[(answers["way"] == way) & (answers["step"] > 0)].reset_index(drop=True)
    ends = answers_at(answers, like, by)
    far = (rows[by] - rows["seed"].map(ends)).abs()
    return rows.loc[far.groupby(rows["seed"]).idxmin()].set_index("seed").sort_index()


def stopped(answers: pd.DataFrame, way: str, free: str, column: str) -> Interval:
    """Return a column at a way's end minus that of ``free`` at the moment with the nearest KL, over seeds."""
    return difference(answers_at(answers, way, column), nearest(answers, free, way)[column])


# --- the toy that copies ------------------------------------------------------------------------------------


def balanced_signs(truth: pd.Series, told: pd.Series) -> float:
    """Return the share of signs foretold, falls and rises counting half each; ½ for a guess.

    Args:
        truth, told: changes; below 0 is a fall.

    Raises:
        ValueError: there were no falls, or no rises.
    """
    falls = truth < 0
    if falls.all() or not falls.any():
        raise ValueError(f"balanced_signs: {int(falls.sum())} falls of {len(falls)}; expected some of each.")
    right = (told < 0) == falls
    return float((right[falls].mean() + right[~falls].mean()) / 2)


def foretold(single: pd.DataFrame, by: str, *, optimized: str = "sgd", kind: str = "same words") -> Interval:
    """Return ``balanced_signs`` of right answers over seeds.

    Args:
        single: of the grid ``copying``.
        by: "plain", "optimizer" (by the Gram matrix in these metrics), or "hesitant": hesitant answers fall
            and the others rise.
        optimized: by which the step was taken.
        kind: of the toy.
    """
    rows = judged(single)
    rows = rows[(rows["optimized"] == optimized) & (rows["kind"] == kind)]
    shares = []
    for _, some in rows.groupby("seed"):
        told = AT_ONCE + 0.5 - some["length"] if by == "hesitant" else some[by]
        shares.append(balanced_signs(some["change"], told))
    return bounded_interval(shares, 0, 1)


def among_hesitant(single: pd.DataFrame, by: str, group: int, *, kind: str = "same words") -> Interval:
    """Return the share of hesitant right answers whose sign was foretold, plain steps, clustered by group.

    Args:
        single: of the grid ``copying``.
        by: "plain" (by the Gram matrix), "all" (they fall), or "counting": they fall where the group has
            fewer of them than wrong answers.
        group: answers a prompt.
        kind: of the toy.
    """
    rows = judged(single)
    rows = rows[(rows["optimized"] == "sgd") & (rows["kind"] == kind)]
    keys = [rows["seed"], rows["prompt"]]
    hesitates = rows["length"] > AT_ONCE
    mine, right = hesitates.groupby(keys).transform("sum"), hesitates.groupby(keys).transform("size")
    rows = rows.assign(all=True, counting=mine < group - right, plain=rows["plain"] < 0)[hesitates]
    met = rows[by] == (rows["change"] < 0)
    counts = met.groupby([rows["seed"], rows["prompt"]]).agg(["sum", "size"])
    return clustered_share(counts["sum"], counts["size"])


def contributions(single: pd.DataFrame, kind: str = "same words") -> pd.DataFrame:
    """Return whence the foretold change of a plain step comes, for right answers that truly fell or rose.

    Returns:
        One row (fell, part): value, low, high over seeds (nats a step), and answers (how many). Parts: "own",
        "from_right", "from_wrong".
    """
    rows = judged(single)
    rows = rows[(rows["optimized"] == "sgd") & (rows["kind"] == kind)]
    found = []
    for fell, some in rows.groupby(rows["change"] < 0):
        for part in ("own", "from_right", "from_wrong"):
            interval = mean_interval(some.groupby("seed")[part].mean().to_numpy())
            row = {"fell": bool(fell), "part": part, "answers": len(some)}
            found.append(row | {"value": interval.value, "low": interval.low, "high": interval.high})
    return pd.DataFrame(found)


def at_equal_gain(means: pd.DataFrame, arm: str, kind: str = "same words") -> Interval:
    """Return how much higher hesitant right answers end with an arm than with GRPO, where wrong ones use the
    same words, at the moment when right answers at once had risen as much: against less training. Linear
    between moments; over seeds.

    Args:
        means: of the grid ``copying``.
        arm, kind: of its cells.
    """
    found = []
    for _, some in judged(means).groupby("seed"):

        def moved(kind: str, arm: str, some: pd.DataFrame = some) -> pd.DataFrame:
            rows = some[(some["kind"] == kind) & (some["arm"] == arm)]
            return rows.pivot_table(index="step", columns="set", values="chosen")

        path, end = moved("same words", "grpo"), moved(kind, arm).tail(1)
        gains = path["at once"].cummax()  # as much for the first time
        then = np.interp(end["at once"].to_numpy(), gains.to_numpy(), path["hesitant"].to_numpy())
        found.append(float(end["hesitant"].to_numpy()[0] - then[0]))
    return mean_interval(np.array(found))


# --- pairs of a policy's own --------------------------------------------------------------------------------


def own_difference(geometry: pd.DataFrame, column: str, one: str, other: str) -> Interval:
    """Return a column's mean over the pairs of one source minus another's, seed by seed."""
    means = geometry.groupby(["source", "seed"])[column].mean()
    return difference(means[one], means[other])


def matched(
    geometry: pd.DataFrame, column: str, one: str, other: str, by: Sequence[str]
) -> tuple[Interval, float]:
    """Return a column's mean over the pairs of one source minus another's among pairs that agree in some
    columns, seed by seed, and the share of the first source's pairs that found a partner.

    In each stratum as many pairs count as the rarer source has.

    Args:
        geometry: of the grid ``own-pairs``.
        column: that is compared.
        one, other: sources.
        by: columns in which pairs have to agree.

    Raises:
        ValueError: a seed without any such pairs.
    """
    found, partners, pairs = [], 0.0, 0
    for seed, rows in geometry.groupby("seed"):
        total, weights = 0.0, 0
        for _, some in rows.groupby(list(by)):
            here, there = (some.loc[some["source"] == source, column] for source in (one, other))
            weight = min(len(here), len(there))
            if weight:
                total += weight * float(here.mean() - there.mean())
                weights += weight
        if not weights:
            raise ValueError(f"seed {seed}: no pairs of {one} and {other} agree in {', '.join(by)}.")
        found.append(total / weights)
        partners, pairs = partners + weights, pairs + int((rows["source"] == one).sum())
    return mean_interval(np.array(found)), partners / pairs
