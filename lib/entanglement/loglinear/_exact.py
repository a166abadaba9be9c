"""Small exact pieces shared by the closed-form models. Everything float64."""

from __future__ import annotations

import torch

from entanglement.checks import shown
from entanglement.geometry import Numbers, as_float64

__all__ = ["as64", "check_tokens", "logp_change", "range_sq", "scores"]


def as64(value: Numbers, name: str) -> torch.Tensor:
    """Return a detached float64 tensor of finite numbers.

    Raises:
        ValueError: no numbers, or one that is not finite; it says the argument's name.
    """
    found = as_float64(value, name, device=None)
    if not bool(torch.isfinite(found).all()):
        raise ValueError(f"{name}={shown(value)}; expected finite numbers.")
    return found


def check_tokens(value: torch.Tensor, vocab: int, name: str) -> None:
    """Refuse what are no token ids below ``vocab``."""
    if value.is_floating_point() or bool(((value < 0) | (value >= vocab)).any()):
        raise ValueError(f"{name}={shown(value)}; expected token ids from 0 to {vocab - 1}.")


def scores(probs: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return e_y − p, the gradient of log p_y with respect to the logits.

    Args:
        probs: (..., V) probabilities.
        tokens: (...) token ids.
    """
    at = tokens.unsqueeze(-1)
    # 1 − p_y is the sum of the other probabilities: written so, it keeps its digits when p_y is near 1.
    rest = probs.scatter(-1, at, 0.0).sum(-1, keepdim=True)
    return (-probs).scatter(-1, at, rest)


def logp_change(logits: torch.Tensor, delta: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return log p⁺(y) − log p(y), (...), when the logits (..., V) move by delta, exactly and in nats.

    The difference is −log Σ_v p_v exp(δ_v − δ_y). It is formed directly, because subtracting two
    log-probabilities would lose the digits of a small step.
    """
    relative = delta - delta.gather(-1, tokens.unsqueeze(-1))  # δ_v − δ_y
    logp = logits.log_softmax(-1)
    small = -torch.log1p((logp.exp() * torch.expm1(relative.clamp(max=1.0))).sum(-1))
    large = -torch.logsumexp(logp + relative, dim=-1)
    return torch.where(relative.abs().amax(-1) < 0.5, small, large)


def range_sq(delta: torch.Tensor) -> torch.Tensor:
    """Return (max_v δ_v − min_v δ_v)², (...), of logit changes (..., V)."""
    return (delta.amax(-1) - delta.amin(-1)).square()
