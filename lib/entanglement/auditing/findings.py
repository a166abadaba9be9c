"""What an audit found: two tables, a few numbers, and what they say in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from entanglement.auditing.page import page
from entanglement.auditing.wording import in_words
from entanglement.files import write_all
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
        pairs: one row a sampled pair: place, verdict, held_out, chosen_len, rejected_len (tokens), prefix,
            suffix, edits (``alikeness``), prompt, chosen, rejected (how the texts begin); for held-out ones
            the columns of ``rehearse``, for the others those of ``pulls``, times the run's length and
            divided by their number: their parts of the mean change, nats.
        ratios: where the mean held-out responses go at some ratios (``sweep``).
        worst: the rows that pull the held-out chosen responses down most: place, pull, and for chosen and
            rejected each a list of (token, its part of the pull).
        summary: what stands in ``report.json``.
    """

    rows: pd.DataFrame
    pairs: pd.DataFrame
    ratios: pd.DataFrame
    worst: list[dict[str, Any]]
    summary: dict[str, Any]

    def __str__(self) -> str:
        return in_words(self.summary)

    @checked()
    def write(self, folder: str | Path) -> list[Path]:
        """Write the page, the tables as CSV, and the summary as JSON and as text; return the paths.

        Raises:
            OSError: the folder cannot be written.
        """
        import json

        out = Path(folder)
        contents: dict[Path, str | bytes] = {
            out / "rows.csv": self.rows.to_csv(index=False),
            out / "pairs.csv": self.pairs.to_csv(index=False),
            out / "ratios.csv": self.ratios.to_csv(index=False),
            out / "report.json": json.dumps(_plain(self.summary), indent=1, ensure_ascii=False) + "\n",
            out / "report.txt": in_words(self.summary) + "\n",
            out / "report.html": page(self.summary, self.rows, self.pairs, self.ratios, self.worst),
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
