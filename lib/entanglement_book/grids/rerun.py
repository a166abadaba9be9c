"""One cell of a stored grid, computed again and compared number by number."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from entanglement.files import sha256
from entanglement.uses import Use, recording
from entanglement_book.grids.grid import GRIDS, Cell, Grid
from entanglement_book.grids.load import load_tables
from entanglement_book.grids.run import one_thread
from entanglement_book.grids.stored import Stored, as_stored
from entanglement_book.machine import commit, machine, repository

__all__ = [
    "Rerun",
    "compare",
    "difference",
    "draw",
    "drawn_cell",
    "repeat_one",
    "rerun_cell",
    "rerun_one",
    "rounded",
]


@dataclass(frozen=True)
class Rerun:
    """One cell of a stored grid, computed again.

    Attributes:
        cell: which one.
        seconds: it took.
        same_machine: whether the machine is of the kind that made the table.
        worst: largest |new − stored| / (1 + |stored|) over all numbers.
        allowed: 0 on the same kind of machine, else the grid's tolerance.
        uses: what it looked up by name.
    """

    cell: dict[str, Any]
    seconds: float
    same_machine: bool
    worst: float
    allowed: float
    uses: frozenset[Use] = frozenset()

    @property
    def agrees(self) -> bool:
        """Whether the stored numbers were met."""
        return self.worst <= self.allowed


def difference(new: pd.DataFrame, stored: pd.DataFrame) -> float:
    """Return the largest relative difference; infinite where shapes, words or missing values differ."""
    if list(new.columns) != list(stored.columns) or len(new) != len(stored):
        return float("inf")
    worst = 0.0
    for column in new.columns:
        a, b = new[column], stored[column]
        if pd.api.types.is_numeric_dtype(b) and pd.api.types.is_numeric_dtype(a):
            x, y = a.to_numpy(float), b.to_numpy(float)
            if (np.isnan(x) != np.isnan(y)).any():
                return float("inf")
            apart = ~((x == y) | np.isnan(x))  # equal infinite numbers are not apart
            gap = np.abs(x[apart] - y[apart]) / (1 + np.abs(y[apart]))
            worst = max(worst, float(np.where(np.isnan(gap), np.inf, gap).max(initial=0.0)))
        elif list(a.fillna("")) != list(b.fillna("")):
            return float("inf")
    return worst


def _clocks_apart(new: pd.DataFrame, stored: pd.DataFrame, clocked: Sequence[str]) -> pd.DataFrame:
    """Return the new table with the stored clock readings in place of its own, where those are above 0."""
    read = [name for name in clocked if name in new and name in stored and len(new) == len(stored)]
    return new.assign(**{name: stored[name].to_numpy() for name in read if (new[name] > 0).all()})


def compare(
    fresh: Mapping[str, pd.DataFrame], stored: Stored, cell: Cell, clocked: Sequence[str] = ()
) -> float:
    """Return the largest difference between a cell's tables and its rows in the stored ones; infinite where a
    table is missing on one side.

    Args:
        fresh: the cell's tables, just computed.
        stored: of the grid.
        cell: which rows of them.
        clocked: columns that only have to be there, above 0.
    """
    worst = 0.0
    for name in {*fresh, *stored.tables}:
        kept = stored.tables.get(name)
        if kept is not None:
            for key, value in cell.items():
                kept = kept[kept[key] == value]
        if name not in fresh:
            worst = max(worst, 0.0 if kept is None or kept.empty else float("inf"))
        elif kept is None:
            return float("inf")
        else:
            kept = kept.reset_index(drop=True)
            new = _clocks_apart(as_stored(fresh[name], kept), kept, clocked)
            worst = max(worst, difference(new, kept))
    return worst


def draw(cells: Sequence[Cell], seed: str) -> Cell:
    """Return one of the cells, drawn by the hash of a text.

    Raises:
        ValueError: no cells.
    """
    if not cells:
        raise ValueError("draw: there is no cell to draw from.")
    return cells[int(sha256(seed), 16) % len(cells)]


def rounded(stored: Stored) -> bool:
    """Whether tables were carried over a change of the order in which sums are taken: then today's code
    meets them on no machine more closely than on another kind.
    """
    repeated = (again for entry in stored.provenance.get("restamped", ()) for again in entry["repeated"])
    return any(again["same_machine"] and again["allowed"] > 0 for again in repeated)


def rerun_cell(
    grid: Grid, scale: str, model: str, stored: Stored, cell: Cell, *, exact: bool = True
) -> Rerun:
    """Compute a cell again and compare every number of it with the stored ones.

    Args:
        grid, scale, model: whose cell.
        stored: its tables.
        cell: which one.
        exact: whether the numbers must be equal on the same kind of machine, unless they were ``rounded``;
            False: only as on another kind.
    """
    one_thread()
    started = time.perf_counter()
    with recording() as uses:
        fresh = grid.compute(scale, model, cell)
    seconds = time.perf_counter() - started
    same = stored.provenance["machine"] == machine()
    worst = compare(fresh, stored, cell, grid.clocked)
    allowed = 0.0 if same and exact and not rounded(stored) else grid.tolerance
    return Rerun(dict(cell), seconds, same, worst, allowed, frozenset(uses))


def drawn_cell(
    grid: Grid,
    scale: str,
    model: str,
    stored: Stored,
    root: Path,
    only: Mapping[str, Iterable[object]],
    *,
    exact: bool = True,
) -> Cell:
    """Return a cell drawn from the commit's hash, so that over time all are visited; outside a git checkout,
    from the hash of the code. On another kind of machine than the table's, and where numbers need not be
    ``exact`` or were ``rounded``, cells that amplify rounding are not drawn.

    Raises:
        ValueError: no cell has the values that are asked for, or none that can be repeated here.
    """
    cells = grid.cells(scale, model)
    for key, values in only.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise ValueError(f"{grid.name}: {key}={values!r}; expected a list of values.")
    allowed = {key: list(values) for key, values in only.items()}
    if unknown := sorted(set(allowed) - set(cells[0])):
        raise ValueError(f"{grid.name}: cells have no {unknown[0]!r}; expected {', '.join(cells[0])}.")
    some = [cell for cell in cells if all(cell[key] in values for key, values in allowed.items())]
    if not some:
        raise ValueError(f"{grid.name}: no cell of {scale}, {model} has {allowed}.")
    home = stored.provenance["machine"] == machine() and exact and not rounded(stored)
    if grid.amplifies is not None and not home:
        some = [cell for cell in some if not grid.amplifies(cell)]
        if not some:
            raise ValueError(
                f"{grid.name}: cells with {allowed} can be repeated only on the kind of machine of the table."
            )
    return draw(some, commit(root) or str(stored.provenance["code"]))


def rerun_one(grid: str, scale: str, model: str = "nano", **only: Sequence[object]) -> Rerun:
    """Compute one cell of a stored grid again and compare every number of it.

    Args:
        grid: a name of ``GRIDS``.
        scale: "smoke", "book" or "paper".
        model: name of the base model.
        only: draw among cells with these values only, ``condition=["main"]`` say (a short notebook can't
            afford the longest).

    Raises:
        ValueError: an unknown grid or scale, or no cell with these values.
    """
    stored, found = load_tables(grid, scale, model), GRIDS[grid]
    return rerun_cell(
        found, scale, model, stored, drawn_cell(found, scale, model, stored, repository(), only)
    )


def repeat_one(grid: str, scale: str, model: str = "nano", **only: Sequence[object]) -> pd.Series:
    """Return the cell that ``rerun_one`` computed again, if its numbers are the stored ones: for a page.

    Args:
        grid, scale, model, only: as in ``rerun_one``.

    Raises:
        ValueError: a number that was not met, or as in ``rerun_one``.
    """
    again = rerun_one(grid, scale, model, **only)
    if not again.agrees:
        raise ValueError(f"{again.cell}: off by {again.worst:.2g}; run `make results`.")
    return pd.Series(again.cell)
