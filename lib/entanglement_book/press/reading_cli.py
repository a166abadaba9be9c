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
    from entanglement_book.press.copies import write_copies

    settings, at = settings_of(scale, seed, model), book_at(root, out)
    _built(at, settings)
    write_copies(at, settings)
    return 0
