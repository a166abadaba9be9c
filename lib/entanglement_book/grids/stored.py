"""Stored tables: where they lie, and reading them with their provenance."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from entanglement.files import sha256
from entanglement.uses import note_file
from entanglement_book.layout import folder_digest, model_label

__all__ = ["Stored", "as_stored", "folder_of", "read_tables"]

#: Without these a provenance says nothing.
_NEEDED = {"code": str, "machine": dict, "sha256": dict}


@dataclass(frozen=True)
class Stored:
    """The tables of a grid and where they come from."""

    tables: dict[str, pd.DataFrame]
    provenance: dict[str, Any]

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.tables[name]

    @property
    def uses(self) -> list[tuple[str, str]] | None:
        """What the cells used by name; None for tables from before this was written down."""
        found = self.provenance.get("uses")
        return None if found is None else [(kind, name) for kind, name in found]


def folder_of(root: Path, grid: str, scale: str, model: str) -> Path:
    """Return the folder of a grid's tables in the repository. Two models never share one, nor do a model
    that lies in a folder and the same with other files.
    """
    content = folder_digest(model)
    label = f"{model_label(model)}-{content[:8]}" if content else model_label(model)
    return root / "book" / "results" / scale / f"{grid}-{label}"


def as_stored(table: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    """Return a table as it comes out of its file: through JSON, in which a cell is kept, and through CSV.

    Args:
        table: as computed.
        like: the stored table, whose columns of words stay words here, whatever stands in them. A column
            that other cells fill and this one does not is missing here as it is there.
    """
    kept = pd.DataFrame(**json.loads(json.dumps(table.to_dict(orient="split", index=False))))
    words = {str(name): str for name in like.columns if not pd.api.types.is_numeric_dtype(like[name])}
    read = pd.read_csv(io.StringIO(kept.to_csv(index=False)), dtype=words)
    return read.reindex(columns=like.columns) if set(read.columns) <= set(like.columns) else read


def read_tables(folder: Path) -> Stored:
    """Read tables and provenance.

    Raises:
        FileNotFoundError: there are none.
        ValueError: a provenance that says nothing, or a table that is not the one that it describes.
    """
    file = folder / "provenance.json"
    note_file(file)
    try:
        provenance = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder.name}/{file.name} is no JSON ({error}); make the tables again.") from None
    lacking = [
        key
        for key, kind in _NEEDED.items()
        if not isinstance(provenance, dict) or not isinstance(provenance.get(key), kind)
    ]
    if lacking or not provenance["sha256"]:
        lacking = lacking or ["sha256"]
        raise ValueError(f"{folder.name}/{file.name} lacks {', '.join(lacking)}; make the tables again.")
    tables = {}
    for name, digest in provenance["sha256"].items():
        note_file(folder / name)
        data = (folder / name).read_bytes()
        if sha256(data) != digest:
            raise ValueError(
                f"{folder.name}/{name} is not the file that its provenance describes; make it again."
            )
        tables[Path(name).stem] = pd.read_csv(io.BytesIO(data))
    return Stored(tables, provenance)
