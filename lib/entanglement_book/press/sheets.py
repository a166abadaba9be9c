"""A chapter's exercises as a notebook of their own: to be worked in, or with the solutions."""

from __future__ import annotations

import re

from nbformat import NotebookNode, v4

from entanglement_book.exercises.asked import Exercise, exercises_of
from entanglement_book.press import notebooks

__all__ = ["sheet"]

_ROLE = re.compile(r"\{[\w:]+\}`([^`<]+?)(?:\s*<[^`>]*>)?`")
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _words(text: str) -> str:
    """A text without what only the book's pages can follow."""
    return _ROLE.sub(lambda found: f"*{found[1].strip().rpartition('/')[2]}*", text)


def _split(text: str) -> list[NotebookNode]:
    """A text as cells: its blocks of Python can be run."""
    cells, at = [], 0
    for block in _PYTHON.finditer(text):
        if before := text[at : block.start()].strip():
            cells.append(v4.new_markdown_cell(_words(before)))
        cells.append(v4.new_code_cell(block[1].rstrip("\n")))
        at = block.end()
    if rest := text[at:].strip():
        cells.append(v4.new_markdown_cell(_words(rest)))
    return cells


def _facts(exercise: Exercise) -> str:
    return f"*{exercise.kind.capitalize()}, level {exercise.level} of 3, about {exercise.minutes} minutes.*"


def sheet(chapter: NotebookNode, number: str, solved: bool = False) -> NotebookNode:
    """Return the exercises of a chapter as a notebook.

    Args:
        chapter: its notebook.
        number: of the chapter, two digits.
        solved: with the solutions.
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
        cells += _split(text)
        if solved:
            cells += [v4.new_markdown_cell("**Solution**"), *_split(exercise.solution)]
        elif not exercise.code:
            cells.append(v4.new_markdown_cell("*Your answer.*"))
    made = v4.new_notebook(cells=cells)
    return notebooks.tidy(made)
