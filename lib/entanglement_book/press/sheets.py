"""A chapter's exercises as a notebook of their own: to be worked in, or with the solutions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nbformat import NotebookNode, v4

from entanglement_book.press import notebooks
from entanglement_book.press.asked import Exercise, exercises_of
from entanglement_book.press.readable import plain_text

__all__ = ["sheet"]

_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _split(text: str, numbers: Mapping[str, str]) -> list[NotebookNode]:
    """A text as cells: its blocks of Python can be run."""
    cells, at = [], 0
    for block in _PYTHON.finditer(text):
        if before := text[at : block.start()].strip():
            cells.append(v4.new_markdown_cell(plain_text(before, numbers)))
        cells.append(v4.new_code_cell(block[1].rstrip("\n")))
        at = block.end()
    if rest := text[at:].strip():
        cells.append(v4.new_markdown_cell(plain_text(rest, numbers)))
    return cells


def _facts(exercise: Exercise) -> str:
    return f"*{exercise.kind.capitalize()}, level {exercise.level} of 3, about {exercise.minutes} minutes.*"


def sheet(
    chapter: NotebookNode, number: str, solved: bool = False, numbers: Mapping[str, str] | None = None
) -> NotebookNode:
    """Return the exercises of a chapter as a notebook.

    Args:
        chapter: its notebook.
        number: of the chapter, two digits.
        solved: with the solutions.
        numbers: what a run of the chapter pasted, by name, for the solutions.
    """
    title = chapter.cells[0].source.split("\n", 1)[0].lstrip("# ")
    cells = [
        v4.new_markdown_cell(f"# Exercises: {title}"),
        v4.new_code_cell(notebooks.INSTALL),
    ]
    for exercise in exercises_of(chapter, number):
        head = f"## {int(number)}.{exercise.name.partition('.')[2]} {exercise.title}\n\n{_facts(exercise)}"
        cells.append(v4.new_markdown_cell(head))
        text = exercise.text
        if solved and exercise.code:
            text = _PYTHON.sub("", text)
        cells += _split(text, numbers or {})
        if solved:
            cells += [v4.new_markdown_cell("**Solution**"), *_split(exercise.solution, numbers or {})]
        elif not exercise.code:
            cells.append(v4.new_markdown_cell("*Your answer.*"))
    made = v4.new_notebook(cells=cells)
    return notebooks.tidy(made)
