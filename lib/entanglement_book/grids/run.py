"""Computing a grid: cell by cell in several processes, resumable, and joined into tables with provenance.

Each cell is computed on its own, with one thread, and written whole under ``_build/results``; a run that is
interrupted goes on where it stopped. Processes are joblib's: its ``loky`` backend replaces one that leaves
memory behind. ``cluster`` gives the same cells to Dask's workers instead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from entanglement.files import HOUR, sha256, sweep, write_all, write_whole
from entanglement.uses import recording
from entanglement_book.grids.freshness import problems_of
from entanglement_book.grids.grid import SCALES, Cell, Grid, cell_name
from entanglement_book.grids.made_by import Code, MadeBy
from entanglement_book.grids.stored import folder_of, read_tables
from entanglement_book.layout import BookError
from entanglement_book.locks import exclusive
from entanglement_book.machine import machine, repository, today, versions

__all__ = ["PACKAGES", "Compute", "check_jobs", "compute_cells", "computed", "one_thread", "run"]

#: (grid, scale, model, cells, processes) → what is kept of these cells, in any order.
Compute = Callable[[Grid, str, str, Sequence[Cell], int], Iterator[dict[str, Any]]]
#: Packages whose versions are kept with a cell.
PACKAGES = ("torch", "transformers", "numpy", "pandas")


def one_thread() -> None:
    """Let PyTorch compute with one thread, so that sums are taken in one order."""
    import torch

    torch.set_num_threads(1)


def computed(grid: Grid, scale: str, model: str, cell: Cell) -> dict[str, Any]:
    """Compute one cell in this process.

    Returns:
        What is kept of it: cell, seconds, where it was computed (machine, versions), uses (what it looked
        up), and tables (as pandas splits them).
    """
    one_thread()
    started = time.perf_counter()
    try:
        with recording() as uses:
            tables = grid.compute(scale, model, cell)
    except Exception as error:
        error.add_note(f"in the cell {cell_name(cell)} of {grid.name}, {scale}, {model}")
        raise
    return {
        "cell": dict(cell),
        "seconds": time.perf_counter() - started,
        "machine": machine(),
        "versions": versions(PACKAGES),
        "uses": sorted(uses),
        "tables": {name: table.to_dict(orient="split", index=False) for name, table in tables.items()},
    }


def check_jobs(jobs: int) -> None:
    """Refuse a number of processes that is none.

    Raises:
        ValueError: naming it.
    """
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise ValueError(f"jobs={jobs!r}; expected a positive whole number.")


def compute_cells(
    grid: Grid, scale: str, model: str, cells: Sequence[Cell], jobs: int
) -> Iterator[dict[str, Any]]:
    """Yield what is kept of cells as they are finished, in this process or in several."""
    parallel = Parallel(
        n_jobs=min(jobs, max(1, len(cells))),
        prefer="processes",
        return_as="generator_unordered",
        batch_size=1,
    )
    yield from parallel(delayed(computed)(grid, scale, model, cell) for cell in cells)


def run(
    grid: Grid,
    scale: str,
    model: str,
    *,
    jobs: int = 2,
    root: Path | None = None,
    keep: bool = True,
    say: Callable[[str], None] = print,
    compute: Compute | None = None,
) -> Path:
    """Compute what is missing of a grid and write its tables; tables that are as they should be stay.

    Args:
        grid: of ``GRIDS``.
        scale: "smoke", "book" or "paper".
        model: name of the base model.
        jobs: processes at a time, one thread each.
        root: of the repository.
        keep: write under ``book/results``; else only under ``_build``.
        say: where progress lines go.
        compute: who computes cells, ``Cluster.compute`` say; by default joblib's processes.

    Returns:
        The folder of the tables.

    Raises:
        ValueError: no grid, an unknown scale, ``jobs`` that is no positive whole number, or two cells of one
            name.
        BookError: a cell that is missing after all, or code that changed meanwhile.
        OSError: a file that cannot be written; cells that were computed before are kept.
    """
    if not isinstance(grid, Grid):
        raise ValueError(f"grid={grid!r}; expected a Grid, such as those of GRIDS.")
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r}; expected one of {', '.join(SCALES)}.")
    check_jobs(jobs)
    root = root or repository()
    code, what = Code(root), f"{grid.name} {scale} {model}"
    folder = folder_of(root, grid.name, scale, model)
    if keep and not problems_of(grid, scale, model, code):
        say(f"{what}: the tables are there, made by today's code")
        return folder
    work = root / "_build" / "results" / scale / folder.name
    lock = work.with_name(f".{work.name}.lock")
    with exclusive(lock, f"computing {what}", wait=say):  # and goes on with what another process computed
        sweep(work)
        sweep(folder, idle=HOUR)
        target = folder if keep else work / "tables"
        return _run(grid, scale, model, jobs, code, work, target, say, compute or compute_cells)


def _run(
    grid: Grid,
    scale: str,
    model: str,
    jobs: int,
    code: Code,
    work: Path,
    target: Path,
    say: Callable[[str], None],
    compute: Compute,
) -> Path:
    what = f"{grid.name} {scale} {model}"
    cells = {cell_name(cell): cell for cell in grid.cells(scale, model)}
    if len(cells) != len(grid.cells(scale, model)):
        raise ValueError(f"{what}: two cells have the same name.")
    paths = {name: work / f"{name}.json" for name in cells}
    todo = [cell for name, cell in cells.items() if _read_cell(paths[name], grid, code) is None]
    say(f"{what}: {len(cells)} cells, {len(cells) - len(todo)} done already")
    started = time.perf_counter()
    for number, content in enumerate(compute(grid, scale, model, todo, jobs), start=1):
        name, made = cell_name(content["cell"]), code.made_by(grid.roots, map(tuple, content["uses"]))
        write_whole(paths[name], json.dumps(content | made.as_dict()))
        minutes = (time.perf_counter() - started) / 60
        say(f"  {number}/{len(todo)} {name}  {content['seconds']:.0f} s  (elapsed {minutes:.1f} min)")
    contents = {name: _read_cell(path, grid, code) for name, path in paths.items()}
    if missing := [name for name, content in contents.items() if content is None]:
        raise BookError(f"{what}: {len(missing)} cells are missing, the first of them {missing[0]}.")
    parts = [content for content in contents.values() if content is not None]
    uses = {(kind, name) for content in parts for kind, name in content["uses"]}
    made = code.made_by(grid.roots, uses)
    if todo and Code(code.root).made_by(grid.roots, uses) != made:
        raise BookError(f"{what}: the code changed while the cells were computed; run it again.")
    _write_tables(target, parts, _provenance(grid, scale, model, parts, made, jobs))
    return target


def _read_cell(path: Path, grid: Grid, code: Code) -> dict[str, Any] | None:
    """Return what is kept of a cell if it is whole and today's code would make it again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        made = code.made_by(grid.roots, [(kind, name) for kind, name in content["uses"]])
        fresh = (content["code"], content["files"]) == (made.code, made.files)
        whole = all(set(table) == {"columns", "data"} for table in content["tables"].values())
        its_own = cell_name(content["cell"]) == path.stem and content["seconds"] >= 0
        its_own = its_own and isinstance(content["machine"], dict) and isinstance(content["versions"], dict)
        return content if fresh and whole and its_own else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _write_tables(folder: Path, parts: Sequence[Mapping[str, Any]], provenance: dict[str, Any]) -> None:
    """Write tables and, last, their provenance, which no half-written folder fits. Tables that are there
    already, made by the same code, are left as they are.
    """
    names = sorted({name for content in parts for name in content["tables"]})
    texts, digests = {}, {}
    for name in names:
        tables = [pd.DataFrame(**content["tables"][name]) for content in parts if name in content["tables"]]
        text = pd.concat(tables, ignore_index=True).to_csv(index=False)
        texts[folder / f"{name}.csv"] = text
        digests[f"{name}.csv"] = sha256(text)
    provenance["sha256"] = digests
    try:
        there = read_tables(folder).provenance
        if {**there, "date": "", "jobs": 0} == {**provenance, "date": "", "jobs": 0}:
            return
    except (OSError, ValueError):
        pass
    write_all({**texts, folder / "provenance.json": json.dumps(provenance, indent=2) + "\n"})
    for old in folder.glob("*.csv"):
        if old.name not in digests:
            old.unlink()


def _provenance(
    grid: Grid, scale: str, model: str, parts: Sequence[Mapping[str, Any]], made: MadeBy, jobs: int
) -> dict[str, Any]:
    return {
        "grid": grid.name,
        "scale": scale,
        "command": f"make results SCALE={scale} MODEL={model}",
        **made.as_dict(),
        "date": today(),
        "seeds": sorted({int(content["cell"]["seed"]) for content in parts}),
        "cells": len(parts),
        "cell_seconds": round(sum(content["seconds"] for content in parts)),
        "threads_per_cell": 1,
        "jobs": jobs,
        "machine": _one(parts, "machine"),
        "versions": _one(parts, "versions"),
        "sha256": {},
        **grid.describe(scale, model),
    }


def _one(parts: Sequence[Mapping[str, Any]], key: str) -> dict[str, str]:
    """Return what all cells say under a key; where they do not say the same, all that they say of it."""
    said: dict[str, dict[str, None]] = {}
    for content in parts:
        for name, value in content[key].items():
            said.setdefault(name, {})[value] = None
    return {name: "; ".join(values) for name, values in said.items()}
