"""Measuring the lines of the benchmark, and joining them into what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from statistics import median
from typing import Any

import numpy as np
import torch

from entanglement.uses import Use
from entanglement_book.bench.lines import LINES, TRAINERS, Line, works
from entanglement_book.bench.made_of import made_of_line, made_of_ways
from entanglement_book.bench.stored import stored
from entanglement_book.bench.timing import REPEATS, THREADS, measure_apart
from entanglement_book.bench.ways import GROWTH, SCALING, WAYS, slow_and_fast
from entanglement_book.grids.made_by import Code
from entanglement_book.machine import machine, repository, today

__all__ = ["agreement", "measure_all", "measure_lines", "measure_work", "place"]

#: No heat map of ``GROWTH`` may take more memory than this, in MiB.
GROWTH_MB = 4e9 / 2**20


def agreement(line: Line, losses: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return how far apart the losses of the two sides were, and whether that is what it must be."""
    if line.agree is None:
        return {"loss_difference": None, "steps": None, "agreed": True}
    ours, theirs = losses[line.ours], losses[line.theirs]
    difference = float(np.abs(np.subtract(ours, theirs)).max())  # and not a number if a loss is not one
    # The first loss is ln 2 whatever the gradients are. Losses that stay there would agree for nothing.
    moved = float(np.ptp(ours))
    agreed = difference <= line.agree < moved
    return {"loss_difference": difference, "loss_moved": moved, "steps": len(ours), "agreed": agreed}


def measure_lines(lines: Sequence[Line], device: str, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure some lines of the table.

    Returns:
        One entry a line: the line itself, seconds, peak MiB and ratios of both sides, how far apart their
        losses were, whether all that is what it must be, what it was measured with, and the date.
    """
    code = Code(repository())
    say(f"every way in turns, {REPEATS} times each, medians; {THREADS} threads; {device}")
    peaks: dict[str, float] = {}
    alone: dict[str, float] = {}
    uses: dict[str, set[Use]] = {}
    for name in dict.fromkeys([n for line in lines for n in (line.ours, line.theirs)]):
        say(f"  memory: {name}")
        found = measure_apart([name], 1, device)
        peaks[name], alone[name] = found["peak"], found["seconds"][name][0]
        uses[name] = {(kind, used) for kind, used in found["uses"]}
    rows = []
    for line in lines:
        say(f"  time: {line.ours} against {line.theirs}")
        found = measure_apart([line.ours] if line.once else [line.ours, line.theirs], REPEATS, device)
        seconds = found["seconds"]
        if line.once:
            seconds[line.theirs] = [alone[line.theirs]]
        ours, theirs = median(seconds[line.ours]), median(seconds[line.theirs])
        faster, lighter = theirs / ours, peaks[line.theirs] / peaks[line.ours]
        agreed = agreement(line, found["losses"])
        met = faster >= (line.faster or 0.0) and lighter >= (line.lighter or 0.0) and agreed["agreed"]
        rows.append(
            asdict(line)
            | {"seconds": ours, "their_seconds": theirs, "ratio": faster, "runs": len(seconds[line.ours])}
            | {"peak_mb": peaks[line.ours], "their_peak_mb": peaks[line.theirs], "memory_ratio": lighter}
            | agreed
            | {"met": met, "aim_met": met and faster >= (line.aim or 0.0)}
            | made_of_line(line, uses[line.ours] | uses[line.theirs], code)
            | {"date": today(), "trl": version("trl") if line.work == TRAINERS else None}
        )
    return rows


def place(device: str) -> dict[str, Any]:
    """Return where is measured: what must be the same for all lines of a table."""
    name = device if device == "cpu" else torch.cuda.get_device_name()
    return {"device": name, "threads": THREADS, "machine": machine()}


def measure_all(device: str = "cpu", say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure everything and return the table with its provenance.

    Returns:
        "lines": one entry a line of ``LINES`` (``measure_lines``); "growth": seconds and peak MiB of a long
        heat map against the number of tokens; "scaling": the same for both ways against ``SCALING``; and
        where it comes from.
    """
    lines = measure_lines(LINES, device, say)
    growth, scaling, uses = [], [], set[Use]()
    for n in GROWTH:
        name = f"heat map of {n} + {n} tokens"
        say(f"  {name}, sequences of {WAYS[name].length}")
        found = measure_apart([name], REPEATS, device)
        uses |= {(kind, used) for kind, used in found["uses"]}
        row = {"tokens": 2 * n, "seconds": median(found["seconds"][name]), "peak_mb": found["peak"]}
        growth.append(row | {"met": found["peak"] < GROWTH_MB})
    for axis, values in SCALING.items():
        for way in slow_and_fast():
            for value in values:
                name = f"{way}, {axis} {value}"
                say(f"  scaling: {name}")
                found = measure_apart([name], REPEATS, device)
                uses |= {(kind, used) for kind, used in found["uses"]}
                row = {"axis": axis, "value": value, "way": way, "peak_mb": found["peak"]}
                scaling.append(row | {"seconds": median(found["seconds"][name])})
    return {
        "lines": lines,
        "growth": growth,
        "scaling": scaling,
        **place(device),
        "date": today(),
        "command": "make bench",
        **made_of_ways(uses, Code(repository())),
    }


def measure_work(work: str, *, device: str = "cpu", say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure the lines of one work again, and return the stored table with them in their places.

    Args:
        work: of the lines to measure, as in ``Line.work``.
        device: "cpu" or "cuda".
        say: called with each line of progress.

    Raises:
        ValueError: an unknown work, or a stored table that was measured somewhere else.
        FileNotFoundError: nothing is stored for this device.
    """
    wanted = [line for line in LINES if line.work == work]
    if not wanted:
        raise ValueError(f"work={work!r}; expected one of {', '.join(works())}.")
    found, here = stored(device), place(device)
    differs = [key for key, value in here.items() if found[key] != value]
    if differs:
        raise ValueError(
            f"work={work!r}: the stored benchmark has another {' and '.join(differs)}; run: make bench"
        )
    new = measure_lines(wanted, device, say)
    rows = {(row["ours"], row["theirs"]): row for row in [*found["lines"], *new]}
    pairs = [(line.ours, line.theirs) for line in LINES]
    return found | {"lines": [rows[pair] for pair in pairs if pair in rows]}
