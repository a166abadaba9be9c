"""What goes online beside the pages: addresses from one setting, notebooks for any viewer, what changed."""

import hashlib
import json
from pathlib import Path

import pytest
from nbformat import v4

from entanglement_book.layout import Book, Settings
from entanglement_book.press import notebooks, publishing, what_changed as changes
from entanglement_book.press.readable import plain_text, readable_notebook

ROOT = Path(__file__).resolve().parents[2]
HUB = "https://github.com/Some-One/a.book"


def pasted(name, text):
    metadata = {"scrapbook": {"name": name}}
    return v4.new_output("display_data", {"application/papermill.record/text/plain": text}, metadata=metadata)


def test_one_setting_is_the_address(tmp_path, monkeypatch):
    monkeypatch.delenv(publishing.VARIABLE, raising=False)
    book = Book(tmp_path, tmp_path / "_build")
    (tmp_path / "_config.yml").write_text("title: x\nrepository: {url: ''}\n")
    assert publishing.repository(book) == "" and publishing.theme_options("") == {}
    (tmp_path / "_config.yml").write_text(f"title: x\nrepository: {{url: '{HUB}.git'}}\n")
    assert publishing.repository(book) == HUB
    monkeypatch.setenv(publishing.VARIABLE, "https://github.com/fork/book/")
    assert publishing.repository(book) == "https://github.com/fork/book"
    assert publishing.repository(Book.find(ROOT)) == "https://github.com/fork/book"


def test_the_address_makes_buttons_and_places():
    options = publishing.theme_options(HUB)
    assert options["repository_url"] == HUB and set(options["launch_buttons"]) >= {
        "colab_url",
        "binderhub_url",
    }
    assert publishing.pages_address(HUB) == "https://some-one.github.io/a.book/"
    assert publishing.pages_address("https://example.org/x") == "" == publishing.buttons("", "07_x")
    line = publishing.buttons(HUB, "07_x")
    assert "/github/Some-One/a.book/blob/executed/notebooks/07_x.ipynb" in line
    assert "/v2/gh/Some-One/a.book/executed?urlpath=lab/tree/notebooks/07_x.ipynb" in line


def test_the_book_has_no_address_yet():
    assert Book.find(ROOT).config()["repository"]["url"] == ""


def test_a_sitemap_names_every_page(tmp_path):
    (tmp_path / "a & b.html").write_text("")
    (tmp_path / "index.html").write_text("")
    publishing.write_sitemap(tmp_path, "https://x.io/y/")
    text = (tmp_path / "sitemap.xml").read_text()
    assert "<loc>https://x.io/y/index.html</loc>" in text and "a &amp; b.html" in text
    assert (tmp_path / "robots.txt").read_text().endswith("Sitemap: https://x.io/y/sitemap.xml\n")


TEXT = """(sec-a)=
# Title

It fell by {glue:text}`fall:+.1f` and {glue:text}`/notebooks/03_x.ipynb::n:d`; see {numref}`fig-a`,
{doc}`03_other_one`, {cite:t}`yuan2025` and {prf:ref}`the theorem <thm-a>`.

:::{prf:theorem} Band
:label: thm-a

$a>b$.
:::

```{guess} fig-a
:found: fall

How far?
```

````{lab} arrows
```{glued-figure} x
```
````

:::{solution} ex-a
:class: dropdown
Because.
:::
"""


def test_text_for_any_viewer():
    made = plain_text(TEXT, {"fall": "-0.52", "n": "7.0"})
    assert "It fell by −0.5 and 7; see `fig-a`,\n*03 other one*, Yuan 2025 and *the theorem*." in made
    assert "> **Theorem (Band).**\n>\n> $a>b$." in made
    assert "How far?" in made and "found" not in made and "lab" not in made and "sec-a" not in made
    assert "<details><summary>Solution</summary>\n\nBecause.\n\n</details>" in made
    assert "{" not in made.replace("{glue", "")
    assert "?" in plain_text("{glue:text}`gone:.1f`", {})


def test_a_notebook_for_any_viewer():
    figure = {"mystnb": {"figure": {"name": "fig-a", "caption": "Falls by {glue:text}`x:.1f`."}}}
    page = v4.new_notebook(
        cells=[
            v4.new_markdown_cell("# T\n\n{glue:text}`x:.1f`"),
            v4.new_code_cell(notebooks.INSTALL, metadata={"tags": ["remove-cell"]}),
            v4.new_code_cell("draw()", metadata=figure),
            v4.new_code_cell("put()", metadata={"tags": ["remove-cell"]}, outputs=[pasted("x", "1.25")]),
        ]
    )
    made = readable_notebook(page)
    assert [cell.source for cell in made.cells] == [
        "# T\n\n1.2", notebooks.INSTALL, "draw()", "`fig-a`: Falls by 1.2.",
    ]  # fmt: skip
    assert readable_notebook(page) == made


@pytest.fixture
def runs(tmp_path):
    for name, value, verdict in (("old", "1.0", "reproduced"), ("new", "2.0", "not reproduced")):
        folder = tmp_path / name
        folder.mkdir()
        cells = [
            v4.new_code_cell(
                "", outputs=[pasted("x", value), pasted("same", "1.0000000001"), pasted("nan", "nan")]
            )
        ]
        (folder / "03_x.ipynb").write_text(notebooks.dumps(v4.new_notebook(cells=cells)))
        (folder / "verdicts.json").write_text(
            json.dumps({"claims": {"c": {"verdict": verdict}, "d": {"verdict": "x"}}})
        )
    return tmp_path / "old", tmp_path / "new"


def test_what_changed_is_told(runs):
    old, new = runs
    assert changes.changed_numbers(old, new) == ["03_x: x: 1.0 → 2.0"]
    assert changes.changed_numbers(old, old) == []
    assert changes.changed_verdicts(old / "verdicts.json", new / "verdicts.json") == [
        "c: reproduced → not reproduced"
    ]
    assert changes.changed_verdicts(old / "none.json", old / "none.json") == []
    text = changes.report("What", {"Numbers": ["a"], "Links": []})
    assert text == "# What\n\n## Numbers: 1\n\n- a\n\n## Links: none\n"


def test_broken_links_are_told(tmp_path):
    (tmp_path / "index.html").write_text(
        '<a href="https://a.b/x#y">x</a><a href="https://a.b/gone">y</a><a href="z.html">z</a>'
    )
    (tmp_path / "README.md").write_text("see https://c.d/nobody, https://e.f/robots.\n")
    asked = []

    def ask(address):
        asked.append(address)
        return {"https://a.b/gone": 404, "https://c.d/nobody": 0, "https://e.f/robots": 403}.get(address, 200)

    found = changes.broken_links(tmp_path, [tmp_path / "README.md"], ask)
    assert found == [
        "index.html: https://a.b/gone (status 404)",
        "README.md: https://c.d/nobody (nobody answers)",
    ]
    assert asked.count("https://a.b/x") == 1 and asked.count("https://a.b/gone") == 2


def test_an_archive_is_the_same_for_the_same_files(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a").write_text("1")
    sums = []
    for name in ("one.zip", "two.zip"):
        publishing._zip(tmp_path / "in", tmp_path / name)
        sums.append(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert sums[0] == sums[1]


def test_a_release_wants_what_was_made_before(tmp_path):
    from entanglement_book.layout import BookError

    with pytest.raises(BookError, match="run make book"):
        publishing.write_release(Book(ROOT, tmp_path), Settings("smoke"))
