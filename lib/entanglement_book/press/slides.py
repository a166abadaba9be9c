"""Slides for teaching, from the chapters' own figures and numbers: one deck a part of the book.

A deck is a text, ``book/slides/N_name.md``. Slides stand between lines of ``---``. In it

- ``![](07 fig-suffix-growth)`` is a figure of the chapter of that number, with its alternative text;
- ``{07 slope .0f}`` is a number that the chapter pasted, in a format of Python's;
- what follows ``Note:`` is for the speaker (key S).

The decks lie beside what they load, ask no host for anything, and open from disk. Where reveal.js cannot be
had (no npm), one line says so, and a deck is a page to scroll.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode

from entanglement.archive import DataError
from entanglement.files import write_whole
from entanglement_book.layout import Book, BookError, Settings, number_of
from entanglement_book.press import browser as browsers, notebooks
from entanglement_book.press.check import serve
from entanglement_book.press.figure_colors import adapt
from entanglement_book.press.problems import Problem
from entanglement_book.press.readable import pasted_in
from entanglement_book.press.sphinx_ext import copy_mathjax
from entanglement_book.press.store import Store, inspect
from entanglement_book.press.vendor import REVEAL, write_scripts

__all__ = ["Chapter", "check_slides", "decks_of", "write_slides"]

_FIGURE = re.compile(r"!\[\]\((\d\d) ([\w-]+)\)")
_NUMBER = re.compile(r"\{(\d\d) (\w+) ([^}]+)\}")
_SIZE = (1280, 720)
_STYLE = """
body { background: #fff; margin: 0; }
.reveal { font: 27px/1.45 "Source Sans 3", "Segoe UI", "DejaVu Sans", sans-serif; color: #1b1f24; }
.reveal .slides { text-align: left; }
.reveal .slides section { padding: 26px 46px; box-sizing: border-box; height: 100%; }
.reveal h1 { font-size: 58px; line-height: 1.15; margin: 150px 0 30px; }
.reveal h2 { font-size: 38px; line-height: 1.2; margin: 0 0 22px; color: #14507c; }
.reveal p, .reveal ul, .reveal ol { margin: 0 0 16px; } .reveal li { margin: 0 0 8px; }
.reveal .columns { display: grid; grid-template-columns: 600px 1fr; gap: 40px; align-items: start; }
.reveal figure { margin: 0; }
.reveal figure img { width: 600px; max-height: 570px; object-fit: contain; object-position: left top; }
.reveal .slide-number { left: 8px; right: auto; background: none; color: #777; font-size: 16px; }
.reveal pre { font-size: 20px; line-height: 1.4; background: #f3f5f7; padding: 12px 16px; margin: 0 0 16px; }
.reveal code { font-size: .9em; } .reveal aside.notes { display: none; }
.reveal table { border-collapse: collapse; margin: 0 0 20px; }
.reveal section > :not(.columns, h1, h2, aside) { font-size: 31px; }
.reveal section > pre { font-size: 22px; }
.reveal td, .reveal th { padding: 4px 16px 4px 0; text-align: left; }
.reveal blockquote { margin: 0 0 16px; padding: 2px 18px; border-left: 4px solid #1a80c4; }
"""
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1">
{looks}<style>{style}</style>
<script>window.MathJax = {mathjax};</script>
<script defer src="parts/mathjax/tex-chtml.js"></script></head>
<body><div class="reveal"><div class="slides">
{slides}
</div></div>
{turns}</body></html>
"""
_LOOKS = '<link rel="stylesheet" href="parts/reveal.css">'
_TURNS = """<script src="parts/reveal.js"></script><script src="parts/notes.js"></script>
<script>Reveal.initialize({width: %d, height: %d, margin: 0.02, center: false, hash: true,
  slideNumber: true, transition: "none", plugins: [RevealNotes]});</script>"""
_LIST = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Slides</title><link rel="icon" href="data:,"></head>
<body><h1>Slides</h1><ul>{entries}</ul><p>Arrows turn, S opens the speaker's notes, Esc shows all slides.</p>
</body></html>
"""
# What of a slide stands outside it, and mathematics that was not set.
_WRONG = """async ([width, height]) => {
  await MathJax.startup.promise;
  const slide = Reveal.getCurrentSlide(), found = [], scale = Reveal.getScale();
  const whole = slide.getBoundingClientRect();
  for (const element of slide.querySelectorAll('h1, h2, p, li, img, pre, table, mjx-container')) {
    if (element.closest('aside')) continue;
    const box = element.getBoundingClientRect();
    if (box.bottom > whole.top + height * scale + 1) found.push('below: ' + element.textContent.slice(0, 40));
    if (box.right > whole.left + width * scale + 1) found.push('beside: ' + element.textContent.slice(0, 40));
  }
  for (const element of slide.querySelectorAll('pre'))
    if (element.scrollWidth > element.clientWidth + 1) found.push('code is cut');
  for (const image of slide.querySelectorAll('img'))
    if (!image.complete || image.naturalWidth === 0) found.push('a figure is not there');
  if (slide.querySelector('mjx-merror, [data-mjx-error]')) found.push('a formula is wrong');
  if (/(^|[^\\\\])\\\\[()[\\]]/.test(slide.innerText)) found.push('a formula is not set');
  return [...new Set(found)];
}"""


@dataclass(frozen=True)
class Chapter:
    """What slides need of an executed chapter.

    Attributes:
        figures: label → (SVG, alternative text).
        numbers: name → value.
    """

    figures: dict[str, tuple[str, str]]
    numbers: dict[str, float]


def read_chapter(executed: NotebookNode) -> Chapter:
    """Read the figures and numbers of an executed chapter."""
    figures: dict[str, tuple[str, str]] = {}
    numbers: dict[str, float] = {}
    for cell in notebooks.code_cells(executed):
        shown = cell.metadata.get("mystnb", {})
        label, alt = shown.get("figure", {}).get("name"), shown.get("image", {}).get("alt", "")
        for output in cell.outputs:
            data = output.get("data", {})
            if label and "image/svg+xml" in data:
                figures[label] = (data["image/svg+xml"], alt)
    for name, text in pasted_in(executed).items():
        with suppress(ValueError):  # a lab's data
            numbers[name] = float(text)
    return Chapter(figures, numbers)


def decks_of(book: Book) -> list[Path]:
    """Return the texts of the decks, in order."""
    return sorted((book.root / "book" / "slides").glob("*.md"))


class _Deck:
    """Turns a deck's text into HTML, and keeps the figures that it shows."""

    def __init__(self, name: str, chapters: dict[str, Chapter]) -> None:
        self.name = name
        self.chapters = chapters
        self.used: dict[str, str] = {}
        self.parser = MarkdownIt("commonmark").enable("table").use(
            dollarmath_plugin, renderer=self._math, double_inline=True
        )  # fmt: skip

    @staticmethod
    def _math(content: str, options: dict[str, Any]) -> str:
        left, right = (r"\[", r"\]") if options.get("display_mode") else (r"\(", r"\)")
        return html.escape(f"{left}{content}{right}", quote=False)

    def _chapter(self, number: str) -> Chapter:
        if number not in self.chapters:
            raise BookError(f"slides {self.name}: {number} has no current output: run make execute first")
        return self.chapters[number]

    def _figure(self, found: re.Match[str]) -> str:
        number, label = found.groups()
        figures = self._chapter(number).figures
        if label not in figures:
            raise BookError(f"slides {self.name}: {number} has no figure {label!r}")
        svg, alt = figures[label]
        self.used[f"{label}.svg"] = adapt(svg, ("light",))
        return f'<figure><img src="figures/{label}.svg" alt="{html.escape(alt)}"></figure>'

    def _number(self, found: re.Match[str]) -> str:
        number, name, form = found.groups()
        numbers = self._chapter(number).numbers
        if name not in numbers:
            raise BookError(f"slides {self.name}: {number} pasted no number {name!r}")
        value = numbers[name]
        whole = int(value) if form.endswith("d") and value == int(value) else value
        return format(whole, form).replace("-", "\N{MINUS SIGN}")

    def slide(self, text: str) -> str:
        """One slide as a section."""
        text, _, note = _NUMBER.sub(self._number, text).partition("\nNote:")
        figures = [self._figure(found) for found in _FIGURE.finditer(text)]
        said = self.parser.render(_FIGURE.sub("", text).strip())
        if figures:
            heading = re.match(r"<h[12]>.*?</h[12]>\n?", said, re.DOTALL)
            head, rest = (heading[0], said[heading.end() :]) if heading else ("", said)
            said = f'{head}<div class="columns"><div>{"".join(figures)}</div><div>{rest}</div></div>'
        notes = f'<aside class="notes">{self.parser.render(note.strip())}</aside>' if note.strip() else ""
        return f"<section>{said}{notes}</section>"


def slides_of(text: str) -> list[str]:
    """Return the texts of a deck's slides."""
    return [part.strip() for part in re.split(r"^---$", text, flags=re.MULTILINE) if part.strip()]


def write_slides(book: Book, settings: Settings) -> Path:
    """Write all decks, and a page that lists them; returns its path.

    Errors: BookError for a figure or number that no executed chapter has.
    """
    store, stale = Store(book, settings), inspect(book, settings).stale
    chapters = {
        number_of(name): read_chapter(notebooks.read(store.notebook(name)))
        for name in book.chapters()
        if not stale[name]
    }
    folder = book.out / "slides" / settings.label
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "figures").mkdir(parents=True)
    # The pages' own macros.
    mathjax = json.dumps(book.config().get("sphinx", {}).get("config", {}).get("mathjax3_config", {}))
    looks, turns = _LOOKS, _TURNS % _SIZE
    try:
        write_scripts([REVEAL], folder / "parts")
    except DataError as error:
        looks = turns = ""
        print(f"decks are pages to scroll: {error}", flush=True)
    copy_mathjax(folder / "parts" / "mathjax")
    entries = []
    for path in decks_of(book):
        deck = _Deck(path.name, chapters)
        texts = slides_of(path.read_text(encoding="utf-8"))
        title = texts[0].split("\n", 1)[0].lstrip("# ").strip()
        sections = "\n".join(deck.slide(text) for text in texts)
        page = _PAGE.format(
            title=html.escape(title),
            style=_STYLE,
            slides=sections,
            mathjax=mathjax,
            looks=looks,
            turns=turns,
        )
        write_whole(folder / f"{path.stem}.html", page)
        for name, svg in deck.used.items():
            write_whole(folder / "figures" / name, svg)
        entries.append(f'<li><a href="{path.stem}.html">{html.escape(title)}</a>, {len(texts)} slides</li>')
    write_whole(folder / "index.html", _LIST.format(entries="".join(entries)))
    return folder / "index.html"


def check_slides(folder: Path, pictures: Path | None = None) -> list[Problem]:
    """Open every slide in a browser: nothing outside it, all figures and formulas there, no other host asked.

    Args:
        folder: where the decks lie.
        pictures: a folder for a picture of each slide.
    """
    problems: list[Problem] = []
    decks = sorted(path for path in folder.glob("*.html") if path.name != "index.html")
    if not (folder / "parts" / REVEAL.file).is_file():
        return []  # nothing turns, and nothing can leave a page to scroll
    with serve(folder) as address, browsers.launch() as browser:
        page = browser.new_page(viewport={"width": _SIZE[0], "height": _SIZE[1]})
        heard: list[str] = []
        page.on(
            "request",
            lambda asked: heard.append(asked.url) if not asked.url.startswith((address, "data:")) else None,
        )
        page.on("pageerror", lambda error: heard.append(str(error)))
        for deck in decks:
            page.goto(f"{address}/{deck.name}", wait_until="load")
            page.wait_for_function("window.Reveal && Reveal.isReady() && MathJax.startup.promise")
            for place in range(page.evaluate("Reveal.getTotalSlides()")):
                page.evaluate("place => Reveal.slide(place)", place)
                for said in page.evaluate(_WRONG, list(_SIZE)):
                    problems.append(Problem(f"{deck.name}#/{place}", said))
                if pictures is not None:
                    pictures.mkdir(parents=True, exist_ok=True)
                    page.screenshot(path=pictures / f"{deck.stem}-{place + 1:02d}.png")
            problems += [Problem(deck.name, said) for said in heard]
            heard.clear()
    return problems
