"""From a stored grid's table to means over seeds with their intervals.

Intervals are t intervals over seeds. The pairs of one seed share a model, so they are averaged first.
"""

from __future__ import annotations

import pandas as pd

from entanglement.stats import Interval, mean_interval

__all__ = ["over_seeds", "rows_of"]


def over_seeds(table: pd.DataFrame, column: str) -> Interval:
    """Return the mean and interval of a column over seeds; rows of one seed are averaged first.

    Raises:
        ValueError: no rows.
    """
    if table.empty:
        raise ValueError(f"over_seeds: the table has no rows for {column!r}.")
    return mean_interval(table.groupby("seed")[column].mean().to_numpy())


def rows_of(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Return the rows in which each named column has its value.

    Raises:
        ValueError: no rows.
    """
    for column, value in values.items():
        table = table[table[column] == value]
    if table.empty:
        raise ValueError(f"the table has no rows for {values}.")
    return table
