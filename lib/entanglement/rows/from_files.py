"""Rows of files: JSON lines, JSON, CSV, Parquet (each also compressed by gzip), datasets and the hub.

A row that cannot be read is a row as well: it comes with its place and with what is wrong. Only a file that
cannot be opened, or whose kind is not known, is an error.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from entanglement.checks import shown
from entanglement.signatures import checked

__all__ = ["KINDS", "Row", "read_rows", "row_of"]

_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
#: A folder that the library datasets has written has one of these.
_SAVED = ("state.json", "dataset_dict.json")


@checked()
@dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        place: its line, from 1; the number of the row in a kind of file that has no lines.
        value: its columns; None if it could not be read.
        wrong: then what is wrong with it.
    """

    place: int
    value: Mapping[str, Any] | None
    wrong: str = ""


@checked(row=None)
def row_of(row: object) -> Row:
    """Return what is a row as it is.

    Raises:
        ValueError: something else among the rows.
    """
    if not isinstance(row, Row):
        raise ValueError(f"row={shown(row)}; expected rows as read_rows gives them.")
    return row


def _no_double(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:  # json would keep the last one and say nothing
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found


def _object(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_no_double)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("no JSON that can be read: too deeply nested") from None


def _row(place: int, value: Any) -> Row:
    if isinstance(value, Mapping):
        return Row(place, value)
    return Row(place, None, f"a row is an object with named columns, and this is a {type(value).__name__}")


def _lines(file: IO[bytes]) -> Iterator[Row]:
    """JSON lines. A line of nothing but spaces is no row."""
    for place, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if place == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield Row(place, None, f"no text in UTF-8 (byte {error.start + 1})")
            continue
        if not text.strip():
            continue
        try:
            yield _row(place, _object(text))
        except ValueError as error:
            yield Row(place, None, str(error))


def _whole(file: IO[bytes]) -> Iterator[Row]:
    """One JSON document: a list of rows, or an object that holds such a list; else lines of JSON."""
    data = file.read()
    try:
        found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_no_double)
    except UnicodeDecodeError as error:
        raise ValueError(f"no text in UTF-8 (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # lines of JSON in a file that is called .json
            yield from _lines(io.BytesIO(data))
            return
        raise ValueError(f"no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    if isinstance(found, Mapping):
        lists = [value for value in found.values() if isinstance(value, list)]
        if len(lists) != 1:
            yield _row(1, found)
            return
        found = lists[0]
    if not isinstance(found, list):
        raise ValueError(f"expected a list of rows, got a {type(found).__name__}")
    for place, value in enumerate(found, 1):
        yield _row(place, value)


def _table(file: IO[bytes]) -> Iterator[Row]:
    """CSV with a line of names, by commas."""
    # Bytes that are no UTF-8 must not end the reading: they come back as lone surrogates.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    limit = csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader(text)
        names = next(reader, None)
        if not names:
            return
        if len(set(names)) < len(names):
            raise ValueError(f"a column's name stands there twice: {', '.join(names)}")
        while True:
            place = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(place, None, f"no CSV: {error}")
                continue
            if not fields:
                continue
            if any("\udc80" <= sign <= "\udcff" for field in fields for sign in field):
                yield Row(place, None, "no text in UTF-8")
            elif len(fields) != len(names):
                yield Row(place, None, f"{len(fields)} fields under {len(names)} names")
            else:
                yield Row(place, dict(zip(names, fields, strict=True)))
    finally:
        csv.field_size_limit(limit)


def _columns(file: IO[bytes]) -> Iterator[Row]:
    with _needed("pyarrow", "a Parquet file"):
        from pyarrow import parquet
    try:
        table = parquet.ParquetFile(io.BytesIO(file.read()))
        batches = table.iter_batches(batch_size=256)
        place = 0
        for batch in batches:
            for value in batch.to_pylist():
                place += 1
                yield _row(place, value)
    except Exception as error:
        if type(error).__module__.startswith("pyarrow"):
            raise ValueError(f"no Parquet file that can be read: {str(error).splitlines()[0]}") from None
        raise


@contextmanager
def _needed(package: str, what: str) -> Iterator[None]:
    """Say in one line that a package is missing. It is imported by its own name and not by a variable's, so
    that the book's cache sees what is used.
    """
    try:
        yield
    except ImportError:
        raise ValueError(f"{what} needs the package {package}: pip install {package}") from None


#: How a file's name ends → how its rows are read.
KINDS: dict[str, Callable[[IO[bytes]], Iterator[Row]]] = {
    ".jsonl": _lines,
    ".ndjson": _lines,
    ".json": _whole,
    ".csv": _table,
    ".parquet": _columns,
}


def _saved(folder: Path, split: str) -> Iterator[Row]:
    with _needed("datasets", "a folder of a dataset"):
        import datasets
    found: Any = datasets.load_from_disk(str(folder))
    if isinstance(found, Mapping):
        if split not in found:
            raise ValueError(
                f"source={str(folder)!r}: no split {split!r}; it has {', '.join(map(str, found))}."
            )
        found = found[split]
    for place, value in enumerate(found, 1):
        yield _row(place, value)


def _of_hub(name: str, split: str) -> Iterator[Row]:
    with _needed("datasets", "a dataset of the hub"):
        import datasets
    try:
        found = datasets.load_dataset(name, split=split)
    except Exception as error:  # no network, no such name, a script: all are told by one line
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"source={name!r}: no file or folder here, and no dataset of the hub that can be read: {reason}"
        ) from None
    for place, value in enumerate(found, 1):
        yield _row(place, value)


@checked()
def read_rows(source: str | Path, *, split: str = "train") -> Iterator[Row]:
    """Yield the rows of a file, in order; none is left out but empty lines.

    Args:
        source: a file that ends in .jsonl, .ndjson, .json, .csv or .parquet, also with .gz behind; a folder
            that the library ``datasets`` has saved; or the id of a dataset of the Hugging Face hub.
        split: of a folder or of the hub that has several.

    Raises:
        ValueError: another kind of file, a file that is damaged as a whole, or an id that cannot be loaded.
        OSError: the file cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        if not any((path / name).exists() for name in _SAVED):
            raise ValueError(
                f"source={str(path)!r}: a folder, but none that datasets has saved (it has no {_SAVED[0]})."
            )
        yield from _saved(path, split)
        return
    names = [suffix.lower() for suffix in path.suffixes]
    packed = names[-1:] == [".gz"]
    kind = (names[:-1] if packed else names)[-1:]
    if not path.exists() and not kind and _REPOSITORY.fullmatch(str(source)):
        yield from _of_hub(str(source), split)
        return
    if not kind or kind[0] not in KINDS:
        if not path.exists() and _REPOSITORY.fullmatch(str(source)):
            yield from _of_hub(str(source), split)  # a dot is allowed in an id
            return
        raise ValueError(
            f"source={str(path)!r}; expected a file that ends in {', '.join(KINDS)}, also with .gz behind."
        )
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(path.open("rb"))
        if packed:
            file = stack.enter_context(gzip.open(file))
        try:
            yield from KINDS[kind[0]](file)
        except (ValueError, EOFError, gzip.BadGzipFile) as error:
            raise ValueError(f"source={str(path)!r}: {error}") from None
