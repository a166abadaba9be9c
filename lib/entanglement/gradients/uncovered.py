"""Parameters that are used in a way no rule covers: said, and measured by forming their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from entanglement.gradients import inner
from entanglement.warn import warn

__all__ = ["UncoveredParameterWarning", "announce", "slow_gradients", "slow_pairs"]


class UncoveredParameterWarning(UserWarning):
    """A parameter is measured by forming its gradient, response by response: exact, and slow."""


def announce(uncovered: Sequence[str], where: str, how: str, *, strict: bool) -> None:
    """Warn of parameters that no rule covers.

    Args:
        uncovered: their names; if there are none, nothing happens.
        where: the function's name, for the message.
        how: they are measured instead.
        strict: refuse them.

    Raises:
        ValueError: there are some, and ``strict``.
    """
    if not uncovered:
        return
    names = ", ".join(uncovered[:5]) + (", …" if len(uncovered) > 5 else "")
    message = f"{where}: no rule covers the use of {names}"
    if strict:
        raise ValueError(f"{message}; leave strict=False to measure it slowly.")
    warn(f"{message}; measured by one backward pass {how}.", UncoveredParameterWarning)


def slow_gradients(values: torch.Tensor, parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """Return the gradients of each value with respect to some parameters, (N, p), by a pass each."""
    rows = []
    for value in values:
        found = torch.autograd.grad(value, list(parameters), retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        rows.append(torch.cat([part.reshape(-1) for part in parts]))
    return torch.stack(rows)


def slow_pairs(values: torch.Tensor, parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """Return the inner products of whole responses' gradients, (B, 2, 2), pair by pair; values (2B,)."""
    n_pairs = len(values) // 2
    both = [values[[i, i + n_pairs]] for i in range(n_pairs)]
    return torch.cat([inner.by_vectors(slow_gradients(two, parameters)[None]) for two in both])
