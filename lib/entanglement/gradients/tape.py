"""Reads the geometry of pairs out of a forward and a backward pass, module by module.

While a :class:`Tape` records, each module that has a rule (``layers``) keeps what entered it and asks for the
gradient at its output. When that gradient arrives, in the backward pass, the module's share of all inner
products is added to a small matrix and both are dropped. No gradient of a weight's size is formed.

Nothing is trusted to be covered: before the backward pass the graph of the forward pass is walked, and every
place where a parameter enters it is counted. A parameter that enters in more places than the rules account
for is reported (``Plan.uncovered``), and is then measured in another way or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from entanglement.gradients.layers import (
    Factors,
    Use,
    can_be_combined,
    has_rule,
    inner_products,
    layer_of,
)

__all__ = ["Call", "Plan", "Tape", "outputs_of", "watching"]

Node = Any  # of the autograd graph; PyTorch gives the type no public name


class _Reveal(torch.autograd.Function):
    """Hands a gradient to a function; the dimension that ``torch.vmap`` hides is moved to the front."""

    @staticmethod
    def forward(gradient: torch.Tensor, receive: Any) -> torch.Tensor:
        receive(gradient, False)
        return gradient.new_zeros(())

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: this is the end of the line."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, gradient: torch.Tensor, receive: Any) -> tuple[torch.Tensor, None]:
        receive(gradient.movedim(in_dims[0], 0), True)
        return gradient.new_zeros(()), None


@dataclass(eq=False)
class Call:
    """One call of one module: what entered it, and how its parameters were used.

    Attributes:
        name: of the module.
        node: of the output in the autograd graph.
        output: the tensor itself, kept until the plan is made.
        uses: its selected parameters.
        given: what entered.
        version: of ``given`` at that time; another one means that it was changed in place.
        received: whether its output gradients have been taken.
    """

    name: str
    node: Node
    output: torch.Tensor | None
    uses: list[tuple[str, Use]]
    given: torch.Tensor | None
    version: int
    received: bool = False

    def check_unchanged(self) -> None:
        """Refuse what entered if it was changed in place since."""
        if self.given is not None and self.given._version != self.version:
            raise ValueError(f"{self.name}: what entered the module was changed in place afterwards.")

    def drop(self) -> None:
        """Let go of all tensors."""
        self.output = self.given = None
        self.uses = []


@dataclass
class Plan:
    """What a backward pass has to do.

    Attributes:
        roots: the outputs nearest to the model's input; gradients must flow until there.
        active: the calls that the result depends on.
        uncovered: names of parameters that enter the graph in a way no rule knows.
        missing: names of parameters that do not enter it at all.
    """

    roots: list[Call]
    active: list[Call]
    uncovered: list[str]
    missing: set[str]


def outputs_of(calls: Sequence[Call]) -> list[torch.Tensor]:
    """Return the outputs of some calls that are still kept."""
    return [call.output for call in calls if call.output is not None]


@contextmanager
def watching(model: nn.Module, wanted: Collection[int], tape: Callable[[], Tape | None]) -> Iterator[None]:
    """Show the calls of all modules with a rule to a tape.

    Args:
        model: whose modules.
        wanted: ``id`` of the parameters of interest.
        tape: returns the tape of the moment, or None while nothing is recorded.
    """

    def hook_of(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> torch.Tensor | None:
            now = tape()
            if now is None or not torch.is_grad_enabled() or not isinstance(output, torch.Tensor):
                return None
            return now.see(name, module, args, kwargs, output)

        return hook

    handles = []
    try:
        for name, module in model.named_modules():
            if any(id(p) in wanted for p in module._parameters.values()) and has_rule(module):
                # Before all other hooks: what they make of the output is not the module's.
                handles.append(module.register_forward_hook(hook_of(name), with_kwargs=True, prepend=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


class Tape:
    """Records the calls of a model's modules, and sums inner products as their output gradients arrive.

    Args:
        selected: name → parameter, as ``select_parameters`` returns.
        rows: R = 2B sequences in a forward pass, chosen first.
    """

    def __init__(self, selected: Mapping[str, nn.Parameter], rows: int) -> None:
        self.names = {id(p): name for name, p in selected.items()}
        self.selected = dict(selected)
        self.rows = rows
        self.calls: list[Call] = []
        self.examples = 1  # n, of each row
        self.listening = True  # whether gradients that pass are taken
        self.gram: torch.Tensor | None = None  # (B, 2n, 2n)
        self.expected: dict[str, int] = {}  # how many uses of each covered parameter the backward pass meets
        self.repeated = False  # whether a second backward pass came where one was read
        self._factors: dict[str, list[Factors]] = {}  # of the uses that it has met

    # --- forward --------------------------------------------------------------------------------------------

    @contextmanager
    def recording(self, model: nn.Module) -> Iterator[None]:
        """Watch the forward passes that the model makes inside."""
        with watching(model, self.names.keys(), lambda: self):
            yield

    def see(
        self, name: str, module: nn.Module, args: Any, kwargs: Any, output: torch.Tensor
    ) -> torch.Tensor | None:
        """Record one call of a module with a rule; return what is to take the output's place, if anything."""
        if not output.requires_grad:
            return None
        layer = layer_of(module)
        given = next(iter([*args, *kwargs.values()]), None)
        if layer is None or not isinstance(given, torch.Tensor):
            return None
        entered, shared = given, layer.shared(given)
        if shared:
            entered = given.reshape(1, -1).expand(self.rows, -1)
        uses = [use for use in layer.uses(module, entered) if id(use.parameter) in self.names]
        if not uses:
            return None
        if shared:
            # One output for the whole batch would get one gradient, summed over the examples: give each
            # example its own copy (a view; nothing is moved).
            output = output if output.ndim == 3 else output.unsqueeze(0)
            output = output.expand(self.rows, *output.shape[1:])
        if output.shape[0] != self.rows or output.ndim < 3:
            return None  # not laid out example by example: the plan will find it uncovered
        named = [(self.names[id(use.parameter)], use) for use in uses]
        call = Call(name, output.grad_fn, output, named, given, given._version)
        self.calls.append(call)
        output.register_hook(lambda gradient: self._arrive(call, gradient))
        return output if shared else None

    # --- the graph ------------------------------------------------------------------------------------------

    def plan(self, values: torch.Tensor) -> Plan:
        """Walk the graph of ``values`` and say what its backward pass must do."""
        if values.grad_fn is None:
            return Plan([], [], [], set(self.selected))
        own = {call.node: call for call in self.calls}
        edges = {name: 0 for name in self.selected}
        below: dict[Node, bool] = {}  # whether a recorded call lies further toward the input
        entered: dict[Node, list[Node]] = {}  # casts of a parameter → who reads them
        stack: list[tuple[Node, bool]] = [(values.grad_fn, False)]
        while stack:
            node, done = stack.pop()
            children = [child for child, _ in node.next_functions if child is not None]
            if done:
                below[node] = any(child in own or below.get(child, False) for child in children)
                continue
            if node in below:
                continue
            below[node] = False
            stack.append((node, True))
            for child in children:
                entered.setdefault(child, []).append(node)
                if child not in below:
                    stack.append((child, False))
        for node in below:
            if node.name() == "CheckpointFunctionBackward":
                raise ValueError(
                    "gradient checkpointing with use_reentrant=True hides the layers that it wraps; "
                    "use use_reentrant=False, or measure without checkpointing."
                )
            name = self.names.get(id(getattr(node, "variable", None)))
            if name is not None:
                edges[name] += _readers(node, entered)
        active = [call for call in self.calls if call.node in below]
        counted = {name: 0 for name in self.selected}
        for call in active:
            for name, _ in call.uses:
                counted[name] += 1
        uncovered = [n for n in edges if edges[n] != counted[n] or not can_be_combined(_uses_of(n, active))]
        self.expected = {name: counted[name] for name in counted if name not in uncovered}
        roots = [call for call in active if not below[call.node]]
        for call in self.calls:
            if call not in roots:
                call.output = None
            if call.node not in below:  # its gradient will never come
                call.drop()
        return Plan(roots, active, uncovered, {name for name in edges if edges[name] == 0})

    # --- backward -------------------------------------------------------------------------------------------

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let gradients pass without taking them: for a backward pass that is not the one to be read."""
        self.listening = False
        try:
            yield
        finally:
            self.listening = True

    def _arrive(self, call: Call, gradient: torch.Tensor) -> None:
        def receive(value: torch.Tensor, batched: bool) -> None:
            self.receive(call, value if batched else value.expand(self.examples, *value.shape))

        if self.listening:
            with torch.no_grad():
                _Reveal.apply(gradient, receive)

    def receive(self, call: Call, delta: torch.Tensor, *, single: torch.Tensor | None = None) -> None:
        """Take the output gradients of a call, (n, R, T, …), or one position an example, (n, R, …).

        Args:
            call: whose.
            delta: ∂f/∂output for n examples a row.
            single: (n, R, d_in) what entered at each example's one position; then delta is (n, R, d_out).
        """
        if call.received:
            self.repeated = True
            return
        call.received = True
        call.check_unchanged()
        delta = delta if delta.dtype == torch.float64 else delta.float()
        for name, use in call.uses:
            if name not in self.expected:
                continue
            if single is None:
                part = use.factors(use.entered(delta.dtype), use.positions(delta))
            else:
                part = use.factors_at(single.to(delta.dtype), delta)
            found = self._factors.setdefault(name, [])
            found.append(part)
            if len(found) == self.expected[name]:
                self._add(inner_products(self._factors.pop(name)))
        call.drop()

    def _add(self, gram: torch.Tensor) -> None:
        self.gram = gram if self.gram is None else self.gram + gram

    @property
    def open(self) -> list[str]:
        """Parameters whose output gradients have arrived in part only."""
        return sorted(self._factors)


def _readers(node: Node, entered: Mapping[Node, list[Node]]) -> int:
    """Return in how many places a parameter is read.

    Autocast reads it once and shares the copy: then the copy's readers count.
    """
    total = 0
    for reader in entered.get(node, ()):
        total += _readers(reader, entered) if reader.name() == "ToCopyBackward0" else 1
    return total


def _uses_of(name: str, calls: Sequence[Call]) -> list[Use]:
    """Return all uses of one parameter."""
    return [use for call in calls for used, use in call.uses if used == name]
