"""Reading, tidying, normalizing and comparing notebooks."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from entanglement.files import sha256
from entanglement_book.layout import BookError, one_line
from entanglement_book.press.asked import refresh_stubs
from entanglement_book.press.numbering import complaints_about_numbers, typed_numbers

#: A cell longer than this is plumbing that belongs in the library.
LONGEST_CELL = 25
#: Bookkeeping and imports are read by nobody on the page, and may be longer.
LONGEST_BOOKKEEPING = 60
#: Characters in a line of code that the page shows without scrolling.
PAGE_WIDTH = 88
#: Cells that the page does not show, in which a chapter writes down its numbers and its claims.
MOST_BOOKKEEPING = 2
#: The first cell of every notebook, which the page does not show. In the book's environment it does nothing.
INSTALL = """# Where the book's library is missing, on Colab say, this installs it.
import importlib.util

SOURCE = ""  # "--branch NAME ADDRESS" of the repository, where the book is published
if importlib.util.find_spec("entanglement_book") is None:
    if SOURCE:
        !git clone --quiet --depth 1 {SOURCE} entanglement-book
        %cd -q entanglement-book/notebooks
    %pip install --quiet --constraint ../requirements.lock "..[book]\""""
_KEPT_CELL = ("tags", "mystnb", "jupyter")
_KEPT_BOOK = ("mystnb",)
_KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
_INJECTED = ("injected-parameters", "papermill-error-cell-tag")
_NOT_SHOWN = {"remove-cell", "remove-input"}
_FOLDED = {"hide-input", "hide-cell"}
_BOOKKEEPING = {"glue", "paste", "put", "put_data", "put_missing", "record", "set_up", "use_style"}
_TODO = "mend it, or fetch it back with git checkout"
_DRAWS = re.compile(r"\bplt\.|\bdrawing\.|\bplot_\w+\(|\.savefig\(")


def read(path: Path) -> NotebookNode:
    """Read a notebook as nbformat 4. Errors: BookError, in one line, if it is none."""
    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        whole = all(isinstance(cell.source, str) and cell.cell_type for cell in notebook.cells)
    except Exception as error:  # nbformat raises whatever a damaged file makes it stumble over
        reason = one_line(error)[:120]
        raise BookError(f"{path} cannot be read as a notebook ({reason}): {_TODO}") from None
    if not whole:
        raise BookError(f"{path} has a cell without source: {_TODO}")
    return notebook


def dumps(notebook: NotebookNode) -> str:
    """One notebook, one text: sorted keys, one space of indentation, Unicode as it is, a final newline."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT).rstrip("\n") + "\n"


def tags(cell: NotebookNode) -> list[str]:
    """The tags of a cell."""
    return list(cell.metadata.get("tags", []))


def is_injected(cell: NotebookNode) -> bool:
    """True for cells that papermill added."""
    return any(tag in _INJECTED for tag in tags(cell))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Code cells, without those that papermill added."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and not is_injected(cell)]


def declared_parameters(notebook: NotebookNode) -> list[str]:
    """Names assigned in the cell tagged ``parameters``."""
    names: list[str] = []
    for cell in code_cells(notebook):
        if "parameters" not in tags(cell):
            continue
        try:
            body = ast.parse(cell.source).body
        except SyntaxError:
            continue
        for node in body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


#: What a reader is shown in place of a chapter's imports.
_IMPORTS_FOLD = {"code_prompt_show": "Show the imports", "code_prompt_hide": "Hide the imports"}


def tidy(notebook: NotebookNode) -> NotebookNode:
    """The canonical form in which notebooks are committed.

    No outputs, no execution counts; a cell's id is a hash of its source, so that inserting one cell changes
    no other's; of the metadata only what the book uses. A cell of imports says that it is one where it is
    folded. Tidying twice changes nothing.
    """
    result = nbformat.v4.new_notebook()
    result.metadata = nbformat.from_dict({"kernelspec": _KERNELSPEC, "language_info": {"name": "python"}})
    result.metadata.update({key: notebook.metadata[key] for key in _KEPT_BOOK if key in notebook.metadata})
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        if is_injected(cell):
            continue
        source = cell.source.rstrip("\n")
        if cell.cell_type == "markdown":
            source = refresh_stubs(source)
        digest = sha256(f"{cell.cell_type}\n{source}")[:8]
        seen[digest] = seen.get(digest, 0) + 1
        fresh = NotebookNode(cell_type=cell.cell_type, source=source)
        fresh["id"] = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        fresh["metadata"] = NotebookNode(
            {key: cell.metadata[key] for key in _KEPT_CELL if cell.metadata.get(key)}
        )
        if "imports" in fresh["metadata"].get("tags", ()):
            fresh["metadata"].setdefault("mystnb", NotebookNode(_IMPORTS_FOLD))
        if cell.cell_type == "code":
            fresh["outputs"], fresh["execution_count"] = [], None
        elif cell.get("attachments"):
            fresh["attachments"] = cell.attachments
        result.cells.append(fresh)
    return result


def complaints(path: Path) -> list[str]:
    """What keeps a committed notebook from being in order, one line each."""
    try:
        notebook, text = read(path), path.read_text(encoding="utf-8")
    except BookError as error:
        return [str(error)]
    found = []
    if any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells):
        found.append(f"{path}: holds outputs; notebooks are committed without (run: make tidy)")
    elif dumps(tidy(notebook)) != text:
        found.append(f"{path}: is not in the canonical form (run: make tidy)")
    if not any("parameters" in tags(cell) for cell in notebook.cells):
        found.append(f"{path}: no cell is tagged 'parameters'")
    elif "scale" not in declared_parameters(notebook):
        found.append(f"{path}: the cell tagged 'parameters' does not set 'scale'")
    found += complaints_about_numbers(path)
    for number, cell in enumerate(notebook.cells, start=1):
        typed = typed_numbers(prose_of(cell))
        if typed:
            found.append(f"{path}: cell {number} types a number ({typed[0]!r}): refer by role or by a label")
        if cell.cell_type == "code":
            found += [f"{path}: cell {number} {complaint}" for complaint in _cell_complaints(cell)]
    hidden = sum(
        "remove-cell" in tags(cell) and cell.source.rstrip("\n") != INSTALL for cell in code_cells(notebook)
    )
    if hidden > MOST_BOOKKEEPING:
        found.append(
            f"{path}: {hidden} cells are tagged 'remove-cell', at most {MOST_BOOKKEEPING} are allowed;"
            " put the chapter's numbers into one and its records into the other"
        )
    return found


def prose_of(cell: NotebookNode) -> str:
    """What a reader reads of a cell: its text, or a code cell's comments, caption and alternative text."""
    if cell.cell_type != "code":
        return str(cell.source)
    shown = cell.metadata.get("mystnb", {})
    return "\n".join(
        [
            cell.source,
            shown.get("figure", {}).get("caption", ""),
            shown.get("image", {}).get("alt", ""),
        ]
    )


def _cell_complaints(cell: NotebookNode) -> list[str]:
    """What is not in order in one code cell."""
    lines, found = cell.source.splitlines(), []
    shown = not _NOT_SHOWN & set(tags(cell))
    read = shown and not _FOLDED & set(tags(cell))
    most = LONGEST_CELL if read else LONGEST_BOOKKEEPING
    if len(lines) > most:
        found.append(f"has {len(lines)} lines, at most {most} are allowed")
    if shown and max(map(len, lines), default=0) > PAGE_WIDTH:
        found.append(f"has a line of more than {PAGE_WIDTH} characters, wider than the page")
    if read:
        found += _plumbing(cell.source)
    drawing = [
        line for line in lines if _DRAWS.search(line) and "import" not in line and "use_style" not in line
    ]
    if drawing and not cell.metadata.get("mystnb", {}).get("image", {}).get("alt"):
        found.append("draws and has no alternative text (mystnb: image: alt)")
    return found


def _plumbing(source: str) -> list[str]:
    """What a visible cell holds that teaches nothing: imports, and calls that record, put, paste or glue."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ["is not Python"]
    nodes = list(ast.walk(tree))
    called = {
        node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        for node in nodes
        if isinstance(node, ast.Call)
    }
    found = [
        f"is visible and calls {name}: bookkeeping belongs in a cell tagged 'remove-cell'"
        for name in sorted(called & _BOOKKEEPING)
    ]
    if any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes):
        found.append("is visible and imports: imports belong in one cell tagged 'hide-input'")
    return found


def normalize(executed: NotebookNode, source: NotebookNode) -> tuple[NotebookNode, str]:
    """Strip everything from an executed notebook that two identical runs would not share.

    Times, paths, random ids and what went to stderr leave the notebook; the stderr text is returned beside
    it. papermill's injected cell is tagged ``remove-cell``, so that it shows up on no page.
    """
    wanted = tidy(source)
    result = nbformat.v4.new_notebook()
    result.metadata = wanted.metadata
    originals = iter(wanted.cells)
    warnings: list[str] = []
    for cell in executed.cells:
        if is_injected(cell):
            hidden = NotebookNode(tags=[_INJECTED[0], "remove-cell"])
            original = NotebookNode(id="injected-parameters", metadata=hidden, source=cell.source)
        else:
            original = next(originals)
        fresh = NotebookNode(cell_type=cell.cell_type, id=original["id"], source=original["source"])
        fresh["metadata"] = original["metadata"]
        if cell.cell_type == "code":
            fresh["execution_count"] = cell.get("execution_count")
            fresh["outputs"], stderr = _normalize_outputs(cell.get("outputs", []))
            warnings.append(stderr)
        elif original.get("attachments"):
            fresh["attachments"] = original["attachments"]
        result.cells.append(NotebookNode(fresh))
    return result, "".join(warnings)


def _normalize_outputs(outputs: list[NotebookNode]) -> tuple[list[NotebookNode], str]:
    kept: list[NotebookNode] = []
    stderr = ""
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            stderr += output.text
        elif output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            # How stdout is cut into pieces depends on timing; the text does not.
            kept[-1].text += output.text
        else:
            output = NotebookNode(output)
            if "metadata" in output:
                output.metadata.pop("execution", None)
            output.pop("transient", None)
            kept.append(output)
    return kept, stderr


def published(cell_source: str, source: str) -> str:
    """Return the cell that installs the library with where it comes from; other cells as they are.

    Args:
        cell_source: of any cell.
        source: ``--branch NAME ADDRESS``.
    """
    if cell_source.rstrip("\n") != INSTALL:
        return cell_source
    return cell_source.replace('SOURCE = ""', f'SOURCE = "{source}"')


def lay_prose(source: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """The current notebook with the stored outputs in it: what is published.

    The code cells are the same in both, by construction of the cache's key; prose and presentation (tags,
    alternative texts, captions) are the current ones.
    """
    result = tidy(source)
    ours, theirs = code_cells(result), code_cells(executed)
    if [cell.source for cell in ours] != [cell.source.rstrip("\n") for cell in theirs]:
        raise ValueError("the executed notebook does not belong to this source: their code cells differ")
    for cell, done in zip(ours, theirs, strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
    return result


def comparable(notebook: NotebookNode) -> list[tuple[str, str]]:
    """(name, text) of each code cell, to compare two runs; outputs of ``volatile`` cells are left out."""
    rows = []
    numbered = enumerate((cell for cell in notebook.cells if not is_injected(cell)), start=1)
    for number, cell in numbered:
        if cell.cell_type == "code":
            outputs = [] if "volatile" in tags(cell) else cell.outputs
            rows.append((f"cell {number}", json.dumps([cell.source, outputs], sort_keys=True)))
    return rows


def find_error(partial: NotebookNode) -> tuple[int, str, str] | None:
    """(cell number in the source, its first line, the error) of the cell that failed in a notebook.

    A cell that was running when its kernel died has no error in its outputs. It is the one that was begun
    (for papermill even "completed") and to which the kernel never replied.
    """
    cells = [cell for cell in partial.cells if not is_injected(cell)]
    for number, cell in enumerate(cells, start=1):
        if cell.cell_type != "code":
            continue
        first = next((line for line in cell.source.splitlines() if line.strip()), "")
        if "raises-exception" not in tags(cell):
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    return number, first, f"{output.ename}: {output.evalue}".strip()
        times = cell.metadata.get("execution", {})
        begun = cell.metadata.get("papermill", {}).get("status") in ("running", "completed", "failed")
        if begun and first and "shell.execute_reply" not in times:
            return number, first, "the kernel stopped while this cell was running"
    return None
