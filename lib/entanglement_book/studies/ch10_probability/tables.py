"""Where the probability went, read from the stored grids of training dynamics, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from entanglement.stats import Interval, mean_interval, summarize
from entanglement_book.studies.shared.seeds import over_seeds, rows_of

__all__ = [
    "PARTS",
    "label_gain",
    "mass_shares",
    "measures",
    "ranked",
    "rejected_less_chosen",
    "scores",
    "token_table",
]

PARTS = ("own", "other", "top", "rest")


def mass_shares(mass: pd.DataFrame, data: str, loss: str) -> pd.DataFrame:
    """Return where probability went, a row a response, place and part ("own", "other", "top", "rest")."""
    rows = rows_of(mass, data=data, loss=loss)
    long = rows.melt(["seed", "response", "place"], list(PARTS), var_name="part")
    return summarize(long, "value", ["response", "place", "part"])


def rejected_less_chosen(mass: pd.DataFrame, data: str, loss: str, place: str = "apart") -> Interval:
    """Return how much more the likeliest other token gained at a place of the rejected answers than of the
    chosen ones, seed by seed. Squeezing needs this to be above 0.
    """
    rows = rows_of(mass, data=data, loss=loss, place=place)
    by_seed = rows.pivot(index="seed", columns="response", values="top")
    return mean_interval((by_seed["rejected"] - by_seed["chosen"]).to_numpy())


def token_table(tokens: pd.DataFrame, data: str, loss: str, place: str, most: int = 4) -> pd.DataFrame:
    """Return the tokens that gained and lost most at a place, with their probabilities: means over seeds.

    A token that is not among the listed ones of a seed is left out, so that all means have all seeds.
    """
    rows = rows_of(tokens, data=data, loss=loss, place=place)
    found = rows.groupby("token")[["before", "after", "change"]].agg("mean")
    found = found[rows.groupby("token").size() == rows["seed"].nunique()].sort_values("change")
    if len(found) > 2 * most:
        found = pd.concat([found.head(most), found.tail(most)])
    found.index = pd.Index([repr(token) for token in found.index], name="token")
    return found


def scores(pairs: pd.DataFrame, runs: pd.DataFrame, positive: Mapping[str, bool]) -> pd.DataFrame:
    """Return each measured near-copy's score log π(positive answer) − log π(negative answer), nats.

    The grid of training dynamics keeps changes. The main runs of the sentiment grid start from the same
    checkpoints and measure the same pairs, and have the log-probabilities there.

    Args:
        pairs: of the grid of training dynamics.
        runs: the table "pairs" of the sentiment grid.
        positive: pair → whether its chosen answer is the positive one.

    Returns:
        One row a loss, seed and pair: positive; before and after, the scores.

    Raises:
        ValueError: the two grids do not measure the same pairs at the same checkpoints.
    """
    start = rows_of(runs, condition="main", variant="long_suffix", phase="dpo", step=0)
    start = start.set_index(["seed", "pair"])[["chosen_logp", "rejected_logp", "cosine"]]
    mine = rows_of(pairs, data="sentiment").set_index(["seed", "pair"])
    first, last = (mine[mine["step"] == step] for step in (mine["step"].min(), mine["step"].max()))
    same = first.join(start["cosine"].rename("there"))
    if not np.allclose(same["cosine"], same["there"], rtol=0, atol=1e-9):
        raise ValueError("scores: the two grids do not start from the same checkpoints with the same pairs.")
    there = last[["loss", "margin"]].join(start).reset_index()
    truth = there["pair"].map(positive).astype(bool)
    before = there["chosen_logp"] - there["rejected_logp"]
    sign = np.where(truth, 1.0, -1.0)
    found = there[["loss", "seed", "pair"]].assign(positive=truth)
    return found.assign(before=sign * before, after=sign * (before + there["margin"]))


def _middle(values: np.ndarray, positive: np.ndarray) -> float:
    """Return the point halfway between the mean of the positive and that of the negative tweets."""
    return float(values[positive].mean() + values[~positive].mean()) / 2


def _left_out(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return for each pair the middle of all the others."""
    each = np.arange(len(values))
    return np.array([_middle(values[each != i], positive[each != i]) for i in each])


def ranked(values: np.ndarray, positive: np.ndarray) -> float:
    """Return the share of all pairs of a positive and a negative tweet of which the positive one has the
    higher score (the area under the ROC curve). No offset changes it.
    """
    return float((values[positive][:, None] > values[~positive][None, :]).mean())


def measures(found: pd.DataFrame) -> pd.DataFrame:
    """Return, for each loss and seed, what a model knows before and after training.

    Args:
        found: of ``scores``.

    Returns:
        Percent: accuracy, corrected (an offset taken from each model's scores: their middle, of the other
        pairs), ranked, each also as <name>_before; undrifted, the accuracy after training when what the
        middle of the scores moved by in training, on the other pairs, is taken out. Nats: moved_positive and
        moved_negative, mean changes of the score of either kind of tweets, and bias, halfway between them.
    """
    rows = []
    for (loss, seed), some in found.groupby(["loss", "seed"], sort=False):
        truth = some["positive"].to_numpy(bool)
        before, after = some["before"].to_numpy(), some["after"].to_numpy()
        moved = after - before
        row: dict[str, object] = {"loss": loss, "seed": seed}
        for end, values in (("_before", before), ("", after)):
            row[f"accuracy{end}"] = 100 * float(((values > 0) == truth).mean())
            row[f"corrected{end}"] = 100 * float(((values > _left_out(values, truth)) == truth).mean())
            row[f"ranked{end}"] = 100 * ranked(values, truth)
        row["undrifted"] = 100 * float(((after > _left_out(moved, truth)) == truth).mean())
        row |= {"moved_positive": moved[truth].mean(), "moved_negative": moved[~truth].mean()}
        rows.append(row | {"bias": _middle(moved, truth)})
    return pd.DataFrame(rows)


def label_gain(tokens: pd.DataFrame, token: str = " positive") -> Interval:
    """Return by how much the probability of a label grew under DPO where near-copies part."""
    rows = rows_of(tokens, data="sentiment", loss="dpo", place="first difference", token=token)
    return over_seeds(rows, "change")
