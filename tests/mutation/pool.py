"""Forked processes, some at a time, each with a time limit."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Pool", "Task"]

#: A mutant may loop and fill a list: no process gets more than this, in bytes.
MEMORY = 12 * 2**30


@dataclass
class Task:
    """What a process does, and what became of it.

    Attributes:
        work: what it does in its folder; it ends the process itself.
        limit: seconds.
        folder: its own; removed afterwards.
        done: called when it has ended, while the folder is there.
        status: its exit status; None if it was stopped at its limit.
        seconds: how long it took.
    """

    work: Callable[[Path], None]
    limit: float
    folder: Path
    done: Callable[[Task], None] = lambda task: None
    status: int | None = None
    seconds: float = 0.0

    @property
    def reason(self) -> str:
        """The test that failed, if it said so."""
        with contextlib.suppress(OSError):
            return (self.folder / "failed").read_text()
        return f"exit status {self.status}"


class Pool:
    """Runs tasks, ``jobs`` at a time; a task's ``done`` may add others."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.waiting: deque[Task] = deque()
        self.running: dict[int, tuple[Task, float]] = {}  # with the time at which each began

    def add(self, task: Task) -> None:
        """Put a task at the end of the queue."""
        self.waiting.append(task)

    def run(self) -> None:
        """Return when all tasks have ended."""
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < self.jobs:
                    self._start(self.waiting.popleft())
                self._look()
                time.sleep(0.02)
        finally:
            for pid in list(self.running):
                self._end(pid, None)

    def _start(self, task: Task) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
                task.work(task.folder)
            finally:
                os._exit(70)  # never back into this loop
        self.running[pid] = (task, time.monotonic())

    def _look(self) -> None:
        for pid, (task, began) in list(self.running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._end(pid, os.waitstatus_to_exitcode(status))
            elif time.monotonic() > began + task.limit:
                self._end(pid, None)

    def _end(self, pid: int, status: int | None) -> None:
        task, began = self.running.pop(pid)
        # It made a group of its own; what it started and left behind goes with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        if status is None:  # stopped, perhaps before it had a group
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        task.status, task.seconds = status, time.monotonic() - began
        task.done(task)
        shutil.rmtree(task.folder, ignore_errors=True)
