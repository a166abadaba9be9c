"""Stored tables: where they lie, and reading them with their provenance."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError

from entanglement.files import sha256
from entanglement.uses import note_file
from entanglement_book.layout import BookError, folder_digest, model_label, one_line

__all__ = ["Stored", "as_stored", "folder_of", "read_tables"]

_AGAIN = "make the tables again: entanglement-book results run"


@dataclass(frozen=True)
class _Provenance:
    """What the rest relies on of a provenance, with the kinds of its values."""

    code: str
    machine: dict[str, str]
    sha256: Annotated[dict[str, str], Field(min_length=1)]
    shape: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    uses: list[tuple[str, str]] | None = None
    restamped: list[dict[str, Any]] = field(default_factory=list)


_PROVENANCE = TypeAdapter(_Provenance)


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
        BookError: a provenance that says nothing, or a table that is not the one that it describes.
    """
    file = folder / "provenance.json"
    note_file(file)
    try:
        provenance = json.loads(file.read_bytes())
        _PROVENANCE.validate_python(provenance)
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder.name}/{file.name} is not there; {_AGAIN}") from None
    except ValidationError as error:
        wrong = "; ".join(dict.fromkeys(_wrong(item) for item in error.errors(include_url=False)))
        raise BookError(f"{folder.name}/{file.name} {wrong}; {_AGAIN}") from None
    except (OSError, ValueError) as error:
        raise BookError(f"{folder.name}/{file.name} is no JSON ({one_line(error)}); {_AGAIN}") from None
    tables = {}
    for name, digest in provenance["sha256"].items():
        note_file(folder / name)
        try:
            data = (folder / name).read_bytes()
        except OSError as error:
            raise BookError(f"{folder.name}/{name} cannot be read ({error.strerror}); {_AGAIN}") from None
        if sha256(data) != digest:
            raise BookError(f"{folder.name}/{name} is not the file that its provenance describes; {_AGAIN}")
        tables[Path(name).stem] = pd.read_csv(io.BytesIO(data))
    return Stored(tables, provenance)


def _wrong(item: Any) -> str:
    """What is wrong with one value of a provenance, in words."""
    key = ".".join(map(str, item["loc"]))
    return f"lacks {key}" if key and item["type"] == "missing" else f"holds no {key or 'provenance'}"
