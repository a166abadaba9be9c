"""What a module does with its parameters: the ways of using a weight whose gradient is known in closed form.

A rule looks at one call of one module and says how each of its parameters enters the output. Only a module
whose ``forward`` is the very function that the rule was written for has one; a subclass that overrides it, or
an instance that was patched, has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

__all__ = ["Use", "has_rule", "parameter_uses"]

#: "linear": output = x Wᵀ; "conv1d": output = x W; "embedding": output = W[x]; "scale": output = W ⊙ x (+ …);
#: "shift": output = … + W.
Kind = Literal["linear", "conv1d", "embedding", "scale", "shift"]


@dataclass(frozen=True)
class Use:
    """How one parameter enters the output of one call.

    Attributes:
        parameter: the tensor itself.
        kind: in which way.
        x: what it is multiplied with, (R, T, d_in); ids (R, T) of an embedding; None for a shift. It may be
            a function that computes it when it is needed.
        padding_idx: of an embedding.
    """

    parameter: nn.Parameter
    kind: Kind
    x: torch.Tensor | Callable[[], torch.Tensor] | None = None
    padding_idx: int | None = None

    def value(self) -> torch.Tensor:
        """Return x, detached."""
        found = self.x() if callable(self.x) else self.x
        assert found is not None
        return found.detach()


def _own(module: nn.Module, name: str) -> nn.Parameter | None:
    """Return the parameter registered under a name; a computed weight (a parametrization) is none."""
    return module._parameters.get(name)


def _with_bias(module: nn.Module, uses: list[Use]) -> list[Use]:
    bias = _own(module, "bias")
    return uses if bias is None else [*uses, Use(bias, "shift")]


def _linear(module: nn.Module, x: torch.Tensor) -> list[Use]:
    weight = _own(module, "weight")
    return _with_bias(module, [] if weight is None else [Use(weight, "linear", x)])


def _conv1d(module: nn.Module, x: torch.Tensor) -> list[Use]:
    weight = _own(module, "weight")
    return _with_bias(module, [] if weight is None else [Use(weight, "conv1d", x)])


def _embedding(module: nn.Module, x: torch.Tensor) -> list[Use]:
    weight = _own(module, "weight")
    plain = module.max_norm is None and not module.scale_grad_by_freq
    if weight is None or not plain:
        return []
    padding: Any = module.padding_idx
    return [Use(weight, "embedding", x, padding)]


def _layer_norm(module: nn.Module, x: torch.Tensor) -> list[Use]:
    weight = _own(module, "weight")
    shape: Any = module.normalized_shape
    eps: Any = module.eps
    if len(shape) != 1:
        return []
    uses = []
    if weight is not None:
        uses = [Use(weight, "scale", lambda: functional.layer_norm(x.detach(), shape, None, None, eps))]
    return _with_bias(module, uses)


def _rms_normalized(x: torch.Tensor, eps: float | None) -> torch.Tensor:
    wide = x if x.dtype == torch.float64 else x.float()
    return functional.rms_norm(wide, wide.shape[-1:], None, eps)


def _rms_norm(module: nn.Module, x: torch.Tensor) -> list[Use]:
    weight = _own(module, "weight")
    if weight is None or weight.ndim != 1:
        return []
    eps: Any = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return [Use(weight, "scale", lambda: _rms_normalized(x.detach(), eps))]


#: The forward that a rule was written for → the rule.
_RULES: dict[Any, Callable[[nn.Module, torch.Tensor], list[Use]]] = {
    nn.Linear.forward: _linear,
    Conv1D.forward: _conv1d,
    nn.Embedding.forward: _embedding,
    nn.LayerNorm.forward: _layer_norm,
    nn.RMSNorm.forward: _rms_norm,
}
_checked: dict[Any, bool] = {}


def _is_rms_norm(module: nn.Module) -> bool:
    """Whether a class that calls itself RMSNorm scales the normalized input by (a constant plus) its weight.

    Every model family brings a class of its own. Whether it computes what the rule says is tried once for
    each class, on random numbers.
    """
    kind = type(module)
    if not kind.__name__.endswith("RMSNorm") or set(module._parameters) != {"weight"}:
        return False
    weight = module._parameters["weight"]
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if weight is None or weight.ndim != 1 or not isinstance(eps, float):
        return False
    if kind.forward not in _checked:
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(2, 3, len(weight), generator=draw).to(weight)
        other = torch.randn(len(weight), generator=draw).to(weight)
        with torch.no_grad():
            out = functional_call(module, {"weight": other}, (x,))
            offset = out.double() / _rms_normalized(x, eps).double() - other.double()
        # The constant is 0 for most and 1 for some; in half precision a division by little is rough.
        spread = (offset - offset.median()).abs().quantile(0.9)
        _checked[kind.forward] = bool(spread < (1e-4 if torch.finfo(weight.dtype).eps < 1e-5 else 3e-2))
    return _checked[kind.forward]


def has_rule(module: nn.Module) -> bool:
    """Whether the module's forward is one that a rule was written for."""
    if "forward" in vars(module):  # patched on the instance
        return False
    return type(module).forward in _RULES or _is_rms_norm(module)


def parameter_uses(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Use]:
    """Return how each parameter of a module enters this call's output; [] where no rule applies."""
    values = [*args, *kwargs.values()]
    if not values or not isinstance(values[0], torch.Tensor):
        return []
    rule = _RULES.get(type(module).forward, _rms_norm)
    return rule(module, values[0])
