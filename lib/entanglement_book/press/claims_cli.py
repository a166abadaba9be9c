"""The command ``claims``: the verdicts of stored outputs, shown, recorded and checked."""

from __future__ import annotations

from typing import Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.layout import Book, Settings, UsageError, number_of
from entanglement_book.options import (
    ModelOption,
    OutOption,
    RootOption,
    ScaleOption,
    SeedOption,
    book_at,
    settings_of,
)

__all__ = ["app", "record_verdicts"]

app = make_app("The ledger of claims.")


@app.command()
def claims(
    update: Annotated[
        bool, typer.Option("--update", help="Record the verdicts that the stored outputs give.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Fail if a smoke verdict changed or one of the book is stale.")
    ] = False,
    scale: ScaleOption = "book",
    seed: SeedOption = None,
    model: ModelOption = None,
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Show the ledger of claims with its verdicts; record or check them.

    A verdict follows from what a chapter measured and the rule in book/claims.yml. The recorded ones stand in
    book/verdicts; `book` records those of scale book itself. A run with another seed or model has verdicts of
    its own, which are shown and never recorded.

    Examples:

    - `entanglement-book claims`
    - `entanglement-book claims --update --scale smoke`
    - `entanglement-book claims --check`
    """
    if update and check:
        raise UsageError("--update and --check: choose one")
    settings, book = settings_of(scale, seed, model), book_at(root, out)
    if check and scale != "book":
        raise UsageError("--check looks at smoke and book alike: leave out --scale")
    if (update or check) and not settings.is_default:
        what = "--update records" if update else "--check looks at"
        raise UsageError(f"{what} runs with default seed and model only: leave out --seed and --model")
    if check:
        return _check(book)
    if update:
        record_verdicts(book, settings)
    _show(book, settings)
    return 0


def record_verdicts(book: Book, settings: Settings) -> None:
    """Write the verdicts of a run with default parameters into its committed file. Errors: BookError."""
    from entanglement_book.ledger.claims import load_ledger
    from entanglement_book.ledger.verdicts import update
    from entanglement_book.press.store import judge

    if not settings.is_default:
        raise UsageError(f"the run {settings.label!r} is not one with default seed and model")
    path = book.verdicts(settings.scale)
    summary = update(path, load_ledger(book.ledger), judge(book, settings))
    print(f"claims at scale {settings.scale}: {summary} ({path.relative_to(book.root)})", flush=True)


def _show(book: Book, settings: Settings) -> None:
    from entanglement_book.ledger.claims import load_ledger
    from entanglement_book.ledger.verdicts import VerdictFile
    from entanglement_book.press.store import Store

    path = book.verdicts(settings.scale) if settings.is_default else Store(book, settings).verdicts
    recorded = VerdictFile.read(path, settings.scale)
    for claim in load_ledger(book.ledger):
        row = recorded.claims.get(claim.id)
        verdict, why = (row.verdict, row.why) if row else ("none recorded", "")
        print(f"{claim.id:<36} {number_of(claim.notebook)}  {verdict:<20} {why}".rstrip())


def _check(book: Book) -> int:
    from entanglement_book.ledger.claims import load_ledger
    from entanglement_book.ledger.verdicts import VerdictFile, check
    from entanglement_book.press.store import measured, science_now

    published = VerdictFile.read(book.verdicts("book"), "book")
    problems = check(
        load_ledger(book.ledger),
        measured(book, Settings("smoke")),
        VerdictFile.read(book.verdicts("smoke"), "smoke"),
        published,
        science_now(book, published),
    )
    print("\n".join(problems) or "the recorded verdicts hold, and were made by today's library", flush=True)
    return 1 if problems else 0
