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
