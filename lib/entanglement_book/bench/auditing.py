"""What an audit costs on rows of mixed length, as files have them, in units that a reader knows.

The pair geometry is compared with two gradients a pair, its memory with that of a training step on the same
rows, and the rehearsal and the whole audit with epochs of plain training: the policy's and the reference's
pass over both sequences of each pair, in the file's order, and a step of AdamW.

Processor time, not the clock's, of one process with one thread: another program on the machine changes it
little. Nothing is stored, and no line becomes stale.
"""

from __future__ import annotations

import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from entanglement.auditing import audit
from entanglement.auditing.grouping import in_groups
from entanglement.auditing.rehearsal import response_table
from entanglement.auditing.walk import plan_walk
from entanglement.files import write_whole
from entanglement.gradients import pair_geometry
from entanglement.logps import pair_logps, response_logps
from entanglement.losses import get_loss
from entanglement.models import load_model
from entanglement.pairs import PairBatch
from entanglement.rows import SHAPES, EncodedPair, encode, padded
from entanglement_book.bench.ways import gpt2_shape
from entanglement_book.counting import peak_bytes
from entanglement_book.materials import sentiment_pairs, tldr_pairs

__all__ = ["MODELS", "Ratio", "measure_auditing", "mixed_rows"]

#: What is measured, and how many rows of it: nano, and a GPT-2-small shape of random weights.
MODELS = {"nano": 96, "gpt2-small shape": 24}
#: Pairs a step; tokens of the longest sequence, which is nano's context; letters of a prompt's end that leave
#: room for its answers.
BATCH, LONGEST, LETTERS = 8, 128, 200


@dataclass(frozen=True)
class Ratio:
    """One measured ratio and what it must be.

    Attributes:
        what: in words.
        value: measured.
        limit: it must not be above, or below.
        least: whether the limit is the least that it must be.
    """

    what: str
    value: float
    limit: float
    least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is what it must be."""
        return self.value >= self.limit if self.least else self.value <= self.limit

    def __str__(self) -> str:
        kind = "at least" if self.least else "at most"
        return f"{self.what}: {self.value:.2f} ({kind} {self.limit:g}{'' if self.met else '; NOT met'})"


def mixed_rows(n: int) -> list[dict[str, str]]:
    """Return rows of mixed length: near-copies of tweets and summaries of docstrings in turns."""
    half = (n + 1) // 2
    short, long = sentiment_pairs("short_suffix", n=half), tldr_pairs("sibling", n=half, packages=("numpy",))
    return [
        {"prompt": pair.prompt[-LETTERS:], "chosen": pair.chosen, "rejected": pair.rejected}
        for both in zip(short, long, strict=True)
        for pair in both
    ][:n]


def _seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _two_gradients(model: nn.Module, pairs: list[EncodedPair]) -> Callable[[], Any]:
    """Two backward passes a pair, and the three numbers of their gradients."""
    parameters = list(model.parameters())

    def run() -> list[list[float]]:
        found = []
        for pair in pairs:
            w, l = (  # noqa: E741
                torch.autograd.grad(side.sum(), parameters, retain_graph=True)
                for side in response_logps(model, padded([pair]))
            )
            products = ((w, w), (l, l), (w, l))
            found.append([float(sum((x * y).sum() for x, y in zip(*two, strict=True))) for two in products])
        return found

    return run


def _epoch(model: nn.Module, batches: list[PairBatch]) -> Callable[[], Any]:
    """An epoch of plain training."""
    policy, reference = copy.deepcopy(model), copy.deepcopy(model)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6)
    loss = get_loss("dpo", beta=0.1)

    def run() -> None:
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            loss(pair_logps(policy, batch, reference)).mean().backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()

    return run


def _rehearsal(model: nn.Module, pairs: list[EncodedPair], budget: int) -> Callable[[], Any]:
    """Log-probabilities, mean gradient and one virtual step, all on the same rows."""
    batches = [
        in_groups(pairs[start : start + BATCH], append_eos=True, max_tokens=budget)
        for start in range(0, len(pairs) - BATCH + 1, BATCH)
    ]
    held = in_groups(pairs, append_eos=True, max_tokens=budget)

    def run() -> None:
        walk = plan_walk(model, batches, get_loss("dpo"))
        response_table(model, held)
        response_table(model, held, walk.along(), 1e-5)

    return run


def _turns(ours: Callable[[], Any], theirs: Callable[[], Any], turns: int) -> tuple[float, float]:
    """Return the least time of each, measured in turns."""
    pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(turns)]
    return min(one for one, _ in pairs), min(other for _, other in pairs)


def measure_auditing(name: str, turns: int = 3) -> Iterator[Ratio]:
    """Yield the ratios of one of ``MODELS``.

    Args:
        name: of it.
        turns: how often each work is done; the least time counts.

    Raises:
        ValueError: an unknown name.
    """
    if name not in MODELS:
        raise ValueError(f"name={name!r}; expected one of {', '.join(MODELS)}.")
    torch.set_num_threads(1)
    loaded = load_model("nano")
    model: nn.Module = loaded.model if name == "nano" else gpt2_shape()
    rows = mixed_rows(MODELS[name])
    read = [encode(SHAPES["explicit"].read(row), loaded.tokenizer, max_length=LONGEST) for row in rows]
    pairs = [pair for pair in read if pair.chosen and pair.rejected]  # the others' prompt fills the context
    in_order = [padded(pairs[start : start + BATCH]) for start in range(0, len(pairs), BATCH)]
    budget = max(batch.input_ids.numel() for batch in in_order)
    groups = in_groups(pairs, append_eos=True, max_tokens=budget)
    mean = sum(len(prompt) + len(answer) for pair in pairs for prompt, answer in pair.sides) / (
        2 * len(pairs)
    )
    rows_are = f"{name}, {len(rows)} rows of {mean:.0f} tokens in the mean"

    def geometry() -> None:
        for group in groups:
            pair_geometry(model, group)

    ours, theirs = _turns(geometry, _two_gradients(model, pairs), turns)
    yield Ratio(f"{rows_are}: two gradients a pair against the geometry", theirs / ours, 2.5, least=True)
    largest = max(groups, key=lambda group: group.input_ids.numel())
    batch = max(in_order, key=lambda one: one.input_ids.numel())
    memory = peak_bytes(lambda: pair_geometry(model, largest)) / peak_bytes(_epoch(model, [batch]))
    yield Ratio(f"{rows_are}: memory of the geometry against a step's", memory, 1.3)
    ours, epoch = _turns(_rehearsal(model, pairs, budget), _epoch(model, in_order), turns)
    yield Ratio(f"{rows_are}: a rehearsal in epochs of training", ours / epoch, 2.3)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        write_whole(file, "\n".join(json.dumps(row) for row in rows))
        options: dict[str, Any] = {"max_length": LONGEST, "max_tokens": budget, "geometry": 0}
        spent = _seconds(lambda: audit(model, loaded.tokenizer, file, **options))
    yield Ratio(f"{rows_are}: a whole audit in epochs of training", spent / epoch, 5.0)
