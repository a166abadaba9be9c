"""Where the probability went, read from the stored grid of training dynamics, with intervals over seeds."""

from __future__ import annotations

import pandas as pd

from entanglement.stats import summarize
from entanglement_book.studies.shared.seeds import rows_of

__all__ = ["mass_shares", "token_table"]


def mass_shares(mass: pd.DataFrame, data: str, loss: str) -> pd.DataFrame:
    """Return where probability went, a row a response, place and part ("own", "top", "other", "rest")."""
    rows = rows_of(mass, data=data, loss=loss)
    long = rows.melt(["seed", "response", "place"], ["own", "top", "other", "rest"], var_name="part")
    return summarize(long, "value", ["response", "place", "part"])


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
