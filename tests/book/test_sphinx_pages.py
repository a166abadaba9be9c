"""A figure glued by a notebook is shown on another page, and all numbers come from the table of contents."""

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from entanglement_book.press import sphinx_pages

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><path d="M0 0 L20 10"/></svg>'
PNG = base64.b64encode(b"\x89PNG stands for a picture").decode()
PREFIX = "application/papermill.record/"

FRONT = """# Front

```{glued-figure} /notebooks/one.ipynb::curve
:alt: A line that falls.
:name: fig-front

What is *seen*.
```

{numref}`fig-front`, {prf:ref}`thm-one-token`, {prf:ref}`thm-band`, {prf:ref}`other`, {eq}`eq-x`,
{ref}`ex-one-1`, {prf:ref}`thm-a`, {prf:ref}`thm-b`, {prf:ref}`thm-two`
"""
BOXES = """# One

:::{prf:theorem} One token
:label: thm-one-token
Text.
:::

:::{prf:lemma} The band
:label: thm-band
Text.
:::

## A section

:::{prf:theorem} Another
:label: other
Text.
:::

$$x = 1$$ (eq-x)

:::{exercise} Try
:label: ex-one-1
Text.
:::
"""
#: The book of these tests has three chapters, in two parts, and an appendix of two pages.
NUMBERS = {"notebooks/none": "1", "notebooks/two": "2", "notebooks/one": "3", "a": "A", "b": "A"}


def glued(name: str, kind: str, value: str) -> nbformat.NotebookNode:
    record = {"scrapbook": {"name": name, "mime_prefix": PREFIX}}
    data = {PREFIX + kind: value, PREFIX + "text/plain": "<Figure>"}
    return nbformat.v4.new_output("display_data", data=data, metadata=record)


@pytest.fixture
def build(tmp_path: Path):
    def run(front: str, kind: str = "image/svg+xml", value: str = SVG) -> tuple[BeautifulSoup, Path, str]:
        source = tmp_path / "source"
        (source / "notebooks").mkdir(parents=True)
        (source / "book").mkdir()
        (source / "book" / "front.md").write_text(front)
        pages = {"notebooks/two": "thm-two", "a": "thm-a", "b": "thm-b"}
        for name, label in pages.items():
            box = f":::{{prf:theorem}}\n:label: {label}\nText.\n:::\n"
            (source / f"{name}.md").write_text(f"# Page {name}\n\n## Part\n\n{box}")
        lists = "```{toctree}\nnotebooks/two\n```\n\n```{toctree}\nnotebooks/one\na\nb\n```\n"
        (source / "index.md").write_text(f"# Book\n\n```{{toctree}}\nbook/front\n```\n\n{lists}")
        cell = nbformat.v4.new_code_cell("1", execution_count=1, outputs=[glued("curve", kind, value)])
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
        notebook.cells = [nbformat.v4.new_markdown_cell(BOXES), cell]
        nbformat.write(notebook, source / "notebooks" / "one.ipynb")
        said = io.StringIO()
        settings = {
            "extensions": [
                "myst_nb",
                "sphinx_proof",
                "sphinx_exercise",
                "entanglement_book.press.sphinx_pages",
            ],
            "chapter_numbers": NUMBERS,
            "numfig_secnum_depth": 1,
            "math_numfig": True,
            "nb_execution_mode": "off",
            "myst_enable_extensions": ["colon_fence", "dollarmath"],
            "numfig": True,
        }
        out = tmp_path / "html"
        with docutils_namespace():  # several builds in one process
            trees = tmp_path / "trees"
            app = Sphinx(source, None, out, trees, "html", settings, status=io.StringIO(), warning=said)
            app.build()
        page = BeautifulSoup((out / "book" / "front.html").read_text(encoding="utf-8"), "html.parser")
        return page, out, said.getvalue()

    return run


@pytest.mark.parametrize(
    ("kind", "value", "content"),
    [("image/svg+xml", SVG, SVG.encode()), ("image/png", PNG, base64.b64decode(PNG))],
)
def test_a_glued_figure_is_shown_on_another_page(build, kind, value, content):
    page, out, warnings = build(FRONT, kind, value)
    assert warnings == ""
    figure = page.find("figure", id="fig-front")
    assert figure.img["alt"] == "A line that falls."
    assert (out / "book" / figure.img["src"]).resolve().read_bytes() == content
    assert figure.figcaption.get_text(" ", strip=True).startswith("Fig. 1 What is seen .")
    assert page.find("a", href="#fig-front", class_="reference").get_text() == "Fig. 1"


def test_a_figure_that_nobody_glued_is_a_warning(build):
    page, _, warnings = build(FRONT.replace("::curve", "::gone"))
    assert "no figure 'gone' was glued by 'notebooks/one'" in warnings
    assert page.find("figure", id="fig-front").img is None
    assert "has no output in this build" in page.get_text()


@pytest.mark.parametrize("wrong", [":alt: A line that falls.\n", "::curve"])
def test_a_figure_needs_a_key_and_an_alternative_text(build, wrong):
    _, _, warnings = build(FRONT.replace(wrong, ""))
    assert "expected PATH::KEY and the option :alt:" in warnings


def read(out: Path, page: str) -> BeautifulSoup:
    return BeautifulSoup((out / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


def test_boxes_are_numbered_after_the_chapter_of_the_whole_book(build):
    # The first chapter is left out of this build, and no number moves.
    page, out, warnings = build(FRONT)
    assert warnings == ""
    text = page.get_text(" ", strip=True)
    for reference in ("Theorem 3.1", "Lemma 3.1", "Theorem 3.2", "(3.1)", "Exercise 3.1", "Theorem 2.1"):
        assert reference in text
    titles = [
        re.sub(r"\s+", " ", p.get_text()).strip()
        for p in read(out, "notebooks/one").select("p.admonition-title")
    ]
    assert titles == [
        "Theorem 3.1 (One token)",
        "Lemma 3.1 (The band)",
        "Theorem 3.2 (Another)",
        "Exercise 3.1 (Try)",
    ]


def test_the_appendix_is_lettered_and_counts_through_its_pages(build):
    page, _, _ = build(FRONT)
    text = page.get_text(" ", strip=True)
    assert "Theorem A.1" in text and "Theorem A.2" in text


def test_titles_carry_numbers_and_sections_none(build):
    _, out, _ = build(FRONT)
    headings = {
        page: [h.get_text().strip("#¶ \n") for h in read(out, page).select("section h1, section h2")]
        for page in ("notebooks/one", "notebooks/two", "a", "book/front")
    }
    assert headings["notebooks/one"] == ["3. One", "A section"]
    assert headings["notebooks/two"] == ["2. Page notebooks/two", "Part"]
    assert headings["a"] == ["Page a", "Part"]
    assert headings["book/front"] == ["Front"]
    listed = [a.get_text() for a in read(out, "index").select("li.toctree-l1 > a")]
    assert listed[:5] == ["Front", "2. Page notebooks/two", "3. One", "Page a", "Page b"]


def test_without_a_setting_the_numbers_come_from_the_table_of_contents_beside(tmp_path):
    app = SimpleNamespace(config=SimpleNamespace(chapter_numbers=None), srcdir=tmp_path)
    assert sphinx_pages.chapter_numbers(app) == {}
    toc = {
        "root": "i",
        "parts": [{"numbered": True, "chapters": [{"file": "x"}]}, {"chapters": [{"file": "y"}]}],
    }
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    assert sphinx_pages.chapter_numbers(app) == {"x": "1", "y": "A"}
