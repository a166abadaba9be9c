"""The ledger of claims: what is claimed, what was measured, and the verdict that follows from both.

A chapter measures and calls :func:`record`; the rule in ``book/claims.yml`` decides; :func:`verdict` says
which of four it is. A claim whose negative control does not come out as its own rule demands is never
"reproduced": a measurement that gives the same answer where the mechanism is absent says nothing about the
mechanism.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from entanglement_book.ledger import language as rules

if TYPE_CHECKING:
    import pandas as pd

REPRODUCED = "reproduced"
IN_PART = "reproduced in part"
NOT_REPRODUCED = "not reproduced"
NOT_TESTABLE = "not testable here"
#: Not a verdict: no chapter has recorded this claim yet.
NOT_RUN = "not run"
VERDICTS = (REPRODUCED, IN_PART, NOT_REPRODUCED, NOT_TESTABLE)

_ID = re.compile(r"^[a-z0-9][a-z0-9-]*$")
_NEEDED = ("id", "statement", "source", "notebook", "quantity", "rule")


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    ``rule`` decides "reproduced", ``partly`` (may be None) "reproduced in part"; ``control_rule`` says what
    the negative control's measurement must satisfy, in words ``control_quantity``. ``scales`` are those at
    which the claim can be decided; ``not_testable`` is the reason why it cannot be tested here at all.
    ``reason`` is what was found out about a claim that failed.
    """

    id: str
    statement: str
    source: str
    notebook: str
    quantity: str
    rule: str | None
    partly: str | None = None
    seeds: int | None = None
    control_quantity: str | None = None
    control_rule: str | None = None
    scales: tuple[str, ...] = ("smoke", "book", "paper")
    not_testable: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Record:
    """What a chapter measured for one claim. ``interval`` is (low, high); ``n`` says over how many seeds or
    items.
    """

    id: str
    value: float
    interval: tuple[float, float] | None = None
    n: int | None = None
    control: float | None = None
    control_interval: tuple[float, float] | None = None
    note: str = ""

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


@dataclass(frozen=True)
class Verdict:
    """One of :data:`VERDICTS` (or :data:`NOT_RUN`), and in a few words why."""

    status: str
    why: str = ""

    def __str__(self) -> str:
        return self.status


class LedgerError(ValueError):
    """The ledger or a record is not in order; the text names the row."""


def load_ledger(path: Path | str) -> list[Claim]:
    """Read ``claims.yml``: a mapping with one key, ``claims``, a list of rows.

    Errors: LedgerError naming the row, for a missing or unknown field, a repeated id, or a rule outside the
    language.
    """
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    rows = content.get("claims") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise LedgerError(f"{path}: expected a key 'claims' with a list of rows")
    claims = [_claim(row, number) for number, row in enumerate(rows, start=1)]
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise LedgerError(f"claim {claim.id!r}: the id stands twice")
        seen.add(claim.id)
    return claims


def _claim(row: Any, number: int) -> Claim:
    if not isinstance(row, dict):
        raise LedgerError(f"claim number {number}: expected a mapping, found {type(row).__name__}")
    row = dict(row)
    name = f"claim {row.get('id', f'number {number}')!r}"
    control = row.pop("control", None) or {}
    if not isinstance(control, dict) or set(control) - {"quantity", "rule"}:
        raise LedgerError(f"{name}: 'control' must have 'quantity' and 'rule'")
    needed = [key for key in _NEEDED if key != "rule" or not row.get("not_testable")]
    missing = [key for key in needed if not row.get(key)]
    if missing:
        raise LedgerError(f"{name}: lacks {', '.join(missing)}")
    known = set(Claim.__dataclass_fields__) - {"control_quantity", "control_rule"}
    if set(row) - known:
        raise LedgerError(
            f"{name}: unknown field {', '.join(sorted(set(row) - known))}; known: {', '.join(sorted(known))}"
        )
    if not _ID.match(str(row["id"])):
        raise LedgerError(f"{name}: an id is lower-case letters, digits and hyphens")
    if row.get("rule") and not (control.get("rule") and control.get("quantity")):
        raise LedgerError(f"{name}: lacks a negative control (control: quantity, rule)")
    row["scales"] = tuple(row.get("scales") or Claim.scales)
    row.setdefault("rule", None)
    row["notebook"] = str(row["notebook"]).removesuffix(".ipynb").removeprefix("notebooks/")
    for rule in (row["rule"], row.get("partly"), control.get("rule")):
        if rule is not None:
            try:
                rules.check(str(rule))
            except rules.RuleError as error:
                raise LedgerError(f"{name}: {error}") from None
    texts = {key: " ".join(str(row[key]).split()) for key in ("statement", "source", "quantity")}
    return Claim(
        **{**row, **texts},
        control_quantity=control.get("quantity"),
        control_rule=control.get("rule") and str(control["rule"]),
    )


def verdict(claim: Claim, record: Record | None, scale: str | None = None) -> Verdict:
    """Decide ``claim`` from what was recorded (at ``scale``, if given). Pure: the same record gives the same
    verdict.
    """
    if claim.rule is None:
        return Verdict(NOT_TESTABLE, claim.not_testable or "")
    if scale is not None and scale not in claim.scales:
        return Verdict(NOT_TESTABLE, f"needs scale {' or '.join(claim.scales)}")
    if record is None:
        return Verdict(NOT_RUN, f"{claim.notebook} has recorded nothing")
    values = record.values()
    try:
        holds = rules.evaluate(claim.rule, values)
        partly = bool(claim.partly) and rules.evaluate(claim.partly or "", values)
    except rules.RuleError as error:
        return Verdict(NOT_REPRODUCED, str(error))
    if not (holds or partly):
        return Verdict(NOT_REPRODUCED, claim.reason or f"not: {claim.rule}")
    if claim.control_rule is not None:
        try:
            controlled = rules.evaluate(claim.control_rule, values)
        except rules.RuleError as error:
            return Verdict(NOT_REPRODUCED, f"negative control: {error}")
        if not controlled:
            return Verdict(
                NOT_REPRODUCED,
                f"the negative control does not come out the other way: not {claim.control_rule}",
            )
    return Verdict(REPRODUCED) if holds else Verdict(IN_PART, claim.reason or f"only: {claim.partly}")


def record(
    claim_id: str,
    value: float,
    interval: tuple[float, float] | None = None,
    n: int | None = None,
    control: float | None = None,
    control_interval: tuple[float, float] | None = None,
    note: str = "",
) -> None:
    """Record what was measured for the claim ``claim_id``; call it once a claim in a chapter.

    Under ``make`` the record is stored with the notebook's outputs; elsewhere (a reader's own session) it is
    only checked.

    value: the measured quantity, in the unit that the ledger's row names; a bool counts as 0 or 1.
    interval: its 95 % interval (low, high), where it is stochastic. n: seeds or items it was measured over.
    control, control_interval: the same for the negative control.
    Errors: ValueError naming the argument, for numbers that are not finite and intervals in the wrong order.
    """
    if not _ID.match(claim_id):
        raise ValueError(f"claim_id={claim_id!r}: expected lower-case letters, digits and hyphens")
    made = Record(
        id=claim_id,
        value=_number("value", value),
        interval=_interval("interval", interval),
        n=None if n is None else int(n),
        control=None if control is None else _number("control", control),
        control_interval=_interval("control_interval", control_interval),
        note=str(note),
    )
    folder = os.environ.get("ENTANGLEMENT_CLAIMS_DIR")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{made.id}.json").write_text(dump_records([made]), encoding="utf-8")


def _number(name: str, value: Any) -> float:
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={value!r}: expected a number") from None
    if not math.isfinite(result):
        raise ValueError(f"{name}={value!r}: expected a finite number")
    return result


def _interval(name: str, pair: Any) -> tuple[float, float] | None:
    if pair is None:
        return None
    try:
        low, high = pair
    except (TypeError, ValueError):
        raise ValueError(f"{name}={pair!r}: expected (low, high)") from None
    low, high = _number(f"{name}[0]", low), _number(f"{name}[1]", high)
    if low > high:
        raise ValueError(f"{name}={pair!r}: expected low <= high")
    return low, high


def dump_records(records: Iterable[Record]) -> str:
    """Records as JSON, sorted by id: the same records give the same text."""
    rows = sorted((asdict(item) for item in records), key=lambda row: row["id"])
    return json.dumps(rows, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def _record(row: Mapping[str, Any]) -> Record:
    fields: dict[str, Any] = {
        key: row[key] for key in Record.__dataclass_fields__ if row.get(key) is not None
    }
    for key in ("interval", "control_interval"):
        if key in fields:
            fields[key] = tuple(fields[key])
    return Record(**fields)


def read_file(path: Path) -> list[Record]:
    """The records in one file. Errors: LedgerError if it is no file of records."""
    try:
        return [_record(row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, AttributeError):
        raise LedgerError(f"{path.name}: not a file of records") from None


def read_records(folder: Path | str) -> dict[str, Record]:
    """All records in the JSON files of a folder, by claim; {} if the folder is not there.

    Errors: LedgerError for a file that cannot be read, or a claim recorded by two files.
    """
    found: dict[str, Record] = {}
    for path in sorted(Path(folder).glob("*.json")):
        for item in read_file(path):
            if item.id in found:
                raise LedgerError(f"claim {item.id!r} is recorded twice, again in {path.name}")
            found[item.id] = item
    return found


@dataclass(frozen=True)
class VerdictFile:
    """The verdicts recorded at one scale, with what they rest on.

    ``claims``: per claim its verdict, the reason and the record. ``notebooks``: per chapter the hash of its
    code, parameters, library and data when it was run; a verdict is stale when today's is another.
    """

    scale: str
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    notebooks: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, scale: str) -> VerdictFile:
        """Read the file; an empty one if it is not there yet."""
        if not path.is_file():
            return cls(scale)
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(scale, content.get("claims", {}), content.get("notebooks", {}))

    def write(self, path: Path) -> None:
        """Write it, sorted, so that a diff shows what changed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")

    def records(self) -> dict[str, Record]:
        """The records on which the verdicts rest."""
        return {name: _record(row["record"]) for name, row in self.claims.items() if row.get("record")}


def decide(
    ledger: Iterable[Claim], records: Mapping[str, Record], scale: str, science: Mapping[str, str]
) -> VerdictFile:
    """Verdicts for all claims of the ledger; ``science``: each chapter's hash (``sources.science_of``)."""
    rows: dict[str, dict[str, Any]] = {}
    used = set()
    for claim in ledger:
        made = records.get(claim.id)
        decided = verdict(claim, made, scale)
        rows[claim.id] = {
            "notebook": claim.notebook,
            "verdict": decided.status,
            "why": decided.why,
            "record": None if made is None else json.loads(dump_records([made]))[0],
        }
        used.add(claim.notebook)
    return VerdictFile(scale, rows, {name: science[name] for name in sorted(used) if name in science})


def ledger_table(
    ledger: Iterable[Claim] | None = None,
    records: Mapping[str, Record] | None = None,
    scale: str | None = None,
) -> pd.DataFrame:
    """The whole ledger with verdicts, a row a claim; what is not given is found around the running notebook.

    Columns: claim, statement, source, notebook, quantity, value, low, high, n, control, control_low,
    control_high, rule, control_quantity, control_rule, verdict, why, note. Numbers that were not recorded are
    NaN.
    """
    import pandas as pd

    ledger = load_ledger(find_ledger()) if ledger is None else ledger
    records = find_records(scale or "book") if records is None else records
    rows = []
    for claim in ledger:
        made = records.get(claim.id)
        decided = verdict(claim, made, scale)
        values = made.values() if made else dict.fromkeys(rules.NAMES)
        rows.append(
            {
                "claim": claim.id,
                "statement": claim.statement,
                "source": claim.source,
                "notebook": claim.notebook,
                "quantity": claim.quantity,
                **{
                    name: values[name]
                    for name in ("value", "low", "high", "n", "control", "control_low", "control_high")
                },
                "rule": claim.rule or "",
                "control_quantity": claim.control_quantity or "",
                "control_rule": claim.control_rule or "",
                "verdict": decided.status,
                "why": decided.why,
                "note": made.note if made else "",
            }
        )
    columns = ["claim", "statement", "source", "notebook", "quantity", "value", "low", "high", "n", "control"]
    columns += ["control_low", "control_high", "rule", "control_quantity", "control_rule"]
    columns += ["verdict", "why", "note"]
    table = pd.DataFrame(rows, columns=columns)
    numbers = ["value", "low", "high", "n", "control", "control_low", "control_high"]
    return table.astype(dict.fromkeys(numbers, "float64"))


def find_ledger() -> Path:
    """The ledger of the book around the current folder (or around the library)."""
    from entanglement_book.layout import Book

    return Book.find().ledger


def find_records(scale: str = "book") -> dict[str, Record]:
    """The records of all chapters: those of the run that this notebook is part of, else those committed.

    Under ``make`` the executor says where the run's records are. In a reader's own session, or in a plain
    ``jupyter-book build``, the records behind the committed verdicts are read.
    """
    from entanglement_book.layout import Book, default_workspace

    running = default_workspace()
    if running is not None:
        return read_records(running / "claims")
    return VerdictFile.read(Book.find().verdicts(scale), scale).records()
