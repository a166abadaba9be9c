"""Steps that move each response by its own weight, whatever the gradients' inner products."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from entanglement.checks import non_negative, positive_or_inf
from entanglement.gradients import flat_gradients, flatten, unflatten
from entanglement.signatures import checked
from entanglement.updates.base import UPDATES, Declared, StepReport, Update, Work
from entanglement.updates.halves import first_half, mean_gradients, set_gradient

__all__ = ["Decoupled"]


@checked(damping=non_negative, budget=positive_or_inf)
@dataclass
class Decoupled(Update):
    """Each response of the batch moves by its own weight, whatever the gradients' inner products.

    With J the gradients of all 2B log-probabilities and d the loss's weights (+d_w for chosen, −d_l for
    rejected responses), the loss's own step changes them by J Jᵀ d, to first order. This update steps along
    Jᵀ(J Jᵀ + λ)⁻¹ d instead, which changes them by d, up to what the damping λ holds back: the natural
    gradient of the loss in the space of log-probabilities. A rate of 1 is one Newton step for ``goal_loss``.

    ``max_grad_norm`` is not used, ``budget`` is. The optimizer must be plain SGD, since the step's size is
    what is asked for. Holds 2B gradients of the model's size.

    Attributes:
        level: "all": every response by itself; "batch": the means over the batch's chosen and over its
            rejected responses, weighed by d_w and d_l, which are two numbers.
        damping: λ, as a share of the mean squared norm.
        budget: longest step, in the parameters' units.
    """

    level: Literal["all", "batch"] = "all"
    damping: float = 0.01
    budget: float = math.inf
    clips: ClassVar[bool] = False

    def gradient(self, work: Work) -> StepReport:
        """See :class:`~entanglement.updates.base.Update`."""
        model, optimizer = work.model, work.optimizer
        plain = isinstance(optimizer, torch.optim.SGD)
        if not plain or any(group["momentum"] or group["weight_decay"] for group in optimizer.param_groups):
            raise ValueError(
                f"Decoupled needs torch.optim.SGD without momentum and decay; got {type(optimizer).__name__}."
            )
        found, losses, (d_w, d_l) = first_half(work, geometry=False)
        if self.level == "batch":
            one = torch.ones_like(d_w)
            rows = torch.stack(
                [flatten(model, side, "trainable") for side in mean_gradients(found, one, one)]
            )
            wanted = torch.stack([d_w.mean(), -d_l.mean()])
        else:
            wanted = torch.cat([d_w, -d_l])
            del found  # room for the gradients
            sides = [flat_gradients(model, batch, "trainable") for batch in work.batches]
            rows = torch.cat([part[side] for side in (0, 1) for part in sides])
            del sides
        x = self._solve(rows, wanted)
        step = x.to(rows) @ rows
        length = float(step.norm())
        if length > self.budget:
            step = step * (self.budget / length)
        set_gradient(model, {k: v.clone() for k, v in unflatten(model, -step, "trainable").items()})
        n = len(d_w)
        u_w, u_l = (x[:n], -x[n:]) if self.level == "all" else (x[:1].expand(n), -x[1:].expand(n))
        return StepReport(losses, d_w, d_l, u_w, u_l)

    def _solve(self, rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        gram = (rows @ rows.T).double().cpu()
        strength = self.damping * float(gram.diagonal().mean())
        damped = gram + max(strength, 1e-12) * torch.eye(len(gram), dtype=torch.float64)
        return torch.linalg.solve(damped, wanted)


UPDATES.add("decoupled", Declared(title="decoupled", make=Decoupled))
