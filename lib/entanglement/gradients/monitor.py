"""Reads the geometry of each pair out of the backward pass that training does anyway.

    with GeometryMonitor(model) as monitor:
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected, batch.ids)
        loss(...).backward()
        reading = monitor.read()

The output gradients that pass through the modules are those of the loss: the gradient of a response times its
weight in the loss. The weights arrive at ``chosen`` and ``rejected`` in the same pass and are divided out.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import nn

from entanglement.geometry import PairGeometry
from entanglement.gradients.select import Parameters, check_deterministic, select_parameters
from entanglement.gradients.tape import Tape, watching
from entanglement.gradients.uncovered import announce, slow_pairs
from entanglement.signatures import checked

__all__ = ["GeometryMonitor", "Reading"]

#: Below this a weight's square is lost in float32: the pair counts as not measured.
SMALLEST_WEIGHT = 1e-15


@checked()
@dataclass(frozen=True)
class Reading:
    """What one backward pass told about B pairs.

    Attributes:
        geometry: of the pairs that were measured; None if there are none.
        measured: (B,) bool. A pair whose weight in the loss is zero on either side sends no gradient back and
            is not measured; it is never counted as a zero gradient.
        d_w, d_l: (B,) the weights of the loss that was differentiated, −∂L/∂log π_w and +∂L/∂log π_l, with
            everything that it was divided by (a batch mean's 1/B).
    """

    geometry: PairGeometry | None
    measured: torch.Tensor
    d_w: torch.Tensor
    d_l: torch.Tensor

    def plain_change(self, lr: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first-order change of (log π_w, log π_l) that each measured pair's own share of a plain
        step brings to itself, nats.

        Under an adaptive optimizer this is what a plain step of the same rate would do, not what the
        optimizer does.
        """
        if self.geometry is None:
            return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
        return self.geometry.predicted_change(lr, self.d_w[self.measured], self.d_l[self.measured])

    @classmethod
    def cat(cls, parts: Sequence[Reading]) -> Reading:
        """Return several readings as one."""
        found = [part.geometry for part in parts if part.geometry is not None]
        return cls(
            PairGeometry.cat(found) if found else None,
            torch.cat([part.measured for part in parts]),
            torch.cat([part.d_w for part in parts]),
            torch.cat([part.d_l for part in parts]),
        )


class _Watched:
    """One forward pass whose backward pass will be read."""

    def __init__(self, tape: Tape, ids: tuple[str, ...], n_pairs: int, slow: torch.Tensor) -> None:
        self.tape = tape
        self.ids = ids
        self.weights = [torch.zeros(n_pairs, dtype=torch.float64) for _ in range(2)]
        self.slow = slow  # (B, 2, 2) from parameters without a rule, not weighted
        self.passed = False

    def weigh(self, side: int, gradient: torch.Tensor) -> None:
        self.weights[side] = gradient.detach().double().cpu()
        self.passed = True

    def reading(self) -> Reading:
        if not self.passed:
            raise ValueError("GeometryMonitor.read: no backward pass has come through an attached batch.")
        if self.tape.open:
            raise ValueError(
                f"GeometryMonitor.read: the backward pass did not reach {self.tape.open[0]}; "
                "let it run to the model's input."
            )
        if self.tape.repeated:
            raise ValueError(
                "GeometryMonitor.read: two backward passes came through one attached batch; "
                "add up the losses and run one."
            )
        w = torch.stack(self.weights, dim=1)  # (B, 2)
        measured = (w.abs() > SMALLEST_WEIGHT).all(dim=1)
        gram = torch.zeros_like(self.slow) if self.tape.gram is None else self.tape.gram
        scale = w[:, :, None] * w[:, None, :]
        exact = (gram / torch.where(scale == 0, 1.0, scale) + self.slow)[measured]
        ids = tuple(name for name, here in zip(self.ids, measured.tolist(), strict=True) if here)
        geometry = None
        if len(exact):
            squares = [exact[:, i, i].clamp(min=0) for i in (0, 1)]
            geometry = PairGeometry(squares[0], squares[1], exact[:, 0, 1], ids)
        return Reading(geometry, measured, -w[:, 0], w[:, 1])


@checked()
class GeometryMonitor:
    """A context in which the backward passes of a model tell the geometry of their pairs.

    Each attached forward pass costs a small fraction of the training step, and memory for what entered the
    layers, which training keeps as well. Prompts must not be shared between the two responses of a pair: the
    model sees 2B rows, chosen first. The loss may depend on the parameters only through the log-probabilities
    that were attached.

    Args:
        model: being trained; its dropout must be off, as in measurement.
        parameters: "all", "trainable" or a predicate on names; frozen parameters get no gradient in training
            and cannot be read, so "all" means all that are trained.
        strict: refuse a parameter that no rule covers, instead of measuring it slowly at ``attach``.
    """

    def __init__(
        self, model: nn.Module, parameters: Parameters = "trainable", *, strict: bool = False
    ) -> None:
        selected = select_parameters(model, "trainable" if parameters == "all" else parameters)
        self.model = model
        self.strict = strict
        self._selected = {name: p for name, p in selected.items() if p.requires_grad}
        self._tape: Tape | None = None
        self._watched: list[_Watched] = []
        self._hooks: ExitStack | None = None

    def __enter__(self) -> GeometryMonitor:
        self._hooks = ExitStack()
        self._hooks.enter_context(
            watching(self.model, {id(p) for p in self._selected.values()}, lambda: self._tape)
        )
        handle = self.model.register_forward_pre_hook(self._begin, with_kwargs=True)
        self._hooks.callback(handle.remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tape = None
        self._watched = []
        if self._hooks is not None:
            self._hooks.close()

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Start a tape for a forward pass that will have a backward pass."""
        self._tape = None
        first = kwargs.get("input_ids", args[0] if args else None)
        if torch.is_grad_enabled() and isinstance(first, torch.Tensor) and first.shape[0] % 2 == 0:
            self._tape = Tape(self._selected, first.shape[0])

    def attach(self, chosen: torch.Tensor, rejected: torch.Tensor, ids: Sequence[str] = ()) -> None:
        """Have the last forward pass read; call it between that forward pass and the backward pass.

        Args:
            chosen, rejected: (B,) log-probabilities that the loss is computed from.
            ids: names of the pairs, for messages.

        Raises:
            ValueError: no forward pass with gradients to attach to, rows that are not the B pairs' two
                responses, active dropout, or a parameter without a rule and ``strict``.
        """
        tape, self._tape = self._tape, None
        check_deterministic(self.model, "GeometryMonitor.attach")
        if tape is None or not chosen.requires_grad:
            raise ValueError("GeometryMonitor.attach: no forward pass with gradients has come before.")
        n_pairs = len(chosen)
        if tape.rows != 2 * n_pairs or rejected.shape != chosen.shape:
            raise ValueError(
                f"GeometryMonitor.attach: the forward pass had {tape.rows} rows; expected the chosen, then "
                f"the rejected responses of {n_pairs} pairs. A prompt shared by both cannot be read."
            )
        values = torch.cat([chosen, rejected])
        plan = tape.plan(values)
        slow = torch.zeros(n_pairs, 2, 2, dtype=torch.float64)
        if plan.uncovered:
            announce(plan.uncovered, "GeometryMonitor", "a response", strict=self.strict)
            with tape.paused():
                slow = slow_pairs(values, [self._selected[name] for name in plan.uncovered])
        names = tuple(ids) or tuple(f"pair {i}" for i in range(n_pairs))
        watched = _Watched(tape, names, n_pairs, slow)
        chosen.register_hook(lambda gradient: watched.weigh(0, gradient))
        rejected.register_hook(lambda gradient: watched.weigh(1, gradient))
        self._watched.append(watched)

    def read(self) -> Reading:
        """Return what the backward pass told about all batches attached since the last reading, in order.

        Raises:
            ValueError: nothing attached, or no backward pass has come.
        """
        if not self._watched:
            raise ValueError(
                "GeometryMonitor.read: nothing was attached; call attach after the forward pass."
            )
        parts = [watched.reading() for watched in self._watched]
        self._watched = []
        return Reading.cat(parts)
