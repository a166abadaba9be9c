"""What the geometry costs: ``make bench`` times it against the ways that it replaces.

Each line of the table compares two ways of doing the same work, in one process, in turns, so that both meet
the same machine: the ratio is that of the medians. Peak memory is that of a process that does nothing else,
model and Python included. The slow heat map is run once, in a process of its own: it takes many gigabytes.

The model has GPT-2-small's shape (124 million parameters, tied) and random weights; time and memory do not
depend on what the weights are.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from torch import nn

from entanglement.gradients import GeometryMonitor, naive, pair_geometry, token_geometry
from entanglement.logps import PairLogps, response_logps
from entanglement.losses import get_loss
from entanglement.pairs import PairBatch

__all__ = ["LINES", "WAYS", "Line", "frame", "gpt2_shape", "random_batch", "run", "stored"]

THREADS = 2
REPEATS = 5


def gpt2_shape(width: int = 768, layers: int = 12, vocabulary: int = 50257, seed: int = 0) -> nn.Module:
    """Return a GPT-2 of random weights in evaluation mode; the default is GPT-2-small's shape."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=vocabulary, n_embd=width, n_layer=layers, n_head=max(1, width // 64)
    )
    torch.manual_seed(seed)
    return transformers.GPT2LMHeadModel(config).eval()


def random_batch(pairs: int, length: int, response: int, vocabulary: int = 50257, seed: int = 0) -> PairBatch:
    """Return pairs of random tokens: ``length`` of them a sequence, the last ``response`` the response."""
    draw = torch.Generator().manual_seed(seed)
    prompt = torch.randint(vocabulary, (pairs, length - response), generator=draw).repeat(2, 1)
    answers = torch.randint(vocabulary, (2 * pairs, response), generator=draw)
    ids = torch.cat([prompt, answers], dim=1)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, length - response :] = True
    return PairBatch(ids, torch.ones_like(ids), mask, False, tuple(f"pair {i}" for i in range(pairs)))


# --- the ways -----------------------------------------------------------------------------------------------


def _heat_map(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    return lambda: token_geometry(model, batch)


def _heat_map_naive(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    # All token gradients are held at once: fewer backward passes, and the memory of the authors' way.
    return lambda: naive.token_geometry(model, batch, budget=1 << 60)


def _pairs(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    return lambda: pair_geometry(model, batch)


def _pairs_naive(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    return lambda: naive.pair_geometry(model, batch)


def _pairs_func(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    """Per-sample gradients by ``torch.func``: two responses at a time, so that they fit."""
    from torch.func import functional_call, grad, vmap
    from torch.nn.attention import SDPBackend, sdpa_kernel

    parameters = {name: p.detach() for name, p in model.named_parameters()}
    ids, mask = batch.input_ids, batch.response_mask
    first = int(mask[0].int().argmax())  # all responses begin in the same column

    def logp(values: Mapping[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        logits = functional_call(model, dict(values), (row[None],), {"use_cache": False}).logits
        logps = logits[0, first - 1 : -1].log_softmax(-1)
        return logps.gather(1, row[first:, None]).sum()

    gradients = vmap(grad(logp), in_dims=(None, 0))

    def run() -> torch.Tensor:
        grams = []
        for i in range(len(batch)):
            # The fused kernel has no batching rule and would be run row by row.
            with sdpa_kernel(SDPBackend.MATH):
                both = gradients(parameters, ids[[i, i + len(batch)]])
            flat = [g.flatten(1) for g in both.values()]
            grams.append(sum((g @ g.T for g in flat), torch.zeros(2, 2, device=ids.device)))
        return torch.stack(grams)

    return run


def _loss(model: nn.Module, batch: PairBatch, monitor: GeometryMonitor | None = None) -> torch.Tensor:
    chosen, rejected = response_logps(model, batch)
    if monitor is not None:
        monitor.attach(chosen, rejected, batch.ids)
    zero = torch.zeros_like(chosen).detach()
    return get_loss("dpo", beta=0.1)(PairLogps(chosen, rejected, zero, zero)).mean()


def _dpo(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    """One forward and one backward pass of DPO, the reference's log-probabilities being known."""

    def run() -> None:
        model.zero_grad(set_to_none=True)
        _loss(model, batch).backward()

    return run


def _training(monitored: bool) -> Callable[[nn.Module, PairBatch], Callable[[], Any]]:
    def prepare(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

        def step(monitor: GeometryMonitor | None) -> None:
            optimizer.zero_grad(set_to_none=True)
            _loss(model, batch, monitor).backward()
            optimizer.step()

        def run() -> Any:
            if not monitored:
                return step(None)
            with GeometryMonitor(model) as monitor:
                step(monitor)
                return monitor.read()

        return run

    return prepare


@dataclass(frozen=True)
class Way:
    """One way of doing some work: what to prepare, on how many pairs and tokens, in which model."""

    prepare: Callable[[nn.Module, PairBatch], Callable[[], Any]]
    pairs: int
    length: int
    response: int
    width: int = 768
    layers: int = 12


WAYS: dict[str, Way] = {
    "heat map": Way(_heat_map, 1, 40, 10),
    "heat map, one backward a token": Way(_heat_map_naive, 1, 40, 10),
    "pair geometry": Way(_pairs, 8, 64, 24),
    "DPO forward and backward": Way(_dpo, 8, 64, 24),
    "two gradients a pair": Way(_pairs_naive, 8, 64, 24),
    "torch.func": Way(_pairs_func, 8, 64, 24),
    "training": Way(_training(False), 8, 64, 24),
    "monitored training": Way(_training(True), 8, 64, 24),
}
#: Heat maps in sequences of 96 tokens: response tokens of each side.
GROWTH = (8, 16, 32)
WAYS |= {f"heat map of {n} + {n} tokens": Way(_heat_map, 1, 96, n) for n in GROWTH}
#: What the scaling plot draws, in models of six layers: heat maps against their tokens and the model's width.
SCALING: dict[str, tuple[int, ...]] = {"response": (2, 4, 8, 16, 32), "width": (128, 256, 512, 768)}
_SLOW_AND_FAST = {"fast": _heat_map, "one backward a token": _heat_map_naive}
for _n in SCALING["response"]:
    WAYS |= {f"{way}, response {_n}": Way(p, 1, 64, _n, 256, 6) for way, p in _SLOW_AND_FAST.items()}
for _n in SCALING["width"]:
    WAYS |= {f"{way}, width {_n}": Way(p, 1, 40, 10, _n, 6) for way, p in _SLOW_AND_FAST.items()}


@dataclass(frozen=True)
class Line:
    """One line of the table: ours against theirs, and what it must reach.

    Attributes:
        work: in words.
        ours, theirs: names of ``WAYS``.
        faster: theirs/ours must be at least this (below 1 for work that theirs does not do at all).
        lighter: peak memory of theirs/ours must be at least this; None for no demand.
        aim: what ``faster`` should become.
        once: theirs is run once, in a process of its own.
    """

    work: str
    ours: str
    theirs: str
    faster: float
    lighter: float | None
    aim: float
    once: bool = False


LINES: tuple[Line, ...] = (
    Line(
        "heat map of 10 + 10 tokens",
        "heat map",
        "heat map, one backward a token",
        25.0,
        12.0,
        60.0,
        once=True,
    ),
    Line("geometry of 8 pairs", "pair geometry", "DPO forward and backward", 1 / 0.95, None, 1 / 0.75),
    Line("geometry of 8 pairs", "pair geometry", "two gradients a pair", 5.0, None, 8.0),
    Line("geometry of 8 pairs", "pair geometry", "torch.func", 3.5, 3.0, 5.0),
    Line("training step", "monitored training", "training", 1 / 1.3, None, 1 / 1.15),
)


# --- measuring ----------------------------------------------------------------------------------------------


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def measure(names: Sequence[str], repeats: int = REPEATS, device: str = "cpu") -> dict[str, list[float]]:
    """Return the seconds of each run of each way, in turns; of several, the first does not count."""
    ways = [WAYS[name] for name in names]
    if len({(way.width, way.layers) for way in ways}) != 1:
        raise ValueError(f"measure: {', '.join(names)} want different models; expected one.")
    model = gpt2_shape(ways[0].width, ways[0].layers).to(device)
    ready = {
        name: way.prepare(model, random_batch(way.pairs, way.length, way.response).to(device))
        for name, way in zip(names, ways, strict=True)
    }
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats + (repeats > 1)):
        for name, run_once in ready.items():
            _synchronize(device)
            started = time.perf_counter()
            run_once()
            _synchronize(device)
            if turn or repeats == 1:
                seconds[name].append(time.perf_counter() - started)
            model.zero_grad(set_to_none=True)
    return seconds


def _peak(device: str) -> float:
    """Return the peak memory of this process in MB: of the device, or resident."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**10 if sys.platform != "darwin" else peak / 2**20


def _apart(names: Sequence[str], repeats: int, device: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "measured.json"
        command = [sys.executable, "-m", "entanglement.bench", "--measure", json.dumps(list(names))]
        command += ["--repeats", str(repeats), "--device", device, "--output", str(target)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(THREADS)})
        return dict(json.loads(target.read_text()))


def run(*, device: str = "cpu", say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure everything and return the table with its provenance.

    Returns:
        "lines": one entry a line of ``LINES`` with seconds, peak MB, ratios and whether they are what they
        must be; "growth": seconds and peak MB of a long heat map against the number of tokens; "scaling": the
        same for both ways against ``SCALING``; and where it comes from.
    """
    from entanglement.results import code_hash, machine

    say(f"every way in turns, {REPEATS} times each, medians; {THREADS} threads; {device}")
    peaks: dict[str, float] = {}
    alone: dict[str, float] = {}
    for name in dict.fromkeys([n for line in LINES for n in (line.ours, line.theirs)]):
        say(f"  memory: {name}")
        found = _apart([name], 1, device)
        peaks[name], alone[name] = found["peak"], found["seconds"][name][0]
    lines = []
    for line in LINES:
        say(f"  time: {line.ours} against {line.theirs}")
        if line.once:
            seconds = _apart([line.ours], REPEATS, device)["seconds"]
            seconds[line.theirs] = [alone[line.theirs]]
        else:
            seconds = _apart([line.ours, line.theirs], REPEATS, device)["seconds"]
        ours, theirs = median(seconds[line.ours]), median(seconds[line.theirs])
        faster, lighter = theirs / ours, peaks[line.theirs] / peaks[line.ours]
        met = faster >= line.faster and (line.lighter is None or lighter >= line.lighter)
        lines.append(
            asdict(line)
            | {"seconds": ours, "their_seconds": theirs, "ratio": faster, "runs": len(seconds[line.ours])}
            | {"peak_mb": peaks[line.ours], "their_peak_mb": peaks[line.theirs], "memory_ratio": lighter}
            | {"met": met, "aim_met": met and faster >= line.aim}
        )
    growth = []
    for n in GROWTH:
        name = f"heat map of {n} + {n} tokens"
        say(f"  {name}, sequences of {WAYS[name].length}")
        found = _apart([name], REPEATS, device)
        growth.append({"tokens": 2 * n, "seconds": median(found["seconds"][name]), "peak_mb": found["peak"]})
    scaling = []
    for axis, values in SCALING.items():
        for way in _SLOW_AND_FAST:
            for value in values:
                name = f"{way}, {axis} {value}"
                say(f"  scaling: {name}")
                found = _apart([name], REPEATS, device)
                row = {"axis": axis, "value": value, "way": way, "peak_mb": found["peak"]}
                scaling.append(row | {"seconds": median(found["seconds"][name])})
    from datetime import UTC, datetime

    return {
        "lines": lines,
        "growth": growth,
        "scaling": scaling,
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "threads": THREADS,
        "date": datetime.now(UTC).date().isoformat(),
        "command": "make bench",
        "code": code_hash("entanglement.gradients", "gpt2-shape"),
        "machine": machine(),
    }


def _file(device: str) -> Path:
    from entanglement.results import repository

    return repository() / "book" / "results" / "bench" / f"{device}.json"


def stored(device: str = "cpu") -> dict[str, Any]:
    """Return what the last ``make bench`` measured.

    Raises:
        FileNotFoundError: nothing is stored for this device.
    """
    if not _file(device).is_file():
        raise FileNotFoundError(f"no benchmark is stored for {device}; run: make bench")
    return dict(json.loads(_file(device).read_text()))


def problems() -> list[str]:
    """Return what is wrong with the stored benchmark, a line each: missing, too slow, or of other code."""
    from entanglement.results import code_hash

    try:
        found = stored()
    except (OSError, ValueError) as error:
        return [str(error)]
    wrong = [f"bench: {line['ours']} misses its mark" for line in found["lines"] if not line["met"]]
    if found["code"] != code_hash("entanglement.gradients", "gpt2-shape"):
        wrong.append("bench: made by other library code than today's; run: make bench")
    return wrong


def frame(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return the lines as a table for the page: seconds, ratios and what they must be."""
    rows = []
    for line in found["lines"]:
        rows.append(
            {
                "work": line["ours"],
                "s": round(line["seconds"], 2),
                "against": line["theirs"],
                "its s": round(line["their_seconds"], 2),
                "times faster": round(line["ratio"], 2),
                "at least": round(line["faster"], 2),
                "times less memory": round(line["memory_ratio"], 1),
            }
        )
    return pd.DataFrame(rows).set_index("work")


def table(found: Mapping[str, Any]) -> str:
    """Return the table in Markdown."""
    rows = [
        "| work | against | time | must | aim | memory | must |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in found["lines"]:
        least = "" if line["lighter"] is None else f"{line['lighter']:.0f}×"
        rows.append(
            f"| {line['work']}: {line['ours']}, {line['seconds']:.2f} s | {line['theirs']}, "
            f"{line['their_seconds']:.2f} s | **{line['ratio']:.2f}×** | {line['faster']:.2f}× | "
            f"{line['aim']:.2f}× | {line['memory_ratio']:.1f}× ({line['peak_mb']:.0f} MB) | {least} |"
        )
    for grown in found["growth"]:
        rows.append(
            f"| heat map of {grown['tokens']} tokens in sequences of 96 | | {grown['seconds']:.2f} s | | | "
            f"{grown['peak_mb']:.0f} MB | |"
        )
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; exit status 1 if a line is not what it must be."""
    parser = argparse.ArgumentParser(prog="python -m entanglement.bench", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--output", type=Path, help="write to this file (default: book/results/bench)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # names of ways: one process's part of the work
    parser.add_argument("--repeats", type=int, default=REPEATS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("bench: --device cuda, but PyTorch finds no CUDA device", file=sys.stderr)
        return 2
    if options.measure:
        seconds = measure(json.loads(options.measure), options.repeats, options.device)
        options.output.write_text(json.dumps({"seconds": seconds, "peak": _peak(options.device)}))
        return 0
    found = run(device=options.device)
    print(table(found))
    target = options.output or _file(options.device)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=2) + "\n")
    failed = [f"{line['ours']} against {line['theirs']}" for line in found["lines"] if not line["met"]]
    for name in failed:
        print(f"not what it must be: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
