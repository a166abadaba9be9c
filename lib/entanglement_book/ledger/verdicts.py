"""Writes down the verdicts that stored outputs give, and checks those that are written down.

Verdicts are recorded per scale in ``book/verdicts/<scale>.json``: ``make book`` records the book's,
``claims --update --scale smoke`` those of smoke, and ``make test`` derives the smoke verdicts again.
"""

from __future__ import annotations

from entanglement_book.layout import Book, Settings
from entanglement_book.ledger.claims import (
    NOT_RUN,
    LedgerError,
    Record,
    VerdictFile,
    decide,
    load_ledger,
    read_file,
)
from entanglement_book.press.execute import State, Store, inspect
from entanglement_book.provenance.sources import science_of


def _records(book: Book, settings: Settings, state: State) -> dict[str, list[Record]]:
    """What each chapter with a current output recorded."""
    store = Store(book, settings)
    return {chapter: read_file(store.claims(chapter)) for chapter, why in state.stale.items() if not why}


def _decide(book: Book, settings: Settings, state: State, records: dict[str, list[Record]]) -> VerdictFile:
    made = {record.id: record for rows in records.values() for record in rows}
    science = {chapter: science_of(state.parts[chapter]) for chapter in records}
    return decide(load_ledger(book.ledger), made, settings.scale, science)


def update(book: Book, settings: Settings) -> None:
    """Record the verdicts of all chapters whose outputs are current; claims of other chapters keep theirs.

    Errors: LedgerError, OSError for a ledger that cannot be read.
    """
    state, path = inspect(book, settings), book.verdicts(settings.scale)
    records = _records(book, settings, state)
    before, after = VerdictFile.read(path, settings.scale), _decide(book, settings, state, records)
    for name, row in list(after.claims.items()):
        if row["notebook"] not in records and row["record"] is None and row["verdict"] == NOT_RUN:
            del after.claims[name]
            if name in before.claims:
                after.claims[name] = before.claims[name]
            if row["notebook"] in before.notebooks:
                after.notebooks[row["notebook"]] = before.notebooks[row["notebook"]]
    after.write(path)
    counts: dict[str, int] = {}
    for row in after.claims.values():
        counts[row["verdict"]] = counts.get(row["verdict"], 0) + 1
    summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none yet"
    print(f"claims at scale {settings.scale}: {summary} ({path.relative_to(book.root)})", flush=True)


def check(book: Book) -> list[str]:
    """What is wrong with the recorded verdicts, one line each.

    At smoke: today's records must give the recorded verdicts. At book: every claim has a verdict, made from
    today's code, parameters, library and data. Every record belongs to a claim of the chapter that made it.
    """
    smoke, problems = Settings("smoke"), []
    state = inspect(book, smoke)
    problems += [f"smoke: {chapter} is to run: {why}" for chapter, why in state.stale.items() if why]
    try:
        ledger = load_ledger(book.ledger)
        records = _records(book, smoke, state)
        today = _decide(book, smoke, state, records)
    except (LedgerError, OSError) as error:
        return [*problems, str(error)]
    owner = {claim.id: claim.notebook for claim in ledger}
    for chapter, rows in records.items():
        for record in rows:
            if owner.get(record.id) != chapter:
                problems.append(
                    f"{chapter} records {record.id!r}, which is no claim of that chapter in the ledger"
                )
    recorded = VerdictFile.read(book.verdicts("smoke"), "smoke")
    for name, row in today.claims.items():
        before = recorded.claims.get(name, {}).get("verdict", "not recorded")
        if row["verdict"] == NOT_RUN:
            problems.append(f"smoke: claim {name!r}: {row['why']}")
        elif row["verdict"] != before:
            was = f"the verdict was {before!r} and is {row['verdict']!r}"
            problems.append(f"smoke: claim {name!r}: {was} {row['why']}".rstrip())
    for name in sorted(set(recorded.claims) - set(owner)):
        problems.append(f"smoke: a verdict is recorded for {name!r}, which is not in the ledger")
    return problems + _check_published(book, owner)


def _check_published(book: Book, owner: dict[str, str]) -> list[str]:
    published = VerdictFile.read(book.verdicts("book"), "book")
    parts = inspect(book, Settings("book")).parts
    problems = []
    for name, chapter in owner.items():
        row = published.claims.get(name)
        if row is None or row["verdict"] == NOT_RUN:
            problems.append(f"book: claim {name!r} has no verdict (run: make book)")
        elif chapter in parts and published.notebooks.get(chapter) != science_of(parts[chapter]):
            problems.append(
                f"book: the verdict on {name!r} was not made by today's {chapter} (run: make book)"
            )
    return problems
