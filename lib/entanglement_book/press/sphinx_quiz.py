"""Questions with answers to choose from, in the page, without a server or a script.

``{quiz}`` holds one question. Each option is an item, the right one checked, and what is said of it stands
below it, indented::

    ```{quiz}
    Both gradients point the same way. Which answers rise?

    - [ ] Both.

      Only if …
    - [x] It depends on the lengths.

      …
    ```

Whoever chooses an option sees what is said of it. On paper all of it is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

__all__ = ["Option", "read_quiz"]

_ITEM = re.compile(r"^- \[([ xX])\] (.*)$")


@dataclass(frozen=True)
class Option:
    """An answer to choose: whether it is right, its text, and what is said of it."""

    right: bool
    text: str
    said: str


def read_quiz(lines: list[str]) -> tuple[str, list[Option]]:
    """Return the question and the options that a quiz's lines hold.

    Raises:
        ValueError: no question, fewer than two options, not one right one, or one of which nothing is said.
    """
    items: list[tuple[str, list[str]]] = []
    question: list[str] = []
    for line in lines:
        if found := _ITEM.match(line):
            items.append((found[1], [f"  {found[2]}"]))
        else:
            (items[-1][1] if items else question).append(line)
    options = []
    for mark, text in items:
        first, _, rest = dedent("\n".join(text)).strip().partition("\n\n")
        options.append(Option(mark != " ", " ".join(first.split()), rest.strip()))
    asked = "\n".join(question).strip()
    if not asked:
        raise ValueError("quiz: there is no question")
    if len(options) < 2 or sum(option.right for option in options) != 1:
        raise ValueError("quiz: expected two options or more, one of them checked: - [x]")
    if silent := [option.text for option in options if not option.said]:
        raise ValueError(f"quiz: nothing is said of {silent[0]!r}")
    return asked, options


class QuizNode(nodes.General, nodes.Element):
    """A question with its options."""


class OptionNode(nodes.General, nodes.Element):
    """One option: its text, then what is said of it."""


class LabelNode(nodes.General, nodes.Element):
    """The text of an option."""


class Quiz(SphinxDirective):
    """The directive ``{quiz}``."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return a node that holds question and options."""
        try:
            asked, options = read_quiz(list(self.content))
        except ValueError as error:
            raise self.error(str(error)) from None
        name = f"quiz-{self.env.new_serialno('quiz')}"
        quiz = QuizNode(name=name)
        self.set_source_info(quiz)
        quiz += self._parsed(asked)
        for place, option in enumerate(options):
            node = OptionNode(name=name, key=f"{name}-{place}", right=option.right)
            label = LabelNode(key=f"{name}-{place}")
            for part in self._parsed(option.text):
                label += part.children if isinstance(part, nodes.paragraph) else [part]
            said = nodes.container(classes=["quiz-said"])
            said += self._parsed(option.said)
            first = next(said.findall(nodes.paragraph), None)
            if first is not None:
                first.insert(0, nodes.strong("", "Right. " if option.right else "No. "))
            node += [label, said]
            quiz += node
        return [quiz]

    def _parsed(self, text: str) -> list[nodes.Node]:
        holder = nodes.Element()
        holder.document = self.state.document
        source = self.get_source_info()[0]
        self.state.nested_parse(StringList(text.split("\n"), source=source), self.content_offset, holder)
        return holder.children


def _open_quiz(writer: Any, node: QuizNode) -> None:
    writer.body.append(f'<div class="quiz" role="group" aria-label="Question" data-quiz="{node["name"]}">')


def _open_option(writer: Any, node: OptionNode) -> None:
    kind = "right" if node["right"] else "wrong"
    writer.body.append(
        f'<div class="quiz-option quiz-{kind}"><input type="radio" name="{node["name"]}" id="{node["key"]}">'
    )


def _open_label(writer: Any, node: LabelNode) -> None:
    writer.body.append(f'<label for="{node["key"]}">')


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""

    def close(tag: str) -> Any:
        return lambda writer, _node: writer.body.append(f"</{tag}>")

    still = (lambda writer, node: None, lambda writer, node: None)
    for kind, visit, tag in (
        (QuizNode, _open_quiz, "div"),
        (OptionNode, _open_option, "div"),
        (LabelNode, _open_label, "label"),
    ):
        app.add_node(kind, html=(visit, close(tag)), latex=still, text=still, man=still)
    app.add_directive("quiz", Quiz)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
