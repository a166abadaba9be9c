"""What a notebook's outputs depend on: the cache's key.

A notebook runs again when one of these changed:

- ``code``: the source of its code cells, and the tags that change how they run;
- ``parameters``: what papermill injects;
- ``library``: the modules of ``entanglement`` that it imports, directly or through others, found by reading
  the source (also in functions; a module named in full by a string counts). Comments and docstrings do not
  count, nor does ``entanglement_book``, the machinery, except for the report, which shows its verdicts;
- ``data``: files of the package that are no Python (checkpoints) and that one of those modules names; and
  the tables under ``book/results`` for a notebook that imports ``entanglement_book.grids``, or those that the
  notebook's own metadata name: ``{"entanglement": {"reads": ["book/results/suffix*"]}}``;
- ``environment``: the lock file and Python's minor version;
- ``inputs``, for the report only: the ledger and all other chapters' outputs.

Prose, captions and alternative texts are in none of them.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
import sys
import tokenize
from functools import cache
from pathlib import Path

from nbformat import NotebookNode

from entanglement_book.layout import Book, Settings, is_report
from entanglement_book.press.notebooks import code_cells, declared_parameters, read, tags

_TAGS_THAT_RUN = {"parameters", "raises-exception", "skip-execution"}
_MACHINERY = (
    "entanglement_book.press",
    "entanglement_book.ledger",
    "entanglement_book.provenance",
    "entanglement_book.layout",
    "entanglement_book.cli",
)
#: What a verdict depends on. The environment is left out: a verdict must hold on every machine.
SCIENCE = ("code", "parameters", "library", "data")


def digest(*parts: object) -> str:
    """A short, stable hash of JSON-able things."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def _file_digest(path: Path, size: int, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file, read once per version of it."""
    state = path.stat()
    return _file_digest(path, state.st_size, state.st_mtime_ns)


@cache
def code_text(source: str) -> str:
    """Python source without comments, docstrings and blank lines.

    Cut by position rather than re-printed from the syntax tree, because the tree's text differs between
    versions of Python, and recorded verdicts must be found fresh on all of them. A module that reads
    docstrings is kept whole.
    """
    if "__doc__" in source or "getdoc(" in source:
        return source
    try:
        tree = ast.parse(source)
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, tokenize.TokenError):
        return source
    lines = [line.encode() for line in source.splitlines()]
    cuts = []  # (line, first byte, last byte): positions in the tree are in bytes
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                for row in range(first.lineno, (first.end_lineno or first.lineno) + 1):
                    start = first.col_offset if row == first.lineno else 0
                    stop = first.end_col_offset if row == first.end_lineno else None
                    cuts.append((row, start, stop if stop is not None else len(lines[row - 1])))
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            start = len(lines[row - 1].decode()[:column].encode())
            cuts.append((row, start, len(lines[row - 1])))
    for row, start, stop in sorted(cuts, reverse=True):
        lines[row - 1] = lines[row - 1][:start] + lines[row - 1][stop:]
    return "\n".join(line.decode().rstrip() for line in lines if line.strip())


class ImportGraph:
    """Which modules of the library a piece of code imports, directly or not, found without importing
    anything.
    """

    def __init__(self, library: Path) -> None:
        self.library = library
        self.modules: dict[str, Path] = {}
        for package in (library, library.with_name("entanglement_book")):
            for path in sorted(package.rglob("*.py")):
                parts = path.relative_to(package).with_suffix("").parts
                parts = parts[:-1] if parts[-1] == "__init__" else parts
                self.modules[".".join((package.name, *parts))] = path
        self._direct: dict[str, set[str]] = {}

    def named_in(self, source: str, module: str = "") -> set[str]:
        """Modules of the library that ``source`` names in imports; all of them if it cannot be parsed."""
        try:
            tree = ast.parse(source)
        except SyntaxError:
            return set(self.modules)
        names: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    is_package = module in self.modules and self.modules[module].name == "__init__.py"
                    parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
                    base = ".".join([*parents, *([node.module] if node.module else [])])
                names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
            elif (
                isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in self.modules
            ):
                names.add(node.value)
        # Importing a.b.c runs a, a.b and a.b.c.
        prefixes = {".".join(name.split(".")[:n]) for name in names for n in range(1, name.count(".") + 2)}
        return {name for name in prefixes if name in self.modules}

    def closure(self, source: str, skip: tuple[str, ...] | None = _MACHINERY) -> list[str]:
        """All modules that ``source`` needs; ``skip``: a package that is neither counted nor looked into."""

        def wanted(name: str) -> bool:
            return skip is None or not any(name == one or name.startswith(f"{one}.") for one in skip)

        found: set[str] = set()
        todo = [name for name in self.named_in(source) if wanted(name)]
        while todo:
            name = todo.pop()
            if name in found:
                continue
            found.add(name)
            if name not in self._direct:
                self._direct[name] = self.named_in(self.modules[name].read_text(encoding="utf-8"), name)
            todo += [other for other in self._direct[name] if wanted(other)]
        return sorted(found)

    def data_of(self, modules: list[str]) -> list[Path]:
        """Files of the package that are no Python and that the code of one of ``modules`` names.

        A file goes by the name of the first folder above it that is no Python package, or by its own.
        """
        text = "\n".join(code_text(self.modules[name].read_text(encoding="utf-8")) for name in modules)
        kept = []
        for path in sorted(self.library.rglob("*")):
            parts = path.relative_to(self.library).parts
            if (
                not path.is_file()
                or path.suffix in {".py", ".pyc", ".md", ".typed"}
                or "__pycache__" in parts
            ):
                continue
            folders = [self.library.joinpath(*parts[: n + 1]) for n in range(len(parts))]
            name = next(folder.name for folder in folders if not (folder / "__init__.py").is_file())
            if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text):
                kept.append(path)
        return kept


def _cell_source(cell: NotebookNode) -> str:
    return cell.source.rstrip("\n")


def _importable(notebook: NotebookNode) -> str:
    """The code of a notebook as one Python text; lines for IPython alone are left out."""
    lines = "\n".join(_cell_source(cell) for cell in code_cells(notebook)).splitlines()
    return "\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines)


def key_parts(
    book: Book,
    chapter: str,
    settings: Settings,
    inputs: dict[str, str] | None = None,
    graph: ImportGraph | None = None,
) -> dict[str, str]:
    """What the outputs of ``chapter`` depend on, each as a hash. ``inputs``: the other outputs, for the
    report.
    """
    graph = graph or ImportGraph(book.library)
    notebook = read(book.notebook(chapter))
    cells = [[_cell_source(cell), sorted(_TAGS_THAT_RUN & set(tags(cell)))] for cell in code_cells(notebook)]
    declared = declared_parameters(notebook)
    given = {name: value for name, value in settings.parameters().items() if name in declared}
    modules = graph.closure(_importable(notebook), skip=None if is_report(chapter) else _MACHINERY)
    texts = {name: code_text(graph.modules[name].read_text(encoding="utf-8")) for name in modules}
    data = graph.data_of(modules)
    reads = notebook.metadata.get("entanglement", {}).get("reads")
    if reads is None and any(name.startswith("entanglement_book.grids") for name in modules):
        reads = ["book/results/**/*"]
    for pattern in reads or []:
        data += sorted(path for path in book.root.glob(pattern) if path.is_file())
    files = {path.relative_to(book.root).as_posix(): file_digest(path) for path in dict.fromkeys(data)}
    lock = book.lock.read_text(encoding="utf-8") if book.lock.is_file() else ""
    parts = {
        "code": digest(cells),
        "parameters": digest(given),
        "library": digest(texts),
        "data": digest(files),
        "environment": digest(lock.split(), list(sys.version_info[:2])),
    }
    if is_report(chapter):
        ledger = file_digest(book.ledger) if book.ledger.is_file() else ""
        parts["inputs"] = digest(inputs or {}, ledger)
    return parts


def key_of(parts: dict[str, str]) -> str:
    """The cache's key."""
    return digest(parts)


def science_of(parts: dict[str, str]) -> str:
    """The part of the key that a recorded verdict must agree with on any machine."""
    return digest({name: parts[name] for name in SCIENCE})
