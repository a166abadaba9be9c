"""Are the stored tables whole, and would today's code make them again?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from entanglement_book.grids.grid import SCALES, Grid, cell_name
from entanglement_book.grids.made_by import Code
from entanglement_book.grids.stored import Stored, folder_of, read_tables
from entanglement_book.machine import repository

__all__ = ["check", "problems_of"]

#: The repository keeps no more than this under book/results, in bytes.
LARGEST = 16_000_000


def check(grids: Iterable[Grid], root: Path | None = None) -> list[str]:
    """Return what is wrong with the stored tables, a line each: missing, damaged, not of today's code."""
    root = root or repository()
    code = Code(root)
    problems = [
        problem
        for grid in grids
        for scale in SCALES
        for model in grid.kept(scale)
        for problem in problems_of(grid, scale, model, code)
    ]
    size = sum(p.stat().st_size for p in (root / "book" / "results").rglob("*") if p.is_file())
    if size > LARGEST:
        problems.append(f"book/results holds {size / 1e6:.1f} MB; at most {LARGEST / 1e6:.0f} MB are kept")
    return problems


def problems_of(grid: Grid, scale: str, model: str, code: Code) -> list[str]:
    """Return what is wrong with one grid's tables at one scale for one model."""
    folder = folder_of(code.root, grid.name, scale, model)
    where = folder.relative_to(code.root).as_posix()
    try:
        stored = read_tables(folder)
    except (OSError, ValueError) as error:
        return [f"{where}: {error}"]
    problems = [*_other_code(grid, scale, stored, code), *_other_cells(grid, scale, model, stored)]
    return [f"{where}: {problem}" for problem in problems]


def _other_code(grid: Grid, scale: str, stored: Stored, code: Code) -> list[str]:
    """Return how what made the tables differs from what would make them now."""
    now, then = code.made_by(grid.roots, stored.uses), stored.provenance
    files = {name: digest for name, digest in now.files.items() if then.get("files", {}).get(name) != digest}
    if files:
        return [f"made from other files ({', '.join(files)}); run: make results SCALE={scale}"]
    if now.code == then["code"]:
        return []
    if now.shape == then.get("shape"):
        return ["only names changed since it was made; run: entanglement-book results restamp"]
    return [f"made by other library code than today's; run: make results SCALE={scale}"]


def _other_cells(grid: Grid, scale: str, model: str, stored: Stored) -> list[str]:
    """Return which cells the tables lack, together, and which they should not have."""
    cells = grid.cells(scale, model)
    wanted, keys = {cell_name(cell) for cell in cells}, list(cells[0])
    found: set[str] = set()
    for name, table in stored.tables.items():
        if lacking := [key for key in keys if key not in table]:
            return [f"{name}.csv lacks {', '.join(lacking)}"]
        found |= {cell_name(row) for row in _rows(table[keys])}
    if found == wanted:
        return []
    return [f"{len(wanted - found)} cells are missing, {len(found - wanted)} too many"]


def _rows(table: pd.DataFrame) -> list[dict[str, object]]:
    return [
        {str(key): value for key, value in row.items()} for row in table.drop_duplicates().to_dict("records")
    ]
