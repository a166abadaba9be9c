"""A backward pass in two halves: first what the pairs' gradients are like, then any weighted sum of them.

An ordinary backward pass sends gradients from the loss down to every module's output, and on the way forms
the gradients of the weights. The first half is linear in each response's weight: it can be done once, with
weight 1 for all, and kept. The inner products of whole gradients are read from it (``gradients.tape``). With
the weights that a rule makes of these, the second half, one matrix product a weight, gives the gradient of
any Σ u_w log π_w − u_l log π_l. So a rule that looks at every pair's geometry costs no second backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from entanglement.geometry import PairGeometry
from entanglement.gradients.fast import _apart, _logits, _outputs, _plan, slow_pairs
from entanglement.gradients.rules import Use
from entanglement.gradients.select import check_deterministic, fused_activations, select_parameters
from entanglement.gradients.tape import Call, Tape
from entanglement.logps import check_batch, model_device
from entanglement.pairs import PairBatch

__all__ = ["PairPass"]

Vector = dict[str, torch.Tensor]
_FORMED = 1 << 25  # numbers of formed gradients held at a time


class _KeepingTape(Tape):
    """A tape that keeps what it reads, and reads the inner products only if asked to."""

    def __init__(self, selected: Mapping[str, nn.Parameter], rows: int, geometry: bool) -> None:
        super().__init__(selected, rows)
        self.geometry = geometry
        self.kept: dict[str, list[tuple[Use, torch.Tensor]]] = {}

    def receive(self, call: Call, delta: torch.Tensor, *, single: torch.Tensor | None = None) -> None:
        """Keep the output gradients of a call, (1, R, T, …), and what entered it."""
        for name, use in call.uses:
            if name in self._expected:
                self.kept.setdefault(name, []).append((use, delta[0]))
        if self.geometry:
            super().receive(call, delta, single=single)
        elif call.given is not None and call.given._version != call.version:
            raise ValueError(f"{call.name}: what entered the module was changed in place afterwards.")
        else:
            call.drop()


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
        batch = _apart(batch.to(model_device(model)))
        self._tape = tape = _KeepingTape(self._selected, 2 * n, geometry)
        with torch.enable_grad(), fused_activations(model):
            with tape.recording(model):
                values = _logits(model, batch).logps().sum(dim=1)  # (2B,)
            plan = _plan(model, batch, tape, values, False, where)
            self._uncovered = plan.uncovered
            gram = torch.zeros(n, 2, 2, dtype=torch.float64)
            if plan.uncovered and geometry:
                with tape.paused():
                    gram = gram + slow_pairs(values, [self._selected[name] for name in plan.uncovered])
            if plan.roots:
                again = bool(plan.uncovered)  # the graph is needed once more for what no rule covers
                torch.autograd.grad(values.sum(), _outputs(plan.roots), retain_graph=again)
        self._kept = tape.kept
        # Hooks on the graph hold the tape and the tape holds the graph, a ring that Python does not collect:
        # nothing large may stay in it.
        tape.kept = {}
        if plan.uncovered:
            self._values: torch.Tensor | None = values
        else:
            self._values = None
            tape.calls.clear()
        self.chosen, self.rejected = values.detach().split(n)
        self.geometry = None
        if geometry:
            gram = gram if tape.gram is None else gram + tape.gram
            a2, b2 = gram.diagonal(dim1=1, dim2=2).clamp(min=0).unbind(1)
            self.geometry = PairGeometry(a2, b2, gram[:, 0, 1], batch.ids)

    def gradient(self, chosen: torch.Tensor | None, rejected: torch.Tensor | None) -> Vector:
        """Return Σ_i chosen_i ∇log π_w,i + rejected_i ∇log π_l,i, by name, each of its parameter's shape.

        Args:
            chosen, rejected: (B,) weights; None leaves that side out.
        """
        found: Vector = {}
        if chosen is None and rejected is None:
            raise ValueError("PairPass.gradient: got no weights; expected (B,) for at least one side.")
        first = 0 if chosen is not None else self._pairs
        rows = slice(first, None if rejected is not None else self._pairs)
        scale = torch.cat([torch.as_tensor(side) for side in (chosen, rejected) if side is not None])
        for name, parameter in self._selected.items():
            found[name] = _formed(parameter, self._kept.get(name, ()), rows, scale)[0]
        if self._values is not None:
            inputs = [self._selected[name] for name in self._uncovered]
            with self._tape.paused():
                wanted = (self._values[rows] * scale.to(self._values)).sum()
                parts = torch.autograd.grad(wanted, inputs, retain_graph=True, allow_unused=True)
            for name, part in zip(self._uncovered, parts, strict=True):
                if part is not None:
                    found[name] = part
        return found

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
        n = self._pairs
        gram = torch.zeros(n, 2, 2, dtype=torch.float64)
        with torch.no_grad():
            for name, uses in self._kept.items():
                parameter = self._selected[name]
                root = metric[name].sqrt().flatten() if name in metric else None
                step = max(1, _FORMED // (2 * parameter.numel()))
                for start in range(0, n, step):
                    some = slice(start, min(start + step, n))
                    rows = [*range(n)[some], *range(n, 2 * n)[some]]
                    formed = _formed(parameter, uses, torch.tensor(rows)).flatten(1)  # (2b, p)
                    if root is not None:
                        formed *= root
                    both = formed.unflatten(0, (2, -1)).transpose(0, 1)  # (b, 2, p)
                    gram[some] += (both @ both.transpose(1, 2)).double().cpu()
        a2, b2 = gram.diagonal(dim1=1, dim2=2).clamp(min=0).unbind(1)
        return PairGeometry(a2, b2, gram[:, 0, 1])


def _formed(
    parameter: nn.Parameter,
    uses: Sequence[tuple[Use, torch.Tensor]],
    rows: slice | torch.Tensor,
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the gradients of some responses with respect to one parameter.

    Args:
        parameter: the parameter.
        uses: how it was used, and the output gradients there, (R, T, …, d_out).
        rows: which responses.
        scale: (r,) None for each gradient by itself; weights for their weighted sum, which is that of one
            long response.

    Returns:
        (r, *the parameter's shape), with a scale (1, *its shape).
    """
    n = 1 if scale is not None else len(rows)  # type: ignore[arg-type]
    total = torch.zeros(n, *parameter.shape, dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad():
        for use, delta in uses:
            flat = delta[rows].flatten(1, -2)  # (r, T, d_out)
            x = None if use.kind == "shift" else use.value()[rows]
            if x is not None:
                x = x.flatten(1) if use.kind == "embedding" else x.to(flat.dtype).flatten(1, -2)
            if scale is not None:
                flat = (flat * scale.to(flat)[:, None, None]).flatten(0, 1)[None]
                x = None if x is None else x.flatten(0, 1)[None]
            _add(total, use, flat, x)
    return total


def _add(total: torch.Tensor, use: Use, delta: torch.Tensor, x: torch.Tensor | None) -> None:
    """Add (r, *shape) gradients, given output gradients (r, T, d_out) and what entered, (r, T, d_in) or
    ids."""
    if x is None:
        total += delta.sum(1).to(total)
    elif use.kind == "scale":
        total += (delta * x).sum(1).to(total)
    elif use.kind == "embedding":
        if use.padding_idx is not None:  # PyTorch keeps that row of the embedding fixed
            delta = delta.masked_fill((x == use.padding_idx)[..., None], 0.0)
        for row, (places, values) in enumerate(zip(x, delta, strict=True)):
            total[row].index_add_(0, places, values.to(total))
    else:
        left, right = (delta, x) if use.kind == "linear" else (x, delta)
        total += (left.transpose(1, 2) @ right).to(total)
