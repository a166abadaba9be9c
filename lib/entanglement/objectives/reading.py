"""Reads the inner products of k objectives out of k backward passes, module by module.

The same rules as for pairs (``gradients.layers``): a module keeps what entered it, and each objective's
backward pass brings the gradient at its output. When all have passed, every two objectives are taken as the
two sides of a pair. No gradient of a weight's size is formed, unless a rule finds that cheaper.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from entanglement.gradients.layers import Factors, Use, inner_products, layer_of
from entanglement.gradients.tape import Call, Tape

__all__ = ["Lookups", "ObjectiveTape"]

Lookups = Literal["each", "shared", "left"]


class ObjectiveTape(Tape):
    """Records a forward pass of B examples, one a row, and any number of backward passes through it.

    A module's output (B, d) is read as one position an example.

    Args:
        selected: name → parameter, as ``select_parameters`` returns.
        rows: B.
        lookups: how ids that all examples share, positions as a rule, are read when they enter an embedding.
            "each": each example gets a copy of what was looked up, with a dimension of examples; a vector of
            B ids is taken as one id of each example. "shared": such a vector is shared ids too. "left":
            shared ids are not read at all.
    """

    def __init__(self, selected: dict[str, nn.Parameter], rows: int, lookups: Lookups = "each") -> None:
        super().__init__(selected, rows)
        self.lookups = lookups
        self.ambiguous = False  # whether there was a vector of B ids
        self.copied = False  # whether an output was given a dimension of examples
        self.current: Hashable = None  # what the backward pass at hand is called
        self._deltas: dict[Call, dict[Hashable, torch.Tensor]] = {}

    def see(
        self, name: str, module: nn.Module, args: Any, kwargs: Any, output: torch.Tensor
    ) -> torch.Tensor | None:
        """Record one call of a module with a rule; return what is to take the output's place, if anything."""
        layer = layer_of(module)
        given = next(iter([*args, *kwargs.values()]), None)
        if not output.requires_grad or layer is None or not isinstance(given, torch.Tensor):
            return None
        shared = layer.shared(given)
        if shared and len(given) == self.rows:
            self.ambiguous |= given.ndim == 1 and self.rows > 1
            shared = self.lookups == "shared" and given.ndim == 1
        if shared and self.lookups == "left":
            return None
        if shared:
            # One output for the whole batch would get one gradient, summed over the examples: give each
            # example its own copy (a view; nothing is moved).
            entered = given.reshape(1, -1).expand(self.rows, -1)
            output = output if output.ndim == 3 else output.unsqueeze(0)
            output = output.expand(self.rows, *output.shape[1:])
            self.copied = True
        elif output.shape[0] != self.rows or given.shape[0] != self.rows or output.ndim < 2:
            return None  # not laid out example by example: the plan will find it uncovered
        else:
            entered = given.unsqueeze(1) if output.ndim == 2 else given
        uses = [use for use in layer.uses(module, entered) if id(use.parameter) in self.names]
        if not uses:
            return None
        named = [(self.names[id(use.parameter)], use) for use in uses]
        call = Call(name, output.grad_fn, output, named, given, given._version)
        self.calls.append(call)
        output.register_hook(lambda gradient: self._arrive(call, gradient))
        return output if shared else None

    def receive(self, call: Call, delta: torch.Tensor, *, single: torch.Tensor | None = None) -> None:
        """Keep the output gradients of a call, (1, B, …), under the name of the backward pass at hand."""
        call.check_unchanged()
        delta = delta if delta.dtype == torch.float64 else delta.float()
        self._deltas.setdefault(call, {})[self.current] = delta.unsqueeze(2) if delta.ndim == 3 else delta

    def mixes(self, objectives: Sequence[Hashable], check: Hashable, weighed: torch.Tensor) -> bool:
        """Whether an example's objectives depend on another example's part of some output.

        Args:
            objectives: the names of the objectives' passes.
            check: the name of a pass of the sum of all objectives of some of the examples.
            weighed: (B,) bool, which. The others must get nothing from it, and these what they got from all
                the objectives' own passes.
        """
        for found in self._deltas.values():
            parts = [found[name] for name in objectives if name in found]
            if check not in found:
                continue
            got = found[check]
            mask = weighed.to(got.device)
            if bool((got[:, ~mask] != 0).any()):
                return True
            scale = sum((part.abs().amax() for part in parts), got.new_zeros(()))
            gap = (got - sum(parts, torch.zeros_like(got)))[:, mask].abs().amax()
            if bool(gap > torch.finfo(got.dtype).eps ** 0.5 * scale):
                return True
        return False

    def grams(self, objectives: Sequence[Hashable]) -> torch.Tensor:
        """Return the inner products that the rules cover, (B, k, k) float64.

        Args:
            objectives: the names of their passes, in order.
        """
        total = torch.zeros(self.rows, len(objectives), len(objectives), dtype=torch.float64)
        for name in self.expected:
            uses = [(call, use) for call in self._deltas for used, use in call.uses if used == name]
            if uses:
                total += self._of_one_parameter(uses, objectives)
        return total

    def _of_one_parameter(
        self, uses: Sequence[tuple[Call, Use]], objectives: Sequence[Hashable]
    ) -> torch.Tensor:
        parts: dict[Hashable, list[Factors]] = {name: [] for name in objectives}
        for call, use in uses:
            found = self._deltas[call]
            entered = use.entered(next(iter(found.values())).dtype)
            for name in objectives:
                if name in found:
                    parts[name].append(use.factors(entered, use.positions(found[name])))
        joined = [_by_form(parts[name]) for name in objectives]
        total = torch.zeros(self.rows, len(objectives), len(objectives), dtype=torch.float64)
        for i, j in combinations(range(len(objectives)), 2):
            forms = {**joined[i], **joined[j]}
            if not forms:
                continue
            both = []
            for form, some in forms.items():
                one, other = _alike(joined[i].get(form, _none(some)), joined[j].get(form, _none(some)))
                both.append(some.use.both_sides(one, other))
            block = inner_products(both)  # (B, 2, 2)
            total[:, i, i], total[:, j, j] = block[:, 0, 0], block[:, 1, 1]
            total[:, i, j] = total[:, j, i] = block[:, 0, 1]
        return total


def _by_form(parts: Sequence[Factors]) -> dict[str, Factors]:
    """Return the factors of one objective's gradient, those of one form joined."""
    forms: dict[str, list[Factors]] = {}
    for part in parts:
        forms.setdefault(part.use.form, []).append(part)
    return {form: some[0].use.join(some) for form, some in forms.items()}


def _none(like: Factors) -> Factors:
    """Return the factors of a gradient of zero."""
    return Factors(like.use, like.x, torch.zeros_like(like.delta))


def _alike(one: Factors, other: Factors) -> tuple[Factors, Factors]:
    """Return both with the same number of positions: each objective may have forward passes of its own."""
    if one.x is None or other.x is None or one.x.shape[1] == other.x.shape[1]:
        return one, other
    most = max(one.x.shape[1], other.x.shape[1])

    def longer(part: Factors) -> Factors:
        assert part.x is not None
        missing = most - part.x.shape[1]
        room = (0, 0) * (part.x.ndim - 2) + (0, missing)
        return Factors(part.use, functional.pad(part.x, room), functional.pad(part.delta, (0, 0, 0, missing)))

    return longer(one), longer(other)
