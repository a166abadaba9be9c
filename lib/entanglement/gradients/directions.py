"""Gradients as vectors, and the first-order change along a given change of the parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from entanglement.gradients.naive import response_gradients
from entanglement.gradients.select import Parameters, check_deterministic, select_parameters
from entanglement.logps import check_batch, model_device
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked

__all__ = ["directional_change", "flat_gradients", "flatten", "unflatten"]


@checked()
def flatten(
    model: nn.Module, values: Mapping[str, torch.Tensor], parameters: Parameters = "all"
) -> torch.Tensor:
    """Return name → tensor as one (P,) vector, ordered as ``select_parameters``; a missing name is zero."""
    return torch.cat(
        [
            (values[name] if name in values else torch.zeros_like(p)).detach().reshape(-1)
            for name, p in select_parameters(model, parameters).items()
        ]
    )


@checked()
def unflatten(
    model: nn.Module, vector: torch.Tensor, parameters: Parameters = "all"
) -> dict[str, torch.Tensor]:
    """Return a (P,) vector as name → tensor of the parameter's shape: the inverse of ``flatten``.

    Raises:
        ValueError: the vector's length is not the number of selected parameters.
    """
    selected = select_parameters(model, parameters)
    sizes = [p.numel() for p in selected.values()]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"unflatten: vector is {tuple(vector.shape)}; expected ({sum(sizes)},).")
    parts = torch.split(vector, sizes)
    return {name: part.view_as(p) for (name, p), part in zip(selected.items(), parts, strict=True)}


@checked()
def flat_gradients(
    model: nn.Module, batch: PairBatch, parameters: Parameters = "all"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (g_w, g_l), each (B, P): every response's gradient as one vector, in the model's dtype.

    Holds 2·B·P numbers: for small models or few pairs. ``response_gradients`` yields them pair by pair.
    """
    rows: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for both in response_gradients(model, batch, parameters):
        for row, gradient in zip(rows, both, strict=True):
            row.append(flatten(model, {k: g for k, g in gradient.grads.items() if g is not None}, parameters))
    return torch.stack(rows[0]), torch.stack(rows[1])


@checked()
def directional_change(
    model: nn.Module,
    batch: PairBatch,
    direction: Mapping[str, torch.Tensor] | torch.Tensor,
    parameters: Parameters = "all",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (⟨g_w, Δθ⟩, ⟨g_l, Δθ⟩), each (B,) float64: first-order change of both log-probabilities, nats.

    One forward-mode pass over the batch; where an operation has no forward-mode rule, gradients are formed
    pair by pair instead (the same numbers, slower).

    Args:
        model: in evaluation mode.
        batch: B pairs.
        direction: Δθ, as name → tensor (names not given do not move) or as a (P,) vector of the selected
            parameters.
        parameters: the selection that a vector refers to.

    Raises:
        ValueError: a name that is no parameter, a wrong shape, active dropout, an empty response, or a
            result that is not finite.
    """
    where = "directional_change"
    check_batch(batch, where)
    check_deterministic(model, where)
    if isinstance(direction, torch.Tensor):
        size = sum(p.numel() for p in select_parameters(model, parameters).values())
        if direction.shape != (size,):
            raise ValueError(f"{where}: direction is {tuple(direction.shape)}; expected ({size},).")
    named = (
        unflatten(model, direction, parameters) if isinstance(direction, torch.Tensor) else dict(direction)
    )
    known = select_parameters(model, "all")
    for name, value in named.items():
        if name not in known or value.shape != known[name].shape:
            expected = tuple(known[name].shape) if name in known else "a parameter's name"
            raise ValueError(
                f"{where}: direction[{name!r}] has shape {tuple(value.shape)}; expected {expected}."
            )
    batch = batch.to(model_device(model))
    try:
        chosen, rejected = _forward_mode(model, batch, named)
    except NotImplementedError:
        pairs = [
            (w.dot(named), l.dot(named))
            for w, l in response_gradients(model, batch, lambda name: name in named)  # noqa: E741
        ]
        chosen, rejected = torch.tensor(pairs, dtype=torch.float64).T
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        bad = ~torch.isfinite(value)
        if bool(bad.any()):
            pair = batch.ids[int(bad.nonzero()[0])]
            raise ValueError(f"{where}: the change of the {name} response of {pair} is not finite.")
    return chosen, rejected


class _Responses(nn.Module):
    """The model as a function of a batch, so that ``functional_call`` can swap its parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
        return quick_logps(self.model, batch)


def _forward_mode(
    model: nn.Module, batch: PairBatch, direction: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    parameters = select_parameters(model, "all")
    # The fused attention kernels have no forward-mode rule; the plain one computes the same function.
    with torch.inference_mode(False), torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
        duals = {
            f"model.{name}": forward_ad.make_dual(
                parameters[name].detach(), value.detach().to(parameters[name])
            )
            for name, value in direction.items()
        }
        changes = []
        for value in functional_call(_Responses(model), duals, (batch,), tie_weights=True):
            tangent = forward_ad.unpack_dual(value).tangent
            changes.append(torch.zeros_like(value) if tangent is None else tangent)
    return changes[0].double().cpu(), changes[1].double().cpu()
