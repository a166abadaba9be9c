"""Which answers of a group rise and which fall under its step, told by their gradients' inner products.

A step on Σ_j w_j log π(y_j), with w_j an answer's advantage over its length, say, moves log π(y_i) to first
order by η Σ_j ⟨g_i, P g_j⟩ w_j = η (G w)_i, with G the Gram matrix of the group's gradients in the
optimizer's metric P (1 for a plain step). A right answer falls where the wrong ones' products outweigh its
own square: two answers' entanglement, for as many as there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from entanglement.checks import finite_tensor
from entanglement.gradients.select import (
    Parameters,
    check_deterministic,
    fused_activations,
    measuring,
    select_parameters,
)
from entanglement.rewards.answers import Answers, read_answers
from entanglement.signatures import checked

__all__ = ["GroupGram", "answer_gradients", "group_gram"]


@checked(gram=finite_tensor("R", "R"), logps=finite_tensor("R"))
@dataclass(frozen=True)
class GroupGram:
    """The inner products of R answers' gradients.

    Attributes:
        gram: (R, R) ⟨g_i, P g_j⟩, float64.
        logps: (R,) log π of the answers, nats.
    """

    gram: torch.Tensor
    logps: torch.Tensor

    def __post_init__(self) -> None:
        if self.gram.shape != (len(self.logps), len(self.logps)):
            raise ValueError(
                f"gram is {tuple(self.gram.shape)} for {len(self.logps)} logps; expected (R, R)."
            )

    @property
    def cosines(self) -> torch.Tensor:
        """(R, R) cosines of the gradients; nan for a gradient that is 0."""
        norms = self.gram.diagonal().clamp(min=0).sqrt()
        return self.gram / norms / norms[:, None]

    @checked(weights=finite_tensor("R"))
    def change(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the rates (R,) at which answers change under a step along Σ w_j g_j: nats per unit of η."""
        if len(weights) != len(self.logps):
            raise ValueError(f"weights has {len(weights)} entries; expected {len(self.logps)}.")
        return self.gram @ weights.double().cpu()


@checked()
def answer_gradients(
    model: nn.Module, answers: Answers, parameters: Parameters = "trainable"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of log π of R answers, (R, P), one backward pass an answer, and these log π, (R,).

    Args:
        model: a causal language model of transformers, in evaluation mode; left as it is.
        answers: R rows.
        parameters: "all", "trainable" or a predicate on names.

    Raises:
        ValueError: active dropout, or a gradient that is not finite.
    """
    check_deterministic(model, "answer_gradients")
    selected = select_parameters(model, parameters)
    with measuring(model, selected), fused_activations(model):
        logps = read_answers(model, answers).logps
        sums = (logps * answers.mask.to(logps.device)).sum(dim=1)
        rows = []
        for i, value in enumerate(sums):
            found = torch.autograd.grad(
                value, list(selected.values()), retain_graph=i + 1 < len(sums), allow_unused=True
            )
            parts = [
                (torch.zeros_like(p) if part is None else part).flatten()
                for p, part in zip(selected.values(), found, strict=True)
            ]
            rows.append(torch.cat(parts))
    gradients = torch.stack(rows)
    if not bool(torch.isfinite(gradients).all()):
        raise ValueError("answer_gradients: a gradient is not finite.")
    return gradients, sums.detach()


@checked()
def group_gram(
    model: nn.Module,
    answers: Answers,
    parameters: Parameters = "trainable",
    *,
    metric: Mapping[str, torch.Tensor] | None = None,
) -> GroupGram:
    """Return the Gram matrix of the gradients of log π of R answers, (R, R).

    Args:
        model: as in ``answer_gradients``.
        answers: R rows.
        parameters: as there.
        metric: parameter name → positive diagonal that multiplies the step; 1 where there is none.

    Raises:
        ValueError: a metric of another shape than its parameter.
    """
    gradients, logps = answer_gradients(model, answers, parameters)
    scaled = gradients
    if metric is not None:
        parts = []
        for name, p in select_parameters(model, parameters).items():
            part = metric.get(name)
            if part is not None and part.shape != p.shape:
                raise ValueError(f"metric[{name!r}] is {tuple(part.shape)}; expected {tuple(p.shape)}.")
            parts.append((torch.ones_like(p) if part is None else part).flatten())
        scaled = gradients * torch.cat(parts)
    gram = (gradients.double() @ scaled.double().T).cpu()
    return GroupGram((gram + gram.T) / 2, logps.double().cpu())
