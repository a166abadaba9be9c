"""What to do about the ratio of the two weights: leave it, change it, or know that it does not help."""

from __future__ import annotations

from typing import Any

from entanglement.auditing.said import nats, signed

__all__ = ["TRL_LINES", "of_number"]

_OF_SCORES = "delta_score = chosen_scores - {factor:.4f} * rejected_scores"
#: Losses → the line of ``trl.DPOTrainer._compute_loss`` (TRL 1.16) that takes a ratio r = 1/factor.
TRL_LINES: dict[str, str] = {
    "dpo": _OF_SCORES,
    "hinge": _OF_SCORES,
    "robust": _OF_SCORES,
    "exo": _OF_SCORES,
    "discopop": _OF_SCORES,
    "ipo": "ipo_delta = chosen_avg_score - {factor:.4f} * rejected_avg_score",
}


def _in_trl(loss: str, ratio: float) -> str:
    factor = 1 / ratio
    if loss in TRL_LINES:
        line = TRL_LINES[loss].format(factor=factor)
        return f"In TRL's DPOTrainer._compute_loss write (DPO-Shift with λ = {factor:.4f}):\n    {line}"
    return f"In the loss multiply the rejected response's log-probability and its reference by {factor:.4f}."


def of_number(summary: dict[str, Any]) -> str:
    """Return what to do about the ratio, what it costs, and how sharp its edge is."""
    number, run = summary["number"], summary["run"]
    low, high = number["chosen"], number["rejected"]
    at_one = number["at_one"]
    if low != low or high != high:
        k, missing = (0, "chosen") if low != low else (1, "rejected")
        way = "rises" if at_one[k] > 0 else "falls"
        return (
            f"No ratio of the two weights helps, because the mean {missing} response {way} at every one "
            "between 1/64 and 64."
        )
    if low >= high:
        return (
            "No ratio helps, because none parts the two: the mean chosen response rises above "
            f"r = {low:.4f}, and the rejected one already above {high:.4f}."
        )
    edge = _edge(summary, low, high)
    if low < 1 < high:
        return (
            f"Leave the ratio at 1: the mean chosen response rises above r = {low:.4f} and the rejected one "
            f"falls below {high:.4f}.{edge}"
        )
    middle = (low * high) ** 0.5
    up, down = number["between"]
    gained, planned = up - down, at_one[0] - at_one[1]
    cost = f"The margin grows by {nats(gained)} then, and by {nats(planned)} at r = 1"
    cost += f" ({gained / planned:.0%} of it)." if planned > 0 else "."
    return (
        f"The number: train with the ratio of the two weights at r = {middle:.4f} instead of 1. The mean "
        f"chosen response moves by {nats(up)} then and the rejected one by {nats(down)}; the two turn at "
        f"{low:.4f} and {high:.4f}. {cost}{edge}\n  {_in_trl(run['loss'], middle)}"
    )


def _edge(summary: dict[str, Any], low: float, high: float) -> str:
    """Return how sharp the edge is: what a hundredth of r does."""
    text = f" The two lie {100 * (high / low - 1):.2g}% apart"
    if (sharp := summary["sharpness"]) is not None:
        text += (
            f", and 1% more of r moves the chosen response by {signed(sharp['chosen'])} and the rejected "
            f"one by {signed(sharp['rejected'])} nats"
        )
    return f"{text}."
