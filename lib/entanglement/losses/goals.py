"""A loss with a target for each response."""

from __future__ import annotations

import torch

from entanglement.logps import PairLogps
from entanglement.losses.base import Loss, LossSpec
from entanglement.signatures import checked

__all__ = ["goal_loss"]


@checked()
def goal_loss(chosen: float, rejected: float) -> Loss:
    """Return ½(ϱ_w − chosen)² + ½(ϱ_l − rejected)²: one term for each response, with its own target.

    ϱ is log π − log π_ref, so the targets are changes since the reference, in nats. Beyond its target a
    response is pulled back: the weights can be negative.

    Raises:
        ValueError: a target that is not a finite number.
    """

    def function(logps: PairLogps) -> torch.Tensor:
        return (
            0.5 * (logps.chosen_logratio - chosen).square()
            + 0.5 * (logps.rejected_logratio - rejected).square()
        )

    spec = LossSpec(
        "goal",
        "goals",
        function,
        formula=r"\tfrac12(\varrho_w-t_w)^2+\tfrac12(\varrho_l-t_l)^2",
        source="this book",
        form="separable",
        needs_reference=True,
        d_w=r"t_w-\varrho_w",
        d_l=r"\varrho_l-t_l",
    )
    return Loss(spec, {})
