"""Questions with options: how they are written, and that each part of the book has its eight."""

from pathlib import Path

import pytest
import yaml

from entanglement_book.press import notebooks
from entanglement_book.press.sphinx_quiz import read_quiz

ROOT = Path(__file__).resolve().parents[2]
ASKED = """What is $2$?

- [ ] One,
  or less.

  It is more.
- [x] Two.

  Yes.

  And so on."""


def test_a_quiz_is_read():
    asked, (wrong, right) = read_quiz(ASKED.split("\n"))
    assert asked == "What is $2$?"
    assert (wrong.right, wrong.text, wrong.said) == (False, "One, or less.", "It is more.")
    assert (right.right, right.text, right.said) == (True, "Two.", "Yes.\n\nAnd so on.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ASKED.replace("What is $2$?", ""), "there is no question"),
        (ASKED.replace("[x]", "[ ]"), "one of them checked"),
        (ASKED.replace("[ ]", "[x]"), "one of them checked"),
        (ASKED.split("- [x]")[0].replace("[ ]", "[x]"), "two options or more"),
        (ASKED.replace("  It is more.\n", ""), "nothing is said of 'One, or less.'"),
    ],
)
def test_a_quiz_that_is_none(text, said):
    with pytest.raises(ValueError, match=said):
        read_quiz(text.split("\n"))


def quizzes(path):
    text = "\n".join(cell.source for cell in notebooks.read(path).cells if cell.cell_type == "markdown")
    blocks = [block.split("\n```")[0].split("\n")[1:] for block in text.split("```{quiz}")[1:]]
    return [read_quiz(block) for block in blocks]


PARTS = [part for part in yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"] if part.get("numbered")]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part["caption"])
def test_a_part_ends_with_eight_questions(part):
    *others, last = [ROOT / f"{chapter['file']}.ipynb" for chapter in part["chapters"]]
    assert [quizzes(path) for path in others] == [[]] * len(others)
    found = quizzes(last)
    assert len(found) == 8
    places = {[option.right for option in options].index(True) for _, options in found}
    assert len(places) > 1, "the right one stands in one place"
    assert all(len(options) >= 3 for _, options in found)
