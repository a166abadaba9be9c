"""Observers of a training: what can be asked of its steps while they are made.

An observer sees a step from inside (after the forward and the backward pass) and from outside (before and
after it). ``align(observers=[Monitor(), Account(4)])`` calls the hooks; another trainer's callback may call
them as well, since they need no more than they are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.batches import collate_for
from entanglement.checks import non_negative, whole
from entanglement.geometry import CASES
from entanglement.gradients import GeometryMonitor, Reading
from entanglement.pairs import PreferencePair
from entanglement.signatures import checked
from entanglement.training.account import StepAccount
from entanglement.updates.base import Update, Watch

__all__ = ["Account", "Monitor", "Observer", "Run", "Taken", "Together"]


@checked()
@dataclass(frozen=True)
class Run:
    """The training that an observer is to observe.

    Attributes:
        model: being trained, in evaluation mode.
        tokenizer: the model's.
        update: that makes the steps.
        evaluate: named sets of pairs that are not trained on, or not necessarily.
        append_eos: whether the end-of-sequence token belongs to the responses.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    update: Update
    evaluate: Mapping[str, Sequence[PreferencePair]] = field(default_factory=dict)
    append_eos: bool = False


@checked(step=whole(1), lr=non_negative)
@dataclass(frozen=True)
class Taken:
    """A step that was taken.

    Attributes:
        step: its number, from 1.
        lr: its rate.
        pairs: the B pairs of the batch.
        u_w, u_l: (B,) their weights in the step's gradient, −Σ (u_w g_w − u_l g_l)/B; None if it has no such
            form.
    """

    step: int
    lr: float
    pairs: Sequence[PreferencePair]
    u_w: torch.Tensor | None = None
    u_l: torch.Tensor | None = None


class Observer(Watch):
    """Sees each step of a training. This one sees nothing: override the hooks that are needed.

    In order: ``begin``; for each step ``before_step``, ``after_forward`` (once a group of pairs, for updates
    with ``plain_backward``), ``after_backward``, ``after_step``; ``end``, even after an error; ``result``.

    Attributes:
        apart: see ``Watch``; it costs time, since no prompt is then shared.
    """

    def begin(self, run: Run) -> None:
        """Prepare for a training, and forget earlier ones.

        Raises:
            ValueError: this training cannot be observed.
        """

    def before_step(self, step: int) -> None:
        """Precede step 1, 2, …"""

    def after_step(self, taken: Taken) -> None:
        """Follow a step."""

    def end(self) -> None:
        """Let go of the model."""

    def result(self) -> Mapping[str, pd.DataFrame]:
        """Return tables by name; "account" and "monitor" are fields of ``Trajectory`` (a row a step)."""
        return {}


@checked()
class Together(Observer):
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = list(observers)
        self.apart = any(observer.apart for observer in self.observers)

    def begin(self, run: Run) -> None:
        """See :class:`Observer`."""
        for observer in self.observers:
            observer.begin(run)

    def before_step(self, step: int) -> None:
        """See :class:`Observer`."""
        for observer in self.observers:
            observer.before_step(step)

    def after_forward(self, chosen: torch.Tensor, rejected: torch.Tensor, ids: Sequence[str]) -> None:
        """See :class:`Observer`."""
        for observer in self.observers:
            observer.after_forward(chosen, rejected, ids)

    def after_backward(self) -> None:
        """See :class:`Observer`."""
        for observer in self.observers:
            observer.after_backward()

    def after_step(self, taken: Taken) -> None:
        """See :class:`Observer`."""
        for observer in self.observers:
            observer.after_step(taken)

    def end(self) -> None:
        """See :class:`Observer`."""
        for observer in self.observers:
            observer.end()

    def result(self) -> dict[str, pd.DataFrame]:
        """Return the tables of all.

        Raises:
            ValueError: two tables of one name.
        """
        tables: dict[str, pd.DataFrame] = {}
        for observer in self.observers:
            for name, table in observer.result().items():
                if name in tables:
                    raise ValueError(f"observers: two of them make a table {name!r}; expected one.")
                tables[name] = table
        return tables


class Monitor(Observer):
    """Reads the geometry of all training pairs out of each step's own backward pass.

    Its table "monitor" has, a row a step: pairs, measured (how many of them sent a gradient back on both
    sides); over the measured pairs the means of cosine, chosen_norm and rejected_norm, the shares of the
    cases under the loss's own weights, and the mean plain_chosen, plain_rejected: the first-order change
    (nats) that a pair's own share of a *plain* gradient step at this rate would bring to itself, whatever the
    optimizer is.
    """

    apart = True

    def __init__(self) -> None:
        self._monitor: GeometryMonitor | None = None
        self._rows: list[dict[str, float]] = []

    def begin(self, run: Run) -> None:
        """See :class:`Observer`."""
        if not run.update.plain_backward:
            raise ValueError(
                f"Monitor: {type(run.update).__name__} makes no ordinary backward pass that could be read; "
                "what an update itself reports is in Trajectory.monitor without it."
            )
        self._rows = []
        self._monitor = GeometryMonitor(run.model)
        self._monitor.__enter__()

    def after_forward(self, chosen: torch.Tensor, rejected: torch.Tensor, ids: Sequence[str]) -> None:
        """See :class:`Observer`."""
        assert self._monitor is not None
        self._monitor.attach(chosen, rejected, ids)

    def after_step(self, taken: Taken) -> None:
        """See :class:`Observer`."""
        assert self._monitor is not None
        self._rows.append({"step": taken.step, **_summary(self._monitor.read(), taken.lr)})

    def end(self) -> None:
        """See :class:`Observer`."""
        if self._monitor is not None:
            self._monitor.__exit__(None, None, None)
            self._monitor = None

    def result(self) -> dict[str, pd.DataFrame]:
        """See :class:`Observer`."""
        return {"monitor": pd.DataFrame(self._rows)}


def _summary(reading: Reading, lr: float) -> dict[str, float]:
    """Return the columns of one step."""
    row: dict[str, float] = {"pairs": len(reading.measured), "measured": int(reading.measured.sum())}
    g = reading.geometry
    if g is None:
        empty = ("cosine", "chosen_norm", "rejected_norm", *CASES, "plain_chosen", "plain_rejected")
        return row | dict.fromkeys(empty, np.nan)
    row["cosine"] = float(g.cosine.nanmean())
    row["chosen_norm"] = float(g.chosen_sq.sqrt().mean())
    row["rejected_norm"] = float(g.rejected_sq.sqrt().mean())
    shares = g.case_shares(reading.d_w[reading.measured], reading.d_l[reading.measured])
    row |= {str(case): share for case, share in shares.items()}
    chosen, rejected = reading.plain_change(lr)
    return row | {"plain_chosen": float(chosen.mean()), "plain_rejected": float(rejected.mean())}


@checked(pairs=whole(1))
class Account(Observer):
    """Keeps the account of Δ log π of each step (``training.account``).

    Its table "account" has a row a step, set, pair and response: step, set ("batch" for training pairs),
    pair, response, the terms and total, in nats.

    Args:
        pairs: how many pairs of each batch, and of each set of ``evaluate``, from the beginning.
    """

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs
        self._run: Run | None = None
        self._begun: StepAccount | None = None
        self._tables: list[pd.DataFrame] = []

    def begin(self, run: Run) -> None:
        """See :class:`Observer`."""
        if not run.update.weighs_pairs:
            raise ValueError(
                f"Account: the step of {type(run.update).__name__} is no weighted sum over pairs; "
                "a pair has no share of its own in it."
            )
        self._run, self._begun, self._tables = run, None, []

    def after_backward(self) -> None:
        """See :class:`Observer`."""
        assert self._run is not None
        self._begun = StepAccount.begin(self._run.model)

    def after_step(self, taken: Taken) -> None:
        """See :class:`Observer`."""
        assert self._run is not None and self._begun is not None
        assert taken.u_w is not None and taken.u_l is not None
        k = self.pairs
        watched = {"batch": list(taken.pairs[:k])}
        watched |= {name: list(some[:k]) for name, some in self._run.evaluate.items()}
        everyone = [(name, pair) for name, pairs in watched.items() for pair in pairs]
        weights = [u[:k].tolist() for u in (taken.u_w, taken.u_l)]
        # A held-out pair has no share of its own in the step.
        held_out = [0.0] * (len(everyone) - len(weights[0]))
        run, some = self._run, [pair for _, pair in everyone]
        batch = collate_for(run.model, some, run.tokenizer, run.append_eos)
        frame = self._begun.finish(batch, weights[0] + held_out, weights[1] + held_out, len(taken.pairs))
        frame.insert(0, "set", [name for name, _ in everyone] * 2)
        frame.insert(0, "step", taken.step)
        self._tables.append(frame)
        self._begun = None

    def end(self) -> None:
        """See :class:`Observer`."""
        self._run = self._begun = None

    def result(self) -> dict[str, pd.DataFrame]:
        """See :class:`Observer`."""
        return {"account": pd.concat(self._tables, ignore_index=True) if self._tables else pd.DataFrame()}
