"""A backward pass in two halves: first what the pairs' gradients are like, then any weighted sum of them.

An ordinary backward pass sends gradients from the loss down to every module's output, and on the way forms
the gradients of the weights. The first half is linear in each response's weight: it can be done once, with
weight 1 for all, and kept. The inner products of whole gradients are read from it. With the weights that a
rule makes of these, the second half, one matrix product a weight, gives the gradient of any
Σ u_w log π_w − u_l log π_l. So a rule that looks at every pair's geometry forms weight gradients only once.

Where the model allows it (``shared_prompt``), the prompt of a pair is computed once in the forward pass and
in the second half. The first half is then run twice, for the chosen and for the rejected responses, because
at the prompt their gradients must be told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import nn

from entanglement.geometry import PairGeometry
from entanglement.gradients.layers import Use, inner_products
from entanglement.gradients.prepare import batch_logits, plan_backward, set_apart
from entanglement.gradients.select import check_deterministic, fused_activations, select_parameters
from entanglement.gradients.tape import Call, Tape, outputs_of
from entanglement.gradients.uncovered import slow_pairs
from entanglement.logps import check_batch, model_device
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import can_share, shared_logps
from entanglement.signatures import checked

__all__ = ["PairPass"]

Vector = dict[str, torch.Tensor]
_FORMED = 1 << 25  # numbers of formed gradients held at a time


class _KeepingTape(Tape):
    """A tape that keeps what entered the modules and the gradients at their outputs."""

    def __init__(self, selected: Mapping[str, nn.Parameter], rows: int, passes: int) -> None:
        super().__init__(selected, rows)
        self.passes = passes
        self.kept: dict[str, dict[Call, tuple[Use, list[torch.Tensor]]]] = {}

    def receive(self, call: Call, delta: torch.Tensor, *, single: torch.Tensor | None = None) -> None:
        """Keep the output gradients of a call, (1, R, T, …), of each backward pass in turn."""
        call.check_unchanged()
        last = False
        for name, use in call.uses:
            if name in self.expected:
                _, deltas = self.kept.setdefault(name, {}).setdefault(call, (use, []))
                deltas.append(use.positions(delta)[0])
                last = len(deltas) == self.passes
        if last:
            call.drop()


@dataclass(frozen=True)
class _Entry:
    """One use of a parameter: what entered, and the output gradients, for the chosen and the rejected side.

    Attributes:
        use: how it was used.
        x: (x_w, x_l), (B, T, d_in) each, or ids (B, T), or None; one tensor twice where the prompt is shared.
        delta: (δ_w, δ_l), (B, T, d_out) each.
    """

    use: Use
    x: tuple[torch.Tensor | None, torch.Tensor | None]
    delta: tuple[torch.Tensor, torch.Tensor]

    @property
    def shared(self) -> bool:
        """Whether both sides read the same."""
        return self.x[0] is self.x[1]


@checked()
class PairPass:
    """The forward and the first half of the backward pass over B pairs.

    Args:
        model: in a deterministic state; its parameters that require gradients count.
        batch: B pairs.
        geometry: read a², b², c of each pair on the way (the plain metric).

    Attributes:
        chosen, rejected: (B,) log-probabilities, nats, detached.
        geometry: of the pairs; None if not asked for.
        names: of the parameters, in the model's order.

    Raises:
        ValueError: active dropout, an empty response, or a parameter whose use hides its gradient.
    """

    def __init__(self, model: nn.Module, batch: PairBatch, *, geometry: bool = True) -> None:
        where = "PairPass"
        check_batch(batch, where)
        check_deterministic(model, where)
        self._selected = select_parameters(model, "trainable")
        self.names = list(self._selected)
        self._pairs = n = len(batch)
        batch = set_apart(batch.to(model_device(model)))
        tape, values = self._forward(model, batch)
        plan = plan_backward(model, batch, tape, values, False, where)
        self._uncovered = plan.uncovered
        slow = torch.zeros(n, 2, 2, dtype=torch.float64)
        with fused_activations(model):  # checkpointing runs parts of the forward pass again
            if plan.uncovered and geometry:
                with tape.paused():
                    slow = slow_pairs(values, [self._selected[name] for name in plan.uncovered])
            if plan.roots:
                again = bool(plan.uncovered)  # the graph is needed once more for what no rule covers
                outputs = outputs_of(plan.roots)
                sums = [values.sum()] if tape.passes == 1 else [part.sum() for part in values.split(n)]
                for number, total in enumerate(sums):
                    torch.autograd.grad(total, outputs, retain_graph=again or number < len(sums) - 1)
        self._tape = tape
        self._entries = {name: [self._entry(*some) for some in t.values()] for name, t in tape.kept.items()}
        # Hooks on the graph hold the tape and the tape holds the graph, a ring that Python does not collect:
        # nothing large may stay in it.
        tape.kept = {}
        self._values: torch.Tensor | None = values if plan.uncovered else None
        if not plan.uncovered:
            tape.calls.clear()
        self.chosen, self.rejected = values.detach().split(n)
        self.geometry = None
        if geometry:
            gram = slow + sum(_inner_products(found) for found in self._entries.values())
            self.geometry = _geometry(gram, batch.ids)

    def _forward(self, model: nn.Module, batch: PairBatch) -> tuple[_KeepingTape, torch.Tensor]:
        """Return the tape of a forward pass, and its log-probabilities, (2B,), chosen first."""
        n = len(batch)
        with torch.enable_grad(), fused_activations(model):
            if can_share(model):
                tape = _KeepingTape(self._selected, n, passes=2)
                with tape.recording(model):
                    both = shared_logps(model, batch)
                if both is not None:
                    return tape, torch.cat(both)
            tape = _KeepingTape(self._selected, 2 * n, passes=1)
            with tape.recording(model):
                return tape, batch_logits(model, batch).logps().sum(dim=1)

    def _entry(self, use: Use, deltas: list[torch.Tensor]) -> _Entry:
        """Return what was kept of one call, side by side; deltas (2B or B, T, d_out) of each pass."""
        n = self._pairs
        if len(deltas) != self._tape.passes:
            raise ValueError("PairPass: a module took part in one response only; its share is not known.")
        x = use.entered(deltas[0].dtype)
        if len(deltas) == 2:
            return _Entry(use, (x, x), (deltas[0], deltas[1]))
        parts = (None, None) if x is None else (x[:n], x[n:])
        return _Entry(use, parts, (deltas[0][:n], deltas[0][n:]))

    @torch.no_grad()
    def gradient(self, chosen: torch.Tensor | None, rejected: torch.Tensor | None) -> Vector:
        """Return Σ_i chosen_i ∇log π_w,i + rejected_i ∇log π_l,i, by name, each of its parameter's shape.

        Args:
            chosen, rejected: (B,) weights; None leaves that side out.
        """
        if chosen is None and rejected is None:
            raise ValueError("PairPass.gradient: got no weights; expected (B,) for at least one side.")
        weights = (chosen, rejected)
        found: Vector = {}
        for name, parameter in self._selected.items():
            parts = [
                # A weighted sum over responses is the gradient of one long response.
                entry.use.gradient(_joined(x), _joined(d))
                for entry in self._entries.get(name, ())
                for x, d in _weighted(entry, weights)
            ]
            found[name] = _total(parts)[0] if parts else torch.zeros_like(parameter)
        if self._values is not None:
            with torch.enable_grad():
                sides = self._values.split(self._pairs)
                wanted = sum(
                    (side * torch.as_tensor(weight).to(side)).sum()
                    for side, weight in zip(sides, weights, strict=True)
                    if weight is not None
                )
            inputs = [self._selected[name] for name in self._uncovered]
            with torch.enable_grad(), self._tape.paused():
                slow = torch.autograd.grad(wanted, inputs, retain_graph=True, allow_unused=True)
            for name, part in zip(self._uncovered, slow, strict=True):
                if part is not None:
                    found[name] = part
        return found

    @torch.no_grad()
    def geometry_in(self, metric: Mapping[str, torch.Tensor]) -> PairGeometry:
        """Return a², b², c with ⟨g, g'⟩ = Σ_k P_k g_k g'_k for a diagonal P > 0, the optimizer's own metric.

        A diagonal cannot be moved past the two factors of a weight's gradient, so each pair's gradients are
        formed here, a weight and a few pairs at a time.

        Args:
            metric: P by parameter name; a name that is missing counts with 1.
        """
        if self._values is not None:
            raise ValueError(
                f"PairPass.geometry_in: no rule covers the use of {self._uncovered[0]}; "
                "the optimizer's metric needs rules for all parameters."
            )
        gram = torch.zeros(self._pairs, 2, 2, dtype=torch.float64)
        for name, entries in self._entries.items():
            parameter = self._selected[name]
            root = metric[name].sqrt().flatten() if name in metric else None
            step = max(1, _FORMED // (2 * parameter.numel()))
            for start in range(0, self._pairs, step):
                some = slice(start, min(start + step, self._pairs))
                formed = torch.stack([_formed(entries, side, some) for side in (0, 1)], dim=1)
                if root is not None:
                    formed *= root
                gram[some] += (formed @ formed.transpose(1, 2)).double().cpu()
        return _geometry(gram, ())


def _geometry(gram: torch.Tensor, ids: tuple[str, ...]) -> PairGeometry:
    a2, b2 = gram.diagonal(dim1=1, dim2=2).clamp(min=0).unbind(1)
    return PairGeometry(a2, b2, gram[:, 0, 1], ids)


def _weighted(
    entry: _Entry, weights: tuple[torch.Tensor | None, torch.Tensor | None]
) -> list[tuple[torch.Tensor | None, torch.Tensor]]:
    """Return what entered and the weighted output gradients; one couple if both sides read the same."""
    parts = [
        (x, delta * torch.as_tensor(weight).to(delta)[:, None, None])
        for x, delta, weight in zip(entry.x, entry.delta, weights, strict=True)
        if weight is not None
    ]
    if len(parts) == 2 and entry.shared:
        return [(parts[0][0], parts[0][1] + parts[1][1])]
    return parts


def _formed(entries: Sequence[_Entry], side: int, some: slice) -> torch.Tensor:
    """Return the gradients of some responses of one side with respect to one parameter, (b, p)."""
    parts = []
    for entry in entries:
        x = entry.x[side]
        parts.append(entry.use.gradient(None if x is None else x[some], entry.delta[side][some]))
    return _total(parts).flatten(1)


@overload
def _joined(value: torch.Tensor) -> torch.Tensor: ...
@overload
def _joined(value: torch.Tensor | None) -> torch.Tensor | None: ...
def _joined(value: torch.Tensor | None) -> torch.Tensor | None:
    """Return (B, T, …) as one response, (1, B T, …)."""
    return None if value is None else value.flatten(0, 1)[None]


def _total(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of freshly made tensors, in the memory of the first."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def _inner_products(entries: Sequence[_Entry]) -> torch.Tensor:
    """Return the inner products of the pairs' gradients with respect to one parameter, (B, 2, 2), float64."""
    if len(entries) == 1 and entries[0].shared:
        only = entries[0]
        return only.use.inner_of_shared(only.x[0], *only.delta)
    parts = []
    for entry in entries:
        sides = [entry.use.factors(x, delta[None]) for x, delta in zip(entry.x, entry.delta, strict=True)]
        parts.append(entry.use.both_sides(sides[0], sides[1]))
    return inner_products(parts)
