"""A rule's weights in place of the loss's own: the loss's own step, and steps on other weights.

A step on a loss with weights d_w, d_l goes along d_w g_w − d_l g_l. A :class:`Rule` replaces the two weights
by others, u_w and u_l, computed from three numbers a pair; :class:`Weighted` takes the step. The rules
themselves are in ``pair_rules``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from entanglement.geometry import PairGeometry
from entanglement.gradients.select import fused_activations
from entanglement.logps import response_logps
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked
from entanglement.updates.base import UPDATES, Declared, StepReport, Update, Work
from entanglement.updates.halves import batch_geometry, descent, first_half, set_gradient
from entanglement.updates.metric import preconditioner
from entanglement.updates.passes import PairPass, Vector
from entanglement.updates.rule import Rule, Weights

__all__ = ["Joint", "Weighted", "by_rule", "get_rule", "list_rules"]


@dataclass
class Joint(Update):
    """The loss's own step, by one ordinary backward pass; each prompt is computed once.

    A subclass may put other weights in place of the loss's (``weigh``).
    """

    plain_backward: ClassVar[bool] = True
    weighs_pairs: ClassVar[bool] = True

    def weigh(self, d_w: torch.Tensor, d_l: torch.Tensor) -> Weights:
        """Return (u_w, u_l), each (B,), in place of the loss's own weights, which are the same here."""
        return d_w, d_l

    def gradient(self, work: Work) -> StepReport:
        """See :class:`~entanglement.updates.base.Update`."""
        forward = response_logps if work.watch.apart else quick_logps
        with fused_activations(work.model):
            parts = []
            for batch in work.batches:
                parts.append(forward(work.model, batch))
                work.watch.after_forward(*parts[-1], batch.ids)
            chosen, rejected = (torch.cat([part[side] for part in parts]) for side in (0, 1))
            logps = work.pair_logps(chosen, rejected)
            losses = work.finite(work.loss(logps))
            d_w, d_l = work.weights(logps)
            u_w, u_l = self.weigh(d_w, d_l)
            if u_w is d_w and u_l is d_l:
                losses.mean().backward()
            else:
                (u_l.to(rejected) * rejected - u_w.to(chosen) * chosen).mean().backward()
        return StepReport(losses.detach(), d_w, d_l, u_w, u_l)


@checked()
@dataclass
class Weighted(Update):
    """A rule's weights in place of the loss's own.

    Attributes:
        rule: one that looks at the geometry.
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
    weighs_pairs: ClassVar[bool] = True

    def gradient(self, work: Work) -> StepReport:
        """See :class:`~entanglement.updates.base.Update`."""
        in_plain = self.level == "pair" and self.metric == "plain"
        found, losses, (d_w, d_l) = first_half(work, geometry=in_plain)
        metric = preconditioner(work.model, work.optimizer) if self.metric == "optimizer" else {}
        u_w, u_l, geometry = self._weights(found, d_w, d_l, metric)
        if self.metric == "optimizer" and not metric and not isinstance(work.optimizer, torch.optim.SGD):
            metric = _first_metric(descent(found, u_w, u_l))
            u_w, u_l, geometry = self._weights(found, d_w, d_l, metric)
        set_gradient(work.model, descent(found, u_w, u_l))
        return StepReport(losses, d_w, d_l, u_w, u_l, geometry)

    def _weights(
        self,
        found: Sequence[PairPass],
        d_w: torch.Tensor,
        d_l: torch.Tensor,
        metric: Mapping[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor, PairGeometry]:
        if self.level == "batch":
            geometry = batch_geometry(found, d_w, d_l, metric)
            one = torch.ones(1, dtype=torch.float64)
            s_w, s_l = self.rule.weights(geometry, one, one)
            return s_w * d_w, s_l * d_l, geometry
        parts = [p.geometry or p.geometry_in(metric) for p in found]
        geometry = PairGeometry.cat(parts)
        return *self.rule.weights(geometry, d_w, d_l), geometry


def _first_metric(gradient: Vector) -> dict[str, torch.Tensor]:
    """Return Adam's diagonal at its first step, 1/|g|, which makes the step the gradient's sign."""
    return {name: 1 / (part.abs() + 1e-8) for name, part in gradient.items()}


@dataclass(frozen=True)
class _ByRule:
    """Makes ``Weighted`` with a rule."""

    rule: Rule

    def __call__(
        self,
        *,
        level: Literal["pair", "batch"] = "pair",
        metric: Literal["plain", "optimizer"] = "plain",
        **options: float,
    ) -> Update:
        return Weighted(self.rule.with_options(**options), level, metric)


@checked()
def by_rule(
    title: str,
    function: Callable[..., Weights],
    *,
    safe: bool,
    options: Mapping[str, float] | None = None,
    costs_like: str = "",
) -> Declared:
    """Return the declaration of an update that is a rule; the arguments are those of ``Rule``."""
    rule = Rule(title, function, safe, options=options or {})
    return Declared(title, _ByRule(rule), rule, ("level", "metric", *rule.options), costs_like)


def list_rules() -> dict[str, Rule]:
    """Return the updates that are rules, by name, in order of declaration."""
    return {name: declared.rule for name, declared in UPDATES.items() if declared.rule is not None}


@checked()
def get_rule(name: str, **options: float) -> Rule:
    """Return a rule, with options in place of its defaults.

    Args:
        name: of an update that is a rule.
        options: "band" has ``slack`` in [0, 1]: 0 allows the whole band, 1 only its center, where it is
            "normalized".

    Raises:
        ValueError: an unknown rule or option, or a value outside its range.
    """
    rule = UPDATES[name].rule
    if rule is None:
        raise ValueError(f"update {name!r} is no rule; expected one of {', '.join(list_rules())}.")
    return rule.with_options(**options)
