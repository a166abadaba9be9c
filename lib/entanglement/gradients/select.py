"""Which parameters are measured, and when a model is in no state to be measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from transformers.activations import NewGELUActivation

from entanglement.signatures import checked

__all__ = [
    "Parameters",
    "check_deterministic",
    "fused_activations",
    "measuring",
    "select_parameters",
    "touched_parameters",
]

#: "all", "trainable" (requires_grad), or a predicate on parameter names.
Parameters = Literal["all", "trainable"] | Callable[[str], bool]


@checked()
def select_parameters(model: nn.Module, parameters: Parameters = "all") -> dict[str, nn.Parameter]:
    """Return the selected parameters, each once, under its first name.

    A tied parameter has several names; a predicate selects it if it accepts any of them.

    Raises:
        ValueError: unknown selection, nothing selected, or a selected parameter that is not floating point.
    """
    names: dict[int, list[str]] = {}
    tensors: dict[int, nn.Parameter] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
        tensors[id(parameter)] = parameter
    chosen: dict[str, nn.Parameter] = {}
    for key, parameter in tensors.items():
        if callable(parameters):
            wanted = any(parameters(name) for name in names[key])
        else:
            wanted = parameters == "all" or parameter.requires_grad
        if wanted:
            chosen[names[key][0]] = parameter
    if not chosen:
        raise ValueError(f"parameters={parameters!r} selects none of the model's {len(tensors)} parameters.")
    for name, parameter in chosen.items():
        if not parameter.is_floating_point():
            raise ValueError(
                f"parameter {name} is {parameter.dtype} and has no gradient; leave it out by a predicate."
            )
    return chosen


@checked()
def check_deterministic(model: nn.Module, where: str) -> None:
    """Refuse a model whose forward is random or mixes examples: a gradient of a response would not exist.

    Raises:
        ValueError: naming the module with active dropout or batch normalization.
    """
    for name, module in model.named_modules():
        if not module.training:
            continue
        active = isinstance(module, _DropoutNd) and module.p > 0
        if not active:  # attention layers keep the rate as a number and call the functional form
            active = any(
                "drop" in key and isinstance(value, float) and value > 0
                for key, value in vars(module).items()
            )
        if active:
            raise ValueError(
                f"{where}: the model is in training mode and {name or 'the model itself'} "
                f"({type(module).__name__}) drops out at random; call model.eval() first."
            )
        if isinstance(module, _BatchNorm):
            raise ValueError(
                f"{where}: {name} normalizes over the batch in training mode; call model.eval() first."
            )


@contextmanager
@checked()
def measuring(model: nn.Module, selected: dict[str, nn.Parameter]) -> Iterator[None]:
    """Ask for gradients of exactly the selected parameters; put every requires_grad flag back afterwards."""
    wanted = {id(p) for p in selected.values()}
    before = [(p, p.requires_grad) for p in model.parameters()]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            for parameter, _ in before:
                if parameter.is_floating_point():
                    parameter.requires_grad_(id(parameter) in wanted)
            yield
    finally:
        for parameter, flag in before:
            parameter.requires_grad_(flag)


@contextmanager
@checked()
def fused_activations(model: nn.Module) -> Iterator[None]:
    """Compute GPT-2's activation as one operation while the context lasts.

    Transformers writes this GELU as eight elementwise operations that keep what they read for the backward
    pass; PyTorch has the same function as one, which saves time and memory in every pass over GPT-2.
    """
    changed = [
        module
        for module in model.modules()
        if type(module).forward is NewGELUActivation.forward and "forward" not in vars(module)
    ]
    try:
        for module in changed:
            module.forward = partial(functional.gelu, approximate="tanh")
        yield
    finally:
        for module in changed:
            del module.forward


class _Touched(TorchDispatchMode):
    """Records which tensors enter any operation."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        flat, _ = tree_flatten((args, kwargs or {}))
        self.seen.update(id(value) for value in flat if isinstance(value, torch.Tensor))
        return func(*args, **(kwargs or {}))


@checked()
def touched_parameters(run: Callable[[], Any], selected: dict[str, nn.Parameter]) -> set[str]:
    """Return the names of the selected parameters that enter any operation while ``run`` is called."""
    with torch.no_grad(), _Touched() as mode:
        run()
    return {name for name, parameter in selected.items() if id(parameter) in mode.seen}
