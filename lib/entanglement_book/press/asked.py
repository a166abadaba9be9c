"""Exercises as chapters hold them: one text makes what the reader sees, the stub, the solution and the sheet.

An exercise is MyST's ``{exercise}`` with its ``{solution}`` below. Its first line gives its facts::

    :::{exercise} Which side turns?
    :label: ex-suffix-5

    *Code · level 2 · 10 minutes · goal 1*

    …
    :::

In an exercise with code the solution's first block of Python is the source. A line that ends in ``# yours``
is the reader's to write: in the exercise's own block, which ``tidy`` makes from it, dots stand there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from nbformat import NotebookNode

__all__ = [
    "KINDS",
    "Exercise",
    "exercises_of",
    "goals_of",
    "refresh_stubs",
    "solutions_of",
    "stub_of",
    "without_solutions",
]

KINDS = ("code", "derivation", "figure", "experiment")
_FACTS = re.compile(
    r"^\*(Code|Derivation|Figure|Experiment) · level ([123]) · (\d+) minutes · "
    r"goals? (\d(?:(?:, | and )\d)*)\*$",
    re.MULTILINE,
)
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_YOURS = re.compile(r"\s*# yours\s*$")
_KEPT = re.compile(r"""^\s*(?:return\b|yield\b|[\w.,\[\]"' ]+?(?:: [^=]+?)?\s*[-+*/@]?=(?!=))""")


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        name: chapter and place, ``07.2``, which is its number on the page.
        title, label: of the directive.
        kind, level, minutes, goals: its facts; "" and 0 where the first line does not say them.
        text: what is asked, without the facts.
        solution: the text of the solution, "" if there is none.
    """

    name: str
    title: str
    label: str
    kind: str
    level: int
    minutes: int
    goals: tuple[int, ...]
    text: str
    solution: str

    @property
    def code(self) -> str:
        """The solution's code; "" where there is none, or it is no code exercise."""
        found = _PYTHON.search(self.solution)
        return found[1] if found and self.kind == "code" else ""


def stub_of(code: str) -> str:
    """Return a solution's code with dots for what the reader is to write.

    ``x = 1  # yours`` becomes ``x = ...``, ``return x  # yours`` becomes ``return ...``, and other lines that
    are the reader's become one line of dots.
    """
    lines: list[str] = []
    for line in code.splitlines():
        if not _YOURS.search(line):
            lines.append(line)
            continue
        kept = _KEPT.match(line)
        if kept:
            lines.append(f"{kept[0].rstrip()} ...  # yours")
        elif not (lines and lines[-1].strip() == "...  # yours"):
            lines.append(f"{line[: len(line) - len(line.lstrip())]}...  # yours")
    return "\n".join(lines) + "\n"


def _blocks(text: str) -> Iterable[tuple[str, str, int, int]]:
    """(directive, its argument, first line, line after the last) of each exercise and solution in a text."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        opening = re.match(r"^(:{3,}|`{3,})\{(exercise|solution)\}\s*(.*)$", lines[at])
        if opening:
            end = next((k for k in range(at + 1, len(lines)) if lines[k] == opening[1]), len(lines) - 1)
            yield opening[2], opening[3].strip(), at, end + 1
            at = end
        at += 1


def _body(lines: list[str]) -> tuple[str, str]:
    """The label and the text of a directive's lines."""
    inner = lines[1:-1]
    options = [line for line in inner[: _count_options(inner)]]
    label = next((line.split(":", 2)[2].strip() for line in options if line.startswith(":label:")), "")
    return label, "\n".join(inner[len(options) :]).strip("\n")


def _count_options(lines: list[str]) -> int:
    return next((k for k, line in enumerate(lines) if not re.match(r"^:\w+:", line)), len(lines))


def exercises_of(notebook: NotebookNode, chapter: str) -> list[Exercise]:
    """Return the exercises of a chapter in their order.

    Args:
        notebook: of the chapter.
        chapter: its number in two digits.
    """
    asked: list[tuple[str, str, str]] = []
    solved: dict[str, str] = {}
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        lines = cell.source.split("\n")
        for kind, argument, begin, end in _blocks(cell.source):
            label, text = _body(lines[begin:end])
            if kind == "exercise":
                asked.append((argument, label, text))
            else:
                solved[argument] = text
    found = []
    for place, (title, label, text) in enumerate(asked, 1):
        facts = _FACTS.search(text)
        kind, level, minutes, goals = facts.groups() if facts else ("", "0", "0", "")
        found.append(
            Exercise(
                f"{chapter}.{place}", title, label, kind.lower(), int(level), int(minutes),
                tuple(int(goal) for goal in re.findall(r"\d", goals)),
                _FACTS.sub("", text, count=1).strip("\n"), solved.get(label, ""),
            )
        )  # fmt: skip
    return found


def goals_of(notebook: NotebookNode) -> list[str]:
    """Return what a chapter says its reader can do after it."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and "**After this chapter you can**" in cell.source:
            rest = cell.source.split("**After this chapter you can**", 1)[1].lstrip("\n")
            return re.findall(r"^- (.+)$", rest.split("\n\n", 1)[0], re.MULTILINE)
    return []


def refresh_stubs(source: str) -> str:
    """Return a cell's text with each exercise's block of code made anew from its solution."""
    lines = source.split("\n")
    codes: dict[str, str] = {}
    for kind, argument, begin, end in _blocks(source):
        _, text = _body(lines[begin:end])
        block = _PYTHON.search(text) if kind == "solution" else None
        if block and "# yours" in block[1]:
            codes[argument] = block[1]
    for kind, _, begin, end in reversed(list(_blocks(source))):
        label, text = _body(lines[begin:end])
        if kind != "exercise" or label not in codes:
            continue
        stub = f"```python\n{stub_of(codes[label])}```"
        start = begin + 1 + _count_options(lines[begin + 1 : end])
        old = _PYTHON.search(text)
        new = text[: old.start()] + stub + text[old.end() :] if old else f"{text}\n\n{stub}"
        lines[start : end - 1] = ["", *new.split("\n")]
    return "\n".join(lines)


def solutions_of(source: str) -> tuple[str, list[tuple[str, str]]]:
    """Return a text without its solutions, and the solutions: (label of the exercise, text)."""
    lines = source.split("\n")
    found = []
    for kind, label, begin, end in reversed(list(_blocks(source))):
        if kind == "solution":
            found.append((label, _body(lines[begin:end])[1]))
            after = end + 1 if end < len(lines) and not lines[end].strip() else end
            del lines[begin:after]
    return "\n".join(lines), found[::-1]


def without_solutions(source: str) -> str:
    """Return a text without its solutions."""
    return solutions_of(source)[0]
