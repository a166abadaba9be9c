"""Where the probability went, read from the stored grids of training dynamics, with intervals over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from entanglement.stats import Interval, mean_interval, summarize
from entanglement_book.studies.shared.seeds import over_seeds, rows_of

__all__ = [
    "PARTS",
    "accuracies",
    "accuracy_of_losses",
    "corrected",
    "label_probability",
    "mass_shares",
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


def scores(labels: pd.DataFrame) -> pd.DataFrame:
    """Return the table of labels with score, log π(positive answer) − log π(negative answer), nats, and
    says_positive, the probability of " positive" where the two answers part.
    """
    truth = labels["positive"] == 1
    margin = labels["chosen"] - labels["rejected"]
    return labels.assign(
        score=np.where(truth, margin, -margin),
        says_positive=np.where(truth, labels["right"], labels["wrong"]),
    )


def _threshold(some: pd.DataFrame) -> float:
    """Return the score halfway between the mean of the positive and that of the negative tweets."""
    return float(some.groupby("positive")["score"].mean().mean())


def corrected(rows: pd.DataFrame) -> float:
    """Return a model's accuracy when an offset is taken from its scores, chosen on other held-out pairs.

    The pairs are halved; each half is judged with the offset of the other.

    Args:
        rows: of ``scores``, one model's.
    """
    halves = np.arange(len(rows)) % 2
    right = 0
    for half in (0, 1):
        mine, other = rows[halves == half], rows[halves != half]
        right += int(((mine["score"] > _threshold(other)) == (mine["positive"] == 1)).sum())
    return right / len(rows)


def ranked(rows: pd.DataFrame) -> float:
    """Return the share of all pairs of a positive and a negative tweet of which the positive one has the
    higher score (the area under the ROC curve). No offset changes it.
    """
    up, down = (rows[rows["positive"] == label]["score"].to_numpy() for label in (1, 0))
    return float((up[:, None] > down[None, :]).mean())


def accuracies(labels: pd.DataFrame) -> pd.DataFrame:
    """Return, for each loss and seed, in percent: accuracy, corrected, ranked; and offset, the score halfway
    between the means of the two kinds of tweets (nats).
    """
    rows = []
    for (loss, seed), some in scores(labels).groupby(["loss", "seed"], sort=False):
        right = (some["score"] > 0) == (some["positive"] == 1)
        row = {"loss": loss, "seed": seed, "accuracy": 100 * float(right.mean())}
        row |= {"corrected": 100 * corrected(some), "ranked": 100 * ranked(some)}
        rows.append(row | {"offset": _threshold(some)})
    return pd.DataFrame(rows)


def label_probability(labels: pd.DataFrame) -> dict[str, dict[str, Interval]]:
    """Return, for each kind of tweet, the change of the probability of " positive" under each loss.

    Returns:
        loss → "positive tweets", "negative tweets" (changes of the probability of " positive"), "both" (their
        mean), "right" (change of the probability of the right label).
    """
    by = scores(labels).groupby(["loss", "seed", "positive"])[["says_positive", "right"]].mean()
    before = by.loc["none"]
    found = {}
    for loss in by.index.unique("loss"):
        if loss == "none":
            continue
        moved = (by.loc[loss] - before).reset_index()
        kinds = {name: moved[moved["positive"] == label] for name, label in
                 (("positive tweets", 1), ("negative tweets", 0))}  # fmt: skip
        found[str(loss)] = {name: over_seeds(some, "says_positive") for name, some in kinds.items()}
        found[str(loss)] |= {"both": over_seeds(moved, "says_positive"), "right": over_seeds(moved, "right")}
    return found


def accuracy_of_losses(pairs: pd.DataFrame, labels: pd.DataFrame) -> dict[str, Interval]:
    """Return, for each loss, the change of accuracy on the near-copies whose gradients were measured, points.

    Args:
        pairs: the grid's table: margins gained since the checkpoint.
        labels: of the grid of labels; its cells without training have the margins there.
    """
    start = rows_of(labels, loss="none").set_index(["seed", "pair"])
    start = start["chosen"] - start["rejected"]
    rows = rows_of(pairs, data="sentiment")
    last = rows[rows["step"] == rows["step"].max()].set_index(["seed", "pair"])
    there = last.join(start.rename("before"), how="inner")
    gain = (there["before"] + there["margin"] > 0).astype(float) - (there["before"] > 0).astype(float)
    by_seed = 100 * gain.groupby([there["loss"], "seed"]).mean()
    return {str(loss): mean_interval(some.to_numpy()) for loss, some in by_seed.groupby("loss", sort=False)}
