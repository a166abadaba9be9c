"""The Gram matrix of k objectives: example by example by the layers' rules, or of the batch as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from entanglement.gradients.select import fused_activations, measuring
from entanglement.gradients.tape import outputs_of
from entanglement.gradients.uncovered import announce, slow_gradients
from entanglement.objectives.reading import Lookups, ObjectiveTape
from entanglement.objectives.values import Objective, objective_values

__all__ = ["gram_by_batch", "gram_by_example"]

_CHECK = "check"  # the name of the backward pass that looks whether examples are apart


def gram_by_example(
    model: nn.Module,
    functions: Sequence[Objective],
    batch: Any,
    selected: dict[str, nn.Parameter],
    where: str,
    *,
    strict: bool,
) -> torch.Tensor:
    """Return (B, k, k), float64. See ``entanglement.objectives.objective_geometry``."""
    with measuring(model, selected), fused_activations(model):
        with torch.no_grad():
            first = functions[0](model, batch)
        rows = len(first) if isinstance(first, torch.Tensor) and first.ndim else 1
        lookups: Lookups | None = "each"
        while lookups is not None:
            tape = ObjectiveTape(selected, rows, lookups)
            try:
                values = _values(tape, model, functions, batch, where)
            except Exception:
                # A model may not bear the dimension that a lookup's output was given.
                if not tape.copied:
                    raise
                values = None
            if values is None or (tape.copied and not _alike(values[0], first)):
                lookups = "left" if lookups == "each" else None
                continue
            gram = _read(tape, values, where, strict=strict)
            if gram is not None:
                return gram
            lookups = "shared" if lookups == "each" and tape.ambiguous else None
    raise ValueError(
        f"{where}: an example's objective looks at other examples of the batch, or a layer is called with "
        "the examples not in the first dimension (as many examples as positions may look like that: take one "
        "more); measure with per='batch', where one number for the whole batch is the objective."
    )


def _alike(value: torch.Tensor, first: torch.Tensor) -> bool:
    """Whether the first objective is what it was when nothing was recorded."""
    there = first[:, 0] if first.ndim == 2 else first
    now = value.detach().to(there)
    return now.shape == there.shape and torch.allclose(now, there, rtol=torch.finfo(there.dtype).eps ** 0.5)


def _values(
    tape: ObjectiveTape, model: nn.Module, functions: Sequence[Objective], batch: Any, where: str
) -> list[torch.Tensor]:
    """Return the objectives' values, (B,) each, the forward passes recorded."""
    with tape.recording(model):
        return objective_values(functions, model, batch, "example", where)


def _read(
    tape: ObjectiveTape, values: Sequence[torch.Tensor], where: str, *, strict: bool
) -> torch.Tensor | None:
    """Return the Gram matrices, or None if the examples are not apart."""
    n, k = len(values[0]), len(values)
    together = torch.stack(list(values), dim=1)  # (B, k)
    plan = tape.plan(together)
    if plan.roots:
        outputs = outputs_of(plan.roots)

        def backward(total: torch.Tensor, name: int | str) -> None:
            tape.current = name
            torch.autograd.grad(total, outputs, retain_graph=True, allow_unused=True)

        for objective, value in enumerate(values):
            if value.requires_grad:  # else it does not depend on the selected parameters
                backward(value.sum(), objective)
        if n > 1:
            some = torch.zeros(n, dtype=torch.bool)
            some[torch.randperm(n, generator=torch.Generator().manual_seed(0))[: n // 2]] = True
            backward(together[some.to(together.device)].sum(), _CHECK)
            if tape.mixes(range(k), _CHECK, some):
                return None
    gram = tape.grams(range(k))
    if plan.uncovered:
        announce(plan.uncovered, where, "an objective of an example", strict=strict)
        slow = [tape.selected[name] for name in plan.uncovered]
        live = [i for i, value in enumerate(values) if value.requires_grad]
        rows = torch.zeros(k, sum(p.numel() for p in slow), dtype=torch.float64)
        with tape.paused():
            for example in range(n):
                for i in live:
                    rows[i] = slow_gradients(values[i][[example]], slow)[0]
                gram[example] += rows @ rows.T
    return gram


def gram_by_batch(
    model: nn.Module,
    functions: Sequence[Objective],
    batch: Any,
    selected: dict[str, nn.Parameter],
    where: str,
) -> torch.Tensor:
    """Return (1, k, k), float64: k gradients of the parameters' size are held."""
    # In training mode a batch normalization writes down what it sees; a measurement leaves no trace.
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with measuring(model, selected), fused_activations(model):
            values = objective_values(functions, model, batch, "batch", where)  # (1,) each
            found = [
                torch.autograd.grad(value, list(selected.values()), retain_graph=True, allow_unused=True)
                if value.requires_grad
                else (None,) * len(selected)
                for value in values
            ]
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(before[name])
    gram = torch.zeros(1, len(found), len(found), dtype=torch.float64)
    for parts in zip(*found, strict=True):
        some = next((part for part in parts if part is not None), None)
        if some is not None:
            flat = torch.stack([torch.zeros_like(some) if part is None else part for part in parts]).flatten(
                1
            )
            gram += (flat.double() @ flat.double().T).cpu()
    return gram
