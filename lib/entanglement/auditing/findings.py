"""What an audit found: tables, a few numbers, and what they say in plain words."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from entanglement.auditing.page import page
from entanglement.auditing.summing_up import SCHEMA
from entanglement.auditing.wording import in_words
from entanglement.files import write_all
from entanglement.rows import VERDICTS
from entanglement.signatures import checked

__all__ = ["AuditReport", "report_schema"]


@checked()
@dataclass(frozen=True)
class AuditReport:
    """The result of an audit.

    Attributes:
        rows: one row a row of the file: place, verdict, said, trained (whether a margin can learn from it),
            case (what a step on this pair alone would do, where that was measured; "equal" for two responses
            that are the same).
        pairs: one row a sampled pair: place, verdict, held_out, chosen_len, rejected_len (tokens), prefix,
            suffix, edits (``alikeness``), prompt, chosen, rejected (how the texts begin); for held-out ones
            the columns of ``rehearse``, for the others those of ``pulls``, times the run's length and
            divided by their number: their parts of the mean change, nats; for some those of
            ``own_geometry``.
        ratios: where the mean held-out responses go at some ratios (``sweep``).
        worst: the rows that pull the held-out chosen responses down most: place, pull, and for chosen and
            rejected each a list of (token, its part of the pull).
        summary: what stands in ``report.json``.
        changes: what other settings would do, a row each (``rehearse_change``); the first is the run as
            planned.
    """

    rows: pd.DataFrame
    pairs: pd.DataFrame
    ratios: pd.DataFrame
    worst: list[dict[str, Any]]
    summary: dict[str, Any]
    changes: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __str__(self) -> str:
        return in_words(self.summary)

    @checked()
    def write(self, folder: str | Path) -> list[Path]:
        """Write the page, the tables (CSV and Parquet), and the summary as JSON, with its schema, and as
        text; return the paths.

        Raises:
            OSError: the folder cannot be written.
        """
        out = Path(folder)
        contents: dict[Path, str | bytes] = {}
        tables = {"rows": self.rows, "pairs": self.pairs, "ratios": self.ratios, "changes": self.changes}
        for name, table in tables.items():
            contents[out / f"{name}.csv"] = table.to_csv(index=False)
            contents[out / f"{name}.parquet"] = table.reset_index(drop=True).to_parquet()
        report = json.dumps(_plain(self.summary), indent=1, ensure_ascii=False, allow_nan=False)
        contents |= {
            out / "report.json": report + "\n",
            out / "report.schema.json": json.dumps(report_schema(), indent=1, ensure_ascii=False) + "\n",
            out / "report.txt": in_words(self.summary) + "\n",
            out / "report.html": page(self.summary, self.rows, self.pairs, self.ratios, self.worst),
        }
        write_all(contents)
        return list(contents)


@checked()
def report_schema() -> dict[str, Any]:
    """Return the JSON schema of ``report.json``: each field, what it is, and its unit."""
    text = files("entanglement.auditing").joinpath("report.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    fields = found["properties"]
    fields["schema"]["const"] = SCHEMA
    fields["verdicts"]["propertyNames"] = {"enum": list(VERDICTS)}
    return found


def _plain(value: Any) -> Any:
    """JSON has no number that is none, and none that is infinite: such a one becomes null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
