"""A tiny book: two chapters and the report, with no torch, so that a run takes little more than a kernel."""

from __future__ import annotations

import shutil

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from entanglement_book.cli import main
from entanglement_book.press import notebooks

CONFIG = """
title: A tiny book
only_build_toc_files: true
execute: {execute_notebooks: "off"}
latex: {use_jupyterbook_latex: false}
sphinx:
  config:
    extensions: [myst_nb, jupyter_book, sphinx_comments, sphinx_external_toc, sphinx_book_theme]
"""
TOC = """
format: jb-book
root: book/intro
chapters:
  - file: notebooks/03_first
  - file: notebooks/06_second
  - file: notebooks/90_report
"""
LEDGER = """
claims:
  - id: first-holds
    statement: The number is small.
    source: nowhere
    notebook: 03_first
    quantity: a number
    rule: value <= 1
    control: {quantity: another number, rule: control > 1}
"""
PARAMETERS = new_code_cell('scale = "book"\nseed = 0', metadata={"tags": ["parameters"]})
#: Each run of a chapter leaves a line, so that tests count runs and do not trust messages.
COUNT = 'import os, pathlib\npathlib.Path(os.environ["RUNS"]).open("a").write("{}\\n")'


class TinyBook:
    """A book in a folder, and what the tests do to it."""

    def __init__(self, root, runs):
        self.root, self.log = root, runs

    def run(self, *arguments):
        return main([*arguments, "--root", str(self.root)])

    def runs(self):
        """Chapters that ran since the last look."""
        lines = self.log.read_text().split() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return sorted(lines)

    def path(self, chapter):
        return self.root / "notebooks" / f"{chapter}.ipynb"

    def write(self, chapter, *cells):
        book = new_notebook(cells=[new_markdown_cell(f"# {chapter}"), *cells])
        self.path(chapter).write_text(notebooks.dumps(notebooks.tidy(book)))

    def edit(self, chapter, old, new, kind="code"):
        book = notebooks.read(self.path(chapter))
        cells = [cell for cell in book.cells if cell.cell_type == kind and old in cell.source]
        assert cells, f"no {kind} cell of {chapter} holds {old!r}"
        for cell in cells:
            cell.source = cell.source.replace(old, new)
        self.path(chapter).write_text(notebooks.dumps(notebooks.tidy(book)))

    def executed(self, chapter, scale="smoke"):
        return self.root / "_build" / "executed" / scale / f"{chapter}.ipynb"

    def sidecar(self, chapter, scale="smoke"):
        return self.root / "_build" / "executed" / scale / f"{chapter}.run.json"


def make(root):
    for folder in ("notebooks", "book", "lib/entanglement"):
        (root / folder).mkdir(parents=True)
    (root / "_config.yml").write_text(CONFIG)
    (root / "_toc.yml").write_text(TOC)
    (root / "requirements.lock").write_text("numpy==1\n")
    (root / "book" / "claims.yml").write_text(LEDGER)
    first = "{glue:text}`/notebooks/03_first.ipynb::number:.1f`"
    (root / "book" / "intro.md").write_text(f"# Tiny\n\nThe number is {first} today.\n")
    library = root / "lib" / "entanglement"
    (library / "__init__.py").write_text('"""Nothing."""\n')
    (library / "geometry.py").write_text(
        '"""Used by the first chapter."""\n\nfrom . import pairs\n\nTWO = 2\n'
    )
    (library / "pairs.py").write_text("ONE = 1\n")
    (library / "losses.py").write_text("UNUSED = 0\n")
    book = TinyBook(root, root / "runs")
    glue = 'from myst_nb import glue\nglue("number", 1.5, display=False)\nprint(scale, seed)'
    claim = 'from entanglement_book.ledger import claims\nclaims.record("first-holds", 0.5, n=3, control=2.0)'
    named = "def unused():\n    from entanglement import geometry\n    return geometry"
    cells = [PARAMETERS, *map(new_code_cell, (COUNT.format("03"), glue, claim, named))]
    book.write("03_first", *cells, new_markdown_cell("Prose of the first chapter."))
    book.write("06_second", PARAMETERS, new_code_cell(COUNT.format("06")), new_code_cell("print(6)"))
    table = "from entanglement_book.ledger.verdicts import ledger_table\n"
    table += "from entanglement_book.press.store import run_times\n"
    table += 'print(*ledger_table(scale=scale).loc[0, ["value", "verdict"]])'
    times = new_code_cell("run_times()", metadata={"tags": ["volatile"]})
    book.write("90_report", PARAMETERS, new_code_cell(COUNT.format("90")), new_code_cell(table), times)
    return book


@pytest.fixture(scope="session")
def fill():
    """What makes a tiny book in a folder, for tests that share one."""
    return make


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A tiny book that has not been executed."""
    monkeypatch.setenv("RUNS", str(tmp_path / "book" / "runs"))
    return make(tmp_path / "book")


@pytest.fixture(scope="session")
def _executed_once(tmp_path_factory):
    root = tmp_path_factory.mktemp("executed") / "book"
    book = make(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNS", str(root / "runs"))
        assert book.run("execute", "--scale", "smoke") == 0
    assert book.runs() == ["03", "06", "90"]
    return root


@pytest.fixture
def executed(_executed_once, tmp_path, monkeypatch):
    """A copy of the tiny book with all outputs at smoke stored."""
    shutil.copytree(_executed_once, tmp_path / "book")
    monkeypatch.setenv("RUNS", str(tmp_path / "book" / "runs"))
    return TinyBook(tmp_path / "book", tmp_path / "book" / "runs")
