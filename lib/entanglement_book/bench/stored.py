"""What the last benchmark measured: reading it, and framing it for a page. Nothing is measured here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from entanglement.uses import note_file
from entanglement_book.layout import BookError, one_line
from entanglement_book.machine import repository

__all__ = ["file_of", "frame", "gigabytes", "processor", "stored"]


def file_of(device: str = "cpu") -> Path:
    """Return where the benchmark of a device is stored."""
    return repository() / "book" / "results" / "bench" / f"{device}.json"


def stored(device: str = "cpu") -> dict[str, Any]:
    """Return what the last ``make bench`` measured.

    Raises:
        FileNotFoundError: nothing is stored for this device.
        BookError: what is stored there is no benchmark.
    """
    file = file_of(device)
    if not file.exists():
        raise FileNotFoundError(f"no benchmark is stored for {device}; run: make bench")
    note_file(file)
    again = "run: make bench, or fetch it back with git checkout"
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise BookError(f"bench/{file.name} cannot be read ({one_line(error)}); {again}") from None
    if not _is_benchmark(found):
        raise BookError(f"bench/{file.name} holds no benchmark; {again}")
    return found


#: What a page and the check rely on.
_KINDS = {"lines": list, "growth": list, "machine": dict, "date": str, "device": str, "threads": int}
_GROWTH = frozenset({"tokens", "seconds", "peak_mb", "met"})
_LINE = frozenset(
    {"ours", "theirs", "seconds", "their_seconds", "ratio", "peak_mb", "their_peak_mb", "memory_ratio"}
    | {"faster", "lighter", "aim", "met"}
)


def _is_benchmark(found: Any) -> bool:
    if not isinstance(found, dict) or any(
        not isinstance(found.get(key), kind) for key, kind in _KINDS.items()
    ):
        return False
    rows = [*((row, _LINE) for row in found["lines"]), *((row, _GROWTH) for row in found["growth"])]
    return all(isinstance(row, dict) and keys <= set(row) for row, keys in rows)


def gigabytes(mebibytes: float) -> float:
    """Return GB of MiB."""
    return mebibytes * 2**20 / 1e9


def processor(found: Mapping[str, Any]) -> str:
    """Return where a benchmark was measured, in words."""
    if found["device"] != "cpu":
        return str(found["device"])
    name = found["machine"]["processor"].removeprefix("model name ")
    return f"{name}, {found['threads']} threads"


def frame(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return the lines as a table for the page: seconds, how many times faster and lighter, and the least."""
    rows = []
    for line in found["lines"]:
        rows.append(
            {
                "work": line["ours"],
                "s": round(line["seconds"], 2),
                "against": line["theirs"],
                "its s": round(line["their_seconds"], 2),
                "times faster": round(line["ratio"], 2),
                "at least": "" if line["faster"] is None else f"{line['faster']:.2f}",
                "GB": round(gigabytes(line["peak_mb"]), 1),
                "its GB": round(gigabytes(line["their_peak_mb"]), 1),
            }
        )
    return pd.DataFrame(rows).set_index("work")
