"""Carrying tables over a change of the code that moved no number, without computing them again.

Where only names moved (the code without our names is the same), one cell of a table, drawn by the commit's
hash, is computed again and must meet every number. After any other change this is refused, unless it is said
to be a refactoring: then all smoke tables of the grid are computed again and must be equal to the bit, and
one drawn cell of every other table must be met. Where sums are taken in another order than before, so that
rounding moves, cells must be met as on another kind of machine, within the grid's tolerance; those that
amplify rounding are not repeated. What was repeated stands in the provenance, with what was allowed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from entanglement.files import write_whole
from entanglement.uses import Use
from entanglement_book.grids.grid import Grid, cell_name
from entanglement_book.grids.made_by import Code
from entanglement_book.grids.rerun import Rerun, compare, drawn_cell, rerun_cell, rounded
from entanglement_book.grids.run import check_jobs, compute_cells
from entanglement_book.grids.stored import Stored, folder_of, read_tables
from entanglement_book.layout import BookError
from entanglement_book.machine import machine, repository, today

__all__ = ["Moved", "NotMet", "repeat_smoke", "restamp"]

#: What a provenance says besides what ``describe`` says.
_OURS = (
    "grid", "scale", "command", "code", "shape", "uses", "files", "date", "seeds", "cells", "cell_seconds",
    "threads_per_cell", "jobs", "machine", "versions", "sha256", "restamped",
)  # fmt: skip


class NotMet(BookError):  # noqa: N818 - what it is, not that it is an error
    """A table that may not be re-stamped: its numbers were not met, or more than names changed."""


@dataclass(frozen=True)
class Moved:
    """That the code of a grid changed and no number did, shown on all its smoke cells.

    Attributes:
        why: what changed, in words.
        cells: what was repeated, as the provenance says it.
        uses: what these cells looked up.
        exact: whether no number moved at all, or only by rounding.
    """

    why: str
    cells: tuple[dict[str, Any], ...]
    uses: frozenset[Use]
    exact: bool = True


def repeat_smoke(
    grid: Grid,
    why: str,
    *,
    exact: bool = True,
    folder: Path | None = None,
    jobs: int = 1,
    root: Path | None = None,
    say: Callable[[str], None] = print,
) -> Moved:
    """Compute all smoke cells of a grid again and compare them with tables that the earlier code made.

    Args:
        grid: of ``GRIDS``.
        why: what changed, in words.
        exact: whether the numbers must be equal; False: within the grid's tolerance, and cells that amplify
            rounding are left out.
        folder: of these tables, made on this machine; by default those of the repository.
        jobs: processes at a time.
        root: of the repository.
        say: where progress lines go.

    Raises:
        NotMet: one of their numbers is another one, by however little.
        ValueError: no reason, ``jobs`` that is no positive whole number, or damaged tables.
    """
    check_jobs(jobs)
    if not why.strip():
        raise ValueError("why='': say what changed without moving a number.")
    model = grid.kept("smoke")[0]
    folder = folder or folder_of(root or repository(), grid.name, "smoke", model)
    stored, what = read_tables(folder), f"{grid.name} smoke {model}"
    same = stored.provenance["machine"] == machine()
    rows, entries, uses = dict.fromkeys(stored.tables, 0), {}, set()
    exact = exact and not rounded(stored)
    every = grid.cells("smoke", model)
    cells = [cell for cell in every if exact or grid.amplifies is None or not grid.amplifies(cell)]
    for content in compute_cells(grid, "smoke", model, cells, jobs):
        cell, tables = content["cell"], {}
        for name, split in content["tables"].items():
            tables[name] = pd.DataFrame(**split)
            rows[name] = rows.get(name, 0) + len(tables[name])
        worst = compare(tables, stored, cell, grid.clocked)
        again = Rerun(cell, content["seconds"], same, worst, 0.0 if exact else grid.tolerance)
        if not again.agrees:
            other = "" if same else "; they are of another machine: name a folder with those of this one"
            raise NotMet(f"{what}: {cell_name(cell)} differs by {again.worst:.1e} from {folder}{other}.")
        entries[cell_name(cell)] = _entry("smoke", again)
        uses |= {(kind, name) for kind, name in content["uses"]}
    surplus = [name for name, table in stored.tables.items() if len(table) != rows[name]]
    if surplus and len(cells) == len(every):
        raise NotMet(f"{what}: {', '.join(surplus)} in {folder} has rows of no cell.")
    say(f"{what}: {f'all {len(entries)} cells equal' if exact else f'{len(entries)} cells met'}")
    return Moved(why, tuple(entries[cell_name(cell)] for cell in cells), frozenset(uses), exact)


def restamp(
    grid: Grid,
    scale: str,
    model: str,
    *,
    moved: Moved | None = None,
    root: Path | None = None,
    say: Callable[[str], None] = print,
) -> bool:
    """Let a grid's tables be those of today's code, if they are.

    Args:
        grid: of ``GRIDS``.
        scale: "smoke" or "book".
        model: whose tables.
        moved: shown by ``repeat_smoke``, if more than names changed.
        root: of the repository.
        say: where progress lines go.

    Returns:
        Whether the provenance was written; False where it was of today's code already.

    Raises:
        NotMet: more than names changed and ``moved`` is not given, or a number was not met.
        FileNotFoundError, ValueError: no tables, or damaged ones.
    """
    root = root or repository()
    folder, code = folder_of(root, grid.name, scale, model), Code(root)
    stored, what = read_tables(folder), f"{grid.name} {scale} {model}"
    then, now = stored.provenance, code.made_by(grid.roots, stored.uses)
    if stored.uses is not None and (now.code, now.files) == (then["code"], then.get("files")):
        say(f"{what}: made by today's code already")
        return False
    only_names = stored.uses is not None and (now.shape, now.files) == (then.get("shape"), then.get("files"))
    if not only_names and moved is None:
        raise NotMet(f"{what}: more than names changed since it was made; run: make results SCALE={scale}")
    repeated, uses = ([], set()) if only_names or moved is None else (list(moved.cells), set(moved.uses))
    if only_names or scale != "smoke":
        again = _repeat_one(grid, scale, model, stored, root, exact=moved is None or moved.exact)
        say(f"  {what} {cell_name(again.cell)}: differs by {again.worst:.1e}, allowed {again.allowed:g}")
        repeated.append(_entry(scale, again))
        uses |= again.uses
    made = code.made_by(grid.roots, uses | set(stored.uses or ()) if only_names else uses)
    if Code(root).made_by(grid.roots, made.uses) != made:
        raise NotMet(f"{what}: the code changed meanwhile; run it again.")
    entry = {
        "from": then["code"],
        "to": made.code,
        "date": today(),
        "repeated": repeated,
        "why": "only names changed" if only_names or moved is None else moved.why,
    }
    kept = {key: then[key] for key in _OURS if key in then}
    provenance = kept | made.as_dict() | grid.describe(scale, model)
    provenance["restamped"] = [*kept.get("restamped", []), entry]
    write_whole(folder / "provenance.json", json.dumps(provenance, indent=2) + "\n")
    say(f"{what}: re-stamped")
    return True


def _entry(scale: str, again: Rerun) -> dict[str, Any]:
    found = {"worst": again.worst, "allowed": again.allowed, "same_machine": again.same_machine}
    return {"scale": scale, "cell": again.cell} | found


def _repeat_one(grid: Grid, scale: str, model: str, stored: Stored, root: Path, *, exact: bool) -> Rerun:
    """Compute one cell of a table again, drawn by the commit.

    Raises:
        NotMet: one of its numbers is another one.
    """
    cell = drawn_cell(grid, scale, model, stored, root, {}, exact=exact)
    again = rerun_cell(grid, scale, model, stored, cell, exact=exact)
    if not again.agrees:
        raise NotMet(f"{grid.name} {scale} {model}: {cell_name(cell)} differs by {again.worst:.1e}.")
    return again
