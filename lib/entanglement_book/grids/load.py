"""The tables of a grid for a notebook: those that the repository keeps, or, for other models, made now."""

from __future__ import annotations

from entanglement_book.grids.grid import GRIDS, SCALES
from entanglement_book.grids.run import run
from entanglement_book.grids.stored import Stored, folder_of, read_tables
from entanglement_book.machine import repository

__all__ = ["load_tables"]


def load_tables(grid: str, scale: str, model: str = "nano", *, jobs: int = 1) -> Stored:
    """Return a grid's tables; a model whose tables the repository does not keep is computed now.

    Args:
        grid: a name of ``GRIDS``.
        scale: "smoke", "book" or "paper".
        model: name of the base model.
        jobs: processes at a time, if it has to be computed.

    Raises:
        ValueError: an unknown grid or scale, or a table that does not match its provenance.
        FileNotFoundError: tables that the repository should keep are missing (``make results``).
    """
    found = GRIDS[grid]
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r}; expected one of {', '.join(SCALES)}.")
    root = repository()
    folder = folder_of(root, grid, scale, model)
    if (folder / "provenance.json").is_file():
        return read_tables(folder)
    if model in found.kept(scale):
        raise FileNotFoundError(f"{folder.relative_to(root)} is missing; run: make results SCALE={scale}")
    return read_tables(run(found, scale, model, jobs=jobs, root=root, keep=False))
