"""Executed notebooks as anyone's viewer shows them: numbers in their sentences, captions under figures.

A chapter's text leads to figures, theorems and other chapters in MyST's words, which the book's pages follow.
Elsewhere they would stand there raw, so they are put into plain Markdown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from nbformat import NotebookNode, v4

from entanglement_book.press import notebooks

__all__ = ["pasted_in", "plain_text", "readable_notebook"]

_GLUE = re.compile(r"\{glue:text\}`(?:[^`]*::)?([^`:]+)(?::([^`]+))?`")
_NAMED = re.compile(r"\{[\w:]+\}`([^`<]+?)\s*<([^`>]*)>`")
_ROLE = re.compile(r"\{([\w:]+)\}`([^`]+)`")
_FENCE = re.compile(r"^(`{3,}|:{3,})\{([\w:-]+)\}\s*(.*)$")
_TARGET = re.compile(r"^\([\w-]+\)=$\n?", re.MULTILINE)
_CITED = re.compile(r"^([a-z]+?)(\d{4})\w?$")


def _number(name: str, form: str | None, numbers: Mapping[str, str]) -> str:
    text = numbers.get(name, "?")
    try:
        value = float(text)
    except ValueError:
        return text
    if form is None or not math.isfinite(value):
        return text
    whole: int | float = int(value) if form.endswith("d") and value.is_integer() else value
    return format(whole, form).replace("-", "\N{MINUS SIGN}")


def _role(found: re.Match[str]) -> str:
    kind, target = found.groups()
    name = target.rpartition("/")[2]
    if kind.startswith("cite"):
        who = _CITED.match(name)
        return f"{who[1].capitalize()} {who[2]}" if who else name
    if kind == "doc":
        return f"*{name.replace('_', ' ')}*"
    if kind == "download":
        return ""
    return f"`{name}`"


def plain_text(source: str, numbers: Mapping[str, str]) -> str:
    """Return a cell's text in plain Markdown.

    Args:
        source: in MyST.
        numbers: what the chapter pasted, by name; a name that is not there becomes a question mark.
    """
    text = _GLUE.sub(lambda found: _number(found[1], found[2], numbers), _TARGET.sub("", source))
    text = _ROLE.sub(_role, _NAMED.sub(lambda found: f"*{found[1].strip()}*", text))
    return "\n".join(_lines(text.split("\n")))


def _lines(lines: list[str]) -> list[str]:
    made: list[str] = []
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if not fence:
            made.append(lines[at])
            at += 1
            continue
        end = next((k for k in range(at + 1, len(lines)) if lines[k].rstrip() == fence[1]), len(lines))
        inner = lines[at + 1 : end]
        while inner and re.match(r"^:[\w-]+:", inner[0]):
            inner.pop(0)
        made += _block(fence[2], fence[3].strip(), inner)
        at = end + 1
    return made


def _block(kind: str, title: str, inner: list[str]) -> list[str]:
    """A directive's lines in plain Markdown."""
    body = _lines(inner)
    while body and not body[0].strip():
        body.pop(0)
    if kind == "math":
        return ["$$", *inner, "$$"]
    if kind in {"lab", "glued-figure", "glue:figure"}:
        return []
    if kind in {"guess", "quiz"}:
        return ["", *body]
    if kind == "solution":
        return ["", "<details><summary>Solution</summary>", "", *body, "", "</details>"]
    name = kind.rpartition(":")[2].capitalize()
    head = f"**{title or name}.**" if kind == "admonition" else f"**{name}{f' ({title})' if title else ''}.**"
    return ["", *(f"> {line}".rstrip() for line in [head, "", *body])]


def pasted_in(page: NotebookNode) -> dict[str, str]:
    """Return what an executed notebook pasted, by name."""
    found: dict[str, str] = {}
    for cell in notebooks.code_cells(page):
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            text = output.get("data", {}).get("application/papermill.record/text/plain")
            if name and text is not None:
                found[name] = text
    return found


def readable_notebook(page: NotebookNode) -> NotebookNode:
    """Return an executed chapter for any viewer: plain text, no bookkeeping, captions under figures."""
    pasted, cells = pasted_in(page), []
    for cell in page.cells:
        if cell.cell_type == "markdown":
            cells.append(v4.new_markdown_cell(plain_text(cell.source, pasted)))
        elif "remove-cell" not in notebooks.tags(cell) or "SOURCE = " in cell.source:
            cells.append(cell)
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            if figure.get("caption"):
                caption = plain_text(figure["caption"], pasted).strip()
                cells.append(v4.new_markdown_cell(f"`{figure.get('name', 'figure')}`: {caption}"))
    made = v4.new_notebook(cells=cells, metadata=page.metadata)
    for place, cell in enumerate(made.cells):  # the same bytes each time
        cell["id"] = f"cell-{place}"
    return made
