"""Measuring some ways or steps in turns, in this process or in one of their own.

``python -m entanglement_book.bench.timing '{"names": [...], …}'`` is one process's part of the work.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from entanglement.uses import recording
from entanglement_book.bench.trainings import STEPS
from entanglement_book.bench.ways import WAYS, gpt2_shape

__all__ = ["REPEATS", "THREADS", "measure", "measure_apart"]

THREADS = 2
REPEATS = 5


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _ready(names: Sequence[str], device: str) -> tuple[dict[str, Callable[[], Any]], Callable[[], None]]:
    """Return what is timed of each way, and what is done after each run of one."""
    if any(name in STEPS for name in names):
        steps = {name: STEPS[name] for name in names if name in STEPS}
        if len(steps) != len(names) or len({(step.model, step.pairs) for step in steps.values()}) != 1:
            raise ValueError(f"measure: {', '.join(names)} train different models or batches; expected one.")
        return {name: step.ready(device) for name, step in steps.items()}, lambda: None
    ways = [WAYS[name] for name in names]
    if len({(way.width, way.layers) for way in ways}) != 1:
        raise ValueError(f"measure: {', '.join(names)} want different models; expected one.")
    model = nn.Module.to(gpt2_shape(ways[0].width, ways[0].layers), device)
    ready = {name: way.ready(model, device) for name, way in zip(names, ways, strict=True)}
    return ready, lambda: model.zero_grad(set_to_none=True)


def measure(
    names: Sequence[str], repeats: int = REPEATS, device: str = "cpu"
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Run each way, in turns: one turn more than ``repeats``, unless that is one.

    Returns:
        The seconds of each run of each way, without those of the first turn of several; and the loss of
        each step of each of ``STEPS`` (nats), those of the first turn included.

    Raises:
        ValueError: ways in different models.
    """
    ready, after = _ready(names, device)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {name: [] for name in names if name in STEPS}
    for turn in range(repeats + (repeats > 1)):
        for name, run_once in ready.items():
            _synchronize(device)
            started = time.perf_counter()
            found = run_once()
            _synchronize(device)
            if turn or repeats == 1:
                seconds[name].append(time.perf_counter() - started)
            if name in losses:
                losses[name].append(found)
            del found  # a heat map's gradients would otherwise be held while the next way runs
            after()
    return seconds, losses


def _peak(device: str) -> float:
    """Return the peak memory of this process in MiB: of the device, or resident."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**10 if sys.platform != "darwin" else peak / 2**20


def measure_apart(names: Sequence[str], repeats: int, device: str) -> dict[str, Any]:
    """Measure in a process of its own.

    Returns:
        "seconds" and "losses" of ``measure``, "peak" (MiB of the process) and "uses" (what it looked up).
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "measured.json"
        order = {"names": list(names), "repeats": repeats, "device": device, "target": str(target)}
        command = [sys.executable, "-m", "entanglement_book.bench.timing", json.dumps(order)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(THREADS)})
        return dict(json.loads(target.read_text()))


def main(order: str) -> None:
    """Do one process's part of the work."""
    told = json.loads(order)
    torch.set_num_threads(THREADS)
    with recording() as uses:
        seconds, losses = measure(told["names"], told["repeats"], told["device"])
    peak = _peak(told["device"])
    found = {"seconds": seconds, "losses": losses, "peak": peak, "uses": sorted(uses)}
    Path(told["target"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
