"""Pictures further down a page are loaded when they come near, into places of their size."""

import pytest

from entanglement_book.press.pictures import load_when_near

SVG = '<?xml version="1.0"?>\n<svg xmlns="x" width="300pt" height="150.4pt" viewBox="0 0 1 1"></svg>'


@pytest.fixture
def site(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images" / "a.svg").write_text(SVG)
    (tmp_path / "_images" / "b.svg").write_text("<svg></svg>")
    return tmp_path


@pytest.mark.parametrize(
    ("tag", "mended"),
    [
        (
            '<img alt="x" src="../_images/a.svg">',
            '<img loading="lazy" width="400" height="201" alt="x" src="../_images/a.svg">',
        ),
        (
            '<img src="../_images/a.svg?v=1" width="9">',
            '<img loading="lazy" src="../_images/a.svg?v=1" width="9">',
        ),
        ('<img src="../_images/b.svg">', '<img loading="lazy" src="../_images/b.svg">'),
        ('<img src="../_images/gone.svg">', '<img loading="lazy" src="../_images/gone.svg">'),
        ('<img loading="eager" src="../_images/a.svg">', '<img loading="eager" src="../_images/a.svg">'),
        ('<img alt="x">', '<img alt="x">'),
    ],
)
def test_all_but_the_first_wait(site, tag, mended):
    first = '<img src="https://a.b/logo.png">'
    page = site / "notebooks" / "x.html"
    page.write_text(f"<p>{first}{tag}</p>")
    load_when_near(site)
    assert page.read_text() == f"<p>{first}{mended}</p>"
    load_when_near(site)
    assert page.read_text() == f"<p>{first}{mended}</p>"


def test_the_first_has_its_size_and_comes_at_once(site):
    page = site / "x.html"
    page.write_text('<img src="_images/a.svg">')
    load_when_near(site)
    assert page.read_text() == '<img width="400" height="201" src="_images/a.svg">'
