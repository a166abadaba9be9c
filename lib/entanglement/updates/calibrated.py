"""Reward calibration: one ratio for the whole batch, moved to the center of its band."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from entanglement.checks import between
from entanglement.geometry import PairGeometry
from entanglement.signatures import checked
from entanglement.updates.base import UPDATES, Declared, StepReport, Update, Work
from entanglement.updates.halves import batch_geometry, descent, first_half, set_gradient

__all__ = ["Calibrated"]


@checked(momentum=between(0, 1, high_open=True))
@dataclass
class Calibrated(Update):
    """Reward calibration: the batch's ratio r is moved to ‖ḡ_l‖/‖ḡ_w‖, the center of its band.

    With α = √(r*/r), the chosen side's weights are multiplied by α and the rejected side's divided by it; log
    (r*/r) is a running average over steps. Source: Chen et al. 2026, as described in the book's appendix.

    Attributes:
        momentum: of the running average; 0 for the present batch alone.
    """

    momentum: float = 0.9
    weighs_pairs: ClassVar[bool] = True
    _log_ratio: float | None = field(default=None, init=False, repr=False)

    def begin(self, model: nn.Module) -> None:
        """Forget the running average."""
        self._log_ratio = None

    def gradient(self, work: Work) -> StepReport:
        """See :class:`~entanglement.updates.base.Update`."""
        found, losses, (d_w, d_l) = first_half(work, geometry=False)
        one = torch.ones_like(d_w)
        geometry = batch_geometry(found, one, one, {})
        alpha = self._alpha(geometry, float(d_w.mean()), float(d_l.mean()))
        u_w, u_l = alpha * d_w, d_l / alpha
        set_gradient(work.model, descent(found, u_w, u_l))
        return StepReport(losses, d_w, d_l, u_w, u_l, geometry)

    def _alpha(self, geometry: PairGeometry, d_w: float, d_l: float) -> float:
        target = float(geometry.norm_ratio)
        if not (d_w > 0 and d_l > 0 and 0 < target < math.inf):
            return 1.0  # no ratio to speak of
        now = math.log(target * d_l / d_w)
        kept = now if self._log_ratio is None else self._log_ratio
        self._log_ratio = self.momentum * kept + (1 - self.momentum) * now
        return math.exp(self._log_ratio / 2)


UPDATES.add("calibrated", Declared(title="calibrated", make=Calibrated))
