"""The student edition has no solutions: not in pages, nor in what they lead to."""

from dataclasses import replace

import pytest
from nbformat import v4

from entanglement_book.layout import Book, Settings
from entanglement_book.press import notebooks, site, student

SOLUTION = "The rejected answer falls further because its own gradient is the longer one of the two."
CHAPTER = f"""## Exercises

:::{{exercise}} Why
:label: ex-why

*Derivation · level 1 · 5 minutes · goal 1*

Which answer falls further, and why does it do so in this pair?
:::

:::{{solution}} ex-why
:class: dropdown

{SOLUTION}
:::
"""


@pytest.fixture
def book(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "notebooks").mkdir()
    page = v4.new_notebook(cells=[v4.new_markdown_cell("# Three"), v4.new_markdown_cell(CHAPTER)])
    (tmp_path / "notebooks" / "03_three.ipynb").write_text(notebooks.dumps(page))
    (tmp_path / "book" / "guide.md").write_text(f"# Guide\n\n{CHAPTER}")
    told = "One needs to compare the two squared norms with the inner product of both gradients."
    (tmp_path / "book" / "exam_solutions.md").write_text(f"# Solutions\n\n{told}\n")
    return Book(tmp_path, tmp_path / "_build", "student")


def test_its_folders_are_its_own(book):
    settings = Settings("smoke")
    plain = replace(book, edition="")
    assert book.site(settings).name == "smoke-student" and plain.site(settings).name == "smoke"
    assert book.stage(settings) != plain.stage(settings)
    assert book.executed(settings) == plain.executed(settings)


def test_pages_lose_their_solutions(book):
    site._leave_out_solutions(book.root / "book")
    assert not (book.root / "book" / "exam_solutions.md").exists()
    text = (book.root / "book" / "guide.md").read_text()
    assert "Which answer" in text and "longer one" not in text


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.html", f"<p>{SOLUTION}</p>", "the solution of ex-why"),
        ("b.html", f"<p>{SOLUTION.replace('its own', '<b>its</b> own')}</p>", "the solution of ex-why"),
        ("_sources/c.md", SOLUTION, "the solution of ex-why"),
        ("d.ipynb", f'["{SOLUTION[:30]}\\n{SOLUTION[30:]}"]', "the solution of ex-why"),
        ("e.html", "<p>compare the two squared norms with the inner product</p>", "a page for teachers"),
        ("f.html", "<p>Which answer falls further, and why does it do so in this pair?</p>", ""),
        ("g.html", "<p>The rejected answer falls further.</p>", ""),
    ],
)
def test_a_solution_is_found_wherever_it_stands(book, tmp_path, name, content, found):
    path = tmp_path / "site" / name
    path.parent.mkdir(parents=True)
    path.write_text(content)
    lines = student.solutions_in(book, tmp_path / "site")
    assert [found in line for line in lines] == ([True] if found else [])
    assert all(line.startswith(f"{name}: tells of") for line in lines)
