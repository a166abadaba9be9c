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
SAME_THING = {
    "__init__", "__main__", "cli", "study", "grid", "tables", "figures", "numbers", "base", "stored", "runs",
}  # fmt: skip
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


#: Calls that write a file as they go, so that who is killed or finds the disk full leaves half of it.
WRITES = {"write_text", "write_bytes", "save", "savez", "save_file", "save_pretrained", "to_csv", "to_json"}
WRITES |= {"to_parquet", "to_pickle", "savefig", "savetxt", "dump", "copy", "copy2", "copyfile", "copytree"}
#: Where that is right, and why.
HALF_IS_NO_HARM = {
    ("entanglement/files.py", "write_all"): "what all others call",
    ("entanglement/files.py", "_second_name"): "what write_all calls where there are no links",
    ("entanglement/uses.py", "note"): "appends a line to a file of its own run",
    ("entanglement/models.py", "_unpack_smollm2"): "in a folder that takes its place when it is whole",
    ("entanglement/auditing/kept.py", "keep_tensors"): "in a folder that takes its place when it is whole",
    ("entanglement_book/materials/pretrain.py", "save_checkpoint"): "in a folder that takes its place whole",
    ("entanglement_book/bench/timing.py", "main"): "in a temporary folder",
    ("entanglement_book/studies/ch14_rewards/trl_batch.py", "both_losses"): "in a temporary folder",
    ("entanglement_book/press/execute.py", "_execute"): "the log of a notebook that is running",
    ("entanglement_book/press/site.py", "stage"): "made anew by each build",
    ("entanglement_book/press/site.py", "_build"): "the log of a build",
    (
        "entanglement_book/press/sphinx_ext.py",
        "copy_mathjax",
    ): "in a build, which takes its place when whole",
    ("entanglement_book/press/sphinx_pages.py", "_shown"): "in a build, which takes its place when whole",
    ("entanglement_book/press/publishing.py", "write_published"): "made anew each time",
    ("entanglement_book/press/publishing.py", "write_release"): "made anew each time, checksums last",
    ("entanglement_book/press/wheels.py", "write_wheels"): "in a temporary folder",
    ("entanglement_book/press/twice.py", "call_in"): "the log of a build in a clone of its own",
    ("entanglement_book/press/twice.py", "differing_outputs"): "in a clone of its own",
}


def _writing(path):
    """Yield the functions of a module that write files as they go."""

    def walk(node, inside):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call) and _writes(child):
                yield inside
            yield from walk(child, child.name if isinstance(child, ast.FunctionDef) else inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), "")


def _writes(call):
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in ("open", "fdopen"):
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        modes = [arg.value for arg in given if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        return any(len(mode) < 4 and set(mode) & set("wax+") for mode in modes)
    return name in WRITES and (bool(call.args) or not name.startswith(("to_", "copy")))


def test_files_are_written_whole_by_one_module():
    found = {(path.relative_to(ROOT / "lib").as_posix(), name) for path in MODULES for name in _writing(path)}
    assert found == set(HALF_IS_NO_HARM), "write through entanglement.files"
