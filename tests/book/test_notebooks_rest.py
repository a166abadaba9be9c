"""Cells that papermill added, cells that stand twice, cells that are none, and outputs in another order."""

from __future__ import annotations

import json

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from entanglement.files import sha256
from entanglement_book.layout import BookError
from entanglement_book.press import notebooks


def test_a_cell_has_a_kind_and_a_source(tmp_path):
    path = tmp_path / "03_x.ipynb"
    whole = {"cell_type": "raw", "id": "a", "metadata": {}, "source": "x"}
    for cell in (whole, whole | {"cell_type": ""}, whole | {"source": 3}):
        content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        path.write_text(json.dumps(content))
        if cell is whole:
            assert notebooks.read(path).cells[0].source == "x"
        else:
            with pytest.raises(BookError, match="git checkout"):
                notebooks.read(path)


def test_cells_of_one_source_have_ids_of_their_own_and_injected_ones_go():
    injected = new_code_cell("seed = 1", metadata={"tags": ["injected-parameters"]})
    error = new_code_cell("x", metadata={"tags": ["papermill-error-cell-tag"]})
    book = new_notebook(cells=[new_code_cell("print(1)"), injected, new_code_cell("print(1)\n"), error])
    book.cells.append(new_code_cell("print(1)"))
    name = sha256("code\nprint(1)")[:8]
    assert [cell["id"] for cell in notebooks.tidy(book).cells] == [name, f"{name}-2", f"{name}-3"]


def test_the_order_in_which_an_output_was_written_down_is_no_difference():
    cells = [
        new_code_cell("f()", outputs=[new_output("display_data", data=data)])
        for data in ({"text/plain": "1", "text/html": "2"}, {"text/html": "2", "text/plain": "1"})
    ]
    one, other = (notebooks.comparable(new_notebook(cells=[cell])) for cell in cells)
    assert one == other and one[0][0] == "cell 1"


def parameters(source, *tags):
    return new_code_cell(source, metadata={"tags": ["parameters", *tags]})


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("scale = 'book'\nseed = 0", ["scale", "seed"]),
        ("a = b = 1", ["a", "b"]),
        ("a: int = 1", ["a"]),
        ("a: int", ["a"]),
        ("a += 1", ["a"]),
        ("a[0] = 1", []),
        ("a.b = 1", []),
        ("a.b: int = 1", []),
        ("(a, b) = 1, 2", []),
        ("print(a)\npass", []),
        ("if a:\n    b = 1", []),
        ("import os\na = 1", ["a"]),
        ("a = = 1", []),
        ("", []),
    ],
)
def test_what_a_cell_of_parameters_declares(source, names):
    book = new_notebook(cells=[new_code_cell("other = 1"), parameters(source)])
    assert notebooks.declared_parameters(book) == names


def test_every_cell_of_parameters_declares_but_what_papermill_added_does_not():
    cells = [parameters("a = = 1"), parameters("b = 1"), parameters("c = 1", "injected-parameters")]
    assert notebooks.declared_parameters(new_notebook(cells=[*cells, parameters("d = 1")])) == ["b", "d"]


def test_a_chapter_whose_file_has_another_number_is_not_in_order(tiny):
    toc = "format: jb-book\nroot: book/intro\nparts:\n  - numbered: true\n    chapters:\n"
    (tiny.root / "_toc.yml").write_text(
        toc + "      - file: notebooks/03_first\n      - file: notebooks/06_second\n"
    )
    assert [line for line in notebooks.complaints(tiny.path("03_first")) if "_toc.yml" in line] == [
        f"{tiny.path('03_first')}: notebooks/03_first.ipynb is chapter 1 by _toc.yml: its prefix is 01"
    ]


def failed(source, *outputs, **metadata):
    error = new_output("error", ename="ValueError", evalue="no ", traceback=[])
    cell = new_code_cell(source, outputs=[*outputs, error], metadata=metadata)
    return notebooks.find_error(new_notebook(cells=[new_code_cell("1"), cell]))


def test_a_cell_that_failed_is_shown_by_its_first_line_that_says_something():
    assert failed("\n  \n# why\nx") == (2, "# why", "ValueError: no")
    assert failed("x", new_output("stream", text="said")) == (2, "x", "ValueError: no")
    assert failed("") == (2, "", "ValueError: no")


@pytest.mark.parametrize(
    ("status", "source", "reply", "stopped"),
    [
        ("running", "x", False, True),
        ("completed", "x", False, True),
        ("failed", "x", False, True),
        ("pending", "x", False, False),
        (None, "x", False, False),
        ("running", " \n", False, False),
        ("running", "x", True, False),
    ],
)
def test_a_cell_that_was_begun_and_never_answered_is_where_the_kernel_stopped(status, source, reply, stopped):
    metadata = {} if status is None else {"papermill": {"status": status}}
    if reply:
        metadata["execution"] = {"shell.execute_reply": "then"}
    book = new_notebook(cells=[new_markdown_cell("x"), new_code_cell(source, metadata=metadata)])
    expected = (2, "x", "the kernel stopped while this cell was running") if stopped else None
    assert notebooks.find_error(book) == expected
