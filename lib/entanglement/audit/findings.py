"""What an audit found: two tables, a few numbers, and what they say in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from entanglement.files import write_all
from entanglement.rows import VERDICTS
from entanglement.signatures import checked

__all__ = ["SCHEMA", "AuditReport"]

#: Of ``report.json``: it grows when a field changes its meaning.
SCHEMA = 1


@checked()
@dataclass(frozen=True)
class AuditReport:
    """The result of an audit.

    Attributes:
        rows: one row a row of the file: place, verdict, said, trained (whether a margin can learn from it).
        pairs: one row a sampled pair: place, held_out, chosen_len, rejected_len (tokens), prefix, suffix,
            edits (``alikeness``), and for held-out ones the columns of ``rehearse``.
        summary: what stands in ``report.json``.
    """

    rows: pd.DataFrame
    pairs: pd.DataFrame
    summary: dict[str, Any]

    def __str__(self) -> str:
        return _in_words(self.summary)

    @checked()
    def write(self, folder: str | Path) -> list[Path]:
        """Write the tables as CSV, and the summary as ``report.json`` and ``report.txt``; return the paths.

        Raises:
            OSError: the folder cannot be written.
        """
        import json

        out = Path(folder)
        contents: dict[Path, str | bytes] = {
            out / "rows.csv": self.rows.to_csv(index=False),
            out / "pairs.csv": self.pairs.to_csv(index=False),
            out / "report.json": json.dumps(_plain(self.summary), indent=1, ensure_ascii=False) + "\n",
            out / "report.txt": _in_words(self.summary) + "\n",
        }
        write_all(contents)
        return list(contents)


def _plain(value: Any) -> Any:
    """JSON has no number that is none: such a one becomes null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and value != value else value


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\u2212")


def _of_rows(summary: dict[str, Any]) -> str:
    wrong = {name: n for name, n in summary["verdicts"].items() if name != "ok"}
    text = (
        f"{summary['rows']:,} rows, of which {summary['trained']:,} have something that a margin can learn."
    )
    if wrong:
        text += "\n" + "\n".join(f"  {n:>7,}  {name}: {VERDICTS[name]}" for name, n in wrong.items())
    return text


def _of_run(summary: dict[str, Any]) -> str:
    run, chosen, rejected = summary["run"], summary["chosen"], summary["rejected"]
    text = (
        f"Rehearsed: {run['steps']:,} steps of {run['optimizer']} on {run['loss']}, rate {run['lr']:g}, "
        f"batches of {run['batch_size']}, from {summary['sampled'] - summary['held_out']} sampled pairs; "
        f"looked at: the responses of {summary['held_out']} others.\n"
    )
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        text += (
            f"  {name:>8}: {_signed(side['change'])} nats in the mean; {side['fall']:.0%} will fall, "
            f"{side['rise']:.0%} will rise, and of {side['undecided']:.0%} nothing can be said yet\n"
        )
    return text.rstrip("\n")


def _of_number(number: dict[str, Any]) -> str:
    low, high = number["chosen"], number["rejected"]
    if low != low or high != high:
        missing = "chosen" if low != low else "rejected"
        return (
            f"No ratio of the two weights helps: the mean {missing} response moves the same way at every one "
            "between 1/8 and 8."
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
        f"response moves by {_signed(up)} and the rejected one by {_signed(down)} nats; the two turn at "
        f"{low:.4f} and {high:.4f}.\n"
        f"  In DPO's loss write chosen_scores - {1 / middle:.4f} * rejected_scores (DPO-Shift with that λ)."
    )


def _in_words(summary: dict[str, Any]) -> str:
    """Return what an audit found, as a reader is told it."""
    parts = [_of_rows(summary)]
    if "chosen" in summary:
        parts.append(_of_run(summary))
    if summary["number"] is not None:
        parts.append(_of_number(summary["number"]))
        parts.append(
            "A rehearsal is one long step where a run takes many short ones: trust signs more than sizes, "
            "and try a number on a short run before you believe it."
        )
    else:
        parts.append("Too few rows to rehearse a run.")
    return "\n\n".join(parts)
