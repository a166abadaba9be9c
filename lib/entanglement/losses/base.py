"""The machinery of the loss registry: what a declaration holds, and how a loss is fetched by name.

A loss is one declaration: ``@declare_loss(...)`` over a function of PairLogps and its hyper-parameters. All
else (checking, weights, the table of losses) is derived from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from entanglement.checks import Check, between, interval, number_or_inf
from entanglement.logps import PairLogps
from entanglement.registry import Registry
from entanglement.signatures import checked

__all__ = [
    "FORMS",
    "LOSSES",
    "Form",
    "Hyper",
    "Loss",
    "LossSpec",
    "declare_loss",
    "get_loss",
    "list_losses",
    "loss_spec",
    "loss_specs",
]

#: How a loss uses the two responses (theory: "three meanings of margin form"). strict: one function of f_w −
#: f_l, so d_w = d_l. general: one scalar on both sides, unequal factors. pulled: general plus a term in f_w
#: alone. separable: no shared scalar. hybrid: none of these.
Form = Literal["strict", "general", "pulled", "separable", "hybrid"]
#: The forms in the order of the table; each has a file of its name with the declarations of its losses.
FORMS: tuple[Form, ...] = get_args(Form)


@checked(low=number_or_inf, high=number_or_inf)
@dataclass(frozen=True)
class Hyper:
    """One hyper-parameter: its name, default and allowed range.

    Attributes:
        name: keyword of ``get_loss``.
        default: value when not given.
        symbol: LaTeX symbol used in the formula.
        low, high: ends of the allowed interval.
        low_open, high_open: whether that end itself is refused.
        meaning: one phrase for the table.
    """

    name: str
    default: float
    symbol: str = ""
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    meaning: str = ""

    @property
    def allowed(self) -> Check:
        """The check for its values."""
        return between(self.low, self.high, low_open=self.low_open, high_open=self.high_open)

    @property
    def range_text(self) -> str:
        """The interval in mathematical notation, e.g. ``(0, inf)``."""
        return interval(self.low, self.high, low_open=self.low_open, high_open=self.high_open)

    def check(self, loss: str, value: object) -> float:
        """Return the value as a float.

        Raises:
            ValueError: not a finite number inside the range; the message names loss, hyper-parameter and
                range.
        """
        self.allowed(self.name, value, f"loss {loss!r}")
        return float(value)  # type: ignore[arg-type]


LossFunction = Callable[..., torch.Tensor]


@checked()
@dataclass(frozen=True)
class LossSpec:
    """A loss's declaration: everything that is said about it, in one place.

    Attributes:
        name: registry key, lower case.
        title: name in print.
        function: (PairLogps, **hyper) → (B,) losses.
        formula: LaTeX of the loss of one pair, without dollar signs.
        source: paper (arXiv id) and code that the formula follows.
        form: see ``Form``.
        needs_reference: whether ref_chosen and ref_rejected are used.
        hyper: hyper-parameters in order.
        length_normalized: whether log-probabilities enter as means over tokens.
        needs_lengths: whether chosen_len and rejected_len are used at all.
        d_w, d_l: LaTeX of the weights in closed form, for the table; a test evaluates it and the formula for
            every loss of the registry, so there it must not be empty.
        notes: one sentence for the table.
    """

    name: str
    title: str
    function: LossFunction = field(repr=False)
    formula: str
    source: str
    form: Form
    needs_reference: bool
    hyper: tuple[Hyper, ...] = ()
    length_normalized: bool = False
    needs_lengths: bool = False
    d_w: str = ""
    d_l: str = ""
    notes: str = ""


LOSSES: Registry[LossSpec] = Registry(
    "loss",
    package="entanglement.losses",
    printed=("title", "formula", "source", "notes", "d_w", "d_l"),
)


@checked()
def declare_loss(name: str, **facts: Any) -> Callable[[LossFunction], LossFunction]:
    """Declare the decorated function as a loss.

    Args:
        name: registry key.
        **facts: the other attributes of ``LossSpec``. ``needs_lengths`` is true unless told for a loss that
            takes means over tokens.

    Raises:
        ValueError: the name is taken.
        TypeError: a fact that ``LossSpec`` does not know, or one missing.
    """
    facts["hyper"] = tuple(facts.get("hyper", ()))
    facts.setdefault("needs_lengths", facts.get("length_normalized", False))

    def register(function: LossFunction) -> LossFunction:
        LOSSES.add(name, LossSpec(name=name, function=function, **facts))
        return function

    return register


@checked()
class Loss:
    """A loss with its hyper-parameters fixed: ``loss(logps)`` and ``loss.weights(logps)``.

    Attributes:
        spec: the declaration.
        hyper: name → value.
    """

    def __init__(self, spec: LossSpec, hyper: dict[str, float]) -> None:
        self.spec = spec
        self.hyper = hyper

    def __repr__(self) -> str:
        inside = ", ".join([repr(self.name), *(f"{k}={v:g}" for k, v in self.hyper.items())])
        return f"get_loss({inside})"

    @property
    def name(self) -> str:
        """The registry key."""
        return self.spec.name

    @property
    def needs_reference(self) -> bool:
        """Whether the loss looks at the reference's log-probabilities."""
        return self.spec.needs_reference

    @property
    def length_normalized(self) -> bool:
        """Whether log-probabilities enter as means over tokens."""
        return self.spec.length_normalized

    def __call__(self, logps: PairLogps) -> torch.Tensor:
        """Return the (B,) losses, in nats for a log-likelihood; gradients flow to ``logps``.

        Raises:
            ValueError: the reference or the lengths that the loss needs are missing.
        """
        if self.spec.needs_reference and not logps.has_reference:
            raise ValueError(
                f"loss {self.name!r} needs a reference: logps.ref_chosen and ref_rejected are None."
            )
        if self.spec.needs_lengths and not logps.has_lengths:
            raise ValueError(f"loss {self.name!r} needs lengths: logps.chosen_len and rejected_len are None.")
        return self.spec.function(logps, **self.hyper)

    def weights(self, logps: PairLogps) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (d_w, d_l), each (B,): how hard the loss pulls chosen up and pushes rejected down.

        d_w = −∂L/∂f_w and d_l = +∂L/∂f_l, where L is the sum of the losses of the pairs. A negative weight
        means that the loss asks for the opposite motion. Detached from any graph.
        """
        with torch.inference_mode(False), torch.enable_grad():
            plain = logps.detach()
            f_w = plain.chosen.clone().requires_grad_()
            f_l = plain.rejected.clone().requires_grad_()
            total = self(plain.with_policy(f_w, f_l)).sum()
            if not total.requires_grad:
                return torch.zeros_like(plain.chosen), torch.zeros_like(plain.rejected)
            grad_w, grad_l = torch.autograd.grad(total, (f_w, f_l), materialize_grads=True)
        # 0 − g rather than −g: an inactive loss then has weight 0.0, not −0.0.
        return 0.0 - grad_w, grad_l


def list_losses() -> list[str]:
    """Return the names of the declared losses, in the order of ``loss_specs``."""
    return [spec.name for spec in loss_specs()]


def loss_specs() -> list[LossSpec]:
    """Return the declarations by form, those of a form in the order of its file."""
    return sorted(LOSSES.values(), key=lambda spec: FORMS.index(spec.form))


@checked()
def loss_spec(name: str) -> LossSpec:
    """Return one declaration.

    Raises:
        ValueError: unknown name; the message lists the names and the closest one.
    """
    return LOSSES[name]


@checked()
def get_loss(name: str, **hyper: float) -> Loss:
    """Return a loss by name, with its hyper-parameters.

    Args:
        name: one of ``list_losses()``.
        **hyper: values to change from their defaults.

    Raises:
        ValueError: unknown loss, unknown hyper-parameter, or a value outside its range; each message says
            what is allowed.
    """
    spec = loss_spec(name)
    known = {h.name: h for h in spec.hyper}
    for key in hyper:
        if key not in known:
            allowed = ", ".join(known) or "none"
            raise ValueError(f"loss {name!r} has no hyper-parameter {key!r}; expected one of: {allowed}.")
    values = {key: h.check(name, hyper.get(key, h.default)) for key, h in known.items()}
    return Loss(spec, values)
