"""What a grid is: three functions of a study, and where the registry finds them.

A study declares its grid by one statement in a module of its own, ``studies/chNN_topic/grid*.py``:

    GRIDS.add("untangling", Grid("untangling", grid_cells, run_cell, describe, models=("nano",)))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from entanglement.registry import Registry

__all__ = ["GRIDS", "SCALES", "Cell", "Grid", "cell_name", "one_change"]

Cell = Mapping[str, Any]
SCALES = ("smoke", "book", "paper")


@dataclass(frozen=True)
class Grid:
    """A family of runs. Its functions stand at the top of a module: other processes find them by name.

    Attributes:
        name: of the folder under ``book/results/<scale>``; the model's name is appended.
        cells: (scale, model) → the cells, each a dictionary of what sets it apart.
        run_cell: (scale, model, cell) → the cell's tables by name, without the cell's own columns.
        describe: (scale, model) → what the tables were made with, for their provenance; no titles.
        models: those whose tables are kept in the repository.
        smoke: the model of the tables at smoke; "" for the first of ``models``.
        tolerance: largest accepted difference of a re-run cell on *another* kind of machine, as a share of
            1 + |value|. On the same kind the numbers must be equal.
        amplifies: whether a cell's training lets rounding grow until another kind of machine ends elsewhere;
            such a cell is repeated on the same kind only.
        clocked: columns that were read off a clock. No other run meets them, so where a cell is repeated they
            only have to be there and above 0.
    """

    name: str
    cells: Callable[[str, str], list[dict[str, Any]]]
    run_cell: Callable[[str, str, Cell], Mapping[str, pd.DataFrame]]
    describe: Callable[[str, str], dict[str, Any]]
    models: tuple[str, ...]
    smoke: str = ""
    tolerance: float = 0.02
    amplifies: Callable[[Cell], bool] | None = None
    clocked: tuple[str, ...] = ()

    @property
    def roots(self) -> tuple[Callable[..., Any], ...]:
        """The functions that make the tables."""
        return (self.cells, self.run_cell, self.describe)

    def compute(self, scale: str, model: str, cell: Cell) -> dict[str, pd.DataFrame]:
        """Compute one cell. The cell's own columns stand first in each of its tables."""
        tables = {name: table.copy() for name, table in self.run_cell(scale, model, cell).items()}
        for table in tables.values():
            for place, (key, value) in enumerate(cell.items()):
                table.insert(place, key, value)
        return tables

    def kept(self, scale: str) -> tuple[str, ...]:
        """Return the models whose tables the repository keeps at a scale."""
        return {"book": self.models, "smoke": (self.smoke or self.models[0],)}.get(scale, ())


GRIDS: Registry[Grid] = Registry("grid", package="entanglement_book.studies", modules="*.grid*")


def cell_name(cell: Cell) -> str:
    """Return a cell's name, of which a file's is made."""
    return "-".join(str(value) for value in cell.values())


def one_change(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first cell of seed 1 and, for each key, the first that differs from it in that one; they are
    enough at smoke.
    """
    base = next(cell for cell in cells if cell["seed"] == 1)
    changed: dict[str, dict[str, Any]] = {}
    for cell in cells:
        keys = [key for key in base if cell[key] != base[key]]
        if len(keys) == 1:
            changed.setdefault(keys[0], cell)
    return [base, *changed.values()]
