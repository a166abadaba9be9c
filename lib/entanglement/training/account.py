"""Where a response's change came from: an account of Δ log π over one training step that adds up.

Condition 1 speaks of one pair and one plain gradient step. Practice departs from it in three ways: other
pairs share the batch, an adaptive optimizer changes the step's direction, and the step is finite. With u the
direction of a plain step on the batch's mean loss, Δθ the step that was really taken and s = ‖Δθ‖/‖u‖ the
plain step's size that makes the two equally long, the change of log π(y|x) with gradient g splits without
remainder into

    own pair         s ⟨g, u_own⟩        u_own: this pair's share of u, (d_w g_w − d_l g_l)/B;
                                         0 if it is not in the batch
    other pairs      s ⟨g, u − u_own⟩
    preconditioner   ⟨g, Δθ − s u⟩       everything that turns the step: AdamW's scaling and
                                         momentum, clipping
    curvature        Δ log π − ⟨g, Δθ⟩   everything beyond first order

The choice of s is ours: a plain step has no natural size to compare with AdamW's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from entanglement.gradients import directional_change, pair_geometry
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked

__all__ = ["TERMS", "StepAccount"]

TERMS = ("own_pair", "other_pairs", "preconditioner", "curvature")


def _copies(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def _assign(model: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(values[name])


def _norm(values: Mapping[str, torch.Tensor]) -> float:
    return float(torch.stack([v.double().square().sum() for v in values.values()]).sum().sqrt())


@checked()
@dataclass
class StepAccount:
    """Begin before ``optimizer.step()`` (after backward, before clipping), finish after it.

    Attributes:
        model: being trained, in a deterministic state.
        before: θ before the step, by name.
        plain: u = −∇(mean loss), by name.
    """

    model: nn.Module
    before: dict[str, torch.Tensor]
    plain: dict[str, torch.Tensor]

    @classmethod
    def begin(cls, model: nn.Module) -> StepAccount:
        """Keep θ and u; the gradients of the mean loss must stand in ``.grad``."""
        plain = {n: -p.grad.detach().clone() for n, p in model.named_parameters() if p.grad is not None}
        return cls(model, _copies(model), plain)

    def finish(
        self, batch: PairBatch, d_w: Sequence[float], d_l: Sequence[float], batch_size: int
    ) -> pd.DataFrame:
        """Return the account of each pair of ``batch``, one row a pair and response, in nats.

        Args:
            batch: the pairs to account for, in the training batch or not.
            d_w, d_l: their weights in the loss before the step; 0 for a pair that was not in the batch.
            batch_size: number of pairs that the loss was averaged over.

        Returns:
            Columns pair, response, ``TERMS`` and total; the terms sum to total.
        """
        after = _copies(self.model)
        step = {name: after[name] - self.before[name] for name in after}
        length = _norm(self.plain)
        scale = _norm(step) / length if length > 0 else 0.0
        with torch.no_grad():
            new = [x.double().cpu() for x in quick_logps(self.model, batch)]
        _assign(self.model, self.before)
        try:
            with torch.no_grad():
                old = [x.double().cpu() for x in quick_logps(self.model, batch)]
            along_plain = directional_change(self.model, batch, self.plain)
            along_step = directional_change(self.model, batch, step)
            weights = [torch.as_tensor(d, dtype=torch.float64) for d in (d_w, d_l)]
            inside = (weights[0] != 0) | (weights[1] != 0)
            own = [torch.zeros(len(batch), dtype=torch.float64) for _ in range(2)]
            if bool(inside.any()):
                where = inside.nonzero().squeeze(1).tolist()
                rates = pair_geometry(self.model, batch.select(where)).rates(
                    weights[0][where], weights[1][where]
                )
                for side in range(2):
                    own[side][where] = rates[side] / batch_size
        finally:
            _assign(self.model, after)
        rows = []
        for side, response in enumerate(("chosen", "rejected")):
            total = new[side] - old[side]
            terms = {
                "own_pair": scale * own[side],
                "other_pairs": scale * (along_plain[side] - own[side]),
                "preconditioner": along_step[side] - scale * along_plain[side],
                "curvature": total - along_step[side],
            }
            frame = pd.DataFrame({name: value.numpy() for name, value in terms.items()})
            frame.insert(0, "response", response)
            frame.insert(0, "pair", list(batch.ids))
            frame["total"] = total.numpy()
            rows.append(frame)
        return pd.concat(rows, ignore_index=True)
