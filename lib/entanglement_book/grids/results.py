"""Grids too big for a notebook: ``make results`` computes them, the notebook reads them and re-runs one cell.

Each cell is computed on its own, with one thread, and written whole under ``_build/results``; a run that is
interrupted goes on where it stopped. The cells of a grid are then joined into small tables under
``book/results``
beside their provenance: command, hash of the library code that they depend on, versions, seeds, wall time,
machine. A table older than that code fails ``python -m entanglement_book.grids.results check``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["GRIDS", "Grid", "Rerun", "Stored", "check", "load", "repository", "rerun_one", "run"]

Tables = dict[str, pd.DataFrame]
SCALES = ("smoke", "book", "paper")
#: Processes are replaced after about so many cells: token geometries, measured by the thousand, leave memory
#: behind.
_CELLS_A_PROCESS = 6


@dataclass(frozen=True)
class Grid:
    """A family of runs.

    Attributes:
        name: of the folder under ``book/results/<scale>``; the model's name is appended.
        module: the module whose ``grid_cells(scale, model)``, ``run_cell(scale, model, cell)`` and
            ``describe(scale, model)`` make it.
        models: those whose tables are kept in the repository.
        tolerance: largest accepted difference of a re-run cell on *another* kind of machine, as a share of
            1 + |value|. On the same kind the numbers must be equal.
    """

    name: str
    module: str
    models: tuple[str, ...]
    tolerance: float = 0.02

    def cells(self, scale: str, model: str) -> list[dict[str, Any]]:
        """Return the cells of one scale and model."""
        return list(import_module(self.module).grid_cells(scale, model))

    def run_cell(self, scale: str, model: str, cell: Mapping[str, Any]) -> Tables:
        """Compute one cell."""
        return dict(import_module(self.module).run_cell(scale, model, cell))

    def kept(self, scale: str) -> tuple[str, ...]:
        """Return the models whose tables the repository keeps at a scale."""
        return {"book": self.models, "smoke": self.models[:1]}.get(scale, ())


GRIDS: dict[str, Grid] = {
    "sentiment": Grid(
        "sentiment",
        "entanglement_book.studies.ch08_sentiment.grid",
        ("nano", "nano-unlabeled", "smollm2-135m"),
    ),
    "dynamics": Grid("dynamics", "entanglement_book.studies.ch05_dynamics.grid", ("nano",)),
    "knobs": Grid("knobs", "entanglement_book.studies.ch05_dynamics.knobs", ("nano",)),
    "untangling": Grid("untangling", "entanglement_book.studies.ch11_one_number.grid", ("nano",)),
    "masking": Grid("masking", "entanglement_book.studies.ch12_which_tokens.grid", ("nano",)),
    "controlling": Grid("controlling", "entanglement_book.studies.ch13_control.grid", ("nano",)),
}


def repository() -> Path:
    """Return the repository's root: the nearest folder upwards that holds book/results, else this file's."""
    for start in (Path.cwd(), Path(__file__).parents[3]):
        for folder in (start, *start.parents):
            if (folder / "book" / "results").is_dir() and (folder / "lib" / "entanglement").is_dir():
                return folder
    raise FileNotFoundError(
        "no folder with book/results above the working directory; run this in a checkout."
    )


def _folder(root: Path, grid: str, scale: str, model: str) -> Path:
    return root / "book" / "results" / scale / f"{grid}-{model.replace('/', '--')}"


def code_hash(module: str, model: str) -> str:
    """Return a hash of the library code (comments and docstrings left out) and checkpoint a grid depends
    on."""
    # The book's cache knows which modules a module needs; imported here because science does not need the
    # book.
    from entanglement_book.provenance.sources import ImportGraph, code_text, digest

    library = Path(__file__).parents[2] / "entanglement"
    graph = ImportGraph(library)
    modules = graph.closure(f"import {module}")
    parts = {name: code_text(graph.modules[name].read_text(encoding="utf-8")) for name in modules}
    facts = library / "checkpoints" / model / "facts.json"
    if facts.is_file():
        parts["checkpoint"] = json.loads(facts.read_text())["sha256"]
    return digest(parts)


def machine() -> dict[str, str]:
    """Return what decides whether floating-point results repeat exactly: processor, PyTorch, system."""
    import torch

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        wanted = ("model name", "cpu family", "model")
        lines = [line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line]
        found = {key.strip(): value.strip() for key, value in reversed(lines) if key.strip() in wanted}
        processor = ", ".join(f"{key} {found[key]}" for key in wanted if key in found) or processor
    return {
        "processor": processor,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__.partition("+")[0],
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cell_name(cell: Mapping[str, Any]) -> str:
    return "-".join(str(value) for value in cell.values())


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _compute(grid: Grid, scale: str, model: str, cell: dict[str, Any], target: Path, code: str) -> float:
    """Compute one cell in this process and write it whole. Returns seconds."""
    _one_thread()
    started = time.perf_counter()
    tables = grid.run_cell(scale, model, cell)
    seconds = time.perf_counter() - started
    content = {
        "code": code,
        "cell": cell,
        "seconds": seconds,
        "tables": {name: table.to_dict(orient="split", index=False) for name, table in tables.items()},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(content))
    part.replace(target)
    return seconds


def _computed(work: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield (cell, seconds) as cells are finished, in this process or in several."""
    if jobs == 1 or len(work) < 2:
        for arguments in work:
            yield arguments[3], _compute(*arguments)
        return
    context = multiprocessing.get_context("spawn")
    for first in range(0, len(work), jobs * _CELLS_A_PROCESS):
        some = work[first : first + jobs * _CELLS_A_PROCESS]
        # A new pool now and then: with max_tasks_per_child, Python 3.11's pool can wait forever.
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            waiting = {pool.submit(_compute, *arguments): arguments[3] for arguments in some}
            for done in as_completed(waiting):
                yield waiting[done], done.result()


def _read_cell(path: Path, code: str) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if content.get("code") == code else None


def run(
    grid: str,
    scale: str,
    model: str,
    *,
    jobs: int = 2,
    root: Path | None = None,
    keep: bool = True,
    say: Callable[[str], None] = print,
) -> Path:
    """Compute what is missing of a grid and write its tables.

    Args:
        grid: a name of ``GRIDS``.
        scale: "smoke", "book" or "paper".
        model: name of the base model.
        jobs: processes at a time, one thread each.
        root: of the repository.
        keep: write under ``book/results``; else only under ``_build``.
        say: where progress lines go.

    Returns:
        The folder of the tables.
    """
    root = root or repository()
    code = code_hash(GRIDS[grid].module, model)
    cells = GRIDS[grid].cells(scale, model)
    work = root / "_build" / "results" / scale / f"{grid}-{model.replace('/', '--')}"
    paths = {_cell_name(cell): work / f"{_cell_name(cell)}.json" for cell in cells}
    todo = [cell for cell in cells if _read_cell(paths[_cell_name(cell)], code) is None]
    say(f"{grid} {scale} {model}: {len(cells)} cells, {len(cells) - len(todo)} done already")
    started = time.perf_counter()
    jobs_of = [(GRIDS[grid], scale, model, cell, paths[_cell_name(cell)], code) for cell in todo]
    for number, (cell, seconds) in enumerate(_computed(jobs_of, jobs), start=1):
        minutes = (time.perf_counter() - started) / 60
        say(f"  {number}/{len(todo)} {_cell_name(cell)}  {seconds:.0f} s  (elapsed {minutes:.1f} min)")
    contents = [_read_cell(path, code) for path in paths.values()]
    folder = _folder(root, grid, scale, model) if keep else work / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({name for content in contents if content for name in content["tables"]})
    for name in names:
        parts = [pd.DataFrame(**c["tables"][name]) for c in contents if c and name in c["tables"]]
        pd.concat(parts, ignore_index=True).to_csv(folder / f"{name}.csv", index=False)
    provenance = {
        "grid": grid,
        "scale": scale,
        "command": f"make results SCALE={scale} MODEL={model}",
        "code": code,
        "date": datetime.now(UTC).date().isoformat(),
        "seeds": sorted({int(cell["seed"]) for cell in cells}),
        "cells": len(cells),
        "cell_seconds": round(sum(c["seconds"] for c in contents if c)),
        "threads_per_cell": 1,
        "jobs": jobs,
        "machine": machine(),
        "versions": {n: version(n).partition("+")[0] for n in ("torch", "transformers", "numpy", "pandas")},
        "sha256": {
            f"{name}.csv": hashlib.sha256((folder / f"{name}.csv").read_bytes()).hexdigest() for name in names
        },
        **import_module(GRIDS[grid].module).describe(scale, model),
    }
    (folder / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    return folder


@dataclass(frozen=True)
class Stored:
    """The tables of a grid and where they come from."""

    tables: Tables
    provenance: dict[str, Any]

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.tables[name]


def _read(folder: Path) -> Stored:
    provenance = json.loads((folder / "provenance.json").read_text())
    tables = {}
    for file, digest in provenance["sha256"].items():
        data = (folder / file).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(
                f"{folder.name}/{file} is not the file that its provenance describes; make it again."
            )
        tables[Path(file).stem] = pd.read_csv(folder / file)
    return Stored(tables, provenance)


def load(grid: str, scale: str, model: str = "nano", *, jobs: int = 1) -> Stored:
    """Return a grid's tables; a model whose tables the repository does not keep is computed now.

    Raises:
        ValueError: an unknown grid or scale, or a table that does not match its provenance.
        FileNotFoundError: tables that the repository should keep are missing (``make results``).
    """
    if grid not in GRIDS:
        raise ValueError(f"grid={grid!r}; expected one of {', '.join(GRIDS)}.")
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r}; expected one of {', '.join(SCALES)}.")
    root = repository()
    folder = _folder(root, grid, scale, model)
    if (folder / "provenance.json").is_file():
        return _read(folder)
    if model in GRIDS[grid].kept(scale):
        raise FileNotFoundError(f"{folder.relative_to(root)} is missing; run: make results SCALE={scale}")
    return _read(run(grid, scale, model, jobs=jobs, root=root, keep=False))


@dataclass(frozen=True)
class Rerun:
    """One cell of a stored grid, computed again.

    Attributes:
        cell: which one.
        seconds: it took.
        same_machine: whether the machine is of the kind that made the table.
        worst: largest |new − stored| / (1 + |stored|) over all numbers.
        allowed: 0 on the same kind of machine, else the grid's tolerance.
    """

    cell: dict[str, Any]
    seconds: float
    same_machine: bool
    worst: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether the stored numbers were met."""
        return self.worst <= self.allowed


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _difference(new: pd.DataFrame, stored: pd.DataFrame) -> float:
    """Return the largest relative difference; infinite where shapes, words or missing values differ."""
    if list(new.columns) != list(stored.columns) or len(new) != len(stored):
        return float("inf")
    worst = 0.0
    for column in new.columns:
        a, b = new[column], stored[column]
        if pd.api.types.is_numeric_dtype(b):
            x, y = a.to_numpy(float), b.to_numpy(float)
            if (np.isnan(x) != np.isnan(y)).any():
                return float("inf")
            gap = np.abs(x - y) / (1 + np.abs(y))
            worst = max(worst, float(np.nanmax(gap, initial=0.0)))
        elif list(a.fillna("")) != list(b.fillna("")):
            return float("inf")
    return worst


def rerun_one(grid: str, scale: str, model: str = "nano", **only: Sequence[object]) -> Rerun:
    """Compute one cell of a stored grid again and compare every number of it.

    The cell is drawn from the commit's hash, so that over time all are visited; outside a git checkout, from
    the hash of the code.

    Args:
        grid, scale, model: which tables.
        only: draw among cells with these values only, ``condition=["main"]`` say (a short notebook can't
            afford the longest).
    """
    stored = load(grid, scale, model)
    cells = GRIDS[grid].cells(scale, model)
    cells = [cell for cell in cells if all(cell[key] in values for key, values in only.items())]
    drawn = hashlib.sha256((_commit() or stored.provenance["code"]).encode()).hexdigest()
    cell = cells[int(drawn, 16) % len(cells)]
    _one_thread()
    started = time.perf_counter()
    fresh = GRIDS[grid].run_cell(scale, model, cell)
    seconds = time.perf_counter() - started
    worst = 0.0
    for name, table in fresh.items():
        kept = stored[name]
        for key, value in cell.items():
            kept = kept[kept[key] == value]
        # Through text and back, as the stored numbers went.
        new = pd.DataFrame(**json.loads(json.dumps(table.to_dict(orient="split", index=False))))
        worst = max(worst, _difference(new, kept.reset_index(drop=True)))
    same = stored.provenance["machine"] == machine()
    return Rerun(cell, seconds, same, worst, 0.0 if same else GRIDS[grid].tolerance)


def check(root: Path | None = None) -> list[str]:
    """Return what is wrong with the stored tables, a line each: missing, damaged, older than their code."""
    root = root or repository()
    problems = []
    for grid in GRIDS.values():
        for scale in SCALES:
            for model in grid.kept(scale):
                folder = _folder(root, grid.name, scale, model)
                where = folder.relative_to(root).as_posix()
                try:
                    stored = _read(folder)
                except (OSError, ValueError, KeyError) as error:
                    problems.append(f"{where}: {error}")
                    continue
                if stored.provenance["code"] != code_hash(grid.module, model):
                    problems.append(
                        f"{where}: made by other library code than today's; run: make results SCALE={scale}"
                    )
                cells = {_cell_name(cell) for cell in grid.cells(scale, model)}
                keys = list(grid.cells(scale, model)[0])
                named = stored["means"][keys].drop_duplicates()
                have = {_cell_name(dict(row)) for _, row in named.iterrows()}
                if cells != have:
                    problems.append(
                        f"{where}: {len(cells - have)} cells are missing, {len(have - cells)} too many"
                    )
    size = sum(p.stat().st_size for p in (root / "book" / "results").rglob("*") if p.is_file())
    if size > 5_000_000:
        problems.append(f"book/results holds {size / 1e6:.1f} MB; at most 5 MB are kept")
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or check the grids from the command line."""
    parser = argparse.ArgumentParser(prog="python -m entanglement_book.grids.results", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("run", help="compute what is missing and write the tables")
    making.add_argument("--scale", choices=SCALES, default="book")
    making.add_argument("--grid", choices=list(GRIDS), action="append", help="default: all")
    making.add_argument("--model", help="default: the models whose tables the repository keeps")
    making.add_argument("--jobs", type=int, default=2)
    commands.add_parser("check", help="are the stored tables whole and made by today's code?")
    options = parser.parse_args(arguments)
    if options.command == "check":
        from entanglement_book.bench.bench import problems as bench_problems

        problems = check() + bench_problems()
        for problem in problems:
            print(problem)
        print(f"results: {'as they should be' if not problems else f'{len(problems)} problems'}")
        return 1 if problems else 0
    for name in options.grid or list(GRIDS):
        models = [options.model] if options.model else list(GRIDS[name].kept(options.scale))
        for model in models or ["nano"]:
            print(f"written: {run(name, options.scale, model, jobs=options.jobs)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
