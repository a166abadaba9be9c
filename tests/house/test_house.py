"""How the two packages are built: who imports whom, sizes, names, and what an import must not do."""

import ast
import os
import runpy
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path for name in ("entanglement", "entanglement_book") for path in (ROOT / "lib" / name).rglob("*.py")
)
#: A name that several rooms use for the same kind of thing.
SAME_THING = {"__init__", "__main__", "cli", "study", "grid", "tables", "figures", "base", "stored"}
LONGEST = 400


def imports_of(path):
    """(module, name) of every import from our packages."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (
            "entanglement",
            "entanglement_book",
        ):
            yield from ((node.module, alias.name) for alias in node.names)


def test_the_import_contracts_of_pyproject_are_kept():
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as c; c()",
        "--no-logo",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_no_private_name_is_imported_by_another_module():
    found = [
        f"{path.relative_to(ROOT)}: {module}.{name}"
        for path in MODULES
        for module, name in imports_of(path)
        if (name.startswith("_") and not name.startswith("__"))
        or any(part.startswith("_") for part in module.split("."))
        # a package may build itself from private parts
        if not module.startswith(".".join(path.relative_to(ROOT / "lib").with_suffix("").parts[:-1]) + "._")
    ]
    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT / "lib").as_posix())
def test_a_module_can_be_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_no_two_modules_share_a_name_unless_they_are_the_same_kind_of_thing():
    places = defaultdict(list)
    for path in MODULES:
        if path.stem not in SAME_THING:
            places[path.stem].append(path.relative_to(ROOT / "lib").as_posix())
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_the_files_that_run_first_are_there():
    for name in runpy.run_path(str(ROOT / "tests" / "conftest.py"))["LONGEST"]:
        assert (ROOT / "tests" / name).is_file(), f"{name}: take it out of LONGEST in tests/conftest.py"
