"""What a kind of layer says about itself, and where all kinds are found.

A :class:`Layer` looks at one call of one module and says how each of its parameters enters the output: as one
:class:`Use` each. A use turns what entered and the gradient at the output into the gradient of the parameter,
or, where that would be large, into :class:`Factors` from which inner products of gradients follow without
forming any (``entanglement.gradients.inner``).

A layer is declared in a file of its own in this package, under the name of its class; other classes of such
a name (``LlamaRMSNorm`` for ``RMSNorm``) are looked at as well. Only a module whose ``forward`` is the very
function that the rule was written for, or was found to compute the same, has a rule; a subclass that
overrides it, or an instance that was patched, has none.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any, ClassVar

import torch
from torch import nn

from entanglement.registry import Registry

__all__ = [
    "EXAMPLES",
    "LAYERS",
    "TIES",
    "Factors",
    "Layer",
    "Use",
    "can_be_combined",
    "has_rule",
    "inner_products",
    "layer_of",
    "own_parameter",
    "parameter_uses",
]


@dataclass(frozen=True)
class Factors:
    """What the gradients of n examples in each of R rows with respect to one parameter are made of.

    Attributes:
        use: where they come from; it knows what to do with them.
        x: what entered, (R, T, d_in), or ids (R, T); (n, R, d_in) where every example has one position only;
            None where the gradients are formed.
        delta: (n, R, T, d_out) gradients at the output, or (n, R, d_out) at one position; where the gradients
            are formed, these, (n, R, p).
        one_position: whether every example has one position only.
    """

    use: Use
    x: torch.Tensor | None
    delta: torch.Tensor
    one_position: bool = False


class Use(ABC):
    """How one parameter enters the output of one call.

    Attributes:
        parameter: the tensor itself.
        form: of the gradient. Uses of one parameter in one form add up position by position; two forms need a
            declaration in ``TIES``.
        formed: whether ``factors`` holds the gradients themselves, because they are short.
        at_one_position: whether ``factors_at`` is there: an output position depends on nothing but what
            entered at that position.
    """

    form: ClassVar[str]
    formed: ClassVar[bool] = False
    at_one_position: ClassVar[bool] = False

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter

    @abstractmethod
    def entered(self, dtype: torch.dtype) -> torch.Tensor | None:
        """Return what the parameter is combined with, detached: (R, T, d_in), or ids (R, T), or None."""

    @abstractmethod
    def gradient(self, x: torch.Tensor | None, delta: torch.Tensor) -> torch.Tensor:
        """Return the gradients of r rows, (r, *shape of the parameter), in the parameter's dtype.

        Args:
            x: (r, T, …), as ``entered``.
            delta: (r, T, d_out), as ``positions``.
        """

    @abstractmethod
    def inner(self, factors: Factors) -> torch.Tensor:
        """Return the inner products of the gradients, (B, 2n, 2n), float64, in the order of ``inner``."""

    def positions(self, delta: torch.Tensor) -> torch.Tensor:
        """Return gradients at the output, (n, R, …), as (n, R, T, d_out), all positions in one dimension."""
        return delta.flatten(2, -2)

    def factors(self, x: torch.Tensor | None, delta: torch.Tensor) -> Factors:
        """Return the factors of the gradients; x as ``entered``, delta (n, R, T, d_out) as ``positions``."""
        return Factors(self, x, delta)

    def factors_at(self, x: torch.Tensor, delta: torch.Tensor) -> Factors:
        """Return the factors where every example has one position: x (n, R, d_in), delta (n, R, d_out)."""
        raise NotImplementedError(f"{type(self).__name__} has no factors at one position.")

    def fits(self, other: Use) -> bool:
        """Whether another use of the same parameter, in the same form, adds up with this one."""
        return True

    def join(self, parts: Sequence[Factors]) -> Factors:
        """Return the factors of several uses in one form as one: their positions side by side."""
        first = parts[0]
        if len(parts) == 1:
            return first
        xs = [part.x for part in parts if part.x is not None]
        deltas = torch.cat([part.delta for part in parts], dim=2)
        return Factors(first.use, torch.cat(xs, dim=1), deltas)

    def both_sides(self, chosen: Factors, rejected: Factors) -> Factors:
        """Return the factors of B chosen and B rejected rows as those of 2B rows."""
        x = None if chosen.x is None or rejected.x is None else torch.cat([chosen.x, rejected.x])
        return Factors(self, x, torch.cat([chosen.delta, rejected.delta], dim=1))

    def inner_of_shared(
        self, x: torch.Tensor | None, chosen: torch.Tensor, rejected: torch.Tensor
    ) -> torch.Tensor:
        """Return the inner products of B pairs, (B, 2, 2), where the same entered for both sides.

        Args:
            x: (B, T, …).
            chosen, rejected: (B, T, d_out) gradients at the output.
        """
        sides = [self.factors(x, delta[None]) for delta in (chosen, rejected)]
        return self.inner(self.both_sides(sides[0], sides[1]))


class Layer(ABC):
    """A kind of layer: which modules are of it, and how their parameters enter the output.

    Attributes:
        forwards: the ``forward`` functions that the rule was written for.
    """

    forwards: ClassVar[tuple[Callable[..., Any], ...]] = ()

    def covers(self, module: nn.Module) -> bool:
        """Whether the rule holds for a module; asked only of modules whose class has the declared name."""
        return type(module).forward in self.forwards

    @abstractmethod
    def uses(self, module: nn.Module, x: torch.Tensor) -> list[Use]:
        """Return how each parameter enters the output of a call with x; [] where the rule doesn't apply."""

    def shared(self, x: torch.Tensor) -> bool:
        """Whether a call with x has one output for the whole batch, as looked-up positions often do."""
        return False


#: Name of a module's class → its kind of layer.
LAYERS: Registry[Layer] = Registry("layer", "entanglement.gradients.layers")
#: "form and form", in alphabetical order → inner products of the gradients in one form with those in the
#: other, both orders added: the cross terms of a weight that is used in both.
TIES: Registry[Callable[[Factors, Factors], torch.Tensor]] = Registry(
    "tied weight", "entanglement.gradients.layers"
)
#: Name of a module's class → small modules and what may enter them, R = 4 rows, in every variety that the
#: rule covers. The tests hold the rule against autograd on each; nothing else reads them.
EXAMPLES: Registry[Callable[[], Iterator[tuple[nn.Module, torch.Tensor]]]] = Registry(
    "example of a layer", "entanglement.gradients.layers"
)


@cache
def _names(kind: Any) -> tuple[str, ...]:
    """Return the names that a class is looked up by: its own, and endings of it that start with a capital.

    First those of the class that wrote its ``forward``, "Linear" for a subclass of another name, say.
    """
    writer = getattr(kind.forward, "__qualname__", "").split(".")[-2:-1]
    full = [*writer, kind.__name__]
    endings = [name[at.start() :] for name in full for at in re.finditer(r"^.|[A-Z]", name)]
    return tuple(dict.fromkeys(endings))


def layer_of(module: nn.Module) -> Layer | None:
    """Return the kind of layer that a module is of, or None."""
    if "forward" in vars(module):  # patched on the instance
        return None
    kind: Any = type(module)
    for name in _names(kind):
        if name in LAYERS and LAYERS[name].covers(module):
            return LAYERS[name]
    return None


def has_rule(module: nn.Module) -> bool:
    """Whether the module's forward is one that a rule was written for."""
    return layer_of(module) is not None


def parameter_uses(module: nn.Module, x: torch.Tensor) -> list[Use]:
    """Return how each parameter of a module enters the output of a call with x; [] where no rule applies."""
    layer = layer_of(module)
    return [] if layer is None else layer.uses(module, x)


def own_parameter(module: nn.Module, name: str) -> nn.Parameter | None:
    """Return the parameter registered under a name; a computed weight (a parametrization) is none."""
    return module._parameters.get(name)


def _by_form(uses: Iterable[Use]) -> dict[str, list[Use]]:
    found: dict[str, list[Use]] = {}
    for use in uses:
        found.setdefault(use.form, []).append(use)
    return dict(sorted(found.items()))


def _tie(one: str, other: str) -> str:
    return f"{one} and {other}"


def can_be_combined(uses: Sequence[Use]) -> bool:
    """Whether the inner products of one weight's gradients follow from all its uses together."""
    forms = _by_form(uses)
    alike = all(some[0].fits(use) for some in forms.values() for use in some[1:])
    return alike and all(_tie(*two) in TIES for two in combinations(forms, 2))


def inner_products(parts: Sequence[Factors]) -> torch.Tensor:
    """Return the inner products of the gradients of one parameter, from the factors of all its uses.

    Returns:
        (B, 2n, 2n), float64.
    """
    forms: dict[str, list[Factors]] = {}
    for part in parts:
        forms.setdefault(part.use.form, []).append(part)
    joined = {form: some[0].use.join(some) for form, some in sorted(forms.items())}
    total = torch.stack([factors.use.inner(factors) for factors in joined.values()]).sum(0)
    for one, other in combinations(joined, 2):
        total = total + TIES[_tie(one, other)](joined[one], joined[other])
    return total
