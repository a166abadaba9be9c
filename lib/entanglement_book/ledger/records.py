"""What chapters measured: one record a claim, checked when it is made and when it is read."""

from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from entanglement.files import write_whole
from entanglement_book.layout import BookError, one_line

__all__ = [
    "ID_PATTERN",
    "Measurement",
    "Record",
    "count",
    "dump_records",
    "keep",
    "parts",
    "read_file",
    "read_records",
]

#: How claims are called; the whole of a name must match.
ID_PATTERN = r"^[a-z0-9][a-z0-9-]*$"

#: How far a number may be outside by rounding alone, in units of 1 or of the larger end.
ROUNDING = 1e-12
Finite = Annotated[float, Field(allow_inf_nan=False)]
Ends = tuple[Finite, Finite]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Record:
    """What a chapter measured for one claim.

    Attributes:
        id: of the claim.
        value: in the unit that the ledger's row names.
        interval: (low, high) around the value.
        n: over how many seeds or items.
        control, control_interval: the same for the negative control.
        note: a sentence for the report.
    """

    id: Annotated[str, StringConstraints(pattern=ID_PATTERN)]
    value: Finite
    interval: Ends | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    control: Finite | None = None
    control_interval: Ends | None = None
    note: str = ""

    def __post_init__(self) -> None:
        _inside("value", self.value, "interval", self.interval)
        if self.control is not None:
            _inside("control", self.control, "control_interval", self.control_interval)
        elif self.control_interval is not None:
            raise ValueError("control_interval is given without control")

    def outside(self, ends: Ends | None, control_ends: Ends | None) -> str:
        """Return what of it lies outside the ranges of its quantities, in words; "" if nothing does.

        Args:
            ends: of what the value can be, such as (-1, 1) for a cosine; None for any number.
            control_ends: the same for the control.
        """
        for name, value, interval, allowed in (
            ("value", self.value, self.interval, ends),
            ("control", self.control, self.control_interval, control_ends),
        ):
            for part in () if value is None or allowed is None else (value, *(interval or ())):
                if not allowed[0] - ROUNDING <= part <= allowed[1] + ROUNDING:  # type: ignore[index]
                    shown = f" {interval!r}" if interval else ""
                    return f"{name}={value!r}{shown} is outside the quantity's range {allowed!r}"
        return ""

    def values(self) -> dict[str, float | None]:
        """The names that a rule may use."""
        low, high = self.interval or (None, None)
        control_low, control_high = self.control_interval or (None, None)
        return {
            "value": self.value,
            "low": low,
            "high": high,
            "control": self.control,
            "control_low": control_low,
            "control_high": control_high,
            "n": self.n,
        }


def _inside(name: str, value: float, interval_name: str, interval: tuple[float, float] | None) -> None:
    if interval is None:
        return
    low, high = interval
    if low > high:
        raise ValueError(f"{interval_name}={interval!r}: expected low <= high")
    rounding = ROUNDING * max(1.0, abs(low), abs(high))
    if not low - rounding <= value <= high + rounding:
        raise ValueError(f"{name}={value!r} is outside its interval: {interval_name}={interval!r}")


@runtime_checkable
class Measurement(Protocol):
    """A value with its interval: ``entanglement.stats.Interval``, or a table's row with these columns."""

    value: Any
    low: Any
    high: Any


def keep(record: Record) -> None:
    """Write a record where the run that this notebook is part of collects them; nowhere outside of a run."""
    folder = os.environ.get("ENTANGLEMENT_CLAIMS_DIR")
    if folder:
        write_whole(Path(folder) / f"{record.id}.json", dump_records([record]))


def parts(
    name: str, value: Any, interval_name: str, interval: Any
) -> tuple[float, tuple[float, float] | None]:
    """Return the number of a measurement and the ends of its interval, None without one.

    Args:
        name: of the argument, for messages.
        value: a number, or a ``Measurement``, which brings its ends with it.
        interval_name: of the argument with the interval, for messages.
        interval: (low, high), or None.

    Raises:
        ValueError: naming the argument, for what is no finite number, ends in the wrong order, a value
            outside them, or an interval beside a ``Measurement``.
    """
    if isinstance(value, Measurement):
        if interval is not None:
            raise ValueError(f"{interval_name}={interval!r}: {name} is an interval already")
        value, interval = value.value, (value.low, value.high)
    number, ends = _number(name, value), None
    if interval is not None:
        try:
            low, high = interval
        except (TypeError, ValueError):
            raise ValueError(f"{interval_name}={interval!r}: expected (low, high)") from None
        ends = (_number(f"{interval_name}[0]", low), _number(f"{interval_name}[1]", high))
    _inside(name, number, interval_name, ends)
    return number, ends


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, str):
            raise TypeError
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}={value!r}: expected a number") from None
    if not math.isfinite(result):
        raise ValueError(f"{name}={value!r}: expected a finite number")
    return result


def count(n: Any) -> int:
    """Return over how many seeds or items something was measured; 5.0 is 5.

    Raises:
        ValueError: no positive whole number.
    """
    whole = isinstance(n, numbers.Real) and not isinstance(n, bool) and float(n).is_integer()
    if not whole or n < 1:
        raise ValueError(f"n={n!r}: expected a positive whole number")
    return int(float(n))


def dump_records(records: Iterable[Record]) -> str:
    """Records as JSON, sorted by id: the same records give the same text."""
    rows = sorted((asdict(item) for item in records), key=lambda row: row["id"])
    return json.dumps(rows, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


_RECORDS = TypeAdapter(list[Record])


def read_file(path: Path) -> list[Record]:
    """The records in one file. Errors: BookError if it is no file of records."""
    try:
        return _RECORDS.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = f" ({one_line(error)})" if isinstance(error, OSError) else ""
        raise BookError(
            f"{path.name}: not a file of records{reason}; remove it, its chapter runs again"
        ) from None


def read_records(folder: Path | str) -> Mapping[str, Record]:
    """All records in the JSON files of a folder, by claim; {} if the folder is not there.

    Errors: BookError for a file that cannot be read, or a claim recorded by two files.
    """
    found: dict[str, Record] = {}
    for path in sorted(Path(folder).glob("*.json")):
        for item in read_file(path):
            if item.id in found:
                raise BookError(f"claim {item.id!r} is recorded twice, again in {path.name}")
            found[item.id] = item
    return found
