"""What a policy is stepped on: clipped ratios times advantages, and the penalties beside them.

All are means in nats times a reward's unit, to be minimized. With the advantages taken as given, the gradient
of the first step is −Σ A ∇ log π: a weighted sum of the answers' gradients, as in a loss of the margin, and
it entangles them in the same way.
"""

from __future__ import annotations

from typing import Literal

import torch

from entanglement.checks import finite_tensor, positive
from entanglement.rewards.advantages import masked_mean
from entanglement.signatures import checked

__all__ = ["Average", "Level", "clipped_loss", "clipped_share", "falls", "k3", "mean_of", "value_loss"]

#: Whether a ratio is that of a token or of the whole answer.
Level = Literal["token", "answer"]
#: A mean over all tokens, over answers of the means of their tokens, or over answers of the sums.
Average = Literal["tokens", "answers", "sums"]
_TOKENS = finite_tensor("R", "K")


@checked(values=_TOKENS, mask=_TOKENS)
def mean_of(values: torch.Tensor, mask: torch.Tensor, average: Average) -> torch.Tensor:
    """Return the mean of (R, K) values over the tokens that ``mask`` says are there, as ``average`` says."""
    if average == "tokens":
        return masked_mean(values, mask)
    sums = (values * mask).sum(dim=1)
    return (sums / mask.sum(dim=1).clamp(min=1) if average == "answers" else sums).mean()


def _ratios(logps: torch.Tensor, old: torch.Tensor, mask: torch.Tensor, level: Level) -> torch.Tensor:
    """Return π/π_old, (R, K) or (R, 1)."""
    difference = (logps - old) * mask
    return (difference if level == "token" else difference.sum(dim=1, keepdim=True)).exp()


@checked(logps=_TOKENS, old=_TOKENS, advantages=_TOKENS, mask=_TOKENS, clip=positive)
def clipped_loss(
    logps: torch.Tensor,
    old: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    clip: float = 0.2,
    level: Level = "token",
    average: Average = "tokens",
) -> torch.Tensor:
    """Return −min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) averaged, ρ = π/π_old: PPO's objective.

    Source: Schulman et al. 2017, arXiv 1707.06347.

    Args:
        logps: (R, K) log π of each token, nats; gradients flow.
        old: (R, K) the same when the answers were drawn.
        advantages: (R, K); where ``level`` is "answer", those of the first token are the answer's.
        mask: (R, K) which tokens are there.
        clip: ε.
        level: of the ratio.
        average: how (not read where ``level`` is "answer": then it is over answers).
    """
    ratios = _ratios(logps, old, mask, level)
    weights = advantages if level == "token" else advantages[:, :1]
    worse = torch.minimum(ratios * weights, ratios.clamp(1 - clip, 1 + clip) * weights)
    return -mean_of(worse, mask, average) if level == "token" else -worse.mean()


@checked(logps=_TOKENS, old=_TOKENS, advantages=_TOKENS, mask=_TOKENS, clip=positive)
def clipped_share(
    logps: torch.Tensor,
    old: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    clip: float = 0.2,
    level: Level = "token",
) -> float:
    """Return the share of ratios that ``clipped_loss`` cuts off, so that they have no gradient."""
    ratios = _ratios(logps, old, mask, level)
    weights = advantages if level == "token" else advantages[:, :1]
    cut = ((ratios > 1 + clip) & (weights > 0)) | ((ratios < 1 - clip) & (weights < 0))
    return float(masked_mean(cut.double(), mask if level == "token" else mask[:, :1]))


@checked(logps=_TOKENS, reference=_TOKENS)
def k3(logps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return e^x − x − 1 of each token, x = log π_ref − log π: an estimate of KL(π ‖ π_ref), at least 0.

    Its mean over draws of π is the divergence. Its *gradient*, at draws that are taken as given, is in the
    mean that of KL(π_ref ‖ π), the divergence the other way around. Source: Schulman 2020, "Approximating
    KL divergence"; Shao et al. 2024, arXiv 2402.03300.

    Args:
        logps: (R, K) log π, nats.
        reference: (R, K) log π_ref.
    """
    x = reference - logps
    return x.exp() - x - 1


@checked(values=_TOKENS, targets=_TOKENS, mask=_TOKENS)
def value_loss(values: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return half the mean squared error of the values of each prefix, over the tokens that are there."""
    return 0.5 * masked_mean((values - targets).square(), mask)


@checked(logps=_TOKENS, old=_TOKENS, advantages=_TOKENS, mask=_TOKENS)
def falls(
    logps: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Return by how much good answers have fallen since they were drawn, nats, mean over all answers.

    Only answers that are no worse than expected and have fallen as a whole count, and of them only the tokens
    that fell. Source: after Deng et al. 2025, arXiv 2512.04220, who penalize this beside GRPO's loss.

    Args:
        logps: (R, K) log π, nats; gradients flow.
        old: (R, K) when they were drawn.
        advantages: (R, K).
        mask: (R, K) which tokens are there.
    """
    fall = (old - logps) * mask
    counts = (advantages[:, :1] >= 0) & (fall.sum(dim=1, keepdim=True) > 0)
    return (fall.relu() * counts).sum(dim=1).mean()
