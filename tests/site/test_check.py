"""The checks on the site see what they are there to see: one page a fault, and one without any."""

import pytest

from entanglement_book.press.check import SEARCHES, check, check_figures, check_files, check_search
from entanglement_book.press.figure_colors import adapt
from entanglement_book.press.problems import pages_in

PAGE = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>{head}</head>'
    '<body style="margin: 0">{body}</body></html>'
)
MATHJAX = """<script>
window.MathJax = {startup: {promise: new Promise(done => window.addEventListener('load', () => {
  for (const element of document.querySelectorAll('.math.done'))
    element.innerHTML = '<mjx-container>' + (element.className.includes('wrong')
      ? '<mjx-merror data-mjx-error="Undefined control sequence">x</mjx-merror>' : 'x') + '</mjx-container>';
  done();
}))}};
</script>"""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
#: page: (head, body, what must be said of it)
FAULTS = {
    "link": ("", '<a href="nowhere.html">x</a>', "broken link: nowhere.html"),
    "anchor": (
        "",
        '<a href="good.html#nothing">x</a>',
        "link to an anchor that is not there: good.html#nothing",
    ),
    "own-anchor": ("", '<a href="#nothing">x</a>', "link to an anchor that is not there: #nothing"),
    "image": ("", '<img src="gone.png" alt="A figure">', "broken link: gone.png"),
    "alt": ("", '<img src="dot.png">', "image without alternative text: dot.png"),
    "empty-alt": ("", '<img src="dot.png" alt=" ">', "image without alternative text: dot.png"),
    "file-alt": (
        "",
        '<img src="dot.png" alt="_images/dot.png">',
        "image whose alternative text is its file name: dot.png",
    ),
    "not-an-image": ("", '<img src="text.png" alt="A figure">', "image not loaded: text.png"),
    "console": ("<script>console.error('wrong')</script>", "", "console error: wrong"),
    "script": ("<script>nothing.at.all</script>", "", "script error: nothing is not defined"),
    "request": ("", "<script>fetch('gone.json')</script>", "request answered with status 404: /gone.json"),
    "elsewhere": (
        '<script src="http://a.invalid/x.js"></script>',
        "",
        "request to another host: http://a.invalid/x.js",
    ),
    "raw-mathematics": (MATHJAX, '<span class="math">\\(x\\)</span>', "mathematics left raw: \\(x\\)"),
    "no-mathjax": ("", '<span class="math">\\(x\\)</span>', "MathJax was not loaded"),
    "wrong-mathematics": (
        MATHJAX,
        '<p class="math done wrong">x</p>',
        "mathematics with an error: Undefined control sequence",
    ),
    "dollar": (MATHJAX, "<article><p>Let $x be</p></article>", "a dollar sign left in the text: Let $x be"),
    "wide": ("", '<div style="width: 900px">x</div>', "on a telephone the page is 510 px too wide"),
    "cut": (
        "<style>pre { overflow: hidden; width: 200px }</style>",
        f"<article><pre>{'x = 1 ' * 30}</pre></article>",
        f"cut, pre: {('x = 1 ' * 30)[:40]}",
    ),
    "scrolls": (
        "<style>pre { overflow-x: auto }</style>",
        f"<article><pre>{'y = 1 ' * 300}</pre></article>",
        f"scrolls on a wide screen, pre: {('y = 1 ' * 30)[:40]}",
    ),
    "formula": (
        f"{MATHJAX}<style>span {{ white-space: nowrap }}</style>",
        f'<article><span class="math"><mjx-container>{"x + " * 300}y</mjx-container></span></article>',
        f"cut, span: {('x + ' * 30)[:40]}",
    ),
    "unnamed": (
        "",
        '<main><input type="text"></main>',
        'label: Form elements must have labels: <input type="text">',
    ),
}
#: A figure as matplotlib writes it, with a text of a size, at places.
FIGURE = (
    '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="352.8pt" height="200pt" '
    'viewBox="0 0 352.8 200"><g id="figure_1">{texts}</g></svg>'
)
WRITTEN = (
    '<g id="text_{n}"><!-- {words} --><g style="fill: #7b7b7b" '
    'transform="translate({x} {y}) scale({scale} -{scale})">'
    '<path d="M 0 0 L 300 0 L 300 70 L 0 70 Z"/></g></g>'
)
#: figure: (its texts as words, x, y, scale; what must be said of it)
FIGURES = {
    "fine": ([("one", 20, 50, 0.11), ("two", 20, 90, 0.11)], []),
    "small": ([("one", 20, 50, 0.095)], ["text of 6.9 points on a telephone"]),
    "touch": ([("one", 20, 50, 0.11), ("two", 30, 53, 0.11)], ["texts that touch: one | two"]),
    "leaves": ([("one", 340, 50, 0.11)], ["text that leaves the figure: one"]),
    "pale": (
        [("one", 20, 50, 0.11)],
        [
            "text that is hard to see on a light page: one (contrast 4.2)",
            "text that is hard to see on a dark page: one (contrast 4.2)",
        ],
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    import base64

    folder = tmp_path_factory.mktemp("site")
    (folder / "dot.png").write_bytes(base64.b64decode(PIXEL))
    (folder / "text.png").write_text("no image")
    (folder / "favicon.ico").write_bytes(base64.b64decode(PIXEL))
    good = '<h1 id="top-of-it">x</h1><a href="index.html">x</a><a href="#top-of-it">x</a>'
    good += '<a href="http://a.invalid/">x</a>'
    good += '<img src="dot.png" alt="A dot"><span class="math done">x</span><code>$HOME</code>'
    (folder / "good.html").write_text(PAGE.format(title="Good", head=MATHJAX, body=good))
    (folder / "index.html").write_text(
        PAGE.format(title="x", head="", body='<a href="good.html#top-of-it">x</a>')
    )
    for name, (head, body, _) in FAULTS.items():
        (folder / f"{name}.html").write_text(PAGE.format(title=name, head=head, body=body))
    (folder / "nameless.html").write_text("<!DOCTYPE html><html><body>x</body></html>")
    return folder


@pytest.fixture(scope="module")
def problems(site, tmp_path_factory):
    found = {}
    for problem in check(site):
        found.setdefault(problem.page, []).append(problem.text)
    return found


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_on_its_page(problems, name):
    assert FAULTS[name][2] in problems[f"{name}.html"]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figures_text_is_looked_at(tmp_path, name):
    (tmp_path / "_images").mkdir()
    texts, expected = FIGURES[name]
    drawn = "".join(
        WRITTEN.format(n=n, words=words, x=x, y=y, scale=scale)
        for n, (words, x, y, scale) in enumerate(texts)
    )
    svg = FIGURE.format(texts=drawn)
    (tmp_path / "_images" / "figure.svg").write_text(svg if name == "pale" else adapt(svg))
    (tmp_path / "_images" / "icon.svg").write_text("<svg></svg>")
    assert [problem.text for problem in check_figures(tmp_path)] == expected


def test_what_is_too_large_is_told(tmp_path, monkeypatch):
    from entanglement_book.press import problems as module

    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "large.html").write_bytes(b"x" * 2_000)
    (tmp_path / "picture.svg").write_bytes(b"x" * 3_000)
    assert module.check_size(tmp_path) == []
    monkeypatch.setattr(module, "PAGE_MB", 0.001)
    monkeypatch.setattr(module, "SITE_MB", 0.004)
    assert [str(problem) for problem in module.check_size(tmp_path)] == [
        "notebooks/large.html: 0.0 MB, at most 0.001 are allowed",
        "the site: 0.0 MB, at most 0.004 are allowed",
    ]


def test_a_search_that_finds_nothing_is_told(tmp_path):
    assert check_search(tmp_path) == []
    (tmp_path / "searchindex.js").write_text("")
    first, second = list(SEARCHES.items())[:2]
    for _, wanted in (first, second):
        (tmp_path / f"{wanted}.html").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{wanted}.html").write_text("<p>x</p>")
    found = f'<div id="search-results"><a href="{first[1]}.html">x</a></div>'
    (tmp_path / "search.html").write_text(PAGE.format(title="x", head="", body=found))
    expected = f"{second[0]!r} does not find {second[1]}"
    assert [problem.text for problem in check_search(tmp_path, patience=1_000)] == [expected]


def test_nothing_is_found_where_nothing_is_wrong(problems, site):
    assert set(pages_in(site)) - set(problems) == {"good.html", "index.html"}


def test_a_page_says_its_language_and_title(problems):
    found = problems["nameless.html"]
    assert found[:2] == ["the page does not say its language", "the page has no title"]
    assert [text.partition(":")[0] for text in found[2:]] == ["document-title", "html-has-lang"]  # axe's


def test_a_site_that_is_not_there(tmp_path):
    assert [problem.page for problem in check(tmp_path)] == ["index.html"]
    assert check_files(tmp_path) == []


def test_pictures_are_taken_in_both_modes(site, tmp_path):
    from entanglement_book.press.check import check_pages

    small = tmp_path / "site"
    small.mkdir()
    for name in ("index.html", "good.html", "dot.png", "favicon.ico"):
        (small / name).write_bytes((site / name).read_bytes())
    assert check_pages(small, tmp_path / "pictures") == []
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == [
        f"{page}-{mode}-{width}.png"
        for page in ("good", "index")
        for mode in ("dark", "light")
        for width in (1280, 390)
    ]
