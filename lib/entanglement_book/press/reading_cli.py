"""The commands of who reads the built book: on this machine, or as a file to take away."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.layout import Book, BookError, Settings, parse_port
from entanglement_book.options import (
    ModelOption,
    OutOption,
    RootOption,
    ScaleOption,
    SeedOption,
    book_at,
    settings_of,
)

__all__ = ["app"]

app = make_app("The commands of who reads the built book.")


def _built(book: Book, settings: Settings) -> Path:
    """Return the folder of a site that is there."""
    site = book.site(settings)
    if not (site / "index.html").is_file():
        raise BookError(f"there is no site at {site} yet: run make book first")
    return site


@app.command()
def serve(
    port: Annotated[str, typer.Option(help="Port on this machine.", metavar="N")] = "8000",
    scale: ScaleOption = "book",
    seed: SeedOption = None,
    model: ModelOption = None,
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Show the pages on this machine, to no one else, until Ctrl-C.

    Example: `entanglement-book serve --port 8001`
    """
    import threading

    from entanglement_book.press.check import serve as serve_site

    number = parse_port(port)
    pages = _built(book_at(root, out), settings_of(scale, seed, model))

    try:
        with serve_site(pages, number) as address:
            print(f"the book is at {address}/ (Ctrl-C ends)", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(f"port {port} cannot be used ({error.strerror}): choose another with --port", file=sys.stderr)
        return 1
    return 0


@app.command()
def copies(
    scale: ScaleOption = "book",
    seed: SeedOption = None,
    model: ModelOption = None,
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Write the whole book as one PDF and one EPUB, from the pages as they were built.

    They lie beside the site, under ``copies``. It takes a minute.

    Example: `entanglement-book copies`
    """
    from entanglement_book.layout import toc_files
    from entanglement_book.press.copies import collect, write_epub, write_pdf

    settings, at = settings_of(scale, seed, model), book_at(root, out)
    site, folder = _built(at, settings), at.out / "copies" / settings.label
    config = at.config()
    title, author = (str(config.get(name, "")) for name in ("title", "author"))
    names = [f"{name}.html" for name in toc_files(at.toc())]
    pages = collect(site, [name for name in names if (site / name).is_file()])
    pdf, epub = folder / "gradient-entanglement.pdf", folder / "gradient-entanglement.epub"
    write_pdf(site, pages, title, pdf)
    print(f"{pdf} ({pdf.stat().st_size / 1e6:.1f} MB)", flush=True)
    write_epub(site, collect(site, [page.path for page in pages]), title, epub, author)
    print(f"{epub} ({epub.stat().st_size / 1e6:.1f} MB)", flush=True)
    return 0


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

    Example: `entanglement-book exercises 07`
    """
    from entanglement.files import write_whole
    from entanglement_book.exercises.asked import exercises_of
    from entanglement_book.layout import UsageError, number_of
    from entanglement_book.press import notebooks
    from entanglement_book.press.sheets import sheet

    at = book_at(root, out)
    known = {number_of(name): notebooks.read(at.notebook(name)) for name in at.chapters()}
    known = {number: page for number, page in known.items() if exercises_of(page, number)}
    wanted = [number.zfill(2) for number in chapter or known]
    if unknown := [number for number in wanted if number not in known]:
        raise UsageError(f"chapter {unknown[0]!r} has no exercises: expected one of {', '.join(known)}")
    for number in wanted:
        path = at.out / "exercises" / f"{number}_{'solutions' if solutions else 'exercises'}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, notebooks.dumps(sheet(known[number], number, solutions)))
        print(path, flush=True)
    return 0


@app.command()
def slides(
    scale: ScaleOption = "book",
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for a picture of each slide.", metavar="FOLDER")
    ] = None,
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Write the decks of slides, one a part of the book, and look at each slide in a browser.

    They lie under ``slides``, with all that they load, and open from disk.

    Example: `entanglement-book slides`
    """
    from entanglement_book.press.slides import check_slides, write_slides

    index = write_slides(book_at(root, out), settings_of(scale, None, None))
    problems = check_slides(index.parent, pictures)
    for problem in problems:
        print(problem, flush=True)
    print(index, flush=True)
    return 1 if problems else 0
