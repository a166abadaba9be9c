"""The two packages as wheels of their own: the science, which knows nothing of the book, and the book.

In a clone both are installed together; who needs the library alone takes the first wheel.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entanglement_book.layout import Book, BookError

__all__ = ["SCIENCE_BYTES", "write_wheels"]

#: The wheel of the science must stay below this.
SCIENCE_BYTES = 12_000_000
#: Groups of requirements that functions of the science have a use for.
_SCIENCE_GROUPS = ("objectives", "files", "watch")
#: A checkpoint that only the book's chapters compare with.
_BOOKS_OWN = "checkpoints/nano-unlabeled"


def _written(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables as TOML; words, truth values, lists and mappings of words are written there as in JSON."""

    def value(given: Any) -> str:
        if isinstance(given, Mapping):
            return "{ " + ", ".join(f"{json.dumps(k)} = {value(v)}" for k, v in given.items()) + " }"
        return json.dumps(given)

    return "\n".join(
        f"[{name}]\n" + "".join(f"{json.dumps(key)} = {value(given)}\n" for key, given in table.items())
        for name, table in tables.items()
    )


def _science(project: dict[str, Any], tools: dict[str, Any]) -> dict[str, dict[str, Any]]:
    groups = project["optional-dependencies"]
    kept = ("name", "version", "readme", "requires-python", "license", "dependencies")
    return {
        "build-system": tools["build-system"],
        "project": {
            **{key: project[key] for key in kept},
            "description": "What preference optimization does to chosen and rejected responses, and why.",
        },
        "project.optional-dependencies": {name: groups[name] for name in _SCIENCE_GROUPS},
        "project.scripts": {"entanglement": project["scripts"]["entanglement"]},
        "tool.setuptools.packages.find": {"where": ["lib"], "include": ["entanglement", "entanglement.*"]},
        "tool.setuptools.package-data": {"entanglement": tools["data"]["entanglement"]},
    }


def _book(project: dict[str, Any], tools: dict[str, Any]) -> dict[str, dict[str, Any]]:
    groups = project["optional-dependencies"]
    wanted = [name for group in groups.values() for name in group if not name.startswith("entanglement[")]
    return {
        "build-system": tools["build-system"],
        "project": {
            "name": "entanglement-book",
            "version": project["version"],
            "description": "What makes “Gradient Entanglement: an executable book” from its repository.",
            "readme": project["readme"],
            "requires-python": project["requires-python"],
            "license": project["license"],
            "dependencies": [f"entanglement=={project['version']}", *sorted(set(wanted))],
        },
        "project.scripts": {"entanglement-book": project["scripts"]["entanglement-book"]},
        "tool.setuptools.packages.find": {
            "where": ["lib"],
            "include": ["entanglement_book", "entanglement_book.*"],
        },
        "tool.setuptools.package-data": {"entanglement_book": tools["data"].get("entanglement_book", [])},
    }


def write_wheels(book: Book, folder: Path) -> list[Path]:
    """Build both wheels into a folder; returns their paths, the science first.

    Nothing is downloaded: setuptools must be installed.

    Errors: BookError if the build fails, or the wheel of the science is too large.
    """
    text = (book.root / "pyproject.toml").read_text(encoding="utf-8")
    declared = tomllib.loads(text)
    tools = {
        "build-system": declared["build-system"],
        "data": declared["tool"]["setuptools"]["package-data"],
    }
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for package, declare in (("entanglement", _science), ("entanglement_book", _book)):
        with tempfile.TemporaryDirectory() as place:
            there = Path(place)
            unwanted = shutil.ignore_patterns("__pycache__", Path(_BOOKS_OWN).name)
            shutil.copytree(book.root / "lib" / package, there / "lib" / package, ignore=unwanted)
            for name in ("README.md", "LICENSE"):
                shutil.copy2(book.root / name, there / name)
            (there / "pyproject.toml").write_text(
                _written(declare(declared["project"], tools)), encoding="utf-8"
            )
            made.append(_wheel(there, folder))
    if made[0].stat().st_size >= SCIENCE_BYTES:
        raise BookError(
            f"{made[0].name} has {made[0].stat().st_size:,} bytes; must be below {SCIENCE_BYTES:,}"
        )
    return made


def _wheel(there: Path, folder: Path) -> Path:
    before = set(folder.glob("*.whl"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(there)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = sorted(set(folder.glob("*.whl")) - before)
    if done.returncode != 0 or not found:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no wheel was made"]
        raise BookError("a wheel was not built:\n" + "\n".join(lines[-5:]))
    return found[0]
