"""Verdicts: decided once from records and rules, kept in files, compared.

``_build/executed/<run>/verdicts.json`` holds those of a run, decided when its chapters have been executed;
the report page shows that file. ``book/verdicts/<scale>.json`` holds the committed ones.

A claim whose negative control does not come out as its own rule demands is never "reproduced": a measurement
that gives the same answer where the mechanism is absent says nothing about the mechanism.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
from pydantic import ConfigDict, TypeAdapter, ValidationError

from entanglement.files import HOUR, sweep, write_changed
from entanglement_book.layout import Book, default_workspace
from entanglement_book.ledger import language as rules
from entanglement_book.ledger.claims import Claim, LedgerError, find_ledger, load_ledger, wrong_in
from entanglement_book.ledger.records import Record

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "IN_PART",
    "NOT_REPRODUCED",
    "NOT_RUN",
    "NOT_TESTABLE",
    "REPRODUCED",
    "VERDICTS",
    "Basis",
    "Measured",
    "Row",
    "Verdict",
    "VerdictFile",
    "check",
    "decide",
    "find_verdicts",
    "ledger_table",
    "update",
    "verdict",
    "without_claim",
]

REPRODUCED = "reproduced"
IN_PART = "reproduced in part"
NOT_REPRODUCED = "not reproduced"
NOT_TESTABLE = "not testable here"
#: Not a verdict: no chapter has recorded this claim yet.
NOT_RUN = "not run"
VERDICTS = (REPRODUCED, IN_PART, NOT_REPRODUCED, NOT_TESTABLE)


@dataclass(frozen=True)
class Verdict:
    """One of :data:`VERDICTS` (or :data:`NOT_RUN`), and in a few words why."""

    status: str
    why: str = ""

    def __str__(self) -> str:
        return self.status


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
    if wrong := claim.outside(record):
        return Verdict(NOT_REPRODUCED, wrong)
    values = record.values()
    try:
        holds = rules.evaluate(claim.rule, values)
        partly = bool(claim.partly) and rules.evaluate(claim.partly or "", values)
    except rules.RuleError as error:
        return Verdict(NOT_REPRODUCED, str(error))
    if not (holds or partly):
        return Verdict(NOT_REPRODUCED, claim.reason or f"not: {claim.rule}")
    if claim.control is not None:
        try:
            controlled = rules.evaluate(claim.control.rule, values)
        except rules.RuleError as error:
            return Verdict(NOT_REPRODUCED, f"negative control: {error}")
        if not controlled:
            return Verdict(
                NOT_REPRODUCED,
                f"the negative control does not come out the other way: not {claim.control.rule}",
            )
    return Verdict(REPRODUCED) if holds else Verdict(IN_PART, claim.reason or f"only: {claim.partly}")


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Row:
    """One claim's verdict, the chapter and the record that it rests on (None where nothing was recorded)."""

    notebook: str
    verdict: str
    why: str = ""
    record: Record | None = None


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Basis:
    """What a chapter's numbers rest on.

    Attributes:
        science: hash of its code, parameters, library and files; a verdict is stale when today's is another.
        uses: what its run looked up by name and read, (kind, name), files by their path in the repository.
    """

    science: str
    uses: tuple[tuple[str, str], ...] = ()


_ROWS = TypeAdapter(dict[str, Row])
_BASES = TypeAdapter(dict[str, Basis])


@dataclass(frozen=True)
class VerdictFile:
    """The verdicts of one run or scale, with what they rest on.

    Attributes:
        scale: at which they were measured.
        claims: by the claim's id.
        notebooks: what each chapter's numbers rested on when it was run.
    """

    scale: str
    claims: dict[str, Row] = field(default_factory=dict)
    notebooks: dict[str, Basis] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, scale: str) -> VerdictFile:
        """Read the file; an empty one if it is not there yet. Errors: LedgerError, if it is damaged."""
        where = "/".join(path.parts[-3:])
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("expected a mapping")
            rows = _ROWS.validate_python(content.get("claims", {}))
            return cls(scale, rows, _BASES.validate_python(content.get("notebooks", {})))
        except FileNotFoundError:
            return cls(scale)
        except (OSError, ValueError) as error:
            reason = wrong_in(error) if isinstance(error, ValidationError) else " ".join(str(error).split())
            todo = f"remove it and run make book SCALE={scale}, or fetch it back with git checkout"
            raise LedgerError(f"{where} is not a file of verdicts ({reason[:200]}): {todo}") from None

    def dumps(self) -> str:
        """The text of the file, sorted, so that a diff shows what changed."""
        return json.dumps(asdict(self), sort_keys=True, indent=1, ensure_ascii=False) + "\n"

    def write(self, path: Path) -> bool:
        """Write it whole, unless nothing changed; returns whether it was written."""
        return write_changed(path, self.dumps())

    def records(self) -> dict[str, Record]:
        """The records on which the verdicts rest."""
        return {name: row.record for name, row in self.claims.items() if row.record is not None}


@dataclass(frozen=True)
class Measured:
    """What today's outputs of one run say.

    Attributes:
        scale: at which they were made.
        records: what each chapter with a current output recorded.
        bases: what the numbers of each chapter with a current output rest on.
        stale: why a chapter's output is not current, '' if it is.
    """

    scale: str
    records: Mapping[str, Sequence[Record]]
    bases: Mapping[str, Basis]
    stale: Mapping[str, str]


def decide(ledger: Iterable[Claim], measured: Measured) -> VerdictFile:
    """Verdicts for all claims of the ledger, from the chapters whose outputs are current.

    Errors: LedgerError, if two chapters record one claim.
    """
    made: dict[str, Record] = {}
    for chapter, records in measured.records.items():
        for record in records:
            if record.id in made:
                raise LedgerError(f"claim {record.id!r} is recorded twice, again by {chapter}")
            made[record.id] = record
    rows, used = {}, set()
    for claim in ledger:
        decided = verdict(claim, made.get(claim.id), measured.scale)
        rows[claim.id] = Row(claim.notebook, decided.status, decided.why, made.get(claim.id))
        used.add(claim.notebook)
    current = {name: measured.bases[name] for name in sorted(used) if name in measured.records}
    return VerdictFile(measured.scale, rows, current)


def update(path: Path, ledger: Sequence[Claim], decided: VerdictFile) -> str:
    """Write the verdicts of a run into a committed file; returns one line that says what it then holds.

    Claims of chapters without a current output keep their record and what it was measured with; so does a
    claim that is not testable at this scale and that its chapter did not record again. A record goes when
    its claim is gone, or when its chapter ran and no longer measures it. Without any change nothing is
    written. Errors: LedgerError for a damaged file, OSError for one that cannot be written.
    """
    sweep(path.parent, idle=HOUR)
    before = VerdictFile.read(path, decided.scale)
    rows, notebooks = {}, dict(decided.notebooks)
    for claim in ledger:
        row, old = decided.claims[claim.id], before.claims.get(claim.id)
        ran = claim.notebook in decided.notebooks
        if not ran and claim.notebook in before.notebooks:
            notebooks[claim.notebook] = before.notebooks[claim.notebook]
        if row.record is None and (not ran or row.verdict == NOT_TESTABLE) and old is not None:
            kept = verdict(claim, old.record, decided.scale)
            row = replace(row, verdict=kept.status, why=kept.why, record=old.record)
        if ran or old is not None or (row.verdict == NOT_TESTABLE and decided.notebooks):
            rows[claim.id] = row
    after = VerdictFile(decided.scale, rows, notebooks)
    if after != VerdictFile(decided.scale):
        after.write(path)
    counts: dict[str, int] = {}
    for row in after.claims.values():
        counts[row.verdict] = counts.get(row.verdict, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none yet"


def without_claim(ledger: Iterable[Claim], records: Mapping[str, Sequence[Record]]) -> list[str]:
    """What chapters recorded that is no claim of theirs in the ledger, one line each."""
    owner = {claim.id: claim.notebook for claim in ledger}
    return [
        f"{chapter} records {record.id!r}, which is no claim of that chapter in the ledger"
        for chapter, rows in records.items()
        for record in rows
        if owner.get(record.id) != chapter
    ]


def check(
    ledger: Sequence[Claim],
    smoke: Measured,
    recorded: VerdictFile,
    published: VerdictFile,
    science: Mapping[str, str],
) -> list[str]:
    """What is wrong with the committed verdicts, one line each.

    At smoke: today's records must give the recorded verdicts. At book: every claim has a verdict, made from
    today's code, parameters, library and data. Every record belongs to a claim of the chapter that made it.

    Args:
        ledger: the claims.
        smoke: today's outputs at smoke.
        recorded: the committed verdicts at smoke.
        published: the committed verdicts at book.
        science: today's hashes of the chapters at book, if they use what they used then.
    """
    problems = [f"smoke: {chapter} is to run: {why}" for chapter, why in smoke.stale.items() if why]
    owner = {claim.id: claim.notebook for claim in ledger}
    problems += without_claim(ledger, smoke.records)
    for name, row in decide(ledger, smoke).claims.items():
        before = recorded.claims[name].verdict if name in recorded.claims else "not recorded"
        if row.verdict == NOT_RUN:
            problems.append(f"smoke: claim {name!r}: {row.why}")
        elif row.verdict != before:
            was = f"the verdict was {before!r} and is {row.verdict!r}"
            problems.append(f"smoke: claim {name!r}: {was} {row.why}".rstrip())
    for scale, file in (("smoke", recorded), ("book", published)):
        for name in sorted(set(file.claims) - set(owner)):
            problems.append(f"{scale}: a verdict is recorded for {name!r}, which is not in the ledger")
    for name, chapter in owner.items():
        if name not in published.claims or published.claims[name].verdict == NOT_RUN:
            problems.append(f"book: claim {name!r} has no verdict (run: make book)")
        elif (
            chapter not in published.notebooks or science.get(chapter) != published.notebooks[chapter].science
        ):
            problems.append(
                f"book: the verdict on {name!r} was not made by today's {chapter} (run: make book)"
            )
    return problems


def find_verdicts(scale: str = "book") -> VerdictFile:
    """The decided verdicts: those of the run that this notebook is part of, else those committed.

    Under ``make`` the executor says where the run's file is. In a reader's own session, or in a plain
    ``jupyter-book build``, the committed verdicts are read. Errors: LedgerError.
    """
    running = default_workspace()
    if running is None:
        return VerdictFile.read(Book.find().verdicts(scale), scale)
    path = running / "verdicts.json"
    if not path.is_file():
        raise LedgerError(f"{path} is not there: the verdicts of a run are decided before its report")
    return VerdictFile.read(path, scale)


_NUMBERS = ("value", "low", "high", "n", "control", "control_low", "control_high")


def ledger_table(
    ledger: Iterable[Claim] | None = None,
    verdicts: VerdictFile | None = None,
    scale: str = "book",
) -> pd.DataFrame:
    """The whole ledger with its decided verdicts, a row a claim; nothing is decided here.

    Args:
        ledger: default: the one around the running notebook.
        verdicts: default: ``find_verdicts(scale)``.
        scale: of the verdicts to find.

    Returns:
        Columns: claim, statement, source, notebook, quantity, value, low, high, n, control, control_low,
        control_high, rule, control_quantity, control_rule, verdict, why, note. Numbers that were not
        recorded are NaN; a claim without a decided verdict is "not run".
    """
    import pandas as pd

    ledger = load_ledger(find_ledger()) if ledger is None else ledger
    found = find_verdicts(scale) if verdicts is None else verdicts
    rows: list[dict[str, Any]] = []
    for claim in ledger:
        row = found.claims.get(claim.id) or Row(claim.notebook, NOT_RUN, "no verdict is recorded")
        values = row.record.values() if row.record else dict.fromkeys(rules.NAMES)
        rows.append(
            {
                "claim": claim.id,
                "statement": claim.statement,
                "source": claim.source,
                "notebook": claim.notebook,
                "quantity": claim.quantity,
                **{name: values[name] for name in _NUMBERS},
                "rule": claim.rule or "",
                "control_quantity": claim.control.quantity if claim.control else "",
                "control_rule": claim.control.rule if claim.control else "",
                "verdict": row.verdict,
                "why": row.why,
                "note": row.record.note if row.record else "",
            }
        )
    columns = ["claim", "statement", "source", "notebook", "quantity", *_NUMBERS]
    columns += ["rule", "control_quantity", "control_rule", "verdict", "why", "note"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(_NUMBERS, "float64"))
