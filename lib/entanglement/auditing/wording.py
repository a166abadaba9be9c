"""An audit's numbers in plain words."""

from __future__ import annotations

from typing import Any

from entanglement.rows import VERDICTS
from entanglement.signatures import checked

__all__ = ["in_words", "of_number", "of_run", "signed"]

CAUTION = (
    "A rehearsal is one long step where a run takes many short ones: trust signs more than sizes, and try a "
    "number on a short run before you believe it."
)


@checked()
def signed(value: float) -> str:
    """Return a number with its sign, a true minus."""
    return f"{value:+.2f}".replace("-", "\u2212")


def _of_rows(summary: dict[str, Any]) -> str:
    wrong = {name: n for name, n in summary["verdicts"].items() if name != "ok"}
    text = (
        f"{summary['rows']:,} rows, of which {summary['trained']:,} have something that a margin can learn."
    )
    if wrong:
        text += "\n" + "\n".join(f"  {n:>7,}  {name}: {VERDICTS[name]}" for name, n in wrong.items())
    return text


def of_run(summary: dict[str, Any]) -> str:
    """Return what will happen."""
    run, chosen, rejected = summary["run"], summary["chosen"], summary["rejected"]
    text = (
        f"Rehearsed: {run['steps']:,} steps of {run['optimizer']} on {run['loss']}, rate {run['lr']:g}, "
        f"batches of {run['batch_size']}, from {summary['sampled'] - summary['held_out']} sampled pairs; "
        f"looked at: the responses of {summary['held_out']} others.\n"
    )
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        text += (
            f"  {name:>8}: {signed(side['change'])} nats in the mean; {side['fall']:.0%} will fall, "
            f"{side['rise']:.0%} will rise, and of {side['undecided']:.0%} nothing can be said yet\n"
        )
    return text.rstrip("\n")


def of_number(number: dict[str, Any]) -> str:
    """Return what to do about the ratio."""
    low, high = number["chosen"], number["rejected"]
    if low != low or high != high:
        missing = "chosen" if low != low else "rejected"
        return (
            f"No ratio of the two weights helps: the mean {missing} response moves the same way at every one "
            "between 1/64 and 64."
        )
    if low >= high:
        return (
            f"No ratio parts the two: the mean chosen response rises above r = {low:.4f}, and the rejected "
            f"one already above {high:.4f}."
        )
    if low < 1 < high:
        return (
            f"Leave the ratio at 1: the mean chosen response rises above r = {low:.4f} and the rejected one "
            f"falls below {high:.4f}."
        )
    middle = (low * high) ** 0.5
    up, down = number["between"]
    return (
        f"The number: with the ratio of the two weights at r = {middle:.4f} instead of 1, the mean chosen "
        f"response moves by {signed(up)} and the rejected one by {signed(down)} nats; the two turn at "
        f"{low:.4f} and {high:.4f}.\n"
        f"  In DPO's loss write chosen_scores - {1 / middle:.4f} * rejected_scores (DPO-Shift with that λ)."
    )


def in_words(summary: dict[str, Any]) -> str:
    """Return what an audit found, as a reader is told it."""
    parts = [_of_rows(summary)]
    if "chosen" in summary:
        parts.append(of_run(summary))
    if summary["number"] is not None:
        parts.append(of_number(summary["number"]))
        parts.append(CAUTION)
    else:
        parts.append("Too few rows to rehearse a run.")
    return "\n\n".join(parts)
