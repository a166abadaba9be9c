"""Training with token weights: the loss is computed from weighted responses."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields

import torch
from torch import nn

from entanglement.gradients.select import fused_activations
from entanglement.logps import PairLogps, token_logps
from entanglement.losses import Loss
from entanglement.signatures import checked
from entanglement.updates.base import UPDATES, Declared, StepReport, Update, Work
from entanglement.updates.token_weights import (
    FromGeometry,
    LearnedMask,
    Told,
    TwoReferences,
    Weigher,
    WeighTokens,
    contrasting,
    everything,
)

__all__ = ["TokenWeighted"]


def _joined(parts: Sequence[PairLogps]) -> PairLogps:
    """Return the pairs of several groups as one."""
    columns = {name: [getattr(part, name) for part in parts] for name in (f.name for f in fields(PairLogps))}
    return PairLogps(**{name: torch.cat(values) for name, values in columns.items()})


@checked()
@dataclass
class TokenWeighted(Update):
    """A loss of weighted responses.

    The frozen model is needed token by token; its sums, which the training loop could give, are not used.

    Attributes:
        weigher: gives the weights; a ``Weigher``, or a function like one.
        reference: the frozen model; None for the model as it comes into training.
        seen: mean weight on response tokens, a value a step.
    """

    weigher: Weigher | WeighTokens
    reference: nn.Module | None = None
    seen: list[float] = field(default_factory=list, init=False, repr=False)
    _frozen: nn.Module | None = field(default=None, init=False, repr=False)

    def begin(self, model: nn.Module) -> None:
        """Forget earlier trainings, and keep a copy of the model as the reference if none was given."""
        self.seen.clear()
        self._frozen = deepcopy(model).requires_grad_(False) if self.reference is None else self.reference
        self._own_weigher.begin(self._frozen)

    @property
    def _own_weigher(self) -> Weigher:
        return self.weigher if isinstance(self.weigher, Weigher) else Told(self.weigher)

    def needs_reference(self, loss: Loss) -> bool:
        """Not by sums."""
        return False

    def gradient(self, work: Work) -> StepReport:
        """See :class:`~entanglement.updates.base.Update`."""
        if self._frozen is None:
            raise ValueError("TokenWeighted: not begun; call begin(model) before the first step.")
        weigher = self._own_weigher
        parts, total = [], torch.zeros(())
        count = 0
        with fused_activations(work.model), fused_activations(self._frozen):
            for batch in work.batches:
                with torch.no_grad():
                    frozen = token_logps(self._frozen, batch)
                weights = weigher(work.model, batch, frozen)
                policy = token_logps(work.model, batch)
                n = len(batch)
                mask = torch.cat([policy.chosen_mask, policy.rejected_mask])
                total = total + (weights * mask).sum()
                count += int(mask.sum())
                parts.append(
                    PairLogps(
                        (weights[:n] * policy.chosen).sum(1),
                        (weights[n:] * policy.rejected).sum(1),
                        (weights[:n] * frozen.chosen).sum(1),
                        (weights[n:] * frozen.rejected).sum(1),
                        batch.chosen_len.to(weights.device),
                        batch.rejected_len.to(weights.device),
                    )
                )
            logps = _joined(parts)
            losses = work.finite(work.loss(logps))
            weigher.zero_grad()
            value, extra = losses.mean(), weigher.cost(total, count)
            (value if extra is None else value + extra).backward()
            weigher.learn()
        self.seen.append(float(total.detach()) / count)
        d_w, d_l = work.weights(logps)
        return StepReport(losses.detach(), d_w, d_l, d_w, d_l)


def _everything(reference: nn.Module | None = None) -> Update:
    return TokenWeighted(everything, reference)


def _contrasting(reference: nn.Module | None = None) -> Update:
    return TokenWeighted(contrasting, reference)


def _two(other: nn.Module | None = None, scale: float = 1.0, reference: nn.Module | None = None) -> Update:
    return TokenWeighted(TwoReferences(other, scale), reference)  # type: ignore[arg-type]


def _geometry(reference: nn.Module | None = None) -> Update:
    return TokenWeighted(FromGeometry(), reference)


def _learned(
    penalty: float = 0.1, lr: float = 0.003, start: float = 0.9, reference: nn.Module | None = None
) -> Update:
    return TokenWeighted(LearnedMask(penalty=penalty, lr=lr, start=start), reference)


UPDATES.add("everything", Declared(title="all tokens", make=_everything, costs_like="contrasting"))
UPDATES.add("contrasting", Declared(title="contrasting tokens (told)", make=_contrasting))
UPDATES.add("two", Declared(title="two references", make=_two))
UPDATES.add("geometry", Declared(title="token geometry", make=_geometry))
UPDATES.add("learned", Declared(title="learned mask", make=_learned))
