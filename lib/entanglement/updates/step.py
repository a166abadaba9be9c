"""Update rules as training steps: what is done with a batch, a loss and an optimizer.

Every update takes one step with ``update.step(model, optimizer, batches, loss, reference)``:

* :class:`Weighted`: a rule of ``rules`` for each pair, or for the batch's two mean gradients, in the plain or
  in the optimizer's metric;
* :class:`Calibrated`: the batch's ratio moved to the center of its band, with a running average;
* :class:`Split`: a step on the chosen responses, then one on the rejected ones at the new place.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, Protocol

import torch
from torch import nn

from entanglement.geometry import PairGeometry
from entanglement.gradients.select import fused_activations
from entanglement.logps import PairLogps, model_device, row_logps
from entanglement.losses import Loss
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import quick_logps
from entanglement.updates.metric import preconditioner
from entanglement.updates.passes import PairPass, Vector
from entanglement.updates.rules import RULES, Rule, get_rule

__all__ = ["Calibrated", "Split", "StepReport", "Update", "Weighted", "get_update"]

Reference = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class StepReport:
    """What a step started from and what it did.

    Attributes:
        loss: mean over the batch before the step, nats.
        d_w, d_l: (B,) the loss's own weights.
        u_w, u_l: (B,) those that were used in their place.
        geometry: of the pairs, in the metric that was asked for; None if it was not looked at.
        grad_norm: of the gradient that went to the optimizer, before clipping.
    """

    loss: float
    d_w: torch.Tensor
    d_l: torch.Tensor
    u_w: torch.Tensor
    u_l: torch.Tensor
    geometry: PairGeometry | None
    grad_norm: float


class Update(Protocol):
    """What the training loop needs of an update."""

    def begin(self) -> None:
        """Forget earlier trainings."""

    def step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Sequence[PairBatch],
        loss: Loss,
        reference: Reference | None = None,
        *,
        max_grad_norm: float | None = None,
    ) -> StepReport:
        """Take one step.

        Args:
            model: trained in place, in evaluation mode (no dropout).
            optimizer: of its parameters.
            batches: the step's pairs, in groups of similar length; B in all.
            loss: of the registry.
            reference: (log π_ref,w, log π_ref,l), each (B,), for a loss that needs it.
            max_grad_norm: clip the gradient to this norm; None for no clipping.

        Raises:
            ValueError: a loss that is not finite, or a loss that needs a reference and has none.
        """


def _lengths(batches: Sequence[PairBatch]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([b.chosen_len for b in batches]), torch.cat([b.rejected_len for b in batches])


def _pair_logps(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    batches: Sequence[PairBatch],
    loss: Loss,
    reference: Reference | None,
) -> PairLogps:
    if loss.needs_reference and reference is None:
        raise ValueError(f"{loss.name} needs the reference's log-probabilities; got reference=None.")
    frozen = [None, None] if reference is None else [part.to(chosen) for part in reference]
    lengths = [part.to(chosen.device) for part in _lengths(batches)]
    return PairLogps(chosen, rejected, *frozen, *lengths)


def _mean_loss(loss: Loss, logps: PairLogps) -> torch.Tensor:
    value = loss(logps).mean()
    if not bool(torch.isfinite(value)):
        raise ValueError(f"the loss is {float(value)}; lower the learning rate.")
    return value


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _go(model: nn.Module, optimizer: torch.optim.Optimizer, max_grad_norm: float | None) -> float:
    limit = math.inf if max_grad_norm is None else max_grad_norm
    norm = torch.nn.utils.clip_grad_norm_(_trained(model), limit)
    optimizer.step()
    return float(norm)


def _set_gradient(model: nn.Module, gradient: Vector) -> None:
    for name, parameter in model.named_parameters():
        if name in gradient:
            parameter.grad = gradient[name]


def _sum(parts: Sequence[Vector]) -> Vector:
    total = dict(parts[0])
    for part in parts[1:]:
        for name in total:
            total[name] += part[name]  # every part is freshly made
    return total


def _inner(one: Vector, other: Vector, metric: Mapping[str, torch.Tensor]) -> float:
    total = 0.0
    for name in one:
        scaled = other[name] * metric[name] if name in metric else other[name]
        total += float((one[name] * scaled).sum(dtype=torch.float64))
    return total


@dataclass
class Weighted:
    """A rule's weights in place of the loss's own.

    Attributes:
        rule: of ``rules``.
        level: "pair": each pair gets weights from its own geometry. Its own share of the step is then safe,
            if the rule is; what other pairs do to it is not. "batch": the two weighted means of the batch's
            gradients, Σ d_w g_w / B and Σ d_l g_l / B, are treated as one pair. Then the weighted means of
            log π are safe, and no pair by itself.
        metric: "plain", in which the guarantee is for a plain step; or "optimizer", for a step that is
            multiplied by the optimizer's diagonal afterwards. At the first step of training an adaptive
            optimizer has no diagonal yet: then the one is taken to which the plain rule's gradient would
            lead.
    """

    rule: Rule
    level: Literal["pair", "batch"] = "pair"
    metric: Literal["plain", "optimizer"] = "plain"

    def __post_init__(self) -> None:
        for name, allowed in (("level", ("pair", "batch")), ("metric", ("plain", "optimizer"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected one of {', '.join(allowed)}.")

    def begin(self) -> None:
        """Nothing is kept between steps."""

    def step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Sequence[PairBatch],
        loss: Loss,
        reference: Reference | None = None,
        *,
        max_grad_norm: float | None = None,
    ) -> StepReport:
        """Take one step; see :class:`Update`."""
        optimizer.zero_grad(set_to_none=True)
        if not self.rule.needs_geometry:
            return self._plain_step(model, optimizer, batches, loss, reference, max_grad_norm)
        in_plain = self.level == "pair" and self.metric == "plain"
        found, value, (d_w, d_l) = _first_half(model, batches, loss, reference, in_plain)
        metric = preconditioner(model, optimizer) if self.metric == "optimizer" else {}
        u_w, u_l, geometry = self._weights(found, d_w, d_l, metric)
        if self.metric == "optimizer" and not metric and not isinstance(optimizer, torch.optim.SGD):
            metric = _first_metric(_descent(found, u_w, u_l))
            u_w, u_l, geometry = self._weights(found, d_w, d_l, metric)
        _set_gradient(model, _descent(found, u_w, u_l))
        norm = _go(model, optimizer, max_grad_norm)
        return StepReport(value, d_w, d_l, u_w, u_l, geometry, norm)

    def _weights(
        self,
        found: Sequence[PairPass],
        d_w: torch.Tensor,
        d_l: torch.Tensor,
        metric: Mapping[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor, PairGeometry]:
        if self.level == "batch":
            geometry = _batch_geometry(found, d_w, d_l, metric)
            one = torch.ones(1, dtype=torch.float64)
            s_w, s_l = self.rule.weights(geometry, one, one)
            return s_w * d_w, s_l * d_l, geometry
        parts = [p.geometry or p.geometry_in(metric) for p in found]
        geometry = PairGeometry.cat(parts)
        return *self.rule.weights(geometry, d_w, d_l), geometry

    def _plain_step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Sequence[PairBatch],
        loss: Loss,
        reference: Reference | None,
        max_grad_norm: float | None,
    ) -> StepReport:
        """The loss's own step needs no geometry, and so each prompt is computed once."""
        with fused_activations(model):
            parts = [quick_logps(model, batch) for batch in batches]
            chosen, rejected = (torch.cat([part[side] for part in parts]) for side in (0, 1))
            logps = _pair_logps(chosen, rejected, batches, loss, reference)
            value = _mean_loss(loss, logps)
            value.backward()
        d_w, d_l = (d.double().cpu() for d in loss.weights(logps.detach()))
        norm = _go(model, optimizer, max_grad_norm)
        return StepReport(float(value.detach()), d_w, d_l, d_w, d_l, None, norm)


def _first_half(
    model: nn.Module,
    batches: Sequence[PairBatch],
    loss: Loss,
    reference: Reference | None,
    geometry: bool,
) -> tuple[list[PairPass], float, tuple[torch.Tensor, torch.Tensor]]:
    """Return the passes over all groups, the mean loss, and the loss's weights (B,), float64 on the CPU."""
    found = [PairPass(model, batch, geometry=geometry) for batch in batches]
    chosen, rejected = (torch.cat([getattr(p, side) for p in found]) for side in ("chosen", "rejected"))
    logps = _pair_logps(chosen, rejected, batches, loss, reference)
    d_w, d_l = (d.double().cpu() for d in loss.weights(logps))
    return found, float(_mean_loss(loss, logps)), (d_w, d_l)


def _descent(found: Sequence[PairPass], u_w: torch.Tensor, u_l: torch.Tensor) -> Vector:
    """Return −Σ (u_w g_w − u_l g_l)/B over all groups, which an optimizer descends."""
    sizes = [len(p.chosen) for p in found]
    n = len(u_w)
    parts = zip(found, u_w.split(sizes), u_l.split(sizes), strict=True)
    return _sum([p.gradient(-up / n, down / n) for p, up, down in parts])


def _batch_geometry(
    found: Sequence[PairPass], d_w: torch.Tensor, d_l: torch.Tensor, metric: Mapping[str, torch.Tensor]
) -> PairGeometry:
    """Return the geometry of the two means Σ d_w g_w/B and Σ d_l g_l/B as that of one pair."""
    sizes = [len(p.chosen) for p in found]
    n = len(d_w)
    chosen = _sum([p.gradient(d / n, None) for p, d in zip(found, d_w.split(sizes), strict=True)])
    rejected = _sum([p.gradient(None, d / n) for p, d in zip(found, d_l.split(sizes), strict=True)])
    numbers = ((chosen, chosen), (rejected, rejected), (chosen, rejected))
    a2, b2, c = (torch.tensor([_inner(one, other, metric)]) for one, other in numbers)
    return PairGeometry(a2, b2, c)


def _first_metric(gradient: Vector) -> dict[str, torch.Tensor]:
    """Return Adam's diagonal at its first step, 1/|g|, which makes the step the gradient's sign."""
    return {name: 1 / (part.abs() + 1e-8) for name, part in gradient.items()}


@dataclass
class Calibrated:
    """Reward calibration: the batch's ratio r is moved to ‖ḡ_l‖/‖ḡ_w‖, the center of its band.

    With α = √(r*/r), the chosen side's weights are multiplied by α and the rejected side's divided by it; log
    (r*/r) is a running average over steps. Source: Chen et al. 2026, as described in the book's appendix.

    Attributes:
        momentum: of the running average; 0 for the present batch alone.
    """

    momentum: float = 0.9
    _log_ratio: float | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum!r}; expected a number from 0 to below 1.")

    def begin(self) -> None:
        """Forget the running average."""
        self._log_ratio = None

    def step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Sequence[PairBatch],
        loss: Loss,
        reference: Reference | None = None,
        *,
        max_grad_norm: float | None = None,
    ) -> StepReport:
        """Take one step; see :class:`Update`."""
        optimizer.zero_grad(set_to_none=True)
        found, value, (d_w, d_l) = _first_half(model, batches, loss, reference, False)
        one = torch.ones_like(d_w)
        geometry = _batch_geometry(found, one, one, {})
        alpha = self._alpha(geometry, float(d_w.mean()), float(d_l.mean()))
        u_w, u_l = alpha * d_w, d_l / alpha
        _set_gradient(model, _descent(found, u_w, u_l))
        norm = _go(model, optimizer, max_grad_norm)
        return StepReport(value, d_w, d_l, u_w, u_l, geometry, norm)

    def _alpha(self, geometry: PairGeometry, d_w: float, d_l: float) -> float:
        target = float(geometry.norm_ratio)
        if not (d_w > 0 and d_l > 0 and 0 < target < math.inf):
            return 1.0  # no ratio to speak of
        now = math.log(target * d_l / d_w)
        kept = now if self._log_ratio is None else self._log_ratio
        self._log_ratio = self.momentum * kept + (1 - self.momentum) * now
        return math.exp(self._log_ratio / 2)


@dataclass
class Split:
    """A step on the chosen responses and one on the rejected ones, whose gradient is taken at the new place.

    The weights d_w, d_l are those before both. To first order this is the loss's own step; what differs is of
    second order (the book's appendix: it takes away a reward for ⟨g_w, g_l⟩ that the joint step carries). The
    optimizer steps twice.

    Attributes:
        order: "chosen", "rejected": which comes first; or "random", a coin at every step.
        seed: of the coin.
    """

    order: Literal["chosen", "rejected", "random"] = "random"
    seed: int = 0
    _coin: random.Random = field(default_factory=random.Random, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.order not in ("chosen", "rejected", "random"):
            raise ValueError(f"order={self.order!r}; expected chosen, rejected or random.")
        self.begin()

    def begin(self) -> None:
        """Start the coin anew."""
        self._coin.seed(self.seed)

    def step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Sequence[PairBatch],
        loss: Loss,
        reference: Reference | None = None,
        *,
        max_grad_norm: float | None = None,
    ) -> StepReport:
        """Take one step; see :class:`Update`."""
        first = self._coin.choice((0, 1)) if self.order == "random" else int(self.order == "rejected")
        with fused_activations(model):
            here = self._side(model, batches, first)
            with torch.no_grad():
                other = self._side(model, batches, 1 - first)
            both = (here.detach(), other) if first == 0 else (other, here.detach())
            logps = _pair_logps(*both, batches, loss, reference)
            value = float(_mean_loss(loss, logps))
            weights = loss.weights(logps)
            norms = []
            for side in (first, 1 - first):
                optimizer.zero_grad(set_to_none=True)
                rows = here if side == first else self._side(model, batches, side)
                sign = -1 if side == 0 else 1
                (sign * weights[side] * rows).mean().backward()
                norms.append(_go(model, optimizer, max_grad_norm))
        d_w, d_l = (d.double().cpu() for d in weights)
        return StepReport(value, d_w, d_l, d_w, d_l, None, max(norms))

    def _side(self, model: nn.Module, batches: Sequence[PairBatch], side: int) -> torch.Tensor:
        """Return log π of one side's responses, (B,)."""
        parts = []
        for batch in batches:
            some = batch.to(model_device(model))
            n = len(some)
            rows = slice(side * n, (side + 1) * n)
            parts.append(
                row_logps(
                    model, some.input_ids[rows], some.attention_mask[rows], some.position_ids[rows],
                    some.response_mask[rows],
                ).sum(1)
            )  # fmt: skip
        return torch.cat(parts)


def get_update(name: str, **options: object) -> Update:
    """Return an update by name.

    Args:
        name: a rule ("joint", "normalized", "band", "pcgrad", "mgda"), "calibrated" or "split".
        options: of a rule: ``level``, ``metric`` and its own (``slack`` of "band"); of "calibrated":
            ``momentum``; of "split": ``order`` and ``seed``.

    Raises:
        ValueError: an unknown name or option, or a value outside its range.
    """
    others: dict[str, type[Calibrated] | type[Split]] = {"calibrated": Calibrated, "split": Split}
    if name in others:
        known = [f.name for f in fields(others[name]) if f.init]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ValueError(f"{name}: unknown option {unknown[0]!r}; it has {', '.join(known)}.")
        return others[name](**options)  # type: ignore[arg-type]
    if name not in RULES:
        raise ValueError(f"update={name!r}; expected one of {', '.join([*RULES, *others])}.")
    where = {key: options.pop(key) for key in ("level", "metric") if key in options}
    return Weighted(get_rule(name, **options), **where)  # type: ignore[arg-type]
