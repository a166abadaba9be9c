"""Token weights: which tokens of a response carry the loss.

A weighted response has f̃ = Σ_t m_t log π(y_t | …) in place of f, with 0 ≤ m_t ≤ 1; the loss is then computed
from f̃_w and f̃_l, and the reference's log-probabilities are weighed alike. A *weigher* says what the weights
are:

* :func:`contrasting`: 1 on the tokens in which the two responses differ (edit distance), 0 on the others. It
  is told the answer, and stands as the upper bound;
* :class:`TwoReferences`: from the log-ratio of two reference models, one fine-tuned on chosen responses and
  one on rejected ones (after Liu et al. 2024, TIS-DPO, arXiv 2410.04350);
* :class:`FromGeometry`: the weights that the token gradients themselves ask for;
* :class:`LearnedMask`: learned with the model, with a penalty on their sum (paper §5.2; compare
  Christopoulou et al. 2024, SparsePO, arXiv 2410.05102).

``TokenWeighted`` trains with one; it is an update like those of ``updates``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from difflib import SequenceMatcher
from typing import Protocol

import numpy as np
import torch
from scipy.optimize import linprog
from torch import nn

from entanglement.gradients import TokenGeometry, token_geometry
from entanglement.gradients.select import fused_activations
from entanglement.logps import PairLogps, TokenLogps, model_device, token_logps
from entanglement.losses import Loss
from entanglement.pairs import PairBatch
from entanglement.updates.step import StepReport, _go, _mean_loss

__all__ = [
    "FromGeometry",
    "LearnedMask",
    "TokenWeighted",
    "TwoReferences",
    "Weigher",
    "contrasting",
    "everything",
    "safe_token_weights",
]


class Weigher(Protocol):
    """Gives each response token of a batch its weight."""

    def __call__(self, model: nn.Module, batch: PairBatch, reference: TokenLogps) -> torch.Tensor:
        """Return (2B, T) weights in [0, 1], chosen rows first; what stands outside a response is ignored."""


def everything(model: nn.Module, batch: PairBatch, reference: TokenLogps) -> torch.Tensor:
    """Weight 1 everywhere: the loss itself."""
    return torch.ones_like(torch.cat([reference.chosen, reference.rejected]))


def contrasting(model: nn.Module, batch: PairBatch, reference: TokenLogps) -> torch.Tensor:
    """Weight 1 on the tokens that no alignment of the two responses matches, 0 on the others."""
    weights = torch.zeros(batch.input_ids.shape, dtype=reference.chosen.dtype)
    n = len(batch)
    for i in range(n):
        places = [batch.response_mask[row].nonzero().squeeze(1).cpu() for row in (i, i + n)]
        one, other = (batch.input_ids[r].cpu()[at].tolist() for r, at in zip((i, i + n), places, strict=True))
        for kind, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
            if kind != "equal":
                weights[i, places[0][a:b]] = 1.0
                weights[i + n, places[1][c:d]] = 1.0
    return weights.to(reference.chosen.device)


@dataclass
class TwoReferences:
    """min(1, |log π₊ − log π₋| / scale), token by token, for two frozen models.

    Attributes:
        other: π₋, fine-tuned on rejected responses; π₊ is the reference.
        scale: nats at which a token counts fully.
    """

    other: nn.Module
    scale: float = 1.0

    def __call__(self, model: nn.Module, batch: PairBatch, reference: TokenLogps) -> torch.Tensor:
        """See :class:`Weigher`."""
        with torch.no_grad():
            found = token_logps(self.other, batch)
            ratio = torch.cat([reference.chosen - found.chosen, reference.rejected - found.rejected])
        return (ratio.abs() / self.scale).clamp(max=1.0)


def safe_token_weights(geometry: TokenGeometry) -> torch.Tensor:
    """Return the weights in [0, 1] with the largest margin among those that tangle nothing.

    With weights m the step is u = Σ_{s∈w} m_s g_s − Σ_{t∈l} m_t g_t, and the *whole* responses change by
    ⟨g_w, u⟩ and ⟨g_l, u⟩: both are linear in m. So this is a linear program: maximize ⟨g_w − g_l, u⟩ with
    ⟨g_w, u⟩ ≥ 0, ⟨g_l, u⟩ ≤ 0 and 0 ≤ m ≤ 1.

    Args:
        geometry: of one pair.

    Returns:
        (N,) weights, chosen first.
    """
    n, gram = geometry.n_chosen, geometry.gram.numpy()
    sign = np.where(np.arange(len(gram)) < n, 1.0, -1.0)
    chosen, rejected = gram[:n].sum(0) * sign, gram[n:].sum(0) * sign  # ⟨g_w, u⟩, ⟨g_l, u⟩ by token weight
    found = linprog(rejected - chosen, A_ub=[-chosen, rejected], b_ub=[0.0, 0.0], bounds=[(0, 1)] * len(gram))
    return torch.from_numpy(found.x)


@dataclass
class FromGeometry:
    """``safe_token_weights`` of each pair, measured anew at every step."""

    def __call__(self, model: nn.Module, batch: PairBatch, reference: TokenLogps) -> torch.Tensor:
        """See :class:`Weigher`."""
        weights = torch.zeros(batch.input_ids.shape, dtype=reference.chosen.dtype)
        n = len(batch)
        for i in range(n):
            found = safe_token_weights(token_geometry(model, batch.select([i]), "trainable"))
            counts = batch.response_mask[[i, i + n]].sum(1).tolist()
            for row, some in zip((i, i + n), found.split(counts), strict=True):
                weights[row, batch.response_mask[row]] = some.to(weights)
        return weights.to(reference.chosen.device)


class LearnedMask(nn.Module):
    """m_t = σ(v·h_t + b) of the reference's last hidden state h_t, learned with the model.

    Args:
        reference: frozen; its states are read.
        penalty: λ, added to the loss as λ times the mean weight.
        lr: of the mask's own AdamW.
        start: weight of every token before training.
    """

    def __init__(
        self, reference: nn.Module, *, penalty: float = 0.1, lr: float = 0.003, start: float = 0.9
    ) -> None:
        super().__init__()
        self.reference = [reference]  # in a list: not a part of this module
        width = reference.config.hidden_size  # type: ignore[union-attr]
        self.head = nn.Linear(int(width), 1)  # type: ignore[arg-type]
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, torch.logit(torch.tensor(start)).item())
        self.penalty = penalty
        self.optimizer = torch.optim.AdamW(self.head.parameters(), lr=lr, weight_decay=0.0)

    def __call__(self, model: nn.Module, batch: PairBatch, reference: TokenLogps) -> torch.Tensor:
        """See :class:`Weigher`."""
        batch = batch.to(model_device(self.reference[0]))
        with torch.no_grad():
            states = self.reference[0](
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                output_hidden_states=True,
                use_cache=False,
            ).hidden_states[-1]
            states = states / states.norm(dim=-1, keepdim=True)
        return self.head(states * states.shape[-1] ** 0.5).squeeze(-1).sigmoid()


def _joined(parts: Sequence[PairLogps]) -> PairLogps:
    """Return the pairs of several groups as one."""
    columns = {name: [getattr(part, name) for part in parts] for name in (f.name for f in fields(PairLogps))}
    return PairLogps(**{name: torch.cat(values) for name, values in columns.items()})


@dataclass
class TokenWeighted:
    """A loss of weighted responses.

    Attributes:
        weigher: gives the weights.
        reference: the frozen model, needed token by token.
        seen: mean weight on response tokens, a value a step.
    """

    weigher: Weigher
    reference: nn.Module
    seen: list[float] = field(default_factory=list, repr=False)

    def begin(self) -> None:
        """Forget earlier trainings."""
        self.seen.clear()

    def step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Sequence[PairBatch],
        loss: Loss,
        reference: tuple[torch.Tensor, torch.Tensor] | None = None,
        *,
        max_grad_norm: float | None = None,
    ) -> StepReport:
        """Take one step; see ``updates.Update``. The reference's sums are not used, its tokens are."""
        optimizer.zero_grad(set_to_none=True)
        parts, penalty, count = [], torch.zeros(()), 0
        with fused_activations(model):
            for batch in batches:
                with torch.no_grad():
                    frozen = token_logps(self.reference, batch)
                weights = self.weigher(model, batch, frozen)
                policy = token_logps(model, batch)
                n = len(batch)
                mask = torch.cat([policy.chosen_mask, policy.rejected_mask])
                penalty = penalty + (weights * mask).sum()
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
            value = _mean_loss(loss, logps)
            total = value
            if isinstance(self.weigher, LearnedMask):
                self.weigher.optimizer.zero_grad(set_to_none=True)
                total = value + self.weigher.penalty * penalty / count
            total.backward()
            if isinstance(self.weigher, LearnedMask):
                self.weigher.optimizer.step()
        self.seen.append(float(penalty.detach()) / count)
        d_w, d_l = (d.double().cpu() for d in loss.weights(logps.detach()))
        norm = _go(model, optimizer, max_grad_norm)
        return StepReport(float(value.detach()), d_w, d_l, d_w, d_l, None, norm)
