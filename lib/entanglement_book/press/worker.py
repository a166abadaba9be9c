"""Runs one notebook with papermill, as a process of its own:
``python -m entanglement_book.press.worker JOB.json``.

A process, so that a notebook that is killed or runs out of memory takes nothing else with it; and one that
ends itself when the run that started it is gone, so that a killed ``make`` leaves no notebook computing for
nobody.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

_LONGEST = 80


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent and psutil.pid_exists(parent):
        time.sleep(0.5)
    if hasattr(os, "killpg"):
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os._exit(1)


def _private_sockets(folder: Path) -> dict[str, Any]:
    """Return papermill options that let the kernel talk through files in ``folder``.

    The default is TCP ports that are free when they are chosen and may be taken when the kernel binds them:
    with several notebooks starting at once, a kernel now and then died before its first cell.
    """
    from traitlets.config import Config

    # A socket's name is short, 104 characters on some systems; the kernel adds "/kernel-ipc-5" and more.
    if os.name != "posix" or len(os.fsencode(folder)) > _LONGEST:
        return {}
    return {"config": Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"})}


def main() -> int:
    """Execute the notebook that the job file describes; exit status 0 if every cell ran."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    threading.Thread(target=_end_with_parent, args=(job["parent"],), daemon=True).start()
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillExecutionError
    from papermill.iorw import write_ipynb

    class Engine(NBClientEngine):
        """Writes the notebook when something goes wrong, and not before and after each cell."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, *args: Any, **options: Any) -> Any:
            try:
                return super().execute_managed_notebook(nb_man, *args, **options)
            except Exception:  # the kernel died: the notebook still says in which cell
                write_ipynb(nb_man.nb, job["output"])
                raise

    papermill_engines.register("at the end", Engine)
    try:
        papermill.execute_notebook(
            job["source"],
            job["output"],
            parameters=job["parameters"],
            cwd=job["folder"],
            engine_name="at the end",
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            request_save_on_cell_execute=False,  # twice a cell, all of a notebook that grows
            shutdown_kernel="immediate",  # a kernel of ours keeps nothing for its end, which takes seconds
            start_timeout=180,
            iopub_timeout=120,  # on a busy machine a cell's outputs come long after its end
            **_private_sockets(Path(sys.argv[1]).parent),
        )
    except PapermillExecutionError as error:
        print(f"{error.ename}: {error.evalue}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
