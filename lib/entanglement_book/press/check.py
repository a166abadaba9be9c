"""Checks a built site as a reader's browser sees it.

Every page is opened over HTTP on this machine: no console error, no failing script, no failed request, no
request to another host, every image loaded, all mathematics rendered, nothing cut, and nothing that axe finds
serious, in light and dark and at two widths. In every figure no text is too small for a telephone, stands
outside, touches another one, or is hard to see on a light or a dark page. The search finds what readers look
for. From the files: no page and no site is too large, every internal link and anchor leads somewhere, every
image has an alternative text that is more than its file name, every page has a language and one title.
"""

from __future__ import annotations

import functools
import http.server
import re
import socketserver
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup

from entanglement_book.press import browser as browsers
from entanglement_book.press.accessible import COLORS, MODES, WIDTHS, obstacles
from entanglement_book.press.figure_colors import GROUNDS, LEAST as LEAST_CONTRAST, ON_CELLS, contrast
from entanglement_book.press.problems import Problem, check_size, pages_in

#: Pages that Sphinx makes for itself. They are opened like all others.
_FILE_NAME = re.compile(r"\.(png|svg|jpe?g|gif|webp)$|^_images/|^data:", re.IGNORECASE)

# What MathJax left undone. Its promise settles when the first typesetting is finished.
_MATHEMATICS = """async () => {
  const dollars = [];
  const main = document.querySelector('article') || document.body;
  const walker = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent;
    if (text.includes('$') && !walker.currentNode.parentElement.closest('pre, code, script, style, .math'))
      dollars.push('a dollar sign left in the text: ' + text.trim().slice(0, 60));
  }
  if (dollars.length) return dollars;
  const sources = document.querySelectorAll('.math').length;
  if (sources === 0) return [];
  if (!window.MathJax || !window.MathJax.startup || !window.MathJax.startup.promise)
    return ['MathJax was not loaded'];
  await window.MathJax.startup.promise;
  const found = [];
  const shorten = element => element.textContent.trim().slice(0, 60);
  for (const element of document.querySelectorAll('.math'))
    if (!element.querySelector('mjx-container')) found.push('mathematics left raw: ' + shorten(element));
  for (const element of document.querySelectorAll('mjx-merror, [data-mjx-error]'))
    found.push('mathematics with an error: ' + (element.getAttribute('data-mjx-error') || shorten(element)));
  return found;
}"""

_IMAGES = """async () => {
  const found = [];
  for (const image of document.images) {
    image.loading = 'eager';
    try { await image.decode(); } catch (error) { /* told by its width */ }
    if (!image.complete || image.naturalWidth === 0) found.push('image not loaded: ' +
    image.getAttribute('src')); } return found;
}"""

# Code, tables and formulas are whole on a wide screen; on a telephone they may scroll, in a box of their own.
_CUT = """wide => {
  const found = [], main = document.querySelector('article') || document.body;
  const scrolls = element => {
    for (let at = element; at && at !== main; at = at.parentElement)
      if (/auto|scroll/.test(getComputedStyle(at).overflowX)) return at;
    return null;
  };
  for (const element of main.querySelectorAll('pre, table, div.math, span.math')) {
    if (element.closest('details:not([open]), .toggle-hidden') || element.offsetParent === null) continue;
    const box = scrolls(element);
    const name = `${element.tagName.toLowerCase()}: ${element.textContent.trim().slice(0, 40)}`;
    const hidden = element.scrollWidth - element.clientWidth > 1 && !box;
    const over = element.getBoundingClientRect().right - main.getBoundingClientRect().right;
    if (hidden || (!box && over > 1)) found.push(`cut, ${name}`);
    else if (wide && box && box.scrollWidth - box.clientWidth > 1)
      found.push(`scrolls on a wide screen, ${name}`);
  }
  return found;
}"""

_PLAIN = """() => {
  for (const formula of document.querySelectorAll('mjx-container')) formula.replaceWith('x');
  for (const code of Array.from(document.querySelectorAll('div.highlight pre')).slice(1))
    code.textContent = code.textContent;
}"""

# A reader on a telephone must not have to push the whole page sideways.
_OVERFLOW = """() => {
  const page = document.scrollingElement;
  return page.scrollWidth > page.clientWidth + 2 ? [page.scrollWidth - page.clientWidth] : [];
}"""


#: The width of a telephone's text, pixels, and the least size of a figure's letters there, points.
TELEPHONE, LEAST = 342, 8.0

# Matplotlib's SVG: a group for each text, with its words in a comment, and glyphs scaled to its size. Texts
# that are turned are left out: their boxes say little.
_TEXTS = """([telephone, least]) => {
  const svg = document.querySelector('svg'), found = [];
  const width = parseFloat(svg.getAttribute('width')) * 96 / 72;
  const sizes = Array.from(svg.innerHTML.matchAll(/scale\\(([\\d.]+) -/g)).map(m => 100 * parseFloat(m[1]));
  const smallest = Math.min(...sizes) * Math.min(1, telephone / width);
  if (smallest < least - 0.05) found.push(`text of ${smallest.toFixed(1)} points on a telephone`);
  const whole = svg.getBoundingClientRect();
  const texts = Array.from(svg.querySelectorAll('g[id^="text_"]')).map(group => {
    const turned = /rotate\\((-?[\\d.]+)/.exec(group.innerHTML);
    const comment = Array.from(group.childNodes).find(node => node.nodeType === 8);
    return {
      box: group.getBoundingClientRect(), words: comment ? comment.textContent.trim() : group.id,
      level: !turned || Math.abs(parseFloat(turned[1])) % 90 < 2,
    };
  }).filter(text => text.box.width > 0);
  for (const { box, words } of texts)
    if (box.left < whole.left - 1 || box.right > whole.right + 1 || box.top < whole.top - 1
        || box.bottom > whole.bottom + 1) found.push(`text that leaves the figure: ${words}`);
  const level = texts.filter(text => text.level);
  level.forEach((one, i) => level.slice(0, i).forEach(other => {
    const across = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
    const along = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
    if (across > 1 && along > 1.5) found.push(`texts that touch: ${other.words} | ${one.words}`);
  }));
  return found;
}"""


_FILLS = """() => Array.from(document.querySelectorAll('g[id^="text_"]')).map(group => {
  const comment = Array.from(group.childNodes).find(node => node.nodeType === 8);
  const glyphs = group.querySelector('g[style*="fill"]');
  const channels = glyphs ? getComputedStyle(glyphs).fill.match(/[0-9]+/g) : null;
  const words = comment ? comment.textContent.trim() : group.id;
  return [words, channels ? channels.slice(0, 3).map(Number) : null];
}).filter(([, channels]) => channels)"""

#: What readers look for → a page that must be among what the search finds, if the site has it.
SEARCHES = {
    "displacement": "book/glossary",
    "chosen reward falls": "book/why_did_it_fall",
    "SimPO": "notebooks/81_losses_one_by_one",
}


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: requests that fail are reported by the page that made them."""


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up early is no error."""


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve a folder on this machine only; yields the address, ``http://127.0.0.1:PORT``."""
    handler = functools.partial(_Handler, directory=str(folder))
    with _Server(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def check_files(site: Path) -> list[Problem]:
    """Links, anchors, alternative texts: what can be seen without a browser."""
    pages = pages_in(site)
    soups = {page: BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser") for page in pages}
    anchors = {page: _anchors(soup) for page, soup in soups.items()}
    problems: list[Problem] = []
    for page, soup in soups.items():
        if not soup.html or not soup.html.get("lang"):
            problems.append(Problem(page, "the page does not say its language"))
        if not soup.title or not soup.title.get_text(strip=True):
            problems.append(Problem(page, "the page has no title"))
        for image in soup.find_all("img"):
            alt, source = str(image.get("alt") or "").strip(), str(image.get("src") or "")
            if not alt:
                problems.append(Problem(page, f"image without alternative text: {source[:80]}"))
            elif _FILE_NAME.search(alt) or alt == source:
                problems.append(
                    Problem(page, f"image whose alternative text is its file name: {source[:80]}")
                )
        for tag, key in (
            ("a", "href"),
            ("link", "href"),
            ("script", "src"),
            ("img", "src"),
            ("source", "src"),
        ):
            for element in soup.find_all(tag, attrs={key: True}):
                target = str(element[key])
                wrong = _broken(site, page, target, anchors, is_link=tag == "a")
                if wrong:
                    problems.append(Problem(page, wrong))
    return list(dict.fromkeys(problems))


def _anchors(soup: BeautifulSoup) -> set[str]:
    return {str(tag[key]) for tag in soup.find_all(True) for key in ("id", "name") if tag.get(key)}


def _broken(site: Path, page: str, target: str, anchors: dict[str, set[str]], is_link: bool) -> str:
    parsed = urllib.parse.urlsplit(target)
    if parsed.scheme or parsed.netloc:
        return ""  # other hosts are not asked; a page that asks one by itself is caught in the browser
    path = urllib.parse.unquote(parsed.path)
    folder = site / Path(page).parent
    file = (
        (site / path.lstrip("/") if path.startswith("/") else folder / path).resolve()
        if path
        else site / page
    )
    if file.is_dir():
        file = file / "index.html"
    if not file.is_file():
        return f"broken link: {target}"
    if not parsed.fragment or not is_link:
        return ""
    name = file.resolve().relative_to(site.resolve()).as_posix()
    fragment = urllib.parse.unquote(parsed.fragment)
    if name in anchors and fragment not in anchors[name] and fragment != "top":
        return f"link to an anchor that is not there: {target}"
    return ""


def check_figures(site: Path) -> list[Problem]:
    """Every figure that matplotlib drew: its text is large enough for a telephone, whole, and apart."""
    problems = []
    with browsers.launch() as browser:
        page = browser.new_page(viewport={"width": 800, "height": 1200})
        for path in sorted((site / "_images").glob("*.svg")):
            text = path.read_text(encoding="utf-8")
            if 'id="figure_1"' not in text:
                continue
            page.set_content(f'<body style="margin: 0">{text[text.index("<svg") :]}</body>')
            found = page.evaluate(_TEXTS, [TELEPHONE, LEAST])
            for scheme, ground in GROUNDS.items():
                page.emulate_media(color_scheme=scheme)
                found += [
                    f"text that is hard to see on a {scheme} page: {words} (contrast {seen:.1f})"
                    for words, channels in page.evaluate(_FILLS)
                    if (color := "#{:02x}{:02x}{:02x}".format(*channels)) not in ON_CELLS
                    and (seen := contrast(color, ground)) < LEAST_CONTRAST
                ]
            problems += [Problem(f"_images/{path.name}", said) for said in dict.fromkeys(found)]
    return problems


def check_search(site: Path, patience: int = 60_000) -> list[Problem]:
    """The search finds what readers look for, on the page that has it, within some milliseconds."""
    if not (site / "searchindex.js").is_file():
        return []
    problems = []
    with serve(site) as address, browsers.launch() as browser:
        page = browser.new_page()
        for phrase, wanted in SEARCHES.items():
            if not (site / f"{wanted}.html").is_file():
                continue
            page.goto(f"{address}/search.html?q={urllib.parse.quote(phrase)}")
            try:
                page.wait_for_selector(f'#search-results a[href*="{wanted}"]', timeout=patience)
            except Exception:
                problems.append(Problem("search.html", f"{phrase!r} does not find {wanted}"))
    return problems


def check_pages(site: Path, screenshots: Path | None = None) -> list[Problem]:
    """Open every page in a browser, in light and dark and at two widths.

    ``screenshots``: a folder for a picture of each page in each of the four ways.
    """
    problems: list[Problem] = []
    with serve(site) as address, browsers.launch() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
        # Nothing is remembered: each page is seen as by a reader who comes to it first.
        context.add_init_script("try { localStorage.clear(); sessionStorage.clear(); } catch (error) {}")
        for page_name in pages_in(site):
            problems += _open(context, address, page_name, screenshots)
        context.close()
    return problems


def _show_as(page: Any, scheme: str, width: int) -> None:
    """Show a page in a color scheme and width, and give its scripts the time to follow."""
    page.emulate_media(color_scheme=scheme)
    if page.viewport_size["width"] != width:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(500 if page.locator(".bd-article").count() else 0)


def _open(context: Any, address: str, page_name: str, screenshots: Path | None) -> list[Problem]:
    found: list[str] = []
    page = context.new_page()
    page.set_default_timeout(120_000)  # a busy machine is no fault of the page

    def request(asked: Any) -> None:
        if not asked.url.startswith((f"{address}/", "data:", "blob:")):
            found.append(f"request to another host: {asked.url[:120]}")

    def console(message: Any) -> None:
        if message.type == "error":
            found.append(f"console error: {message.text[:200]}")

    def response(answer: Any) -> None:
        if answer.status >= 400:
            found.append(f"request answered with status {answer.status}: {answer.url.removeprefix(address)}")

    def failed(asked: Any) -> None:
        # A page that redirects gives up what it was loading.
        if asked.url.startswith(address) and "ERR_ABORTED" not in (asked.failure or ""):
            found.append(f"request failed: {asked.url.removeprefix(address)} ({asked.failure})")

    page.on("request", request)
    page.on("console", console)
    page.on("pageerror", lambda error: found.append(f"script error: {str(error)[:200]}"))
    page.on("response", response)
    page.on("requestfailed", failed)
    try:
        page.goto(f"{address}/{page_name}", wait_until="networkidle")
        found += page.evaluate(_MATHEMATICS)
        found += page.evaluate(_IMAGES)
        for scheme, width in sorted(MODES, key=lambda mode: -mode[1]):  # each width once: scripts follow it
            _show_as(page, scheme, width)
            found += page.evaluate(_CUT, width > 1000)
            found += [
                f"{'on a telephone' if width < 600 else 'at 1280 px'} the page is {pixels} px too wide"
                for pixels in page.evaluate(_OVERFLOW)
            ]
            if screenshots is not None:
                screenshots.mkdir(parents=True, exist_ok=True)
                name = page_name.removesuffix(".html").replace("/", "-")
                path = screenshots / f"{name}-{scheme}-{width}.png"
                page.screenshot(path=path, full_page=True, animations="disabled")
        # Formulas and code are thousands of elements that are all alike, and take axe most of its time: of
        # formulas none stays, of code the first block of a page.
        page.evaluate(_PLAIN)
        for scheme, width, rules in (("dark", 390, (*COLORS, *WIDTHS)), ("light", 1280, ())):
            _show_as(page, scheme, width)
            found += obstacles(page, rules)
    except Exception as error:
        found.append(f"could not be opened: {str(error).splitlines()[0][:200]}")
    finally:
        page.close()
    return [Problem(page_name, text) for text in dict.fromkeys(found)]


def check(site: Path, screenshots: Path | None = None) -> list[Problem]:
    """Everything that is wrong with a built site; [] if nothing is."""
    if not (site / "index.html").is_file():
        return [Problem("index.html", f"there is no site at {site}")]
    return (
        check_files(site)
        + check_size(site)
        + check_figures(site)
        + check_search(site)
        + check_pages(site, screenshots)
    )
