"""What the geometry costs: ``make bench`` times it against the ways that it replaces.

Each line of the table compares two ways of doing the same work, in one process, in turns, so that both meet
the same machine: the ratio is that of the medians. Peak memory is that of a process that does nothing else,
model and Python included. The slow heat maps are run once, each in a process of its own: one takes 20 GB.

The ways that are replaced: the *authors' way* forms each gradient, flattens it into one vector and puts that
into main memory, where inner products are taken; *our reference* (``gradients.naive``) forms the same
gradients and sums inner products parameter by parameter; *torch.func* are PyTorch's own per-sample gradients.

The model has GPT-2-small's shape (124 million parameters, tied) and random weights; time and memory do not
depend on what the weights are.

The lines of ``STEPS`` are training steps, for that shape and for the book's own model: one of ``align``
against one of TRL's trainer (``bench_trl``), where both sides must find the same loss in every step; and one
with an update rule against the loss's own (``bench_updates``).
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
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedModel

from entanglement.control import Decoupled
from entanglement.gradients import GeometryMonitor, naive, pair_geometry, token_geometry
from entanglement.gradients.select import fused_activations
from entanglement.logps import PairLogps, response_logps, token_logps
from entanglement.losses import get_loss
from entanglement.models import load_model
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import quick_logps
from entanglement_book.bench.trl_steps import our_step, trl_step
from entanglement_book.bench.update_steps import Prepare, adversarial_step, step_with, token_step, update_step
from entanglement_book.materials import sentiment_pairs

__all__ = ["LINES", "STEPS", "WAYS", "Line", "frame", "gpt2_shape", "random_batch", "rerun", "run", "stored"]

THREADS = 2
REPEATS = 5


def gpt2_shape(width: int = 768, layers: int = 12, vocabulary: int = 50257, seed: int = 0) -> PreTrainedModel:
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
    # All token gradients are held at once: one backward pass a token.
    return lambda: naive.token_geometry(model, batch, budget=1 << 60)


def _flat_gradient(value: torch.Tensor, model: nn.Module) -> torch.Tensor:
    """Return one gradient of all parameters as a vector in main memory, as the authors keep it."""
    found = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
    return torch.cat([gradient.reshape(-1) for gradient in found]).cpu()


def _heat_map_authors(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    def run() -> np.ndarray:
        tokens = token_logps(model, batch)
        values = [*tokens.chosen[tokens.chosen_mask], *tokens.rejected[tokens.rejected_mask]]
        gradients = np.stack([_flat_gradient(value, model).numpy() for value in values])  # (N, P)
        lengths = np.array([np.linalg.norm(gradient) for gradient in gradients])
        return gradients @ gradients.T / np.outer(lengths, lengths)

    return run


def _pairs(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    return lambda: pair_geometry(model, batch)


def _pairs_naive(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    return lambda: naive.pair_geometry(model, batch)


def _pairs_authors(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    def run() -> list[tuple[float, float, float]]:
        found = []
        for i in range(len(batch)):
            w, l = (_flat_gradient(side.sum(), model) for side in response_logps(model, batch.select(i)))  # noqa: E741
            found.append((float(w.norm()), float(l.norm()), float(w @ l)))
        return found

    return run


def _pairs_func(pairs: int) -> Callable[[nn.Module, PairBatch], Callable[[], Any]]:
    """Per-sample gradients by ``torch.func``, those of some pairs at a time."""
    return lambda model, batch: _func(model, batch, pairs)


def _func(model: nn.Module, batch: PairBatch, pairs: int) -> Callable[[], Any]:
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
        for start in range(0, len(batch), pairs):
            chosen = torch.arange(start, start + pairs, device=ids.device)
            rows = torch.stack([chosen, chosen + len(batch)], dim=1).flatten()  # w, l, w, l, …
            # The fused kernel has no batching rule and would be run row by row.
            with sdpa_kernel(SDPBackend.MATH):
                found = gradients(parameters, ids[rows])
            gram = torch.zeros(pairs, 2, 2, device=ids.device)
            for gradient in found.values():
                both = gradient.reshape(pairs, 2, -1)
                gram += both @ both.transpose(1, 2)
            grams.append(gram)
        return torch.cat(grams)

    return run


def _dpo_loss(logps: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    zero = torch.zeros_like(logps[0]).detach()
    return get_loss("dpo", beta=0.1)(PairLogps(*logps, zero, zero)).mean()


def _dpo(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    """One forward and one backward pass of DPO, the reference's log-probabilities being known."""

    def run() -> None:
        model.zero_grad(set_to_none=True)
        _dpo_loss(response_logps(model, batch)).backward()

    return run


def _training(step: Callable[[nn.Module, PairBatch], Any]) -> Callable[..., Callable[[], Any]]:
    """A training step with AdamW, around a forward and a backward pass."""

    def prepare(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

        def run() -> Any:
            optimizer.zero_grad(set_to_none=True)
            with fused_activations(model):
                found = step(model, batch)
            optimizer.step()
            return found

        return run

    return prepare


def _prompts_apart(model: nn.Module, batch: PairBatch) -> None:
    _dpo_loss(response_logps(model, batch)).backward()


def _prompts_shared(model: nn.Module, batch: PairBatch) -> None:
    _dpo_loss(quick_logps(model, batch)).backward()


def _monitored(model: nn.Module, batch: PairBatch) -> Any:
    with GeometryMonitor(model) as monitor:
        logps = response_logps(model, batch)
        monitor.attach(*logps, batch.ids)
        _dpo_loss(logps).backward()
        return monitor.read()


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
    "heat map, the authors' way": Way(_heat_map_authors, 1, 40, 10),
    "heat map, our reference": Way(_heat_map_naive, 1, 40, 10),
    "pair geometry": Way(_pairs, 8, 64, 24),
    "DPO forward and backward": Way(_dpo, 8, 64, 24),
    "two gradients a pair, the authors' way": Way(_pairs_authors, 8, 64, 24),
    "two gradients a pair, our reference": Way(_pairs_naive, 8, 64, 24),
    "torch.func, four responses at a time": Way(_pairs_func(2), 8, 64, 24),
    "torch.func, two responses at a time": Way(_pairs_func(1), 8, 64, 24),
    "training": Way(_training(_prompts_apart), 8, 64, 24),
    "training, prompts shared": Way(_training(_prompts_shared), 8, 64, 24),
    "monitored training": Way(_training(_monitored), 8, 64, 24),
}
#: Heat maps in sequences of 96 tokens: response tokens of each side.
GROWTH = (8, 16, 32)
GROWTH_MB = 4e9 / 2**20  # and none may take more memory than this
WAYS |= {f"heat map of {n} + {n} tokens": Way(_heat_map, 1, 96, n) for n in GROWTH}
#: What the scaling plot draws, in models of six layers: heat maps against their tokens and the model's width.
SCALING: dict[str, tuple[int, ...]] = {"response": (2, 4, 8, 16, 32), "width": (128, 256, 512, 768)}
_SLOW_AND_FAST = {"fast": _heat_map, "one backward a token": _heat_map_naive}
for _n in SCALING["response"]:
    WAYS |= {f"{way}, response {_n}": Way(p, 1, 64, _n, 256, 6) for way, p in _SLOW_AND_FAST.items()}
for _n in SCALING["width"]:
    WAYS |= {f"{way}, width {_n}": Way(p, 1, 40, 10, _n, 6) for way, p in _SLOW_AND_FAST.items()}


@dataclass(frozen=True)
class Step:
    """A DPO step of some trainer: what to prepare, of which model, on how many sentiment pairs.

    Attributes:
        prepare: takes (model, tokenizer, pairs) and returns a function that makes one more step and returns
            its loss (nats).
        model: "nano", or "gpt2-small" for random weights of that shape on nano's token ids.
        pairs: in the batch.
    """

    prepare: Prepare
    model: str
    pairs: int

    def ready(self, device: str) -> Callable[[], float]:
        """Return the function that makes one more step, of a model of its own."""
        loaded = load_model("nano")
        model = loaded.model if self.model == "nano" else gpt2_shape()
        pairs = sentiment_pairs("long_suffix", "train", n=self.pairs)
        nn.Module.to(model, device)  # in place; the annotation of the model's own method hides its arguments
        return self.prepare(model, loaded.tokenizer, pairs)


STEPS: dict[str, Step] = {
    "DPO step of nano, 32 pairs": Step(our_step, "nano", 32),
    "TRL's DPOTrainer, nano": Step(trl_step, "nano", 32),
    "DPO step of GPT-2-small's shape, 8 pairs": Step(our_step, "gpt2-small", 8),
    "TRL's DPOTrainer, GPT-2-small's shape": Step(trl_step, "gpt2-small", 8),
}
#: Steps with an update rule → name and options of the update.
_RULES: dict[str, tuple[str, dict[str, object]]] = {
    "normalized": ("normalized", {}),
    "clipped to the band": ("band", {}),
    "normalized in AdamW's metric": ("normalized", {"metric": "optimizer"}),
    "normalized, batch": ("normalized", {"level": "batch"}),
    "calibrated": ("calibrated", {}),
    "split": ("split", {}),
}
for _name, (_update, _options) in _RULES.items():
    STEPS[f"{_name}, nano"] = Step(update_step(_update, **_options), "nano", 32)
for _name in ("normalized", "clipped to the band"):
    _update, _options = _RULES[_name]
    STEPS[f"{_name}, GPT-2-small's shape"] = Step(update_step(_update, **_options), "gpt2-small", 8)
#: Steps with token weights, requests and an adversary.
_OTHERS: dict[str, Prepare] = {
    "contrasting tokens": token_step("contrasting"),
    "tokens by two references": token_step("two"),
    "tokens by their geometry": token_step("geometry"),
    "learned token mask": token_step("learned"),
    "decoupled, batch": step_with(lambda reference: Decoupled("batch"), "sgd"),
    "decoupled, all responses": step_with(lambda reference: Decoupled("all"), "sgd"),
    "adversarial": adversarial_step,
}
STEPS |= {f"{_name}, nano": Step(_prepare, "nano", 32) for _name, _prepare in _OTHERS.items()}


@dataclass(frozen=True)
class Line:
    """One line of the table: ours against theirs, and what it must reach.

    Attributes:
        work: in words.
        ours, theirs: names of ``WAYS``, or of ``STEPS``.
        faster: theirs/ours must be at least this (below 1 for work that theirs does not do at all); None for
            no demand.
        lighter: peak memory of theirs/ours must be at least this; None for no demand.
        aim: what ``faster`` should become; None for no aim.
        once: theirs is run once, in a process of its own.
        agree: the losses of the two must differ by at most this in every step (nats); None for ways that
            return no loss.
    """

    work: str
    ours: str
    theirs: str
    faster: float | None = None
    lighter: float | None = None
    aim: float | None = None
    once: bool = False
    agree: float | None = None


_MAP, _PAIRS, _STEP = "heat map of 10 + 10 tokens", "geometry of 8 pairs", "training step"
_TRAINERS = "DPO step against TRL"
_UPDATES = "update rule against the loss's own step"
_ANOTHER = "other training step against the loss's own"
LINES: tuple[Line, ...] = (
    Line(_MAP, "heat map", "heat map, the authors' way", 25.0, 12.0, 60.0, once=True),
    Line(_MAP, "heat map", "heat map, our reference", once=True),
    Line(_PAIRS, "pair geometry", "DPO forward and backward", 1 / 0.95, None, 1 / 0.75),
    Line(_PAIRS, "pair geometry", "two gradients a pair, the authors' way", 5.0, None, 8.0),
    Line(_PAIRS, "pair geometry", "two gradients a pair, our reference"),
    Line(_PAIRS, "pair geometry", "torch.func, four responses at a time", 3.5, 3.0, 5.0),
    Line(_PAIRS, "pair geometry", "torch.func, two responses at a time"),
    Line(_STEP, "monitored training", "training", 1 / 1.3, None, 1 / 1.15),
    Line(_STEP, "monitored training", "training, prompts shared"),
    Line(_TRAINERS, "DPO step of nano, 32 pairs", "TRL's DPOTrainer, nano", 1.5, agree=1e-4),
    Line(
        _TRAINERS,
        "DPO step of GPT-2-small's shape, 8 pairs",
        "TRL's DPOTrainer, GPT-2-small's shape",
        1.5,
        agree=1e-4,
    ),
    *(
        Line(_UPDATES, f"{name}, {shape}", theirs, 1 / 2.2, None, 1 / 1.4)
        for shape, theirs in (
            ("nano", "DPO step of nano, 32 pairs"),
            ("GPT-2-small's shape", "DPO step of GPT-2-small's shape, 8 pairs"),
        )
        for name in ("normalized", "clipped to the band")
    ),
    *(
        Line(_UPDATES, f"{name}, nano", "DPO step of nano, 32 pairs")
        for name in ("normalized in AdamW's metric", "normalized, batch", "calibrated", "split")
    ),
    *(Line(_ANOTHER, f"{name}, nano", "DPO step of nano, 32 pairs") for name in _OTHERS),
)


# --- measuring ----------------------------------------------------------------------------------------------


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
    ready = {
        name: way.prepare(model, random_batch(way.pairs, way.length, way.response).to(device))
        for name, way in zip(names, ways, strict=True)
    }
    return ready, lambda: model.zero_grad(set_to_none=True)


def measure(
    names: Sequence[str], repeats: int = REPEATS, device: str = "cpu"
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Run each way, in turns: one turn more than ``repeats``, unless that is one.

    Returns:
        The seconds of each run of each way, without those of the first turn of several; and the loss of
        each step of each of ``STEPS`` (nats), those of the first turn included.
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


def _apart(names: Sequence[str], repeats: int, device: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "measured.json"
        command = [
            sys.executable,
            "-m",
            "entanglement_book.bench.bench",
            "--measure",
            json.dumps(list(names)),
        ]
        command += ["--repeats", str(repeats), "--device", device, "--output", str(target)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(THREADS)})
        return dict(json.loads(target.read_text()))


def _agreement(line: Line, losses: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return how far apart the losses of the two sides were, and whether that is what it must be."""
    if line.agree is None:
        return {"loss_difference": None, "steps": None, "agreed": True}
    ours, theirs = losses[line.ours], losses[line.theirs]
    difference = float(np.abs(np.subtract(ours, theirs)).max())  # and not a number if a loss is not one
    # The first loss is ln 2 whatever the gradients are. Losses that stay there would agree for nothing.
    moved = float(np.ptp(ours))
    agreed = difference <= line.agree < moved
    return {"loss_difference": difference, "loss_moved": moved, "steps": len(ours), "agreed": agreed}


def _code(line: Line) -> str:
    """Return the hash of the library code that a line depends on."""
    from entanglement_book.grids.results import code_hash

    if line.work == _UPDATES:
        return code_hash("entanglement_book.bench.update_steps", "nano")
    if line.ours in STEPS:
        return code_hash("entanglement_book.bench.trl_steps", "nano")
    return code_hash("entanglement.gradients", "gpt2-shape")


def _measured(lines: Sequence[Line], device: str, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure some lines of the table."""
    say(f"every way in turns, {REPEATS} times each, medians; {THREADS} threads; {device}")
    peaks: dict[str, float] = {}
    alone: dict[str, float] = {}
    for name in dict.fromkeys([n for line in lines for n in (line.ours, line.theirs)]):
        say(f"  memory: {name}")
        found = _apart([name], 1, device)
        peaks[name], alone[name] = found["peak"], found["seconds"][name][0]
    rows = []
    for line in lines:
        say(f"  time: {line.ours} against {line.theirs}")
        found = _apart([line.ours] if line.once else [line.ours, line.theirs], REPEATS, device)
        seconds = found["seconds"]
        if line.once:
            seconds[line.theirs] = [alone[line.theirs]]
        ours, theirs = median(seconds[line.ours]), median(seconds[line.theirs])
        faster, lighter = theirs / ours, peaks[line.theirs] / peaks[line.ours]
        agreement = _agreement(line, found["losses"])
        met = faster >= (line.faster or 0.0) and lighter >= (line.lighter or 0.0) and agreement["agreed"]
        rows.append(
            asdict(line)
            | {"seconds": ours, "their_seconds": theirs, "ratio": faster, "runs": len(seconds[line.ours])}
            | {"peak_mb": peaks[line.ours], "their_peak_mb": peaks[line.theirs], "memory_ratio": lighter}
            | agreement
            | {"met": met, "aim_met": met and faster >= (line.aim or 0.0)}
            | {
                "code": _code(line),
                "date": _today(),
                "trl": version("trl") if line.work == _TRAINERS else None,
            }
        )
    return rows


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _place(device: str) -> dict[str, Any]:
    """Return where is measured: what must be the same for all lines of a table."""
    from entanglement_book.grids.results import machine

    name = device if device == "cpu" else torch.cuda.get_device_name()
    return {"device": name, "threads": THREADS, "machine": machine()}


def run(*, device: str = "cpu", say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure everything and return the table with its provenance.

    Returns:
        "lines": one entry a line of ``LINES`` with seconds, peak MiB, ratios, how far apart the losses were,
        whether all that is what it must be, and the line's own date and code; "growth": seconds and peak MiB
        of a long heat map against the number of tokens; "scaling": the same for both ways against
        ``SCALING``; and where it comes from.
    """
    from entanglement_book.grids.results import code_hash

    lines = _measured(LINES, device, say)
    growth = []
    for n in GROWTH:
        name = f"heat map of {n} + {n} tokens"
        say(f"  {name}, sequences of {WAYS[name].length}")
        found = _apart([name], REPEATS, device)
        row = {"tokens": 2 * n, "seconds": median(found["seconds"][name]), "peak_mb": found["peak"]}
        growth.append(row | {"met": found["peak"] < GROWTH_MB})
    scaling = []
    for axis, values in SCALING.items():
        for way in _SLOW_AND_FAST:
            for value in values:
                name = f"{way}, {axis} {value}"
                say(f"  scaling: {name}")
                found = _apart([name], REPEATS, device)
                row = {"axis": axis, "value": value, "way": way, "peak_mb": found["peak"]}
                scaling.append(row | {"seconds": median(found["seconds"][name])})
    return {
        "lines": lines,
        "growth": growth,
        "scaling": scaling,
        **_place(device),
        "date": _today(),
        "command": "make bench",
        "code": code_hash("entanglement.gradients", "gpt2-shape"),
    }


def rerun(work: str, *, device: str = "cpu", say: Callable[[str], None] = print) -> dict[str, Any]:
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
        raise ValueError(f"work={work!r}; expected one of {', '.join(sorted({x.work for x in LINES}))}.")
    found, here = stored(device), _place(device)
    differs = [key for key, value in here.items() if found[key] != value]
    if differs:
        raise ValueError(
            f"work={work!r}: the stored benchmark has another {' and '.join(differs)}; run: make bench"
        )
    rows = {(row["ours"], row["theirs"]): row for row in [*found["lines"], *_measured(wanted, device, say)]}
    pairs = [(line.ours, line.theirs) for line in LINES]
    return found | {"lines": [rows[pair] for pair in pairs if pair in rows]}


def _file(device: str) -> Path:
    from entanglement_book.grids.results import repository

    return repository() / "book" / "results" / "bench" / f"{device}.json"


def _readme() -> Path:
    from entanglement_book.grids.results import repository

    return repository() / "README.md"


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
    from entanglement_book.grids.results import code_hash

    try:
        found = stored()
    except (OSError, ValueError) as error:
        return [str(error)]
    wrong = [f"bench: {line['ours']} misses its mark" for line in found["lines"] if not line["met"]]
    rows = {(row["ours"], row["theirs"]): row for row in found["lines"]}
    for work in dict.fromkeys(line.work for line in LINES):
        of_work = [(line, rows.get((line.ours, line.theirs))) for line in LINES if line.work == work]
        again = f'run: python -m entanglement_book.bench.bench --only "{work}"'
        if any(row is None for _, row in of_work):
            wrong.append(f"bench: not every line of {work} was measured; {again}")
        # A table from before lines were dated one by one has one hash for all of them.
        if any(row is not None and row.get("code", found["code"]) != _code(line) for line, row in of_work):
            wrong.append(f"bench: {work} was measured with other library code than today's; {again}")
    wrong += [f"bench: {g['tokens']} tokens take too much memory" for g in found["growth"] if not g["met"]]
    if _in_readme(_readme().read_text(encoding="utf-8"))[1] != table(found):
        wrong.append("bench: the table in README.md is another one; run: make bench")
    if found["code"] != code_hash("entanglement.gradients", "gpt2-shape"):
        wrong.append("bench: growth and scaling are of other library code than today's; run: make bench")
    return wrong


def _gb(mebibytes: float) -> float:
    return mebibytes * 2**20 / 1e9


def processor(found: Mapping[str, Any]) -> str:
    """Return where a benchmark was measured, in words."""
    if found["device"] != "cpu":
        return str(found["device"])
    name = found["machine"]["processor"].removeprefix("model name ")
    return f"{name}, {found['threads']} threads"


def frame(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return the lines as a table for the page: seconds, how many times faster and lighter, and the least."""
    rows = []
    for line in found["lines"]:
        rows.append(
            {
                "work": line["ours"],
                "s": round(line["seconds"], 2),
                "against": line["theirs"],
                "its s": round(line["their_seconds"], 2),
                "times faster": round(line["ratio"], 2),
                "at least": "" if line["faster"] is None else f"{line['faster']:.2f}",
                "GB": round(_gb(line["peak_mb"]), 1),
                "its GB": round(_gb(line["their_peak_mb"]), 1),
            }
        )
    return pd.DataFrame(rows).set_index("work")


def table(found: Mapping[str, Any]) -> str:
    """Return the table in Markdown."""

    def least(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}×"

    rows = [
        "| work, time, peak memory | against | times faster | must | aim | times less memory | must |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in found["lines"]:
        cells = [
            f"{line['ours']}, {line['seconds']:.2f} s, {_gb(line['peak_mb']):.1f} GB",
            f"{line['theirs']}, {line['their_seconds']:.1f} s, {_gb(line['their_peak_mb']):.1f} GB",
            f"**{line['ratio']:.2f}×**",
            least(line["faster"], 2),
            least(line["aim"], 2),
            f"{line['memory_ratio']:.1f}×",
            least(line["lighter"], 0),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    for grown in found["growth"]:
        size = f"{grown['seconds']:.2f} s, {_gb(grown['peak_mb']):.1f} GB"
        rows.append(f"| heat map of {grown['tokens']} tokens in sequences of 96, {size} | | | | | | |")
    dates = sorted({found["date"], *(line.get("date", found["date"]) for line in found["lines"])})
    versions = [f"PyTorch {found['machine']['torch']}"]
    versions += sorted({f"TRL {line['trl']}" for line in found["lines"] if line.get("trl")})
    last = f"Measured {' and '.join(dates)} on {processor(found)}, {', '.join(versions)}."
    compared = [line for line in found["lines"] if line.get("agree") is not None]
    if compared:
        apart = ", ".join(
            f"{line['loss_difference']:.0e} (must be at most {line['agree']:.0e}) in {line['ours']}"
            for line in compared
        )
        last += f" Largest difference of a step's two losses: {apart}."
    return "\n".join([*rows, "", last])


_BEGIN, _END = "<!-- bench: written by make bench -->", "<!-- bench: end -->"


def _in_readme(text: str) -> tuple[str, str, str]:
    """Split the README into what stands before the table, the table, and what follows."""
    before, begin, rest = text.partition(_BEGIN)
    inside, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"README.md has no lines {_BEGIN} and {_END}.")
    return before, inside.strip(), after


def _write_readme(found: Mapping[str, Any], path: Path) -> None:
    before, _, after = _in_readme(path.read_text(encoding="utf-8"))
    path.write_text(f"{before}{_BEGIN}\n{table(found)}\n{_END}{after}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; exit status 1 if a line is not what it must be."""
    parser = argparse.ArgumentParser(
        prog="python -m entanglement_book.bench.bench",
        description="time and memory of the gradient geometry and of training steps, against other ways",
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    works = list(dict.fromkeys(line.work for line in LINES))
    parser.add_argument(
        "--only", choices=works, metavar="WORK", help=f"measure these lines of the table: {', '.join(works)}"
    )
    parser.add_argument("--output", type=Path, help="write to this file (default: book/results/bench)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # names of ways: one process's part of the work
    parser.add_argument("--repeats", type=int, default=REPEATS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("bench: --device cuda, but PyTorch finds no CUDA device", file=sys.stderr)
        return 2
    if options.measure:
        seconds, losses = measure(json.loads(options.measure), options.repeats, options.device)
        measured = {"seconds": seconds, "losses": losses, "peak": _peak(options.device)}
        options.output.write_text(json.dumps(measured))
        return 0
    if options.only:
        try:
            found = rerun(options.only, device=options.device)
        except (OSError, ValueError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
    else:
        found = run(device=options.device)
    print(table(found))
    target = options.output or _file(options.device)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=2) + "\n")
    if target == _file("cpu"):
        _write_readme(found, _readme())
    failed = [f"{line['ours']} against {line['theirs']}" for line in found["lines"] if not line["met"]]
    failed += [f"heat map of {g['tokens']} tokens" for g in found["growth"] if not g["met"]]
    for name in failed:
        print(f"not what it must be: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
