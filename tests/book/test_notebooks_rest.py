"""Cells that papermill added, cells that stand twice, cells that are none, and outputs in another order."""

from __future__ import annotations

import json

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

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
