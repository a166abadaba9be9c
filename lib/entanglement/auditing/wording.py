"""An audit's numbers in plain words."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from entanglement.auditing.advice import of_number
from entanglement.auditing.said import nats, signed
from entanglement.rows import VERDICTS
from entanglement.signatures import checked

__all__ = ["caution", "in_words", "lead", "of_changes", "of_direction", "of_geometry", "of_run"]

#: One direction is said to dominate where it holds so many times the share that it would hold if batches had
#: nothing in common, of so many batches at least. On nano it held 3.8 to 5.0 times that in tweets with one
#: template, and 1.3 to 1.4 times in summaries (batches of 2, 4 and 8, one seed); nothing else was looked at.
DOMINATES, _ENOUGH = 2.0, 6
#: Of a line in print, characters.
WIDTH = 88


def caution(summary: dict[str, Any]) -> str:
    """Return how far to trust a rehearsal."""
    text = (
        "A rehearsal is one long step where a run takes many short ones: trust signs more than sizes, which "
        "are mostly too large, and try a number on a short run before you believe it."
    )
    if (known := summary["calibration"]) is not None:
        low, high = known
        text += f" In runs that were looked at, the change was {low:g} to {high:g} times what had been told."
    return text


def lead(summary: dict[str, Any]) -> str:
    """Return the three numbers that matter, in plain words: how far, how many, and where it turns."""
    if summary["number"] is None:
        return "Too few rows to rehearse a run."
    chosen, low = summary["chosen"], summary["number"]["chosen"]
    text = (
        f"Trained like this, chosen responses that the run has never seen will move by "
        f"{nats(chosen['change'])} in the mean, and {chosen['fall']:.0%} of them will fall. "
    )
    if low != low:
        return text + "No ratio of the two weights between 1/64 and 64 changes which way their mean goes."
    return (
        text + f"Their mean rises where the ratio of the two weights is above r = {low:.4f}; as planned it "
        "is 1."
    )


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
            f"  {name:>8}: {nats(side['change'])} in the mean; {side['fall']:.0%} will fall, "
            f"{side['rise']:.0%} will rise, and of {side['undecided']:.0%} nothing can be said yet\n"
        )
    return text.rstrip("\n")


def of_direction(direction: dict[str, Any] | None) -> str:
    """Return what it means that one direction dominates the batches; nothing where none does."""
    n = 0 if direction is None else direction["batches"]
    if direction is None or n < _ENOUGH or direction["share"] * n < DOMINATES:
        return ""
    against = round(direction["against"] * n)
    text = (
        f"One direction dominates: it holds {direction['share']:.0%} of what the {n} sampled batches pull "
        f"along, where {1 / n:.0%} would be if they had nothing in common. "
    )
    if not against:
        return text + "All pull the same way, so the first steps already go where the whole run goes."
    return text + (
        f"{against} of them pull the other way: which way a step goes is decided by the balance of its "
        "batch, so the first steps can go against what is told here for the whole run."
    )


def of_geometry(summary: dict[str, Any]) -> str:
    """Return what the gradients of single pairs say, and what that leaves out; nothing without them."""
    found = summary["geometry"]
    if found is None:
        return ""
    cases = ", ".join(f"{n} {name}" for name, n in found["cases"].items() if n)
    text = (
        f"Gradients of {found['pairs']} single pairs: median cosine {signed(found['cosine'])}, median b/a "
        f"{found['norm_ratio']:.2f}; a step on the pair alone would be: {cases}. "
        "This leaves out all other pairs, which do most of the moving."
    )
    if summary["equal"]:
        rows = "one row" if summary["equal"] == 1 else f"{summary['equal']:,} rows"
        text += f" In {rows} of the file the two responses are equal, and no step learns from that."
    return text


def of_changes(summary: dict[str, Any]) -> str:
    """Return what other settings would do, a line each; nothing where none was tried."""
    if not summary["changes"]:
        return ""
    on = summary["compared"]
    lines = [
        f"Other settings, rehearsed on {on['train']} and measured on {on['held_out']} of the pairs; mean "
        "changes of chosen and rejected, and of the chosen at the margin as planned:"
    ]
    for one in summary["changes"]:
        columns = (one["chosen"], one["rejected"], one["even_chosen"])
        lines.append(f"  {one['what']:<30}" + "".join(f"{signed(value):>9}" for value in columns))
    if all(math.isnan(one["even_chosen"]) for one in summary["changes"]):
        lines.append(
            "  (–: on these few pairs the run as planned gains no margin, so nothing is told at it.)"
        )
    return "\n".join(lines)


@checked()
def in_words(summary: dict[str, Any]) -> str:
    """Return what an audit found, as a reader is told it."""
    parts = [_of_rows(summary)]
    if summary["number"] is None:
        return "\n\n".join([*parts, lead(summary)])
    parts += [lead(summary), of_run(summary), of_direction(summary["direction"]), of_number(summary)]
    parts += [of_changes(summary), of_geometry(summary), caution(summary)]
    return "\n\n".join(_wrapped(part) for part in parts if part)


def _wrapped(text: str) -> str:
    """Return a text whose lines fit a page; what is indented goes on indented."""
    return "\n".join(
        textwrap.fill(line, WIDTH, subsequent_indent=" " * (len(line) - len(line.lstrip())))
        if len(line) > WIDTH
        else line
        for line in text.split("\n")
    )
