"""The commands of who teaches: exercises, slides, and the edition without solutions."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.options import (
    OutOption,
    RootOption,
    ScaleOption,
    book_at,
    check_folder,
    make_folder,
    path_of,
    settings_of,
)

__all__ = ["app"]

app = make_app("The commands of who teaches.")


@app.command()
def exercises(
    chapter: Annotated[
        list[str] | None, typer.Argument(help="Numbers of chapters; all, if none is given.", metavar="NN")
    ] = None,
    solutions: Annotated[bool, typer.Option("--solutions", help="With the solutions.")] = False,
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Write the exercises of chapters as notebooks to work in; their code is checked by the reader's machine.

    They lie under ``exercises``.

    Example: `entanglement-book exercises`
    """
    from entanglement.files import write_whole
    from entanglement_book.layout import UsageError, number_of
    from entanglement_book.press import notebooks
    from entanglement_book.press.asked import exercises_of
    from entanglement_book.press.readable import pasted_in
    from entanglement_book.press.sheets import sheet

    at = book_at(root, out)
    known = {number_of(name): notebooks.read(at.notebook(name)) for name in at.chapters()}
    known = {number: page for number, page in known.items() if exercises_of(page, number)}
    wanted = [number.zfill(2) for number in chapter or known]
    if unknown := [number for number in wanted if number not in known]:
        raise UsageError(f"chapter {unknown[0]!r} has no exercises: expected one of {', '.join(known)}")
    names = {number_of(name): name for name in at.chapters()}
    for number in wanted:
        executed = at.executed(settings_of("book", None, None)) / f"{names[number]}.ipynb"
        numbers = pasted_in(notebooks.read(executed)) if executed.is_file() else {}
        path = at.out / "exercises" / f"{number}_{'solutions' if solutions else 'exercises'}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, notebooks.dumps(sheet(known[number], number, solutions, numbers)))
        print(path, flush=True)
    return 0


@app.command()
def slides(
    scale: ScaleOption = "book",
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder for a picture of each slide.", metavar="FOLDER", parser=path_of),
    ] = None,
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Write the decks of slides, one a part of the book, and look at each slide in a browser.

    They lie under ``slides``, with all that they load, and open from disk.

    Example: `entanglement-book slides`
    """
    from entanglement_book.press.slides import check_slides, write_slides

    if pictures is not None:
        check_folder("--pictures", pictures)
        make_folder("--pictures", pictures)
    index = write_slides(book_at(root, out), settings_of(scale, None, None))
    problems = check_slides(index.parent, pictures)
    for problem in problems:
        print(problem, flush=True)
    print(index, flush=True)
    return 1 if problems else 0


@app.command()
def student(
    scale: ScaleOption = "book",
    sources: Annotated[
        bool, typer.Option("--sources", help="Look at what its pages would be made of; build nothing.")
    ] = False,
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Build the student edition, from what was executed before, and look for solutions in it.

    It is the book without solutions: pages, downloads, search, and a PDF and an EPUB. The site lies beside
    the other one. Nothing runs.

    Example: `entanglement-book student`
    """
    from entanglement_book.press.copies import write_copies
    from entanglement_book.press.site import STUDENT, BuildError, build, stage
    from entanglement_book.press.student import solutions_in

    settings, at = settings_of(scale, None, None), replace(book_at(root, out), edition=STUDENT)
    try:
        folder = stage(at, settings, partial=False)[0] if sources else build(at, settings).parent
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    found = solutions_in(at, folder)
    for line in found:
        print(line, file=sys.stderr)
    if found:
        return 1
    what = "what its pages are made of" if sources else "its pages, downloads and search"
    print(f"no solution was found in {what}", flush=True)
    if not sources:
        write_copies(at, settings)
    return 0
