"""The canonical form of notebooks, and what is stripped from executed ones."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from entanglement_book.press import notebooks

PARAMETERS = new_code_cell('scale = "book"\nseed: int = 3', metadata={"tags": ["parameters"]})


def executed(stamp):
    """The same run, with everything in it that two runs do not share."""
    injected = new_code_cell(
        "scale = 'smoke'", metadata={"tags": ["injected-parameters"], "papermill": {"at": stamp}}
    )
    outputs = [new_output("stream", name="stdout", text=text) for text in ("a", "b\n")]
    if stamp % 2:
        outputs = [new_output("stream", name="stdout", text="ab\n")]
    outputs += [
        new_output("stream", name="stderr", text=f"warned at {stamp}\n"),
        new_output("display_data", data={"text/plain": "1"}, metadata={"execution": {"iopub": stamp}}),
    ]
    cell = new_code_cell(
        "print('ab')", outputs=outputs, execution_count=3, metadata={"papermill": {"duration": stamp}}
    )
    book = new_notebook(cells=[new_markdown_cell("# T"), PARAMETERS, injected, cell])
    book.metadata = {"papermill": {"input_path": f"/somewhere/{stamp}"}, "language_info": {"name": "python"}}
    return book


def test_two_runs_leave_the_same_bytes():
    source = new_notebook(cells=[new_markdown_cell("# T"), PARAMETERS, new_code_cell("print('ab')")])
    texts, warnings = zip(*(notebooks.normalize(executed(stamp), source) for stamp in (1, 2)), strict=True)
    first, second = map(notebooks.dumps, texts)
    assert first == second
    assert warnings == ("warned at 1\n", "warned at 2\n")
    assert "papermill" not in first
    assert "somewhere" not in first
    hidden = texts[0].cells[2]
    assert hidden.metadata.tags == ["injected-parameters", "remove-cell"]
    assert texts[0].cells[3].outputs[0].text == "ab\n"
    nbformat.validate(texts[0])


def test_tidy_is_stable_and_keeps_what_the_book_uses():
    cell = new_code_cell("x = 1\n", outputs=[new_output("stream", text="x")], execution_count=4)
    cell.metadata = {"tags": ["hide-input"], "mystnb": {"image": {"alt": "A line"}}, "collapsed": True}
    book = new_notebook(cells=[new_markdown_cell("# T"), PARAMETERS, cell, new_code_cell("x = 1")])
    book.metadata = {"kernelspec": {"name": "my-kernel"}, "vscode": {}, "mystnb": {"figure": {}}}
    once = notebooks.tidy(book)
    assert notebooks.dumps(notebooks.tidy(once)) == notebooks.dumps(once)
    assert once.cells[2].metadata == {"tags": ["hide-input"], "mystnb": {"image": {"alt": "A line"}}}
    assert once.cells[2].outputs == []
    assert set(once.metadata) == {"kernelspec", "language_info", "mystnb"}
    assert once.metadata.kernelspec.name == "python3"
    ids = [cell["id"] for cell in once.cells]
    assert len(set(ids)) == len(ids)
    # A cell put in front changes no other cell's id.
    book.cells.insert(0, new_markdown_cell("New"))
    assert [cell["id"] for cell in notebooks.tidy(book).cells][1:] == ids


def folded(source):
    return new_code_cell(source, metadata={"tags": ["imports", "hide-input"]})


def removed(source):
    return new_code_cell(source, metadata={"tags": ["remove-cell"]})


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        ([new_code_cell("x = 1")], "no cell is tagged 'parameters'"),
        ([new_code_cell("seed = 1", metadata={"tags": ["parameters"]})], "does not set 'scale'"),
        ([PARAMETERS, new_code_cell("\n".join(["x = 1"] * 26))], "cell 2 has 26 lines"),
        ([PARAMETERS, new_code_cell("plt.plot([1])")], "cell 2 draws and has no alternative text"),
        ([PARAMETERS, new_code_cell("x = 1\nput(n=x)")], "cell 2 is visible and calls put"),
        ([PARAMETERS, new_code_cell("for x in y:\n    glue('n', x)")], "cell 2 is visible and calls glue"),
        ([PARAMETERS, new_code_cell("claims.record('x', 1)")], "cell 2 is visible and calls record"),
        ([PARAMETERS, new_code_cell("def f():\n    paste(a=1)")], "cell 2 is visible and calls paste"),
        ([PARAMETERS, new_code_cell("style.use_style()")], "cell 2 is visible and calls use_style"),
        ([PARAMETERS, new_code_cell("import torch")], "cell 2 is visible and imports"),
        ([PARAMETERS, new_code_cell("def f():\n    from x import y")], "cell 2 is visible and imports"),
        ([PARAMETERS, new_code_cell("x = '" + 84 * "a" + "'")], "cell 2 has a line of more than 88"),
        ([PARAMETERS, folded("x = '" + 84 * "a" + "'")], "cell 2 has a line of more than 88"),
        ([PARAMETERS, removed("\n".join(["x = 1"] * 61))], "cell 2 has 61 lines"),
        ([PARAMETERS, *map(removed, ("put(a=1)", "put(b=1)", "put(c=1)"))], "3 cells are tagged 'remove-"),
        ([PARAMETERS, new_code_cell("x = = 1")], "cell 2 is not Python"),
    ],
)
def test_what_is_not_in_order_is_named(tmp_path, cells, named):
    path = tmp_path / "03_x.ipynb"
    path.write_text(notebooks.dumps(notebooks.tidy(new_notebook(cells=cells))))
    found = notebooks.complaints(path)
    assert len(found) == 1
    assert named in found[0]


def test_what_the_page_does_not_show_may_keep_books(tmp_path):
    cells = [
        PARAMETERS,
        folded("import torch\n\ndrawing.use_style()"),
        new_code_cell("x = '" + 82 * "a" + "'"),  # 88 characters
        new_code_cell("run.records\nrecorded(put)"),  # names alone are no calls
        removed("\n".join(["put(a=1)"] * 60)),
        removed("claims.record('x', 1)  # " + 90 * "a"),
    ]
    path = tmp_path / "03_x.ipynb"
    path.write_text(notebooks.dumps(notebooks.tidy(new_notebook(cells=cells))))
    assert notebooks.complaints(path) == []


def test_outputs_and_other_forms_are_named(tmp_path):
    path = tmp_path / "03_x.ipynb"
    good = notebooks.dumps(notebooks.tidy(new_notebook(cells=[PARAMETERS])))
    path.write_text(good)
    assert notebooks.complaints(path) == []
    path.write_text(good.replace('"execution_count": null', '"execution_count": 1'))
    assert "holds outputs" in notebooks.complaints(path)[0]
    path.write_text(good.replace("\n ", "\n  "))
    assert "canonical form" in notebooks.complaints(path)[0]
    path.write_text(good[:-20])
    assert "cannot be read as a notebook" in notebooks.complaints(path)[0]


def test_prose_is_laid_around_stored_outputs():
    source = new_notebook(cells=[new_markdown_cell("# T"), PARAMETERS, new_code_cell("print('ab')")])
    stored, _ = notebooks.normalize(executed(1), source)
    source.cells[0].source = "# Another title"
    source.cells[2].metadata = {"tags": ["hide-input"]}
    page = notebooks.lay_prose(source, stored)
    assert [cell.source for cell in page.cells] == ["# Another title", PARAMETERS.source, "print('ab')"]
    assert page.cells[2].outputs == stored.cells[3].outputs
    assert page.cells[2].metadata.tags == ["hide-input"]
    source.cells[2].source = "print('cd')"
    with pytest.raises(ValueError, match="code cells differ"):
        notebooks.lay_prose(source, stored)


def test_declared_parameters():
    assert notebooks.declared_parameters(new_notebook(cells=[PARAMETERS])) == ["scale", "seed"]
    assert notebooks.declared_parameters(new_notebook(cells=[new_code_cell("x = 1")])) == []


def test_a_kernel_that_died_before_it_said_anything_is_laid_to_the_cell_it_was_given():
    done = {
        "papermill": {"status": "completed"},
        "execution": {"shell.execute_reply": "2026-11-22T00:00:00Z"},
    }
    lost = {"papermill": {"status": "completed"}, "execution": {}}
    waiting = {"papermill": {"status": "pending"}}
    cells = [
        nbformat.v4.new_code_cell(source, metadata={**metadata, "tags": []})
        for source, metadata in (("1", done), ("os.kill(0, 9)", lost), ("3", waiting))
    ]
    found = notebooks.find_error(nbformat.v4.new_notebook(cells=cells))
    assert found == (2, "os.kill(0, 9)", "the kernel stopped while this cell was running")
    cells[1].metadata["execution"] = done["execution"]
    assert notebooks.find_error(nbformat.v4.new_notebook(cells=cells)) is None


def test_what_is_compared_is_code_with_its_outputs_but_for_volatile_cells():
    def made(text, *tags):
        outputs = [new_output("stream", text=text)]
        cell = new_code_cell("print(time())", outputs=outputs, metadata={"tags": list(tags)})
        return new_notebook(cells=[new_markdown_cell("# A title"), cell])

    assert notebooks.comparable(made("1")) != notebooks.comparable(made("2"))
    assert notebooks.comparable(made("1", "volatile")) == notebooks.comparable(made("2", "volatile"))
    assert [name for name, _ in notebooks.comparable(made("1"))] == ["cell 2"]


def test_a_cell_that_is_to_fail_is_no_error():
    def made(*tags):
        outputs = [new_output("error", ename="ValueError", evalue="no", traceback=[])]
        cell = new_code_cell("# why\n1 / 0", outputs=outputs, metadata={"tags": list(tags)})
        return new_notebook(cells=[new_markdown_cell("# A title"), cell])

    assert notebooks.find_error(made()) == (2, "# why", "ValueError: no")
    assert notebooks.find_error(made("raises-exception")) is None


def test_a_cell_of_imports_says_so_where_it_is_folded():
    cell = new_code_cell("import torch", metadata={"tags": ["imports", "hide-input"]})
    own = {"mystnb": {"code_prompt_show": "Show what is imported"}}
    other = new_code_cell("import torch", metadata=own | {"tags": ["imports"]})
    plain = new_code_cell("1 + 1")
    done = notebooks.tidy(new_notebook(cells=[cell, other, plain]))
    assert done.cells[0].metadata.mystnb.code_prompt_show == "Show the imports"
    assert done.cells[1].metadata.mystnb == own["mystnb"]
    assert "mystnb" not in done.cells[2].metadata
    assert notebooks.dumps(notebooks.tidy(done)) == notebooks.dumps(done)
