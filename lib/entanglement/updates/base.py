"""What every update is: a way to make the gradient of a step; the rest of the step is done here, once.

A subclass of :class:`Update` says how the gradient is made (:meth:`Update.gradient`). Zeroing, the check that
loss, gradient and parameters are finite, clipping and the optimizer's step are the base class's. An update is
declared in its own file, ``UPDATES.add(name, Declared(title, make))``, and found by ``get_update``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import nn

from entanglement.checks import any_number, positive
from entanglement.geometry import PairGeometry
from entanglement.logps import PairLogps
from entanglement.losses import Loss
from entanglement.optimizers import trainable
from entanglement.pairs import PairBatch
from entanglement.registry import Registry
from entanglement.signatures import checked
from entanglement.updates.rule import Rule

__all__ = [
    "UPDATES",
    "Declared",
    "NotFinite",
    "Reference",
    "StepReport",
    "Update",
    "Watch",
    "Work",
    "get_update",
]

Reference = tuple[torch.Tensor, torch.Tensor]


class NotFinite(ValueError):  # noqa: N818 - what it is, not that it is an error
    """A loss, a gradient or a parameter that is not a finite number; the message names the pairs."""


class Watch:
    """May look on inside a step. This one does nothing.

    Attributes:
        apart: whether the two responses of a pair must go through the model as two rows, prompt and all, as
            they must where their gradients are told apart. Otherwise the prompt may be computed once.
    """

    apart: bool = False

    def after_forward(self, chosen: torch.Tensor, rejected: torch.Tensor, ids: Sequence[str]) -> None:
        """Follow a forward pass with gradients over some pairs, which gave (B,) log-probabilities, nats."""

    def after_backward(self) -> None:
        """Follow the backward pass: the gradient is in ``.grad``, not yet clipped."""


@checked(grad_norm=any_number)
@dataclass(frozen=True)
class StepReport:
    """What a step started from and what it did. Pairs are in the order of the batches.

    Attributes:
        losses: (B,) each pair's loss before the step, nats.
        d_w, d_l: (B,) the loss's own weights, float64; None for an update without pairs.
        u_w, u_l: (B,) those that were used in their place.
        geometry: of the pairs or the batch, in the metric that was asked for; None if it was not looked at.
        grad_norm: of the gradient that went to the optimizer, before clipping.
        extra: further numbers for the table of steps.
    """

    losses: torch.Tensor
    d_w: torch.Tensor | None = None
    d_l: torch.Tensor | None = None
    u_w: torch.Tensor | None = None
    u_l: torch.Tensor | None = None
    geometry: PairGeometry | None = None
    grad_norm: float = math.nan
    extra: Mapping[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """The mean over the batch before the step, nats."""
        return float(self.losses.mean())

    def row(self) -> dict[str, Any]:
        """Return the step's columns in ``Trajectory.monitor``.

        These are the means of d_w, d_l, u_w and u_l and the median ratio u_w/u_l; where the pairs' geometry
        was looked at, the mean cosine, the shares of the cases under the loss's own weights, and ``safe``,
        the share that is ideal under the new ones; then ``extra``.
        """
        row: dict[str, Any] = {}
        if self.d_w is not None and self.d_l is not None and self.u_w is not None and self.u_l is not None:
            for name in ("d_w", "d_l", "u_w", "u_l"):
                row[name] = float(getattr(self, name).mean())
            row["ratio"] = float((self.u_w / self.u_l).median())
            if self.geometry is not None and len(self.geometry) == len(self.d_w):
                row["cosine"] = float(self.geometry.cosine.nanmean())
                shares = self.geometry.case_shares(self.d_w, self.d_l)
                row |= {str(case): share for case, share in shares.items()}
                row["safe"] = self.geometry.case_shares(self.u_w, self.u_l)["ideal"]
        return row | dict(self.extra)


@checked()
@dataclass(frozen=True)
class Work:
    """What one step works on; see ``Update.step``."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Sequence[PairBatch]
    loss: Loss
    reference: Reference | None
    watch: Watch

    @property
    def ids(self) -> list[str]:
        """The names of the step's pairs."""
        return [name for batch in self.batches for name in batch.ids]

    def pair_logps(self, chosen: torch.Tensor, rejected: torch.Tensor) -> PairLogps:
        """Return what the loss looks at: (B,) log-probabilities with the reference's and the lengths.

        Raises:
            ValueError: the loss needs a reference and there is none.
        """
        if self.loss.needs_reference and self.reference is None:
            raise ValueError(f"{self.loss.name} needs the reference's log-probabilities; got reference=None.")
        frozen = [None, None] if self.reference is None else [part.to(chosen) for part in self.reference]
        lengths = (
            torch.cat([getattr(batch, side) for batch in self.batches]).to(chosen.device)
            for side in ("chosen_len", "rejected_len")
        )
        return PairLogps(chosen, rejected, *frozen, *lengths)

    def weights(self, logps: PairLogps) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss's weights (d_w, d_l), each (B,), float64 on the CPU."""
        d_w, d_l = (d.double().cpu() for d in self.loss.weights(logps.detach()))
        return d_w, d_l

    def finite(self, losses: torch.Tensor) -> torch.Tensor:
        """Return (B,) losses as they are.

        Raises:
            NotFinite: one of them is not finite; the message names its pair.
        """
        wrong = (~torch.isfinite(losses.detach())).nonzero().flatten().tolist()
        if wrong:
            names = self.ids
            raise NotFinite(
                f"the loss of {', '.join(names[i] for i in wrong[:3])} is {float(losses[wrong[0]])}; "
                "lower the learning rate."
            )
        return losses


class Update:
    """One training step: how the gradients of a batch's pairs become a change of the model.

    Attributes:
        head_start: batches that are given to ``rehearse`` before the first step.
        smallest_batch: pairs that a step needs.
        clips: whether ``max_grad_norm`` bounds its gradient.
        plain_backward: whether its gradient comes from one ordinary backward pass through the pairs'
            log-probabilities, which can be watched (``gradients.GeometryMonitor``).
        weighs_pairs: whether it descends −Σ (u_w g_w − u_l g_l)/B with the weights of its report.
    """

    head_start: int = 0
    smallest_batch: ClassVar[int] = 1
    clips: ClassVar[bool] = True
    plain_backward: ClassVar[bool] = False
    weighs_pairs: ClassVar[bool] = False

    def begin(self, model: nn.Module) -> None:
        """Forget earlier trainings; ``model`` is what comes in."""

    def rehearse(self, model: nn.Module, batches: Sequence[PairBatch]) -> None:
        """Use a batch before the first step, without a step of the model."""

    def needs_reference(self, loss: Loss) -> bool:
        """Whether a step wants the reference's summed log-probabilities."""
        return loss.needs_reference

    def gradient(self, work: Work) -> StepReport:
        """Put into ``.grad`` what the optimizer is to descend; this is all that most updates say."""
        raise NotImplementedError

    def gradients(self, work: Work) -> Iterator[StepReport]:
        """Make one gradient after the other, a step of the optimizer being taken after each."""
        yield self.gradient(work)

    @checked(max_grad_norm=positive)
    def step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Sequence[PairBatch],
        loss: Loss,
        reference: Reference | None = None,
        *,
        max_grad_norm: float | None = None,
        watch: Watch | None = None,
    ) -> StepReport:
        """Take one step.

        Args:
            model: trained in place, in evaluation mode (no dropout).
            optimizer: of its parameters, with the rate set.
            batches: the step's pairs, in groups of similar length; B in all.
            loss: of the registry.
            reference: (log π_ref,w, log π_ref,l), each (B,), for a loss that needs it.
            max_grad_norm: clip the gradient to this norm; None for no clipping.
            watch: looks on.

        Raises:
            NotFinite: a loss, a gradient or (after the step) a parameter that is not finite.
            ValueError: a loss that needs a reference and has none, or a ``max_grad_norm`` out of range.
        """
        limit = max_grad_norm if self.clips and max_grad_norm is not None else math.inf
        work = Work(model, optimizer, batches, loss, reference, watch or Watch())
        parameters = trainable(model)
        norms: list[float] = []
        optimizer.zero_grad(set_to_none=True)
        for report in self.gradients(work):  # the last one stands
            work.watch.after_backward()
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
            self._check(norm, "the gradient", work, report)
            optimizer.step()
            self._check(float(torch.nn.utils.get_total_norm(parameters)), "the parameters", work, report)
            norms.append(norm)
            optimizer.zero_grad(set_to_none=True)
        return replace(report, grad_norm=max(norms))

    @staticmethod
    def _check(norm: float, what: str, work: Work, report: StepReport) -> None:
        """Refuse a norm that is not finite, naming the pair whose weights are the largest."""
        if math.isfinite(norm):
            return
        sides = [u for u in (report.u_w, report.u_l) if u is not None] or [report.losses.detach()]
        sizes = torch.stack([side.double().cpu().abs() for side in sides]).amax(0).nan_to_num(math.inf)
        raise NotFinite(
            f"the norm of {what} is {norm} in a step on {len(work.ids)} pairs, of which "
            f"{work.ids[int(sizes.argmax())]} weighs most; lower the learning rate."
        )


@checked()
@dataclass(frozen=True)
class Declared:
    """A declaration of an update.

    Attributes:
        title: as the book writes it.
        make: keyword options → a new update.
        rule: the arithmetic on three numbers a pair that it is, for updates that are no more than that.
        options: names of ``make``'s options; by default those of its signature.
        costs_like: the name of another update whose step does the same work, up to arithmetic on a few
            numbers; its measured time stands for both.
    """

    title: str
    make: Callable[..., Update]
    rule: Rule | None = None
    options: tuple[str, ...] | None = None
    costs_like: str = ""

    @property
    def known(self) -> tuple[str, ...]:
        """The names of the options."""
        return tuple(inspect.signature(self.make).parameters) if self.options is None else self.options


UPDATES: Registry[Declared] = Registry("update", package="entanglement.updates", printed=("title",))


@checked()
def get_update(name: str, **options: object) -> Update:
    """Return a new update.

    Args:
        name: of ``UPDATES``.
        options: of that update: for a rule ``level``, ``metric`` and its own (``slack`` of "band"); for
            others the fields of their classes.

    Raises:
        ValueError: an unknown name or option, or a value outside its range.
    """
    declared = UPDATES[name]
    unknown = sorted(set(options) - set(declared.known))
    if unknown:
        known = ", ".join(declared.known) or "none"
        raise ValueError(f"{name}: unknown option {unknown[0]!r}; it has {known}.")
    return declared.make(**options)
