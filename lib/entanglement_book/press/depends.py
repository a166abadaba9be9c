"""What a chapter's output depends on: the cache's key, part by part.

- ``code``: the source of its code cells, and the tags that change how they run;
- ``parameters``: what papermill injects, and the content of a model that lies in a folder;
- ``library``: every definition of the two packages that the cells can reach, and of each registry those
  entries that the last run looked up (``provenance``); nothing is left out but the recorder itself;
- ``files``: the files of the repository that the last run read: checkpoints, stored tables, …;
- ``environment``: the lock file, without the packages that only make pages of what was executed, and Python's
  minor version;
- ``inputs``, for the report only: the ledger, and all other chapters' outputs.

Prose, captions and alternative texts are in none of them. A recorded verdict depends on less: on no drawing,
no title and no environment (``science``).
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass

from nbformat import NotebookNode

from entanglement.files import digest, read_text
from entanglement.uses import Use
from entanglement_book.layout import Book, Settings, is_report
from entanglement_book.press.notebooks import code_cells, declared_parameters, read, tags
from entanglement_book.provenance import CodeGraph, Origin, differences, origin_of

__all__ = ["Dependencies", "Uses", "depends_on", "key_of", "why_changed"]

Uses = tuple[Use, ...]
_TAGS_THAT_RUN = {"parameters", "raises-exception", "skip-execution"}


@dataclass(frozen=True)
class Dependencies:
    """What an output depends on.

    Attributes:
        parts: of the key, each a hash.
        origin: of the page: its definitions, uses and files.
        science: hash of what a recorded verdict must agree with on any machine.
    """

    parts: dict[str, str]
    origin: Origin
    science: str


def source_of(notebook: NotebookNode) -> str:
    """The code of a notebook as one Python text; lines for IPython alone are left out."""
    lines = "\n".join(cell.source.rstrip("\n") for cell in code_cells(notebook)).splitlines()
    return "\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines)


def _name(requirement: str) -> str:
    """A package's name as names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[ ]", requirement)[0]).lower()


def _locked(book: Book) -> list[str]:
    """The packages that a run could import, with their versions."""
    pins = read_text(book.lock).split() if book.lock.exists() else []
    project = book.root / "pyproject.toml"
    groups = tomllib.loads(read_text(project))["project"]["optional-dependencies"] if project.exists() else {}
    of_pages = {_name(requirement) for requirement in groups.get("pages", [])}
    return [pin for pin in pins if _name(pin) not in of_pages]


def depends_on(
    book: Book,
    chapter: str,
    settings: Settings,
    uses: Iterable[Use],
    graph: CodeGraph,
    inputs: dict[str, str] | None = None,
    notebook: NotebookNode | None = None,
) -> Dependencies:
    """Return what the output of a chapter depends on.

    Args:
        book, chapter, settings: which output.
        uses: what its run looked up and read.
        graph: of the library.
        inputs: the other outputs, for the report.
        notebook: as it is to be looked at; default: as it lies there now.

    Errors: BookError for a notebook that cannot be read, OSError for another file.
    """
    notebook = read(book.notebook(chapter)) if notebook is None else notebook
    cells = [
        [cell.source.rstrip("\n"), sorted(_TAGS_THAT_RUN & set(tags(cell)))] for cell in code_cells(notebook)
    ]
    declared = declared_parameters(notebook)
    given: dict[str, object] = {
        name: value for name, value in settings.parameters().items() if name in declared
    }
    if "model" in given:
        given["content"] = settings.model_digest()
    used = list(uses)
    page = origin_of(graph, source_of(notebook), used, book.root, "page")
    numbers = origin_of(graph, source_of(notebook), used, book.root, "numbers")
    parts = {
        "code": digest(cells),
        "parameters": digest(given),
        "library": digest(page.code),
        "files": digest(page.files),
        "environment": digest(_locked(book), list(sys.version_info[:2])),
    }
    if is_report(chapter):
        ledger = read_text(book.ledger)
        parts["inputs"] = digest(inputs or {}, ledger)
    science = digest(parts["code"], parts["parameters"], numbers.code, numbers.files)
    return Dependencies(parts, page, science)


def key_of(parts: dict[str, str]) -> str:
    """The cache's key."""
    return digest(parts)


def why_changed(before: Origin, now: Origin, parts: Iterable[str]) -> str:
    """Say in a few words what changed, definitions and files by their names."""
    named = [part for part in parts if part not in ("library", "files")]
    # A change of the cells is told by "code".
    found = [line for line in differences(before, now) if not line.startswith("(the source)")]
    if len(found) > 2:
        found = [*found[:2], f"and {len(found) - 2} more"]
    return "; ".join([*(["changed: " + ", ".join(named)] if named else []), *found]) or "its key changed"
