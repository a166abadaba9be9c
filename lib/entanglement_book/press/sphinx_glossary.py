"""The first mention of a glossary word on a page leads to its entry, and shows its meaning on hover.

Nothing is marked in the text: a word of ``book/glossary`` is found by its spelling, alone or with an s.
Titles, code, formulas, links, captions of figures and the glossary itself are left as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from docutils import nodes
from sphinx import addnodes

__all__ = ["PAGE", "Entry", "entries", "mentions"]

#: The page that defines the words.
PAGE = "book/glossary"
#: Where a word stays as it is.
_CLOSED = (
    nodes.Inline,
    nodes.FixedTextElement,
    nodes.title,
    nodes.caption,
    nodes.image,
    nodes.math_block,
    nodes.raw,
    addnodes.desc_signature,
)
_OPEN = (nodes.strong, nodes.emphasis)


class Entry(NamedTuple):
    """A word's place on its page, and what it means, as plain text."""

    anchor: str
    meaning: str


def entries(page: nodes.document) -> dict[str, Entry]:
    """Return the words that a page's glossaries define, longer ones first."""
    found: dict[str, Entry] = {}
    for glossary in page.findall(addnodes.glossary):
        for item in glossary.findall(nodes.definition_list_item):
            meaning = " ".join(part.astext() for part in item.findall(nodes.definition))
            for term in item.findall(nodes.term):
                word = term.astext().strip()
                found[word] = Entry(term["ids"][0], " ".join(meaning.split()))
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def _texts(page: nodes.document) -> Iterator[nodes.Text]:
    """Yield the running text of a page, in order."""
    for paragraph in page.findall(nodes.paragraph):
        for text in list(paragraph.findall(nodes.Text)):
            above: Any = text.parent
            while above is not None and (not isinstance(above, _CLOSED) or isinstance(above, _OPEN)):
                above = above.parent
            if above is None:
                yield text


def mentions(page: nodes.document, words: Mapping[str, Entry], uri: str) -> int:
    """Link the first mention of each word on a page; returns how many were found.

    Args:
        page: changed in place.
        words: from ``entries``, longer ones first: of two that begin at one place the longer is linked.
        uri: of the glossary, as seen from the page.
    """
    left = dict(words)
    for text in _texts(page):
        parts: list[nodes.Node] = []
        rest = str(text)
        while left and (hit := _first(rest, left)) is not None:
            word, start, end = hit
            entry = left.pop(word)
            parts += [nodes.Text(rest[:start])] if start else []
            link = nodes.reference(
                "", rest[start:end], internal=True, refuri=f"{uri}#{entry.anchor}", reftitle=entry.meaning,
                classes=["glossary-word"],
            )  # fmt: skip
            parts.append(link)
            rest = rest[end:]
        if parts:
            parent: Any = text.parent
            parent.replace(text, [*parts, *([nodes.Text(rest)] if rest else [])])
    return len(words) - len(left)


def _first(text: str, words: Mapping[str, Entry]) -> tuple[str, int, int] | None:
    """Return the word that is mentioned first, and where; of two at one place the longer."""
    hits = []
    for word in words:
        # Words that are spelled with capitals are names; others may begin a sentence.
        flags = 0 if word != word.lower() else re.IGNORECASE
        found = re.search(rf"(?<![\w-]){re.escape(word)}s?(?![\w-])", text, flags)
        if found:
            hits.append((found.start(), -len(word), word, found.end()))
    if not hits:
        return None
    start, _, word, end = min(hits)
    return word, start, end


def link(app: Any, page: nodes.document, name: str) -> None:
    """Link the words of one page; called by Sphinx when all pages have been read."""
    if name == PAGE or PAGE not in app.env.found_docs or app.builder.format != "html":
        return
    words = getattr(app.env, "glossary_words", None)
    if words is None:
        words = app.env.glossary_words = entries(app.env.get_doctree(PAGE))
    mentions(page, words, app.builder.get_relative_uri(name, PAGE))


def forget(app: Any, env: Any, *_: Any) -> None:
    """Read the glossary anew in every build."""
    env.glossary_words = None


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("env-updated", forget)
    app.connect("doctree-resolved", link)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
