"""The whole book as one file: links that still lead somewhere, a PDF, and an EPUB that is well-formed."""

import posixpath
import re
import zipfile
from xml.etree import ElementTree

import pytest

from entanglement_book.layout import UsageError
from entanglement_book.press.copies import collect, one_page, write_epub, write_pdf

MATHJAX = """<script>
window.MathJax = {startup: {promise: Promise.resolve(), document: {math: []},
  toMML: () => '<math><mi>x</mi></math>'}};
window.addEventListener('DOMContentLoaded', () => {
  window.MathJax.startup.document.math = Array.from(document.querySelectorAll('.math'))
    .map(element => ({typesetRoot: element.firstElementChild}));
});
</script>"""
PAGE = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>x</title>{head}</head>'
    '<body><nav>no</nav><article class="bd-article">'
    '<section id="top"><h1>{title}<a class="headerlink" href="#top">#</a></h1>{body}'
    "</section></article></body></html>"
)
FIRST = (
    '<p id="here">One<br>line &amp; more &lt; less</p><a href="#here">a</a><a href="b/two.html#there">b</a>'
    '<a href="b/two.html">c</a><a href="gone.html">d</a><a href="https://a.invalid/x">e</a><!-- a -- b -->'
    '<img src="_images/one.svg" alt="A figure" loading="lazy">'
    '<details class="toggle"><summary>s</summary>in</details>'
    '<div class="lab"><script class="lab-data">{}</script><button>press</button><p>still</p></div>'
)
SECOND = (
    '<p id="there">Two <span class="math"><i>x</i></span></p><a href="../one.html#here">back</a>'
    '<img src="../_images/one.svg" alt="The same">'
)


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    (folder / "_images").mkdir(parents=True)
    (folder / "b").mkdir()
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="10pt" height="10pt"><path d="M 0 0 L 9 9"/></svg>'
    (folder / "_images" / "one.svg").write_text(svg)
    (folder / "one.html").write_text(PAGE.format(head=MATHJAX, title="First", body=FIRST), encoding="utf-8")
    (folder / "b" / "two.html").write_text(
        PAGE.format(head=MATHJAX, title="Second", body=SECOND), encoding="utf-8"
    )
    return folder


@pytest.fixture
def pages(site):
    return lambda: collect(site, ["one.html", "b/two.html"])


def test_links_lead_to_the_same_places_in_one_page(site, pages):
    found = pages()
    assert [(page.key, page.title) for page in found] == [("one", "First"), ("b-two", "Second")]
    links = [a["href"] for a in found[0].article.find_all("a")]
    assert links == ["#one--here", "#b-two--there", "#b-two", "#", "https://a.invalid/x"]
    assert [a["href"] for a in found[1].article.find_all("a")] == ["#one--here"]
    text = one_page(site, found, "Book & more")
    for target in set(re.findall(r'href="#([^"]+)"', text)):
        assert f'id="{target}"' in text
    assert "press" not in text and "lab-data" not in text and "headerlink" not in text
    assert "still" in text and '<details class="" open=""' in text
    assert text.count('src="_images/one.svg"') == 2 and "<nav>no" not in text
    assert "<title>Book &amp; more</title>" in text


def test_a_page_that_is_not_there_is_told(site):
    with pytest.raises(UsageError, match=r"the site has no page three\.html"):
        collect(site, ["three.html"])
    (site / "bare.html").write_text("<html><body></body></html>")
    with pytest.raises(UsageError, match="has no article"):
        collect(site, ["bare.html"])


def test_the_pdf_is_one_file(site, pages, tmp_path):
    write_pdf(site, pages(), "Book", tmp_path / "book.pdf")
    data = (tmp_path / "book.pdf").read_bytes()
    assert data.startswith(b"%PDF-") and b"/Outlines" in data
    assert not (site / "_one_page.html").exists()


def test_the_epub_is_well_formed_and_whole(site, pages, tmp_path):
    for name in ("one", "other"):
        write_epub(site, pages(), "Book & more", tmp_path / f"{name}.epub", "Someone")
    assert (tmp_path / "one.epub").read_bytes() == (tmp_path / "other.epub").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.epub") as archive:
        names = archive.namelist()
        assert names[0] == "mimetype" and archive.getinfo("mimetype").compress_type == zipfile.ZIP_STORED
        assert archive.read("mimetype") == b"application/epub+zip"
        package = ElementTree.fromstring(archive.read("book/content.opf"))
        listed = [item.attrib["href"] for item in package.iter("{http://www.idpf.org/2007/opf}item")]
        assert sorted(f"book/{name}" for name in listed) == sorted(
            name for name in names if name.startswith("book/") and name != "book/content.opf"
        )
        texts = {name: archive.read(name).decode() for name in names if name.endswith(".xhtml")}
    for name, text in texts.items():
        root = ElementTree.fromstring(text)
        for link in root.iter("{http://www.w3.org/1999/xhtml}a"):
            href = link.attrib["href"]
            if ":" not in href and href != "#":
                file, _, place = href.partition("#")
                there = texts[posixpath.join("book", file)] if file else text
                assert not place or f'id="{place}"' in there, (name, href)
    assert 'xmlns="http://www.w3.org/1998/Math/MathML"' in texts["book/page-01.xhtml"]
    assert (
        "line &amp; more &lt; less" in texts["book/page-00.xhtml"] and "<br/>" in texts["book/page-00.xhtml"]
    )
