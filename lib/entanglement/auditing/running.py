"""An audit from a file to its findings."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from entanglement.auditing.changes import (
    Change,
    changes_to_try,
    narrowed,
    rehearse_change,
)
from entanglement.auditing.findings import AuditReport
from entanglement.auditing.gathered import gathered_walk, shared_direction
from entanglement.auditing.grouping import Together
from entanglement.auditing.kept import Kept, fingerprint
from entanglement.auditing.own_geometry import own_geometry
from entanglement.auditing.pulls import pulls
from entanglement.auditing.rehearsal import rehearse, response_table, sweep, turning_number
from entanglement.auditing.sampled import Sample, batch_of, draw_sample
from entanglement.auditing.several import together
from entanglement.auditing.summing_up import sum_up
from entanglement.auditing.time_left import TimeLeft
from entanglement.auditing.walk import Optimizer, Walk, plan_walk
from entanglement.auditing.worst_rows import WORST, worst_rows
from entanglement.checks import positive, share, whole
from entanglement.gradients.select import measuring, select_parameters
from entanglement.losses import Loss, get_loss
from entanglement.pairs import PairBatch
from entanglement.rows import EncodedPair, TokensAs
from entanglement.signatures import checked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["COMPARED", "Schedule", "audit"]

Schedule = Literal["linear", "constant"]
#: Fewer pairs make no two batches and no held-out ones.
_FEWEST = 4
#: Rows that give the gradient of another loss, and held-out ones that are measured then.
COMPARED = 32


@checked(
    lr=positive, batch_size=whole(1), steps=whole(1), epochs=positive, sample=whole(_FEWEST), held_out=share,
    max_length=whole(1), max_tokens=whole(1), geometry=whole(0),
)  # fmt: skip
def audit(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    data: str | Path,
    *,
    loss: Loss | str = "dpo",
    optimizer: Optimizer = "adamw",
    lr: float = 1e-6,
    schedule: Schedule = "linear",
    batch_size: int = 8,
    epochs: float = 3.0,
    steps: int | None = None,
    parameters: Literal["all", "trainable"] = "trainable",
    sample: int = 512,
    held_out: float = 0.25,
    seed: int = 0,
    tokens: TokensAs = "trl",
    max_length: int | None = 1024,
    shape: str | None = None,
    split: str = "train",
    strict: bool = False,
    geometry: int = 64,
    compare: bool = True,
    calibration: tuple[float, float] | None = None,
    max_tokens: int = 4096,
    kept: Kept | None = None,
    progress: bool = False,
) -> AuditReport:
    """Read a file of comparisons, say what each row is, and rehearse a training on it.

    Defaults are those of ``trl.DPOConfig`` 1.16 where it has one. In a process that ``accelerate launch`` or
    ``torchrun`` has started, each process takes a part of the sampled rows; the report is the same in all.

    Args:
        model: as training will find it, in evaluation mode; left as it was. It is its own reference.
        tokenizer: the model's.
        data: as in ``read_rows``.
        loss: a loss or its name.
        optimizer: "adamw" or "sgd".
        lr: the highest rate.
        schedule: how the rate goes: "linear" down to zero, or "constant".
        batch_size: pairs a step.
        epochs: times that the run goes over the file, where ``steps`` is None.
        steps: of the run.
        parameters: what the run trains: "trainable" for those that require gradients, or "all".
        sample: pairs that are looked at, drawn from the rows that can be trained on.
        held_out: share of them whose responses are rehearsed and that give no gradient; what fills no batch
            is added to them.
        seed: of the draw.
        tokens: "trl" for the trainer's own tokens, "collate" for this library's.
        max_length: longest sequence, tokens; None for no limit.
        shape: of the rows (a name of ``SHAPES``); None to recognize it.
        split: of a data set that has several.
        strict: refuse a file with a row that cannot be trained on, and name the first.
        geometry: sampled pairs whose own gradients are measured, held-out ones first; 0 for none.
        compare: rehearse other ratios, rates, losses and masks too, on at most ``COMPARED`` rows.
        calibration: (low, high) slope of what runs did on what was told of them; said in the report.
        max_tokens: tokens that are computed at a time, padding counted: the memory.
        kept: where finished parts are kept, from which an audit that was killed goes on; not for several
            processes.
        progress: show on stderr how far it is, and how long it will take.

    Raises:
        ValueError: a file that cannot be read, an unknown shape, or a row that cannot be trained on
            (``strict``).
    """
    wanted = get_loss(loss) if isinstance(loss, str) else loss
    with together() as processes, measuring(model, select_parameters(model, parameters)):
        shown = progress and processes.first
        drawn = draw_sample(
            data, tokenizer, sample=sample, held_out=held_out, seed=seed, tokens=tokens,
            batch_size=batch_size, max_length=_limit(model, max_length), shape=shape, split=split,
            strict=strict,
            watch=lambda rows: tqdm(rows, desc="rows read", unit="", disable=not shown, leave=False),
        )  # fmt: skip
        usable = int(drawn.rows["trained"].sum())
        total = steps if steps is not None else max(1, math.ceil(epochs * usable / batch_size))
        run = {
            "data": Path(data).name, "shape": drawn.shape, "loss": wanted.name, "hyper": dict(wanted.hyper),
            "optimizer": optimizer, "lr": lr, "schedule": schedule, "batch_size": batch_size, "steps": total,
            "parameters": parameters, "seed": seed, "tokens": tokens,
        }  # fmt: skip
        n_train = len(drawn.pairs) - drawn.n_held
        if len(drawn.pairs) < _FEWEST or not drawn.n_held or n_train < 2:
            nothing = drawn.about.head(0)
            return AuditReport(drawn.rows, nothing, pd.DataFrame(), [], sum_up(drawn.rows, nothing, run))
        grouped = Together(model, max_tokens, tokens == "trl", processes)
        work = _Work(model, tokenizer, drawn, wanted, run, grouped)
        if kept is not None and processes.count == 1:
            work.keep(kept, [run, max_tokens, geometry, torch.__version__])
        return work.report(geometry, compare, calibration, shown)


class _Work:
    """What is computed of a sample, stage after stage."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        drawn: Sample,
        loss: Loss,
        run: dict[str, Any],
        grouped: Together,
    ) -> None:
        self.model, self.tokenizer, self.drawn, self.loss, self.run = model, tokenizer, drawn, loss, run
        self.grouped, self.processes = grouped, grouped.processes
        self.test, self.train = drawn.pairs[: drawn.n_held], drawn.pairs[drawn.n_held :]
        self.length = run["steps"] * run["lr"] * (0.5 if run["schedule"] == "linear" else 1.0)
        self.kept = Kept()

    def keep(self, kept: Kept, key: list[Any]) -> None:
        """Keep finished parts: those of this model, these tokens and options."""
        trained = [name for name, p in self.model.named_parameters() if p.requires_grad]
        rows = [[pair.sides, n < self.drawn.n_held] for n, pair in enumerate(self.drawn.pairs)]
        self.kept = kept.at([key, trained, fingerprint(self.model), rows])

    def batches(self, pairs: list[EncodedPair]) -> list[list[PairBatch]]:
        """Return the batches of the run that these pairs make, at least two, each in groups."""
        size = batch_of(len(pairs), self.run["batch_size"])
        starts = range(0, len(pairs) - size + 1, size)
        return [self.grouped.groups(pairs[start : start + size]) for start in starts]

    def report(
        self, geometry: int, compare: bool, calibration: tuple[float, float] | None, shown: bool
    ) -> AuditReport:
        """Compute all, or read what is kept of it."""
        measured = self.drawn.pairs[:geometry]
        some = self.train[:COMPARED]
        masks = [narrowed(pair) for pair in some]
        # The ratios are not known yet; three stand for them, so that the work can be estimated.
        tried = changes_to_try(self.loss, [1.0] * 3, shared=masks != some) if compare else []
        bar = TimeLeft(self.model, self._stages(measured, tried), shown)
        try:
            return self._report(bar, measured, masks if compare else None, calibration)
        finally:
            bar.close()

    def _stages(self, measured: list[EncodedPair], tried: list[Change]) -> dict[str, float]:
        """Return each stage's work, in tokens through one forward pass; a backward pass counts as two."""
        count = self.grouped.tokens
        held, train = count(self.test), count(self.train)
        walks = 1 + sum(change.kind in ("loss", "mask") for change in tried)
        other = 5.0 * walks * count(self.train[:COMPARED]) + 3.0 * len(tried) * count(self.test[:COMPARED])
        stages = {
            "mean gradient": 5.0 * train,
            "where the responses turn": 16.0 * held,
            "held-out responses": 8.0 * held,
            "what pulls them": 3.0 * held + 3.0 * train,
            "geometry": 5.0 * count(measured),
            "worst rows": 3.0 * held + 4.0 * train * min(1.0, WORST / len(self.train)),
            "other ratios": 10.0 * held,
            "what changes would do": other if tried else 0.0,
        }
        return {name: work for name, work in stages.items() if work}

    def _report(
        self,
        bar: TimeLeft,
        measured: list[EncodedPair],
        masks: list[EncodedPair] | None,
        calibration: tuple[float, float] | None,
    ) -> AuditReport:
        model, drawn, kept, length = self.model, self.drawn, self.kept, self.length
        with bar.stage("mean gradient", 5.0):
            walk, sketches = gathered_walk(
                model, self.batches(self.train), self.loss, optimizer=self.run["optimizer"], kept=kept,
                processes=self.processes,
            )  # fmt: skip
        held = self.grouped.groups(self.test)
        with bar.stage("where the responses turn"):
            number = kept.value("number", lambda: asdict(turning_number(model, walk, held, length)))
        with bar.stage("held-out responses"):
            told = kept.table("held_out", lambda: self._told(walk))
        with bar.stage("what pulls them", 1.5):
            pulled = kept.table("pulls", lambda: self._pulled(walk, held))
        about, rows = drawn.about.join(pd.concat([told, pulled])), drawn.rows
        if measured:
            with bar.stage("geometry", 2.5):
                own = kept.table("geometry", lambda: self._own(measured))
            about = about.join(own.drop(columns=["chosen_logp", "rejected_logp"]))
            for side in ("chosen_logp", "rejected_logp"):
                about[side] = about[side].fillna(own[side])
            cases = dict(zip(about["place"], about["case"].fillna(""), strict=True))
            both = zip(rows["place"], rows["case"], strict=True)
            rows = rows.assign(case=[cases.get(place) or case for place, case in both])
        with bar.stage("worst rows"):
            part, tokenizer = length / len(self.train), self.tokenizer
            drags = kept.value(
                "worst",
                lambda: worst_rows(
                    model, tokenizer, walk, about, drawn.pairs, held, self.loss, self.grouped, part
                ),
            )
        with bar.stage("other ratios"):
            ratios = kept.table("ratios", lambda: sweep(model, walk, held, length, _ratios(number)))
        changes, compared = pd.DataFrame(), None
        if masks is not None:
            with bar.stage("what changes would do", 2.0):
                changes, compared = self._changes(number, masks)
        summary = sum_up(
            rows, about, self.run, number, ratios, shared_direction(sketches), changes, compared, calibration
        )
        return AuditReport(rows, about, ratios, drags, summary, changes)

    def _told(self, walk: Walk) -> pd.DataFrame:
        return self.grouped.table(
            self.test, 0, lambda groups: rehearse(self.model, walk, groups, self.length)
        )

    def _pulled(self, walk: Walk, held: list[PairBatch]) -> pd.DataFrame:
        table = self.grouped.table(
            self.train, len(self.test), lambda groups: pulls(self.model, walk, groups, held, self.loss)
        )
        # Of a row that is one among many, its part of the mean change, nats.
        return table * (self.length / len(self.train))

    def _own(self, measured: list[EncodedPair]) -> pd.DataFrame:
        return self.grouped.table(measured, 0, lambda groups: own_geometry(self.model, groups, self.loss))

    def _changes(
        self, number: dict[str, Any], masks: list[EncodedPair]
    ) -> tuple[pd.DataFrame, dict[str, int]]:
        """Return what changes would do, and on how many rows that rests."""
        some, held = self.train[:COMPARED], self.grouped.groups(self.test[:COMPARED])
        low, high = number["chosen"], number["rejected"]
        ratios = [r for r in (low, (low * high) ** 0.5, high) if math.isfinite(r)]
        tried = changes_to_try(self.loss, ratios, shared=masks != some)
        batches = {False: self.batches(some)}
        optimizer = self.run["optimizer"]
        planned: list[Walk] = []
        before: list[torch.Tensor] = []

        def of(change: Change, margin: float | None) -> dict[str, Any]:
            own = change.kind in ("loss", "mask")
            if not own and not planned:
                planned.append(plan_walk(self.model, batches[False], self.loss, optimizer=optimizer))
            if change.masked not in batches:
                batches[True] = self.batches(masks)
            if not before:
                before.append(response_table(self.model, held))
            return rehearse_change(
                self.model, batches[change.masked], held, self.loss, change, self.length,
                optimizer=optimizer, margin=margin, walk=None if own else planned[0], before=before[0],
            )  # fmt: skip

        first = self.kept.value("change 0", lambda: of(tried[0], None))
        rest = [
            self.kept.value(f"change {k}", lambda c=change: of(c, first["margin"]))  # type: ignore[misc]
            for k, change in self.processes.mine(list(enumerate(tried))[1:])
        ]
        used = sum(len(group) for groups in batches[False] for group in groups)
        compared = {"train": used, "held_out": sum(len(group) for group in held)}
        return pd.DataFrame([first, *self.processes.all(rest)]), compared


def _ratios(number: dict[str, Any]) -> list[float]:
    """Return ratios around the two turning points, 1 among them."""
    known = [abs(math.log(r)) for r in (number["chosen"], number["rejected"]) if r == r and r != 1]
    reach = min(2 * max(known, default=0.05), math.log(8.0))
    return [math.exp(reach * k / 4) for k in range(-4, 5)]


def _limit(model: nn.Module, max_length: int | None) -> int | None:
    """The shorter of what was asked for and what the model's positions reach."""
    reach = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    known = [n for n in (reach, max_length) if n is not None]
    return min(known) if known else None
