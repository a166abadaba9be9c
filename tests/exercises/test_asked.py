"""An exercise's text, stub, solution and sheet come from one place in its chapter."""

import pytest
from nbformat import v4

from entanglement_book.press import notebooks
from entanglement_book.press.asked import (
    exercises_of,
    goals_of,
    refresh_stubs,
    stub_of,
    without_solutions,
)
from entanglement_book.press.notebooks import INSTALL, published
from entanglement_book.press.sheets import sheet

CELL = """## Exercises

:::{exercise} Twice
:label: ex-twice

*Code · level 2 · 10 minutes · goals 1 and 2*

Write it, as in {numref}`fig-a` and {doc}`the chapter <03_other>`.
:::

:::{solution} ex-twice
:class: dropdown

It is simple.

```python
from entanglement_book.exercises import check

def twice(x):
    y = x  # yours
    y += x  # yours
    z: int = 3  # yours
    return y  # yours

check("07.1", twice)
```
:::

::::{exercise} Why?
:label: ex-why

*Derivation · level 1 · 5 minutes · goal 1*

Show it.
::::

:::{solution} ex-why
Because.
:::

## What is not shown

Nothing."""
STUB = """from entanglement_book.exercises import check

def twice(x):
    y = ...  # yours
    y += ...  # yours
    z: int = ...  # yours
    return ...  # yours

check("07.1", twice)
"""


def chapter():
    head = "# Seven\n\n**After this chapter you can**\n\n- do one thing,\n- do another.\n\nMore.\n\n- no goal"
    return v4.new_notebook(cells=[v4.new_markdown_cell(head), v4.new_markdown_cell(refresh_stubs(CELL))])


def test_an_exercise_has_its_facts():
    first, second = exercises_of(chapter(), "07")
    assert (first.name, first.title, first.label) == ("07.1", "Twice", "ex-twice")
    assert (first.kind, first.level, first.minutes, first.goals) == ("code", 2, 10, (1, 2))
    assert (second.name, second.kind, second.text, second.solution) == (
        "07.2",
        "derivation",
        "Show it.",
        "Because.",
    )
    assert first.code.startswith("from") and second.code == ""
    assert goals_of(chapter()) == ["do one thing,", "do another."]


def test_the_stub_comes_from_the_solution_and_stays():
    once = refresh_stubs(CELL)
    assert once.count(f"```python\n{STUB}```") == 1
    assert refresh_stubs(once) == once
    assert refresh_stubs(once.replace("y += ...  # yours", "old")) == once
    assert stub_of(exercises_of(chapter(), "07")[0].code) == STUB


@pytest.mark.parametrize(
    ("code", "stub"),
    [
        ("    for x in y:  # yours\n        z  # yours\n    a", "    ...  # yours\n    a\n"),
        ("if x == 1:  # yours\n    pass  # yours", "...  # yours\n"),
        ("x, y = f(1)  # yours", "x, y = ...  # yours\n"),
        ("a[0] = 1  # yours", "a[0] = ...  # yours\n"),
        ("f(a=1)  # yours", "...  # yours\n"),
    ],
)
def test_what_is_the_readers_is_dots(code, stub):
    assert stub_of(code) == stub


def test_nothing_is_left_of_a_solution():
    text = without_solutions(refresh_stubs(CELL))
    assert "solution" not in text and "simple" not in text and "Because" not in text
    assert [e.label for e in exercises_of(v4.new_notebook(cells=[v4.new_markdown_cell(text)]), "07")] == [
        "ex-twice",
        "ex-why",
    ]
    assert text.endswith("Show it.\n::::\n\n## What is not shown\n\nNothing.")


def test_a_sheet_to_work_in_and_one_with_solutions():
    stub, solved = sheet(chapter(), "07"), sheet(chapter(), "07", solved=True)
    texts = ["\n".join(cell.source for cell in made.cells) for made in (stub, solved)]
    assert stub.cells[1].source == solved.cells[1].source == INSTALL
    assert "return ..." in texts[0] and "return y" not in texts[0] and "Because" not in texts[0]
    assert "return y" in texts[1] and "return ..." not in texts[1] and "Because" in texts[1]
    assert "as in `fig-a` and *the chapter*" in texts[0]
    assert [cell.cell_type for cell in stub.cells] == [
        "markdown", "code", "markdown", "markdown", "code", "markdown", "markdown", "markdown",
    ]  # fmt: skip
    assert notebooks.tidy(stub) == stub


def test_only_the_first_cell_is_told_where_the_book_lies():
    assert 'SOURCE = "--branch main somewhere"  #' in published(INSTALL, "--branch main somewhere")
    assert published('SOURCE = ""', "x") == 'SOURCE = ""'
