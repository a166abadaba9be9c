"""The commands of who publishes: wheels, executed notebooks, a release, what changed, broken links."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.options import (
    OutOption,
    RootOption,
    ScaleOption,
    book_at,
    path_of,
    settings_of,
)

__all__ = ["app"]

app = make_app("The commands of who publishes.")


@app.command()
def wheels(out: OutOption = None, root: RootOption = None) -> int:
    """Build two wheels: the science, which knows nothing of the book, and the book. They lie under wheels.

    Example: `entanglement-book wheels`
    """
    from entanglement_book.press.wheels import write_wheels

    at = book_at(root, out)
    for path in write_wheels(at, at.out / "wheels"):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", flush=True)
    return 0


@app.command()
def published(scale: ScaleOption = "book", out: OutOption = None, root: RootOption = None) -> int:
    """Write the repository's files with executed notebooks that any viewer can show, under published.

    It is what the branch of executed notebooks holds. Nothing runs.

    Example: `entanglement-book published`
    """
    from entanglement_book.press.publishing import write_published

    print(write_published(book_at(root, out), settings_of(scale, None, None)), flush=True)
    return 0


@app.command()
def release(scale: ScaleOption = "book", out: OutOption = None, root: RootOption = None) -> int:
    """Collect what a release gives away, with checksums, under release.

    Needs the pages, the slides and the copies: run `make book slides copies` before.

    Example: `entanglement-book release`
    """
    from entanglement_book.press.publishing import write_release

    folder = write_release(book_at(root, out), settings_of(scale, None, None))
    for path in sorted(folder.iterdir()):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", flush=True)
    return 0


@app.command()
def changes(
    before: Annotated[
        Path,
        typer.Option(
            "--before", help="Folder of chapters executed before.", metavar="FOLDER", parser=path_of
        ),
    ],
    versions: Annotated[bool, typer.Option("--versions", help="Ask for newer packages as well.")] = False,
    scale: ScaleOption = "book",
    out: OutOption = None,
    root: RootOption = None,
) -> int:
    """Say what differs from an earlier execution: numbers in the text, verdicts, versions.

    Example: `entanglement-book changes --before last_week/executed/book --versions`
    """
    from entanglement_book.layout import UsageError
    from entanglement_book.press.what_changed import changed_numbers, changed_verdicts, outdated, report

    if not before.is_dir():
        raise UsageError(f"--before {str(before)!r} is not a folder")
    at, settings = book_at(root, out), settings_of(scale, None, None)
    now = at.executed(settings)
    sections = {
        "Numbers that changed": changed_numbers(before, now),
        "Verdicts that changed": changed_verdicts(before / "verdicts.json", now / "verdicts.json"),
    }
    if versions:
        sections["Newer versions"] = outdated()
    print(report("What changed", sections), flush=True)
    return 0


@app.command()
def links(scale: ScaleOption = "book", out: OutOption = None, root: RootOption = None) -> int:
    """Ask every address to which the pages lead whether it is still there. Wants a network.

    Example: `entanglement-book links`
    """
    from entanglement_book.layout import BookError
    from entanglement_book.press.what_changed import broken_links

    at, settings = book_at(root, out), settings_of(scale, None, None)
    site = at.site(settings)
    if not (site / "index.html").is_file():
        raise BookError(f"there is no site at {site} yet: run make book first")
    broken = broken_links(site, sorted(at.root.glob("*.md")))
    for line in broken:
        print(line, file=sys.stderr)
    print(f"{len(broken)} links are broken", flush=True)
    return 1 if broken else 0
