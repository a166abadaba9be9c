"""Processes that execute notebooks: how they start, in what environment, and that none outlives its run."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from entanglement.files import write_whole
from entanglement.uses import VARIABLE

__all__ = ["Runner", "environment", "scratch_folder", "terminate_as_interrupt"]

#: One thread a notebook, however many run at once: sums in another order are other numbers.
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_QUIET = {
    "SOURCE_DATE_EPOCH": "1729123200",  # dates inside figures: 2024-10-17, the paper's v1
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # no widgets here, and none wanted
    "JUPYTER_PREFER_ENV_PATH": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
_SCRATCH = "entanglement-"


def environment(store: Path, recorded: Path, scratch: Path) -> dict[str, str]:
    """The environment of one notebook.

    store: the run's folder of outputs; recorded: where the notebook records its claims; scratch: a folder
    of its own, in which one for temporary files is made.
    """
    (scratch / "tmp").mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        **dict.fromkeys(_THREADS, "1"),
        **_QUIET,
        "ENTANGLEMENT_CLAIMS_DIR": str(recorded),
        "ENTANGLEMENT_RUN_DIR": str(store),
        VARIABLE: str(scratch / "uses"),
        # Away from the reader's own: start-up files there could change a run, and two kernels share no
        # history.
        "IPYTHONDIR": f"{scratch}/ipython",
        "JUPYTER_RUNTIME_DIR": f"{scratch}/runtime",
        "TMPDIR": f"{scratch}/tmp",  # what a notebook leaves there, also when it is killed, goes with its run
    }


@dataclass
class Runner:
    """Processes that run now, so that an interrupt ends them."""

    processes: set[subprocess.Popen[bytes]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: bool = False

    def stop(self) -> None:
        """End them all, and start none any more."""
        with self.lock:
            self.stopping = True
            for process in self.processes:
                _kill_group(process)

    def call(self, job: Path, env: dict[str, str], stream: BinaryIO) -> int:
        """Execute the notebook that a job file describes; returns the worker's exit status."""
        with self.lock:
            if self.stopping:
                return -9
            process = subprocess.Popen(
                [sys.executable, "-m", "entanglement_book.press.worker", str(job)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=env,
                start_new_session=True,
            )
            self.processes.add(process)
        try:
            return process.wait()
        finally:
            _kill_group(process)
            _kill_kernels(Path(env["IPYTHONDIR"]))  # a worker that was killed leaves its kernel
            with self.lock:
                self.processes.discard(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a worker: each leads a group of its own (where the system has groups)."""
    if not hasattr(os, "killpg"):
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _kill_kernels(folder: Path) -> None:
    """End processes whose IPYTHONDIR is ``folder`` or lies in it. A kernel leads a group of its own, and by
    itself it would go on for up to a second after its worker is gone, or longer while it computes.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if Path(process.environ().get("IPYTHONDIR", "/")).is_relative_to(folder):
                process.kill()


@contextlib.contextmanager
def scratch_folder(register: Path) -> Iterator[Path]:
    """A temporary folder for one run. Its path is written into ``register`` before it is made, so that the
    next run can end and remove what a killed one left. Only for who holds the run's lock.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError):
        left = Path(register.read_text(encoding="utf-8").strip())
        if left.is_absolute() and left.name.startswith(_SCRATCH):
            _kill_kernels(left)
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.gettempdir()) / f"{_SCRATCH}{secrets.token_hex(4)}"
    write_whole(register, f"{folder}\n")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        register.unlink(missing_ok=True)


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM as an interrupt, so that the notebooks end with the run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
