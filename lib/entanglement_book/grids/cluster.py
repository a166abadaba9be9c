"""Cells of a grid on a Dask cluster: a worker that dies costs its cell's time, and the tables are the same.

Cells are submitted one by one. joblib has a backend for Dask, too, which puts a lost cell on another worker
as well. But it does not say that a worker was lost, nor ask a worker what code it has, and a table's
provenance would then name code that did not make it. Here each worker says what it computes with before it
gets a cell and after each cell, and one that is not as the submitting process is refused.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import platform
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entanglement.uses import Use
from entanglement_book.grids.grid import Cell, Grid, cell_name
from entanglement_book.grids.made_by import Code
from entanglement_book.grids.run import PACKAGES, computed
from entanglement_book.layout import LOCAL, PATIENCE, BookError, UsageError, one_line, parse_scheduler
from entanglement_book.machine import versions

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Cluster", "OtherMaker", "difference_of", "made_here", "maker", "on_cluster"]

_CODE = "code"


def _root(grid: Grid) -> Path:
    """Return the repository whose code this process computes a grid with."""
    file = Path(inspect.getfile(grid.run_cell)).resolve()
    return next((folder.parent for folder in file.parents if folder.name == "lib"), file.parent)


@cache
def _at_start(root: Path) -> Code:
    """Return the code as it was when this process was first asked: what it has imported is of this."""
    code = Code(root)
    code.made_by((), ())  # reads it
    return code


class OtherMaker(BookError):  # noqa: N818 - what it is, not that it is an error
    """A process that computes with other code or packages; the text says with which."""


def made_here(grid: Grid, uses: Iterable[Use] | None) -> dict[str, str]:
    """Return what this process makes a grid's cells by: "code", and each file that was read, by its digest.

    Args:
        grid: whose functions.
        uses: what a cell looked up; None for all that it could.

    Raises:
        OtherMaker: the files of the code are no longer what this process imported.
    """
    told = None if uses is None else list(uses)
    root = _root(grid)
    made = Code(root).made_by(grid.roots, told)
    if _at_start(root).made_by(grid.roots, told).code != made.code:
        raise OtherMaker("code that changed on its disk after it was started")
    return {_CODE: made.code, **made.files}


def maker(grid: Grid) -> dict[str, str]:
    """Return what this process computes a grid with: versions, and the code that cells could reach."""
    return {"Python": platform.python_version(), **versions(PACKAGES), **made_here(grid, None)}


def difference_of(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """Return in words how what a worker computes with differs from what this process does; "" if not."""
    said = []
    for name in {**ours, **theirs}:
        one, other = theirs.get(name, "none"), ours.get(name, "none")
        if one == other:
            continue
        here = f"{name} {one} where this process has {other}"
        said.append("other code than this process" if name == _CODE else here)
    return ", ".join(said)


def _checked_cell(
    grid: Grid, scale: str, model: str, cell: Cell, wanted: Mapping[str, str]
) -> dict[str, Any]:
    """Compute a cell in a worker that computes with what is wanted; a part of it is what made the cell."""
    if said := difference_of(_known_maker(grid), wanted):
        raise OtherMaker(said)
    content = computed(grid, scale, model, cell)
    return content | {"made_here": made_here(grid, map(tuple, content["uses"]))}


@cache
def _known_maker(grid: Grid) -> dict[str, str]:
    return maker(grid)


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers.

    Attributes:
        client: of Dask.
        say: where a lost worker is told.
    """

    client: Client
    say: Callable[[str], None] = print

    @property
    def workers(self) -> dict[str, int]:
        """Address of each worker → its threads."""
        known = self.client.scheduler_info(n_workers=-1)["workers"]
        return {address: int(worker["nthreads"]) for address, worker in known.items()}

    def _some_workers(self) -> dict[str, int]:
        """The workers; where there are none yet, some are waited for."""
        if not self.workers:
            with suppress(TimeoutError):
                self.client.wait_for_workers(1, timeout=PATIENCE)
        return self.workers

    def check(self, grid: Grid) -> dict[str, str]:
        """Refuse workers that do not compute with what this process computes with; return what that is.

        Raises:
            BookError: naming the first of them, or saying that there are none.
        """
        try:
            ours, workers = maker(grid), self._some_workers()
        except OtherMaker as error:
            raise BookError(f"this process has {error}: start it again") from None
        if not workers:
            raise BookError(f"the cluster at {self.client.scheduler.address} has no workers: start some")
        for address, threads in workers.items():
            if threads != 1:
                raise BookError(f"worker {address} has {threads} threads: start it with --nthreads 1")
        asked = {
            address: self.client.submit(_known_maker, grid, workers=[address], pure=False)
            for address in workers
        }
        for address, future in asked.items():
            if not self._answers(address, future):
                continue
            failed = future.exception()
            if failed is None:
                said = difference_of(future.result(), ours)
            else:
                said = str(failed) if isinstance(failed, OtherMaker) else f"no such grid ({failed})"
            self._refuse(address, said)
        return ours

    def _answers(self, address: str, future: Future) -> bool:
        """Wait for what a worker says; False if it is lost meanwhile. Another one is asked with its cell."""
        while True:
            try:
                future.exception(timeout=1)
                return True
            except TimeoutError:
                if address not in self.workers:
                    return False

    @staticmethod
    def _refuse(address: str, said: str) -> None:
        if said:
            line = " ".join(said.split())
            raise BookError(f"worker {address} has {line}: give it this process's code and packages")

    def compute(
        self, grid: Grid, scale: str, model: str, cells: Sequence[Cell], jobs: int = 1
    ) -> Iterator[dict[str, Any]]:
        """Yield what is kept of cells as they are finished, in any order; see ``run.computed``.

        A cell whose worker dies is computed again on another one, and a line says so.

        Args:
            grid, scale, model, cells: what to compute.
            jobs: not looked at: all workers compute.

        Raises:
            BookError: a worker that computes with something else, a cell with which several workers died, or
                a scheduler that is gone.
        """
        from distributed import KilledWorker, as_completed
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError

        if not cells:
            return
        wanted, token = self.check(grid), uuid.uuid4().hex
        names = {f"{grid.name}-{cell_name(cell)}-{token}": cell_name(cell) for cell in cells}
        self.client.subscribe_topic("all", lambda event: self._told(event, names))
        futures = [
            self.client.submit(_checked_cell, grid, scale, model, dict(cell), wanted, key=key, pure=False)
            for key, cell in zip(names, cells, strict=True)
        ]
        try:
            for future in as_completed(futures, loop=self.client.loop):
                yield self._kept(grid, future, names[str(future.key)])
                future.release()
        except KilledWorker as error:
            lost = names[str(error.task)]
            raise BookError(f"{lost}: every worker that computed it died; see their logs") from None
        except (FutureCancelledError, CommClosedError) as error:
            raise BookError(f"the cluster is gone ({one_line(error)}): run it again, it goes on") from None
        finally:
            self.client.unsubscribe_topic("all")
            self.client.cancel(futures)

    def _kept(self, grid: Grid, future: Future, name: str) -> dict[str, Any]:
        """Return what a worker made of a cell, if it made it by what this process would have."""
        error = future.exception()
        if isinstance(error, OtherMaker):
            self._refuse(f"of {name}", str(error))
        content = dict(future.result())
        theirs = content.pop("made_here")
        self._refuse(f"of {name}", difference_of(theirs, made_here(grid, map(tuple, content["uses"]))))
        return content

    def _told(self, event: tuple[float, Any], names: Mapping[str, str]) -> None:
        message = event[1]
        if isinstance(message, dict) and message.get("action") == "remove-worker":
            lost = sorted(names[key] for key in set(message["processing-tasks"]) & set(names))
            again = f": {', '.join(lost)} computed again by another" if lost else ""
            self.say(f"  worker {message['worker']} is lost{again}")


@contextmanager
def on_cluster(scheduler: str, jobs: int, say: Callable[[str], None] = print) -> Iterator[Cluster]:
    """Connect to a cluster while the context lasts.

    Args:
        scheduler: address of its scheduler; or "local" for a cluster of this machine, which ends with it.
        jobs: worker processes of a local one.
        say: where a lost worker is told.

    Raises:
        UsageError: no address, or no scheduler that answers there.
    """
    parse_scheduler(scheduler)
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise UsageError("--scheduler wants dask: pip install 'entanglement[scale]'") from None
    if scheduler == LOCAL:
        with (
            LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                memory_limit=None,  # as for joblib's processes
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            ) as local,
            Client(local, set_as_default=False) as client,
        ):
            yield Cluster(client, say)
        return
    try:
        asyncio.run(asyncio.wait_for(_greet(scheduler), PATIENCE))
        client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        said = f"--scheduler {scheduler!r}: no Dask scheduler answers ({one_line(error)})"
        raise UsageError(said) from None
    with client:
        yield Cluster(client, say)


async def _greet(address: str) -> None:
    """Open a connection as Dask's processes do, and close it: a client waits for ever where something listens
    that is none of them.
    """
    from distributed.comm import connect

    (await connect(address, timeout=PATIENCE)).abort()
