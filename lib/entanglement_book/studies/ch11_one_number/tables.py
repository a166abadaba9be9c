"""Reading the grid of update rules: other rates, and plain steps."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from entanglement.stats import mean_interval
from entanglement_book.studies.shared.update_tables import at_end, inside

__all__ = ["plain_table", "rate_table"]


def rate_table(means: pd.DataFrame, updates: Mapping[str, str], *, pairs: str = "test") -> pd.DataFrame:
    """Return chosen and rejected after training against the rate, for updates that were tried at several.

    The seeds are those that all rates have.
    """
    tried = means[means["rate"] != 1.0]
    seeds = sorted(tried["seed"].unique())
    some = means[means["seed"].isin(seeds) & (means["set"] == pairs) & (means["optimizer"] == "adamw")]
    last = some[some["step"] == some["step"].max()]
    rows = {}
    for name in updates:
        if name not in set(tried["update"]):
            continue
        mine = last[last["update"] == name]
        for rate, group in mine.groupby("rate", sort=True):
            found = {column: mean_interval(group[column].to_numpy()) for column in ("chosen", "rejected")}
            found["margin"] = mean_interval(group["margin"].to_numpy())
            rows[updates[name], f"{rate:g}"] = {key: f"{value:+.2f}" for key, value in found.items()}
    return pd.DataFrame(rows).T.rename_axis(["update", "rate"])


def plain_table(means: pd.DataFrame, updates: Mapping[str, str]) -> pd.DataFrame:
    """Return where plain steps ended: for trained and held-out pairs chosen, rejected and margin (nats) and
    the share whose chosen answer fell, each cell "mean [low, high]".
    """
    tried = set(means[means["optimizer"] == "sgd"]["update"])
    rows = {}
    for name in (name for name in updates if name in tried):
        for pairs in ("trained", "test"):
            found = {
                column: at_end(means, name, column, pairs=pairs, optimizer="sgd")
                for column in ("chosen", "rejected", "margin", "fell")
            }
            rows[updates[name], pairs] = {
                key: f"{inside(value):.2f}" if key == "fell" else f"{value:+.2f}"
                for key, value in found.items()
            }
    return pd.DataFrame(rows).T.rename_axis(["update", "pairs"])
