"""The first mention of a glossary word on a page leads to its entry, and tells its meaning."""

import re

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from entanglement_book.layout import Book
from entanglement_book.press import sphinx_glossary

GLOSSARY = """# Words

A margin is told here.

:::{glossary}
margin
  The difference, in *nats*.

margin loss
  A loss that sees the margin.

DPO
  A loss.

near-copies
  Two answers alike.
:::
"""
PAGE = """# The margin of DPO

`margin`, {doc}`book/glossary`, $margin$. Margins and submargins, margin-based. Then a margin again, a
*margin loss*, **DPO**, dpo, near-copies.

```
a margin loss
```

| a near-copies table | margin loss |
|---|---|
| DPO | margin |

[a margin](https://example.org)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of a small book, by name."""
    source, build = (tmp_path_factory.mktemp(name) for name in ("source", "build"))
    (source / "book").mkdir()
    (source / "book" / "glossary.md").write_text(GLOSSARY, encoding="utf-8")
    (source / "index.md").write_text(PAGE, encoding="utf-8")
    settings = {
        "extensions": [
            "myst_nb",
            "entanglement_book.press.sphinx_pages",
            "entanglement_book.press.sphinx_glossary",
        ],
        "nb_execution_mode": "off",
        "myst_enable_extensions": ["colon_fence", "dollarmath"],
        "html_theme": "basic",
    }
    with docutils_namespace():
        app = Sphinx(source, None, build, build / ".doctrees", "html", settings, status=None, warning=None)
        app.build()
    return {name: BeautifulSoup((build / f"{name}.html").read_text("utf-8"), "html.parser")
            for name in ("index", "book/glossary")}  # fmt: skip


def test_the_first_mention_of_each_word_is_a_link_with_its_meaning(site):
    links = site["index"].select("a.glossary-word")
    assert [a.get_text() for a in links] == ["Margins", "margin loss", "DPO", "near-copies"]
    assert links[0]["title"] == "The difference, in nats."
    assert links[0]["href"] == "book/glossary.html#term-margin"
    assert [a["title"] for a in links[1:]] == [
        "A loss that sees the margin.",
        "A loss.",
        "Two answers alike.",
    ]
    target = site["book/glossary"].find(id="term-margin")
    assert target is not None and target.get_text().startswith("margin")


def test_the_text_is_what_it_was(site):
    text = " ".join(site["index"].select_one(".body").get_text().split())
    assert (
        "Margins and submargins, margin-based. Then a margin again, a margin loss, DPO, dpo, near-copies."
        in text
    )
    assert site["index"].select_one("em").get_text() == "margin loss"
    assert site["index"].select_one("strong a").get_text() == "DPO"
    assert not site["index"].select("h1 a.glossary-word, pre a.glossary-word, code a, a a")


def test_the_glossary_links_nothing_to_itself(site):
    assert not site["book/glossary"].select("a.glossary-word")


def test_every_word_of_the_book_is_defined_once_and_in_a_sentence():
    text = (Book.find().root / f"{sphinx_glossary.PAGE}.md").read_text(encoding="utf-8")
    blocks = re.findall(r":::\{glossary\}\n(.*?)\n:::", text, re.DOTALL)
    rows = [item.split("\n  ") for block in blocks for item in block.split("\n\n")]
    assert len(rows) > 25
    words = [row[0].strip().lower() for row in rows]
    assert len(set(words)) == len(words)
    for word, *meaning in rows:
        assert len(meaning) == 1, f"{word}: one line of meaning is wanted, since it is shown on hover"
        assert meaning[0].strip().endswith((".", ")")) and "$" not in meaning[0], word
    for word in ("policy", "chosen reward", "likelihood displacement", "KL divergence"):
        assert word.lower() in words
