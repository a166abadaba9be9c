"""What goes online or into a release, beside the pages: addresses, executed notebooks, archives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

from entanglement.files import file_sha256, write_whole
from entanglement_book.layout import Book, BookError, Settings
from entanglement_book.press import notebooks
from entanglement_book.press.problems import pages_in
from entanglement_book.press.readable import readable_notebook
from entanglement_book.press.store import Store, inspect
from entanglement_book.press.wheels import write_wheels

__all__ = [
    "EXECUTED",
    "buttons",
    "pages_address",
    "repository",
    "theme_options",
    "write_published",
    "write_release",
    "write_sitemap",
]

#: Overrides the configuration's address: a fork's workflow sets it.
VARIABLE = "BOOK_REPOSITORY"
#: The branch with the executed notebooks.
EXECUTED = "executed"
_COLAB, _BINDER = "https://colab.research.google.com", "https://mybinder.org"
_GITHUB = re.compile(r"^https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?$")


def repository(book: Book) -> str:
    """The address of the book's repository, ``repository: url`` of _config.yml; "" while it is unset."""
    given = os.environ.get(VARIABLE) or (book.config().get("repository") or {}).get("url") or ""
    return str(given).rstrip("/").removesuffix(".git")


def pages_address(address: str) -> str:
    """Where GitHub shows the pages of a repository; "" for another host."""
    found = _GITHUB.match(address)
    return f"https://{found[1].lower()}.github.io/{found[2]}/" if found else ""


def theme_options(address: str) -> dict[str, object]:
    """Return the theme's options for a repository: buttons on every chapter that open it elsewhere."""
    if not address:
        return {}
    launch = {"colab_url": _COLAB, "binderhub_url": _BINDER, "notebook_interface": "jupyterlab"}
    return {
        "repository_url": address,
        "repository_branch": EXECUTED,
        "use_repository_button": True,
        "launch_buttons": launch,
    }


def buttons(address: str, chapter: str) -> str:
    """Return a line of Markdown that opens a chapter on Colab and on Binder; "" without an address."""
    found = _GITHUB.match(address)
    if not found:
        return ""
    path = f"{found[1]}/{found[2]}"
    colab = f"{_COLAB}/github/{path}/blob/{EXECUTED}/notebooks/{chapter}.ipynb"
    binder = f"{_BINDER}/v2/gh/{path}/{EXECUTED}?urlpath=lab/tree/notebooks/{chapter}.ipynb"
    return f"[Open in Colab]({colab}) · [Open on Binder]({binder})"


def write_sitemap(site: Path, base: str) -> None:
    """Write ``sitemap.xml`` and ``robots.txt`` of a site that will stand at an address ending in a slash."""
    entries = "".join(f"<url><loc>{escape(base + page)}</loc></url>" for page in pages_in(site))
    write_whole(
        site / "sitemap.xml",
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</urlset>\n',
    )
    write_whole(site / "robots.txt", f"User-agent: *\nAllow: /\nSitemap: {base}sitemap.xml\n")


def _tracked(book: Book) -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=book.root, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BookError("the files of the book are not known: this is no git repository")
    return [name for name in done.stdout.split("\0") if name and (book.root / name).is_file()]


def write_published(book: Book, settings: Settings) -> Path:
    """Write the repository's files with executed notebooks in place of the empty ones; returns the folder.

    It is what the branch of executed notebooks holds: readable in any viewer, and all that Colab and Binder
    need.

    Errors: BookError if a chapter has no current output.
    """
    stale = [chapter for chapter, why in inspect(book, settings).stale.items() if why]
    if stale:
        raise BookError(f"{', '.join(stale)} must be executed first: run make book")
    folder, store, address = book.out / "published", Store(book, settings), repository(book)
    shutil.rmtree(folder, ignore_errors=True)
    for name in _tracked(book):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(book.root / name, target)
    rows = []
    for chapter in book.chapters():
        source = notebooks.read(book.notebook(chapter))
        page = readable_notebook(notebooks.lay_prose(source, notebooks.read(store.notebook(chapter))))
        title = page.cells[0].source.split("\n", 1)[0].lstrip("# ")
        if line := buttons(address, chapter):
            page.cells[0].source = page.cells[0].source.replace("\n", f"\n\n{line}\n", 1)
            for cell in notebooks.code_cells(page):
                cell.source = notebooks.published(cell.source, f"--branch main {address}")
        write_whole(folder / "notebooks" / f"{chapter}.ipynb", notebooks.dumps(page))
        rows.append(f"| [{title}](notebooks/{chapter}.ipynb) | {buttons(address, chapter)} |")
    head = "## The executed chapters\n\n| chapter | open it |\n|---|---|\n" + "\n".join(rows)
    readme = (folder / "README.md").read_text(encoding="utf-8")
    title, _, rest = readme.partition("\n")
    write_whole(folder / "README.md", f"{title}\n\n{head}\n{rest}")
    return folder


def _zip(folder: Path, target: Path) -> None:
    """Put files into an archive that is the same for the same files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file():
                entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def write_release(book: Book, settings: Settings) -> Path:
    """Write what a release has to give away, with checksums; returns the folder.

    Both wheels, the executed notebooks, the tables of the long experiments, and what was made of these: the
    pages, the PDF, the EPUB, the slides.

    Errors: BookError if one of them was not made.
    """
    folder = book.out / "release"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted = {
        "pages": (book.site(settings), "make book"),
        "slides": (book.out / "slides" / settings.label, "make slides"),
        "copies": (book.out / "copies" / settings.label, "make copies"),
    }
    for place, how in wanted.values():
        if not place.is_dir():
            raise BookError(f"there is no {place.relative_to(book.out)} yet: run {how}")
    write_wheels(book, folder)
    _zip(wanted["pages"][0], folder / "pages.zip")
    _zip(wanted["slides"][0], folder / "slides.zip")
    for path in sorted(wanted["copies"][0].glob("gradient-entanglement.*")):
        shutil.copy2(path, folder / path.name)
    published = write_published(book, settings)
    _zip(published / "notebooks", folder / "executed-notebooks.zip")
    with tarfile.open(folder / "results.tar.xz", "w:xz") as archive:
        archive.add(book.root / "book" / "results", "results", filter=_plain)
    sums = "".join(f"{file_sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()))
    write_whole(folder / "SHA256SUMS", sums)
    return folder
