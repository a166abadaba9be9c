"""The benchmark's table in Markdown, and its place in the README."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entanglement.files import read_text, write_whole
from entanglement_book.bench.stored import gigabytes, processor
from entanglement_book.machine import repository

__all__ = ["BEGIN", "END", "in_readme", "readme", "table", "write_readme"]

BEGIN, END = "<!-- bench: written by make bench -->", "<!-- bench: end -->"


def readme() -> Path:
    """Return where the README lies."""
    return repository() / "README.md"


def table(found: Mapping[str, Any]) -> str:
    """Return the table in Markdown."""

    def least(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}×"

    rows = [
        "| work, time, peak memory | against | times faster | must | aim | times less memory | must |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in found["lines"]:
        cells = [
            f"{line['ours']}, {line['seconds']:.2f} s, {gigabytes(line['peak_mb']):.1f} GB",
            f"{line['theirs']}, {line['their_seconds']:.1f} s, {gigabytes(line['their_peak_mb']):.1f} GB",
            f"**{line['ratio']:.2f}×**",
            least(line["faster"], 2),
            least(line["aim"], 2),
            f"{line['memory_ratio']:.1f}×",
            least(line["lighter"], 0),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    for grown in found["growth"]:
        size = f"{grown['seconds']:.2f} s, {gigabytes(grown['peak_mb']):.1f} GB"
        rows.append(f"| heat map of {grown['tokens']} tokens in sequences of 96, {size} | | | | | | |")
    dates = sorted({found["date"], *(line.get("date", found["date"]) for line in found["lines"])})
    versions = [f"PyTorch {found['machine']['torch']}"]
    versions += sorted({f"TRL {line['trl']}" for line in found["lines"] if line.get("trl")})
    last = f"Measured {' and '.join(dates)} on {processor(found)}, {', '.join(versions)}."
    compared = [line for line in found["lines"] if line.get("agree") is not None]
    if compared:
        apart = ", ".join(
            f"{line['loss_difference']:.0e} (must be at most {line['agree']:.0e}) in {line['ours']}"
            for line in compared
        )
        last += f" Largest difference of a step's two losses: {apart}."
    return "\n".join([*rows, "", last])


def in_readme(text: str) -> tuple[str, str, str]:
    """Split the README into what stands before the table, the table, and what follows.

    Raises:
        ValueError: it has no place for a table.
    """
    before, begin, rest = text.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md has no lines {BEGIN} and {END}.")
    return before, inside.strip(), after


def write_readme(found: Mapping[str, Any], path: Path) -> None:
    """Put the table of a benchmark into its place in the README."""
    before, _, after = in_readme(read_text(path))
    write_whole(path, f"{before}{BEGIN}\n{table(found)}\n{END}{after}")
