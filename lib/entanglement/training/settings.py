"""Settings that all trainings share: what is allowed, the rate of each step, moments to measure at."""

from __future__ import annotations

from collections.abc import Sequence

from entanglement.checks import positive, share, whole
from entanglement.signatures import checked

__all__ = ["check_settings", "moments_of", "rate_share"]


@checked(
    n_pairs=whole(0), steps=whole(0), lr=positive, max_grad_norm=positive, geometry_pairs=whole(0),
    warmup=share, smallest_batch=whole(1),
)  # fmt: skip
def check_settings(
    n_pairs: int,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    max_grad_norm: float | None,
    geometry_pairs: int,
    warmup: float = 0.0,
    smallest_batch: int = 1,
) -> None:
    """Refuse what no training can be run with.

    Args:
        n_pairs: to train on.
        steps, batch_size, lr, seed, max_grad_norm, geometry_pairs, warmup: as in ``align``.
        smallest_batch: what the update needs.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """
    whole(smallest_batch)("batch_size", batch_size)
    if batch_size > n_pairs:
        raise ValueError(f"batch_size={batch_size} is more than the {n_pairs} pairs.")


@checked(steps=whole(0))
def moments_of(steps: int, at: Sequence[int] | None) -> set[int]:
    """Return the steps after which to measure: those asked for, or nine evenly spread ones.

    Raises:
        ValueError: a step that does not come.
    """
    if at is None:
        return {round(steps * k / 8) for k in range(9)}
    if any(not 0 <= s <= steps for s in at):
        raise ValueError(f"evaluate_at={list(at)}; expected steps from 0 to {steps}.")
    return set(at)


@checked(step=whole(1), steps=whole(1), warmup=share)
def rate_share(step: int, steps: int, warmup: float) -> float:
    """Return the learning rate of step 1, 2, …, ``steps`` as a share of the peak; never 0.

    It rises linearly over the first ``warmup`` · ``steps`` steps (at least one), where it is 1, and then
    falls linearly; a step later it would be 0.
    """
    rising = max(1, round(warmup * steps))
    whole(1, steps)("step", step)
    if step <= rising:
        return step / rising
    return (steps - step + 1) / (steps - rising + 1)
