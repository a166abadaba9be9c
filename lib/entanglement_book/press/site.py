"""Stages a fresh copy of the book with stored outputs in it, and builds the pages from that.

The stage holds the current prose around the stored outputs; Sphinx executes nothing. It is made anew each
time, because in an incremental build a number glued from another page can be a stale one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from nbformat import NotebookNode

from entanglement.files import digest, file_sha256, write_whole
from entanglement_book.layout import Book, Settings, UsageError, number_of, toc_files
from entanglement_book.locks import exclusive
from entanglement_book.press import notebooks
from entanglement_book.press.asked import exercises_of, without_solutions
from entanglement_book.press.execute import clock
from entanglement_book.press.figure_colors import adapt
from entanglement_book.press.numbering import numbers_of
from entanglement_book.press.pictures import load_when_near
from entanglement_book.press.publishing import pages_address, repository, theme_options, write_sitemap
from entanglement_book.press.sheets import sheet
from entanglement_book.press.store import Store, inspect

_NOT_PROSE = ("results", "verdicts", "slides", "__pycache__", ".ipynb_checkpoints", "*.yml")


#: The edition without solutions, and the pages that it lacks.
STUDENT = "student"
FOR_TEACHERS = ("book/exam_solutions",)
#: The file of a finished site that says what it was made from.
_MARK = ".made-from"


class BuildError(RuntimeError):
    """The site could not be built; the text says why, in a few lines."""


_REDIRECT = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<link rel="icon" href="data:,">
<meta http-equiv="refresh" content="0; url={page}"></head>
<body><p><a href="{page}">{title}</a></p></body></html>
"""


def _title(book: Book) -> str:
    return str(book.config().get("title", "The book"))


def _without(node: Any, gone: set[str]) -> Any:
    """The table of contents without some files, and without parts that became empty."""
    if isinstance(node, list):
        kept = [_without(item, gone) for item in node]
        return [item for item in kept if item is not None]
    if isinstance(node, dict):
        if node.get("file") in gone:
            return None
        node = {key: _without(value, gone) for key, value in node.items()}
        for key in ("chapters", "sections", "parts"):
            if key in node and not node[key]:
                if "file" not in node and "root" not in node:
                    return None
                del node[key]
    return node


def stage(book: Book, settings: Settings, partial: bool) -> tuple[Path, list[str]]:
    """Make the folder that Sphinx reads. Returns it and the pages left out (only with ``partial``).

    Errors: BuildError if a page of the table of contents has no current output, unless ``partial``.
    """
    state, store = inspect(book, settings), Store(book, settings)
    folder = book.stage(settings)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if (book.root / "book").is_dir():
        shutil.copytree(book.root / "book", folder / "book", ignore=shutil.ignore_patterns(*_NOT_PROSE))
    if book.edition == STUDENT:
        _leave_out_solutions(folder / "book")
    (folder / "notebooks").mkdir()
    for chapter, why in state.stale.items():
        if not why:
            _stage_chapter(book, store, chapter, folder / "notebooks")
    toc = book.toc()
    gone = [
        name
        for name in toc_files(toc)
        if not any((folder / f"{name}{end}").is_file() for end in (".md", ".ipynb"))
    ]
    missing = [name for name in gone if book.edition != STUDENT or name not in FOR_TEACHERS]
    if missing and not partial:
        raise BuildError(f"these pages of _toc.yml have no current output: {', '.join(missing)}")
    if toc.get("root") in gone:
        raise BuildError(f"the root page {toc['root']} of _toc.yml is not there")
    (folder / "_toc.yml").write_text(
        yaml.safe_dump(_without(toc, set(gone)), sort_keys=False), encoding="utf-8"
    )
    config = book.config()
    if book.edition == STUDENT:
        config["title"] = f"{_title(book)} (student edition)"
    config.setdefault("execute", {})["execute_notebooks"] = "off"
    numbers = numbers_of(toc)
    if numbers:  # those of the whole book, whatever is left out
        config.setdefault("sphinx", {}).setdefault("config", {})["chapter_numbers"] = numbers
    sphinx = config.setdefault("sphinx", {}).setdefault("config", {})
    options = sphinx.setdefault("html_theme_options", {})
    if note := _announcement(settings, missing):
        options["announcement"] = note
    if address := repository(book):
        options.update(theme_options(address))
        if base := pages_address(address):
            sphinx["html_baseurl"] = base  # the canonical address of each page
    (folder / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return folder, missing


def _leave_out_solutions(pages: Path) -> None:
    """Take the solutions out of pages, and the pages that only teachers have."""
    for path in sorted(pages.rglob("*.md")):
        write_whole(path, without_solutions(path.read_text(encoding="utf-8")))
    for name in FOR_TEACHERS:
        (pages.parent / f"{name}.md").unlink(missing_ok=True)


def _stage_chapter(book: Book, store: Store, chapter: str, folder: Path) -> None:
    """Write a chapter's page and what it leads to."""
    try:
        source, done = notebooks.read(book.notebook(chapter)), notebooks.read(store.notebook(chapter))
        page = _readable(notebooks.lay_prose(source, done))
    except ValueError as error:
        raise BuildError(f"{chapter} changed while its page was made ({error})") from None
    if book.edition == STUDENT:
        for cell in page.cells:
            cell.source = without_solutions(cell.source)
    for name, text in (_take_tables(page) | _add_sheet(page, source, chapter)).items():
        write_whole(folder / name, text)
    _say_where_from(page, repository(book))
    write_whole(folder / f"{chapter}.ipynb", notebooks.dumps(page))


def _readable(page: NotebookNode) -> NotebookNode:
    """Give the figures of a page's outputs, glued ones too, text for light and for dark pages."""
    for cell in notebooks.code_cells(page):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in [kind for kind in data if kind.endswith("image/svg+xml")]:
                data[kind] = adapt(data[kind])
    return page


def _take_tables(page: NotebookNode) -> dict[str, str]:
    """Take what the figures of a page show out of it, and let each caption lead there.

    Returns: path beside the page → CSV.
    """
    tables: dict[str, str] = {}
    for cell in notebooks.code_cells(page):
        found = [
            output.data.pop("text/csv") for output in cell.outputs if "text/csv" in output.get("data", {})
        ]
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if found and figure.get("name") and figure.get("caption"):
            name = f"data/{figure['name']}.csv"
            tables[name] = "".join(found)
            figure["caption"] += f" {{download}}`Data <{name}>`"
    return tables


def _add_sheet(page: NotebookNode, source: NotebookNode, chapter: str) -> dict[str, str]:
    """Let the heading of a chapter's exercises lead to them as a notebook.

    Returns: path beside the page → notebook.
    """
    number = number_of(chapter)
    if not exercises_of(source, number):
        return {}
    name = f"data/{number}_exercises.ipynb"
    for cell in page.cells:
        if cell.cell_type == "markdown" and "## Exercises\n" in cell.source:
            said = f"To work on them, take {{download}}`this notebook <{name}>`; it checks what you write."
            cell.source = cell.source.replace("## Exercises\n", f"## Exercises\n\n{said}\n", 1)
    return {name: notebooks.dumps(sheet(source, number))}


def _say_where_from(page: NotebookNode, address: str) -> None:
    """Write the repository's address into the cell that installs the library, if there is one."""
    if address:
        for cell in notebooks.code_cells(page):
            cell.source = notebooks.published(cell.source, f"--branch main {address}")


def _announcement(settings: Settings, gone: list[str]) -> str:
    """What a reader must know about pages that are not the published ones."""
    notes = []
    if settings.scale == "smoke":
        notes.append("Built at scale <b>smoke</b>: everything runs, and the numbers mean little.")
    elif settings.scale != "book":
        notes.append(f"Built at scale <b>{settings.scale}</b>.")
    if settings.seed is not None:
        notes.append(f"Seed {settings.seed}.")
    if settings.model is not None:
        notes.append(f"Model {settings.model}.")
    if gone:
        notes.append("Some pages are left out; references to them are broken.")
    return " ".join(notes)


def remove(book: Book, settings: Settings) -> None:
    """Remove a site, so that it is not taken for a newer one; one that is being built is left to who does."""
    with contextlib.suppress(UsageError), _building(book, settings):
        shutil.rmtree(book.site(settings), ignore_errors=True)


def _building(book: Book, settings: Settings) -> contextlib.AbstractContextManager[None]:
    return exclusive(book.lock_of_site(settings), f"building the site of {settings.label!r}")


def build(book: Book, settings: Settings, partial: bool = False) -> Path:
    """Build the pages and return the path of ``index.html``.

    ``partial``: pages without a current output are left out, and warnings (references to them) are shown and
    are no errors. A site that was made from just what stands here stays. The finished site takes its place
    only when it is whole; an older one is removed first, so that it cannot be taken for this one.

    Errors: BuildError; UsageError if another build of it is going on.
    """
    with _building(book, settings):
        return _build(book, settings, partial)


def _made_from(book: Book, folder: Path) -> str:
    """A hash of all that the pages are made from: the staged files, the library, whose docstrings and
    extensions they show, and the installed packages.
    """
    library = book.library.parent
    # By their place in the book: the same pages in another folder have the same hash.
    files = {f"stage/{p.relative_to(folder).as_posix()}": p for p in folder.rglob("*") if p.is_file()}
    files |= {f"lib/{p.relative_to(library).as_posix()}": p for p in library.rglob("*.py") if p.is_file()}
    files |= {book.lock.name: book.lock} if book.lock.is_file() else {}
    hashes = {name: file_sha256(path) for name, path in files.items()}
    return digest(hashes, sys.version)


def _build(book: Book, settings: Settings, partial: bool) -> Path:
    began = time.monotonic()
    target = book.site(settings)
    try:
        folder, gone = stage(book, settings, partial)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    if gone:
        print(f"left out of the site (no current output): {', '.join(gone)}", flush=True)
    output = book.out / "html-build" / settings.label
    shutil.rmtree(output, ignore_errors=True)  # what a build that was killed left
    made_from, mark = _made_from(book, folder), target / _MARK
    if mark.is_file() and mark.read_bytes() == made_from.encode():
        print(f"the site is that of today's pages: {target / 'index.html'}", flush=True)
        return target / "index.html"
    shutil.rmtree(target, ignore_errors=True)
    command = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        str(folder),
        "--all",
    ]
    command += ["--path-output", str(output), "--keep-going", "--quiet"] + ([] if gone else ["-W"])
    log = book.out / f"build-{settings.label}.log"
    with log.open("w", encoding="utf-8") as stream:
        plain = {**os.environ, "NO_COLOR": "1"}
        status = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=plain
        ).returncode
    text = log.read_text(encoding="utf-8", errors="replace")
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    warnings = [line for line in text.splitlines() if "WARNING" in line or "ERROR" in line]
    html = output / "_build" / "html"
    if status != 0 or not (html / "index.html").is_file():
        shown = warnings or text.strip().splitlines()[-15:]
        lines = "\n".join(f"  {line.replace(str(folder), '').lstrip('/')}" for line in shown[:40])
        raise BuildError(f"the site was not built (exit status {status}):\n{lines}\n  log: {log}")
    if gone and warnings:
        print(f"{len(warnings)} references to what was left out lead nowhere: {log}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    for needless in html.rglob("*.map"):  # for those who mend the theme's scripts, who have them there
        needless.unlink()
    for path in (html / "_sources" / "notebooks").glob("*.ipynb"):
        # To take away and run; what was computed stands in the page, and its figures would double the site.
        write_whole(path, notebooks.dumps(notebooks.tidy(notebooks.read(path))))
    load_when_near(html)
    # Jupyter Book's own redirect says neither its language nor what it is.
    redirect = _REDIRECT.format(title=_title(book), page=f"{book.toc()['root']}.html")
    write_whole(html / "index.html", redirect)
    if base := pages_address(repository(book)):
        write_sitemap(html, base)
    write_whole(html / _MARK, made_from)
    html.rename(target)
    shutil.rmtree(output, ignore_errors=True)
    index = target / "index.html"
    print(f"site built in {clock(time.monotonic() - began)}: {index}", flush=True)
    return index
