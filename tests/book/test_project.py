"""The files around the book: pins, licenses, the two commands."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from entanglement_book.layout import Book, toc_files
from entanglement_book.press.stages import stages

ROOT = Path(__file__).resolve().parents[2]


def test_conda_and_pip_install_the_same():
    lock = (ROOT / "requirements.lock").read_text().split()
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pins = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert pins == [*lock, "-e ."]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", pin) for pin in lock), "exact, no build"
    names = [pin.split("==")[0].lower() for pin in lock]
    assert len(set(names)) == len(names)


def test_what_the_locked_packages_need_is_locked():
    # The lock files are installed as they stand, and pip looks for nothing beyond them.
    build = (ROOT / "requirements-build.lock").read_text().split()
    assert [pin.partition("==")[0] for pin in build] == ["setuptools", "wheel"] and "==" in build[0]
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_direct_dependency_is_locked():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [
        name for extra in project["optional-dependencies"].values() for name in extra
    ]
    locked = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "requirements.lock").read_text().split()
    }
    wanted.remove("entanglement[pages]")  # is this package
    assert {re.split(r"[<>=!\[]", name)[0].lower().replace("_", "-") for name in wanted} <= locked


def imported(package):
    """Top-level names that a package imports, anywhere in it."""
    for path in (ROOT / "lib" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", ["entanglement", "entanglement_book"])
def test_what_a_package_imports_is_installed_with_it(package):
    """``pip install .`` is enough for the science, ``pip install .[book]`` for the book; what only some of
    their functions need has a group of its own.
    """
    import tomllib
    from importlib.metadata import packages_distributions

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"]
    wanted = project["dependencies"] + groups["objectives"] + groups["watch"] + groups["files"]
    if package == "entanglement_book":
        wanted += groups["book"] + groups["pages"] + groups["fields"] + groups["scale"]
    declared = {re.split(r"[<>=!\[]", name)[0].lower().replace("_", "-") for name in wanted}
    places = packages_distributions()
    own = {"entanglement", "entanglement_book"}
    missing = [
        name
        for name in sorted(set(imported(package)) - own - set(sys.stdlib_module_names))
        if declared.isdisjoint(place.lower().replace("_", "-") for place in places.get(name, [name]))
    ]
    assert missing == []


def test_what_is_no_python_goes_into_the_wheel():
    import tomllib

    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert tools["packages"]["find"] == {"where": ["lib"]}
    for package in ("entanglement", "entanglement_book"):
        folder = ROOT / "lib" / package
        kept = {path for glob in tools["package-data"].get(package, []) for path in folder.glob(glob)}
        tracked = subprocess.run(
            ["git", "ls-files", str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
        data = {ROOT / name for name in tracked if not name.endswith(".py")}
        assert data <= kept
        # Setuptools finds packages by this file.
        python = {(ROOT / name).parent for name in tracked if name.endswith(".py")}
        assert all((place / "__init__.py").is_file() for place in python)


def test_ci_calls_make_test_and_nothing_else():
    script = ROOT / ".ci" / "run"
    commands = [
        line for line in script.read_text().splitlines() if line and not line.startswith(("#", "set", "cd"))
    ]
    assert commands == ["exec make test"]
    assert script.stat().st_mode & 0o111


def test_make_is_honest_about_an_old_python(tmp_path):
    """A Python that is too old, or is not there, is named in one line, and nothing is made."""
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\nif [ "$1" = -V ]; then echo Python 3.9.2; exit 0; fi\nexit 1\n')
    old.chmod(0o755)
    for python, said in (
        (old, "Python 3.9.2"),
        (tmp_path / "none", "was not found"),
        ("a; touch x", "a; touch x was not found"),
        ("$(touch x)", "$(touch x) was not found"),
    ):
        made = ["make", "env", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
        done = subprocess.run(made, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode != 0
        assert said in done.stdout
        assert not (tmp_path / "venv").exists()
        assert not (ROOT / "x").exists()


def test_a_stage_that_fails_fails_the_whole_and_stops_only_what_needs_it(monkeypatch, capfd):
    from entanglement_book.press import stages as module

    def python(text):
        return [sys.executable, "-c", text]

    rows = [
        module.Stage("first", python("raise SystemExit(3)")),
        module.Stage("second", python("print('second ran')")),
        module.Stage("third", python("print('third ran')"), needs=("first",)),
        module.Stage("fourth", python("print('fourth ran')"), needs=("second",)),
    ]
    monkeypatch.setattr(module, "stages", lambda jobs: rows)
    assert module.run(Book.find(ROOT), 2) == 1
    out = capfd.readouterr().out
    assert [name for name in ("second ran", "third ran", "fourth ran") if name in out] == [
        "second ran",
        "fourth ran",
    ]
    assert "not run: it needs first" in out
    assert out.splitlines()[-1] == "2 passed, 2 failed"
    monkeypatch.setattr(module, "stages", lambda jobs: rows[1:2])
    assert module.run(Book.find(ROOT), 2) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"


def test_stages_run_side_by_side_unless_one_wants_all_cores(monkeypatch, capfd, tmp_path):
    from entanglement_book.press import stages as module

    def meets(mode):
        """A command that ends when another one has opened the other end of the same pipe."""
        text = f"import signal\nsignal.alarm(20)\nopen({str(tmp_path / 'pipe')!r}, {mode!r})"
        return [sys.executable, "-c", text]

    os.mkfifo(tmp_path / "pipe")
    whole = module.Stage("whole", [sys.executable, "-c", "pass"], busy=True)
    pair = [module.Stage("a", meets("w")), module.Stage("b", meets("r"))]
    monkeypatch.setattr(module, "stages", lambda jobs: [*pair, whole])
    assert module.run(Book.find(ROOT), 2) == 0
    summary = capfd.readouterr().out.partition("=== summary")[2].split()
    assert [word for word in summary if word in {"a", "b", "whole"}] == ["a", "b", "whole"]

    def starts(waiting, *running, jobs=2, done=()):
        now = [module.Running(stage, None, 0.0, None) for stage in running]
        found = module.next_stage(waiting, now, set(done).__contains__, jobs)
        return found and found.name

    a, b = pair
    after = module.Stage("after", [], needs=("a",))
    assert starts([a, b]) == "a" and starts([b], a) == "b" and starts([b], a, jobs=1) is None
    assert starts([whole]) == "whole" and starts([whole], jobs=1) == "whole"
    assert starts([whole], a) == "whole" and starts([whole], a, b) is None
    assert starts([b], whole) == "b" and starts([after], whole, b, done="a") is None
    assert starts([b], whole, jobs=1) is None and starts([whole, b], whole) == "b"
    assert starts([whole], whole, jobs=4) is None
    assert starts([after, b], a) == "b" and starts([after], a, done="a") == "after"


def test_without_a_browser_one_line_says_so(monkeypatch, capsys):
    from entanglement_book.cli import main
    from entanglement_book.press import browser

    tried = []
    monkeypatch.setattr(browser, "find", lambda: None)
    monkeypatch.setattr(browser, "_quietly", lambda command, seconds: tried.append(command[0]))
    assert main(["browser"]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert tried[0] == "python"  # Playwright's download; then Debian's package, where that can be installed
    assert set(tried) <= {"python", "apt-get"}


def test_the_tests_leave_nothing_out():
    names = [stage.name for stage in stages(2)]
    for needed in (
        "lint",
        "format",
        "types",
        "tests",
        "notebooks at smoke",
        "site",
        "site in a browser",
        "claims",
    ):
        assert needed in names
    known = set()
    for stage in stages(2):
        assert set(stage.needs) <= known, "a stage comes after what it needs"
        known.add(stage.name)


def test_the_book_and_its_table_of_contents_agree():
    book = Book.find(ROOT)
    assert book.disagreements() == []
    pages = toc_files(book.toc())
    assert len(set(pages)) == len(pages)
    assert [name for name in pages if name.startswith("book/") and not (ROOT / f"{name}.md").is_file()] == []


def test_plain_jupyter_book_can_build_too():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["execute"] == {"execute_notebooks": "cache", "timeout": 1800, "stderr_output": "remove"}
    assert config["only_build_toc_files"] is True
    extensions = config["sphinx"]["config"]["extensions"]
    assert "sphinx_thebe" not in extensions
    assert "entanglement_book.press.sphinx_ext" in extensions


def test_mathjax_comes_with_the_book():
    from entanglement_book.press.sphinx_ext import _NEEDED, mathjax_folder

    for name in _NEEDED:
        assert (mathjax_folder() / name).exists()


def test_citation_and_licenses():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] in (ROOT / "lib" / "entanglement" / "__init__.py").read_text()
    assert "CC BY 4.0" in (ROOT / "LICENSE-CONTENT").read_text()
    assert "MIT" in (ROOT / "LICENSE").read_text()


def test_committed_notebooks_are_in_order():
    from entanglement_book.press.notebooks import complaints

    book = Book.find(ROOT)
    chapters = [book.notebook(chapter) for chapter in book.chapters()]
    assert chapters
    assert [line for path in chapters for line in complaints(path)] == []
    for path in chapters:
        assert json.loads(path.read_text())["nbformat"] == 4
