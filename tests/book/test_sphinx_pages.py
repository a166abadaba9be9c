"""A figure glued by a notebook is shown on another page, and theorems keep their numbers."""

import base64
import io
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from entanglement_book.press.sphinx_pages import THEOREM_NUMBERS

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><path d="M0 0 L20 10"/></svg>'
PNG = base64.b64encode(b"\x89PNG stands for a picture").decode()
PREFIX = "application/papermill.record/"

FRONT = """# Front

```{glued-figure} /notebooks/one.ipynb::curve
:alt: A line that falls.
:name: fig-front

What is *seen*.
```

{numref}`fig-front`, {prf:ref}`thm-one-token`, {prf:ref}`thm-band`, {prf:ref}`other`
"""
BOXES = """# One

:::{prf:theorem} Unlisted
:label: other
First in order of reading.
:::

:::{prf:theorem} One token
:label: thm-one-token
Text.
:::

:::{prf:lemma} The band
:label: thm-band
Text.
:::
"""


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
        (source / "index.md").write_text("# Book\n\n```{toctree}\nbook/front\nnotebooks/one\n```\n")
        cell = nbformat.v4.new_code_cell("1", execution_count=1, outputs=[glued("curve", kind, value)])
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
        notebook.cells = [nbformat.v4.new_markdown_cell(BOXES), cell]
        nbformat.write(notebook, source / "notebooks" / "one.ipynb")
        said = io.StringIO()
        settings = {
            "extensions": ["myst_nb", "sphinx_proof", "entanglement_book.press.sphinx_pages"],
            "nb_execution_mode": "off",
            "myst_enable_extensions": ["colon_fence"],
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


def test_theorems_keep_their_numbers(build):
    page, out, _ = build(FRONT)
    text = page.get_text(" ", strip=True)
    assert f"Theorem {THEOREM_NUMBERS['thm-one-token']}" in text
    assert "Lemma 0" in text
    boxes = BeautifulSoup((out / "notebooks" / "one.html").read_text(encoding="utf-8"), "html.parser")
    titles = [re.sub(r"\s+", " ", p.get_text()).strip() for p in boxes.select("p.admonition-title")]
    assert titles[1:] == ["Theorem 1 (One token)", "Lemma 0 (The band)"]
    assert len(set(THEOREM_NUMBERS.values())) == len(THEOREM_NUMBERS)
