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

``token_weighted.TokenWeighted`` trains with one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
import torch
from scipy.optimize import linprog
from torch import nn

from entanglement.checks import between, instance_of, non_negative, positive
from entanglement.gradients import TokenGeometry, token_geometry
from entanglement.logps import TokenLogps, model_device, positions_for, token_logps
from entanglement.pairs import PairBatch
from entanglement.signatures import checked

__all__ = [
    "FromGeometry",
    "LearnedMask",
    "Told",
    "TwoReferences",
    "Weigher",
    "contrasting",
    "everything",
    "safe_token_weights",
]


WeighTokens = Callable[[nn.Module, PairBatch, TokenLogps], torch.Tensor]


class Weigher:
    """Gives each response token of a batch its weight, and may learn to."""

    def __call__(self, model: nn.Module, batch: PairBatch, reference: TokenLogps) -> torch.Tensor:
        """Return (2B, T) weights in [0, 1], chosen rows first; what stands outside a response is ignored."""
        raise NotImplementedError

    def begin(self, reference: nn.Module) -> None:
        """Prepare for a training with this frozen reference."""

    def cost(self, total: torch.Tensor, count: int) -> torch.Tensor | None:
        """Return what the weights add to the loss, nats; None for nothing.

        Args:
            total: the sum of all weights on response tokens.
            count: how many response tokens there are.
        """
        return None

    def zero_grad(self) -> None:
        """Forget the gradients of the weigher's own parameters."""

    def learn(self) -> None:
        """Take a step of its own after the backward pass."""


@checked()
@dataclass
class Told(Weigher):
    """Weights from a function, with nothing to learn.

    Attributes:
        function: (model, batch, reference) → (2B, T) weights.
    """

    function: WeighTokens

    def __call__(self, model: nn.Module, batch: PairBatch, reference: TokenLogps) -> torch.Tensor:
        """See :class:`Weigher`."""
        return self.function(model, batch, reference)


@checked()
def everything(model: nn.Module, batch: PairBatch, reference: TokenLogps) -> torch.Tensor:
    """Weight 1 everywhere: the loss itself."""
    return torch.ones_like(torch.cat([reference.chosen, reference.rejected]))


@checked()
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


@checked(
    other=instance_of(nn.Module, expected="a model that was fine-tuned on rejected responses"), scale=positive
)
@dataclass
class TwoReferences(Weigher):
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


@checked()
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
class FromGeometry(Weigher):
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


@checked(penalty=non_negative, lr=positive, start=between(0, 1, low_open=True, high_open=True))
class LearnedMask(Weigher):
    """m_t = σ(v·h_t + b) of the reference's last hidden state h_t, learned with the model.

    Args:
        penalty: λ; λ times the mean weight is added to the loss.
        lr: of the mask's own AdamW.
        start: weight of every token before training.

    Attributes:
        head: v and b; made by ``begin``.
        optimizer: of them.
    """

    head: nn.Linear
    optimizer: torch.optim.Optimizer

    def __init__(self, *, penalty: float = 0.1, lr: float = 0.003, start: float = 0.9) -> None:
        self.penalty, self.lr, self.start = penalty, lr, start
        self._reference: nn.Module | None = None

    def begin(self, reference: nn.Module) -> None:
        """See :class:`Weigher`."""
        self._reference = reference
        width = int(reference.config.hidden_size)  # type: ignore[union-attr, arg-type]
        with torch.random.fork_rng(devices=[]):  # a new layer draws numbers, which these replace
            self.head = nn.Linear(width, 1, device=model_device(reference))
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, torch.logit(torch.tensor(self.start)).item())
        self.head.to(next(reference.parameters()).dtype)
        self.optimizer = torch.optim.AdamW(self.head.parameters(), lr=self.lr, weight_decay=0.0)

    def __call__(self, model: nn.Module, batch: PairBatch, reference: TokenLogps) -> torch.Tensor:
        """See :class:`Weigher`."""
        if self._reference is None:
            raise ValueError("LearnedMask: not begun; call begin(reference) first.")
        batch = batch.to(model_device(self._reference))
        with torch.no_grad():
            states = self._reference(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                output_hidden_states=True,
                use_cache=False,
                **positions_for(self._reference, batch.position_ids),
            ).hidden_states[-1]
            states = states / states.norm(dim=-1, keepdim=True)
        return self.head(states * states.shape[-1] ** 0.5).squeeze(-1).sigmoid()

    def cost(self, total: torch.Tensor, count: int) -> torch.Tensor:
        """See :class:`Weigher`."""
        return self.penalty * total / count

    def zero_grad(self) -> None:
        """See :class:`Weigher`."""
        self.optimizer.zero_grad(set_to_none=True)

    def learn(self) -> None:
        """See :class:`Weigher`."""
        self.optimizer.step()
