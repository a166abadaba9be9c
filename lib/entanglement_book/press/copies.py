"""The whole book as one file to take away: a PDF with numbered pages, and an EPUB.

Both are made from a built site. Its articles are put into one page, links between them become links inside
it, and the browser that checks the site typesets the mathematics. The PDF is that page, printed, with
bookmarks; the EPUB has the mathematics as MathML, a file a page, and the pictures.
"""

from __future__ import annotations

import io
import mimetypes
import posixpath
import re
import urllib.parse
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from bs4 import BeautifulSoup, Comment, Tag

from entanglement.files import write_whole
from entanglement_book.layout import Book, Settings, UsageError, toc_files
from entanglement_book.press import browser as browsers
from entanglement_book.press.check import serve

__all__ = ["Page", "collect", "one_page", "write_copies", "write_epub", "write_pdf"]

#: What only a screen has use for.
_SCREEN = (
    "script",
    "style",
    ".headerlink",
    ".copybtn",
    ".lab-data",
    "button",
    ".prev-next-area",
    "a.download",
)
_STYLE = """
@page { size: A4; margin: 18mm 16mm 20mm; }
body { background: #fff; color: #1b1f24; font-family: Georgia, "DejaVu Serif", serif; }
body { font-size: 10.5pt; line-height: 1.5; }
h1, h2, h3, nav, table, figcaption, .admonition-title { font-family: Helvetica, "DejaVu Sans", sans-serif; }
section.page { break-before: page; }
h1 { font-size: 20pt; } h2 { font-size: 14pt; } h3 { font-size: 12pt; }
h1, h2, h3 { break-after: avoid; line-height: 1.25; }
pre { white-space: pre-wrap; font-size: 8.5pt; line-height: 1.35; background: #f6f8fa; padding: 0.5em 0.8em; }
code { font-size: 0.92em; }
img { max-width: 100%; height: auto; display: block; margin: 0.6em auto; }
figure, div.proof, div.exercise, div.solution, table { break-inside: avoid; }
figure { margin: 1em 0; } figcaption { font-size: 9pt; color: #444; }
div.proof, div.exercise, div.solution, div.admonition { border-left: 2px solid #888; margin: 1em 0; }
div.proof, div.exercise, div.solution, div.admonition { padding: 0.2em 0 0.2em 0.9em; }
table { border-collapse: collapse; font-size: 9pt; }
td, th { border-bottom: 1px solid #ccc; padding: 0.2em 0.5em; text-align: left; }
a { color: #1f5f8f; text-decoration: none; } nav li { margin: 0.2em 0; list-style: none; }
summary { display: none; } .caption-number { font-weight: 600; }
"""
_FOOTER = (
    '<div style="width: 100%; text-align: center; font: 8px sans-serif; color: #555">'
    '<span class="pageNumber"></span></div>'
)
#: Replaces what MathJax typeset by MathML, and gives back each page's part.
_MATHML = """async () => {
  await MathJax.startup.promise;
  for (const item of MathJax.startup.document.math) {
    const made = document.createElement('template');
    made.innerHTML = MathJax.startup.toMML(item.root);
    item.typesetRoot.replaceWith(made.content);
  }
  return Array.from(document.querySelectorAll('section.page')).map(page => [page.id, page.innerHTML]);
}"""


@dataclass(frozen=True)
class Page:
    """One page of the site: its place there, its key in the one page, its title, and its article."""

    path: str
    key: str
    title: str
    article: Tag


def _key(path: str) -> str:
    return re.sub(r"\W+", "-", path.removesuffix(".html"))


def collect(site: Path, pages: Sequence[str]) -> list[Page]:
    """Return the articles of some pages, ready to stand in one: names and links changed, what only a screen
    has use for taken out, folds open.

    Args:
        site: folder of a built site.
        pages: paths in it, in order.

    Raises:
        UsageError: there is no such page, or it has no article.
    """
    keys = {path: _key(path) for path in pages}
    found = []
    for path in pages:
        if not (site / path).is_file():
            raise UsageError(f"the site has no page {path}: run make book first")
        soup = BeautifulSoup((site / path).read_text(encoding="utf-8"), "html.parser")
        article = soup.select_one("article.bd-article")
        if article is None:
            raise UsageError(f"{path} of the site has no article in it")
        for gone in article.select(", ".join(_SCREEN)):
            gone.decompose()
        for fold in article.select("details"):
            fold["open"] = ""
        for hidden in article.select(".toggle, .dropdown"):
            names = hidden.get_attribute_list("class")
            hidden["class"] = " ".join(name for name in names if name not in ("toggle", "dropdown"))
        for named in article.find_all(id=True):
            named["id"] = f"{keys[path]}--{named['id']}"
        for image in article.find_all("img", src=True):
            image["src"] = posixpath.normpath(posixpath.join(posixpath.dirname(path), str(image["src"])))
            del image["loading"]
        for link in article.find_all("a", href=True):
            link["href"] = _target(path, str(link["href"]), keys)
        heading = article.find("h1")
        title = " ".join(heading.get_text(" ", strip=True).split()) if heading else path
        found.append(Page(path, keys[path], title, article))
    return found


def _target(path: str, href: str, keys: dict[str, str]) -> str:
    """Where a link leads when all pages stand in one."""
    parts = urllib.parse.urlsplit(href)
    if parts.scheme or parts.netloc:
        return href
    there = posixpath.normpath(posixpath.join(posixpath.dirname(path), parts.path)) if parts.path else path
    if there not in keys:
        return "#"
    return f"#{keys[there]}--{parts.fragment}" if parts.fragment else f"#{keys[there]}"


def one_page(site: Path, pages: Sequence[Page], title: str) -> str:
    """Return all pages as one HTML page, with a table of contents; it belongs into the site's folder.

    Args:
        site: the site, whose mathematics it borrows.
        pages: of ``collect``.
        title: of the book.
    """
    head = BeautifulSoup((site / pages[0].path).read_text(encoding="utf-8"), "html.parser").head
    folder = posixpath.dirname(pages[0].path)
    scripts = []
    for script in head.find_all("script") if head else []:
        source, text = str(script.get("src") or ""), script.get_text()
        if "mathjax" in source.lower():
            source = posixpath.normpath(posixpath.join(folder, source))
            scripts.append(f'<script defer src="{escape(source)}"></script>')
        elif "MathJax" in text:
            scripts.append(f"<script>{text}</script>")
    contents = "".join(f'<li><a href="#{page.key}">{escape(page.title)}</a></li>' for page in pages)
    body = "".join(
        f'<section class="page" id="{page.key}">{page.article.decode()}</section>' for page in pages
    )
    return (
        '<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>{''.join(scripts)}</head>"
        f"<body><h1>{escape(title)}</h1>"
        f"<nav><h2>Contents</h2><ol>{contents}</ol></nav>{body}</body></html>"
    )


def _opened(site: Path, text: str, work: Any) -> Any:
    """Open a page that stands in the site's folder in a browser, and return what ``work`` makes of it."""
    file = site / "_one_page.html"
    write_whole(file, text)
    try:
        with serve(site) as address, browsers.launch() as browser:
            page = browser.new_page()
            page.set_default_timeout(600_000)
            page.goto(f"{address}/{file.name}", wait_until="load")
            page.evaluate("async () => { await MathJax.startup.promise; }")
            return work(page)
    finally:
        file.unlink(missing_ok=True)


def write_pdf(site: Path, pages: Sequence[Page], title: str, target: Path) -> None:
    """Print all pages into one PDF with page numbers and bookmarks.

    Args:
        site: folder of a built site.
        pages: of ``collect``.
        title: of the book.
        target: file to write.
    """
    options = {"display_header_footer": True, "header_template": "<span></span>", "footer_template": _FOOTER}
    options |= {"prefer_css_page_size": True, "print_background": True, "outline": True, "tagged": True}
    data = _opened(site, one_page(site, pages, title), lambda page: page.pdf(**options))
    write_whole(target, data)


_CONTAINER = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<container version="1.0" '
    'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="book/content.opf" media-type="application/oebps-package+xml"/>'
    "</rootfiles></container>"
)
_XHTML = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" '
    'xmlns:epub="http://www.idpf.org/2007/ops" lang="en"><head><title>{title}</title>'
    '<link rel="stylesheet" href="style.css"/></head><body>{body}</body></html>'
)


def _as_xml(soup: BeautifulSoup) -> str:
    """Return a piece of HTML as a piece of XML; void tags and attributes are written as XML by the parser."""
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    for tag in soup.find_all(True):
        for name in [name for name in tag.attrs if not re.fullmatch(r"[A-Za-z_][\w.-]*", name)]:
            del tag[name]
        if tag.name == "math":
            tag["xmlns"] = "http://www.w3.org/1998/Math/MathML"
    text = f"<div>{soup.decode()}</div>"
    ElementTree.fromstring(text)  # what is not well-formed is not written
    return text


def write_epub(site: Path, pages: Sequence[Page], title: str, target: Path, author: str = "") -> None:
    """Write all pages as an EPUB 3, a file each, with MathML and the pictures they show.

    Args:
        site: folder of a built site.
        pages: of ``collect``.
        title, author: of the book.
        target: file to write.
    """
    parts = dict(_opened(site, one_page(site, pages, title), lambda page: page.evaluate(_MATHML)))
    names = {page.key: f"page-{place:02d}.xhtml" for place, page in enumerate(pages)}
    files: dict[str, bytes] = {"style.css": re.sub(r"@page \{.*?\}\n", "", _STYLE).encode()}
    items = ['<item id="css" href="style.css" media-type="text/css"/>']
    pictures: dict[str, str] = {}
    for page in pages:
        soup = BeautifulSoup(parts[page.key], "html.parser")
        for image in soup.find_all("img", src=True):
            source = urllib.parse.unquote(urllib.parse.urlsplit(str(image["src"])).path).lstrip("/")
            if (site / source).is_file():
                name = pictures.setdefault(source, f"images/{Path(source).name}")
                image["src"] = name
        for link in soup.find_all("a", href=True):
            key, _, rest = str(link["href"]).removeprefix("#").partition("--")
            if str(link["href"]).startswith("#") and key in names:
                link["href"] = names[key] + (f"#{key}--{rest}" if rest else "")
        body = _as_xml(soup)
        files[names[page.key]] = _XHTML.format(title=escape(page.title), body=body).encode()
        what = ' properties="mathml"' if "<math" in body else ""
        items.append(
            f'<item id="{page.key}" href="{names[page.key]}" media-type="application/xhtml+xml"{what}/>'
        )
    for number, (source, name) in enumerate(pictures.items()):
        files[name] = (site / source).read_bytes()
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        items.append(f'<item id="picture-{number}" href="{name}" media-type="{kind}"/>')
    entries = "".join(f'<li><a href="{names[page.key]}">{escape(page.title)}</a></li>' for page in pages)
    nav = f'<nav epub:type="toc"><h1>Contents</h1><ol>{entries}</ol></nav>'
    files["nav.xhtml"] = _XHTML.format(title="Contents", body=nav).encode()
    items.append('<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>')
    spine = "".join(f'<itemref idref="{page.key}"/>' for page in pages)
    files["content.opf"] = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<package xmlns="http://www.idpf.org/2007/opf" version="3.0" '
        'unique-identifier="id"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f'<dc:identifier id="id">urn:book:{_key(title)}</dc:identifier><dc:title>{escape(title)}</dc:title>'
        f"<dc:creator>{escape(author)}</dc:creator><dc:language>en</dc:language>"
        '<meta property="dcterms:modified">2026-01-01T00:00:00Z</meta></metadata>'
        f"<manifest>{''.join(items)}</manifest><spine>{spine}</spine></package>"
    ).encode()
    write_whole(target, _zipped(files))


def write_copies(book: Book, settings: Settings) -> None:
    """Write a built site as one PDF and one EPUB, beside the sites, under ``copies``.

    Args:
        book, settings: whose pages.

    Raises:
        UsageError: there are no pages.
    """
    site = book.site(settings)
    folder = book.out / "copies" / site.name
    config = book.config()
    title, author = (str(config.get(name, "")) for name in ("title", "author"))
    names = [f"{name}.html" for name in toc_files(book.toc())]
    pages = [name for name in names if (site / name).is_file()]
    pdf, epub = folder / "gradient-entanglement.pdf", folder / "gradient-entanglement.epub"
    write_pdf(site, collect(site, pages), title, pdf)
    print(f"{pdf} ({pdf.stat().st_size / 1e6:.1f} MB)", flush=True)
    write_epub(site, collect(site, pages), title, epub, author)
    print(f"{epub} ({epub.stat().st_size / 1e6:.1f} MB)", flush=True)


def _zipped(files: dict[str, bytes]) -> bytes:
    """Return an EPUB's archive: the same bytes for the same files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, data: bytes, how: int = zipfile.ZIP_DEFLATED) -> None:
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = how
            archive.writestr(entry, data)

        add("mimetype", b"application/epub+zip", zipfile.ZIP_STORED)
        add("META-INF/container.xml", _CONTAINER.encode())
        for name, data in files.items():
            add(f"book/{name}", data)
    return stream.getvalue()
