"""The ledger of claims, ``book/claims.yml``: what is claimed, by whom, and the rule that decides.

A chapter measures and calls :func:`record`; ``ledger.verdicts`` decides by the rules that stand here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from entanglement_book.layout import SCALES, Book, BookError, one_line, parse_scale
from entanglement_book.ledger import language as rules, records
from entanglement_book.ledger.records import ID_PATTERN, Measurement, Record

__all__ = ["Claim", "Control", "LedgerError", "find_ledger", "load_ledger", "record", "wrong_in"]

_TODO = "mend it, or fetch it back with: git checkout -- book/claims.yml"


class LedgerError(BookError):
    """The ledger, a record or a file of verdicts is not in order; the text names the row or the file."""


def _checked_rule(rule: Any) -> Any:
    if isinstance(rule, str):
        rules.check(rule)
    return rule


def _joined(text: Any) -> Any:
    """A text of several lines in the file is one line here."""
    return " ".join(text.split()) if isinstance(text, str) else text


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] < ends[1]:
        raise ValueError("expected [smallest, largest]")
    return ends


def _stem(name: Any) -> Any:
    return name.removesuffix(".ipynb").removeprefix("notebooks/") if isinstance(name, str) else name


def _whole_number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a whole number")
    return value


Text = Annotated[str, BeforeValidator(_joined), StringConstraints(min_length=1)]
Scale = Annotated[str, AfterValidator(parse_scale)]
Rule = Annotated[str, BeforeValidator(_checked_rule)]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
_NOTHING_ELSE = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_NOTHING_ELSE)
class Control:
    """The negative control of a claim: what is measured where the mechanism is absent, and its own rule.

    Attributes:
        quantity: what is measured, with its unit.
        rule: how it must come out.
        range: (smallest, largest) that the quantity can be; None for that of the claim's own quantity.
    """

    quantity: Text
    rule: Rule
    range: Range | None = None


@dataclass(frozen=True, config=_NOTHING_ELSE)
class Claim:
    """One row of the ledger.

    Attributes:
        id: lower-case letters, digits and hyphens.
        statement: what is claimed.
        source: whose claim it is, and where it stands.
        notebook: the chapter that measures it, as a file stem.
        quantity: what is measured, with its unit.
        rule: decides "reproduced"; None only with ``not_testable``.
        partly: decides "reproduced in part".
        seeds: over how many seeds.
        control: the negative control; every claim that has a rule has one.
        scales: those at which the claim can be decided.
        not_testable: why the claim cannot be tested here at all.
        reason: what was found out about a claim that failed.
        range: (smallest, largest) that the quantity can be, such as 0 and 1 for a share; None for any number.
    """

    id: Annotated[str, StringConstraints(pattern=ID_PATTERN)]
    statement: Text
    source: Text
    notebook: Annotated[str, BeforeValidator(_stem), StringConstraints(min_length=1)]
    quantity: Text
    rule: Rule | None = None
    partly: Rule | None = None
    seeds: Annotated[int, BeforeValidator(_whole_number), Field(ge=1)] | None = None
    control: Control | None = None
    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] = SCALES
    not_testable: str | None = None
    reason: str | None = None
    range: Range | None = None

    def __post_init__(self) -> None:
        if self.rule is None and not self.not_testable:
            raise ValueError("lacks rule")
        if self.rule is not None and self.control is None:
            raise ValueError("lacks a negative control (control: quantity, rule)")

    def outside(self, record: Record) -> str:
        """Return what of a record lies outside the ranges of its quantities, in words; "" if nothing does."""
        control = self.control.range if self.control is not None else None
        return record.outside(self.range, control or self.range)


_CLAIM = TypeAdapter(Claim)
_KNOWN = [field.name for field in fields(Claim)]


def wrong_in(error: ValidationError) -> str:
    """What pydantic found wrong, in one line: field by field."""
    found = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"])
        kind, message = item["type"], item["msg"].removeprefix("Value error, ")
        if kind in {"missing", "missing_argument"}:
            found.append(f"lacks {where}")
        elif kind in {"extra_forbidden", "unexpected_keyword_argument"}:
            found.append(f"unknown field {where}")
        elif kind == "string_pattern_mismatch" and where == "id":
            found.append(f"id {item['input']!r}: expected lower-case letters, digits and hyphens")
        elif where:
            found.append(f"{where}={item['input']!r}: {message}")
        else:
            found.append(message)
    return " ".join("; ".join(dict.fromkeys(found)).split())


def load_ledger(path: Path | str) -> list[Claim]:
    """Read ``claims.yml``: a mapping with one key, ``claims``, a list of rows.

    Errors: LedgerError, in one line naming the row, for a missing or unknown field, a repeated id, or a rule
    outside the language; naming the file, if it cannot be read.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LedgerError(f"{path.name} cannot be read ({one_line(error)}): {_TODO}") from None
    rows = content.get("claims") if isinstance(content, dict) and set(content) == {"claims"} else None
    if not isinstance(rows, list):
        raise LedgerError(f"{path.name}: expected one key, 'claims', with a list of rows: {_TODO}")
    claims = [_claim(row, number, path.name) for number, row in enumerate(rows, start=1)]
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise LedgerError(f"{path.name}: claim {claim.id!r}: the id stands twice")
        seen.add(claim.id)
    return claims


def _claim(row: Any, number: int, file: str) -> Claim:
    if not isinstance(row, Mapping):
        raise LedgerError(f"{file}: claim number {number}: expected a mapping, found {type(row).__name__}")
    try:
        return _CLAIM.validate_python(dict(row))
    except ValidationError as error:
        wrong = wrong_in(error)
        known = f" (known: {', '.join(_KNOWN)})" if "unknown field" in wrong else ""
        raise LedgerError(f"{file}: claim {row.get('id', f'number {number}')!r}: {wrong}{known}") from None


def find_ledger() -> Path:
    """The ledger of the book around the current folder (or around the library)."""
    return Book.find().ledger


@lru_cache(maxsize=4)
def _claims_of(path: Path, changed: int) -> Mapping[str, Claim]:
    """The rows of a ledger by id; ``changed`` is when the file was last written."""
    return {claim.id: claim for claim in load_ledger(path)}


def record(
    claim_id: str,
    value: float | Measurement,
    interval: tuple[float, float] | None = None,
    n: int | None = None,
    control: float | Measurement | None = None,
    control_interval: tuple[float, float] | None = None,
    note: str = "",
) -> None:
    """Record what was measured for a claim; call it once a claim in a chapter.

    ``record("a-claim", found, control=other)`` for two ``Interval`` is all that most chapters need. Under
    ``make`` the record is stored with the notebook's outputs; elsewhere (a reader's own session) it is only
    checked.

    Args:
        claim_id: a row of ``book/claims.yml``.
        value: the measured quantity, in the unit that the row names; a bool counts as 0 or 1. An
            ``Interval`` brings its ends and its n with it.
        interval: its 95 % interval (low, high), where it is stochastic and ``value`` is a number.
        n: seeds or items it was measured over; default: the Interval's own.
        control: the same measurement for the negative control, a number or an ``Interval``.
        control_interval: (low, high) of the control, where it is a number.
        note: a sentence for the report.

    Raises:
        ValueError: naming the argument, for numbers that are not finite, ends in the wrong order, a value
            outside its interval, an interval of width 0 over several draws, a number outside the range that
            the ledger declares for the quantity, an n that is no positive whole number, or an interval that
            is given twice.
    """
    if not isinstance(claim_id, str) or not re.fullmatch(ID_PATTERN, claim_id):
        raise ValueError(f"claim_id={claim_id!r}: expected lower-case letters, digits and hyphens")
    if n is None and isinstance(value, Measurement):
        n = getattr(value, "n", None)
    measured, ends = records.parts("value", value, "interval", interval)
    controlled: tuple[float | None, tuple[float, float] | None] = (None, None)
    if control is not None:
        controlled = records.parts("control", control, "control_interval", control_interval)
    elif control_interval is not None:
        raise ValueError(f"control_interval={control_interval!r}: given without control")
    count = None if n is None else records.count(n)
    for name, pair in (("interval", ends), ("control_interval", controlled[1])):
        if pair is not None and pair[0] == pair[1] and (count or 1) > 1:
            raise ValueError(
                f"{name}={pair!r}: its width is 0 over n={count}; expected one that allows for what was not "
                "drawn (entanglement.bounded), or no interval for a number without chance"
            )
    made = Record(
        id=claim_id,
        value=measured,
        interval=ends,
        n=count,
        control=controlled[0],
        control_interval=controlled[1],
        note=str(note),
    )
    ledger = find_ledger()
    claim = _claims_of(ledger, ledger.stat().st_mtime_ns).get(claim_id)
    if claim is not None and (wrong := claim.outside(made)):
        raise ValueError(f"claim {claim_id!r}: {wrong}")
    records.keep(made)
