"""A chapter's first cell installs the library where it is missing, as on Colab.

By default what the library needs is lent by this environment; with INSTALL_ALL=1 (``make install-test``, at
night) everything is downloaded.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from entanglement_book.press import notebooks
from entanglement_book.press.notebooks import INSTALL, published

ROOT = Path(__file__).resolve().parents[2]
WHOLE = bool(os.environ.get("INSTALL_ALL"))
RUN = """import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
result = shell.run_cell(sys.argv[1])
result.raise_error()
import entanglement, entanglement_book, os
print("from", entanglement_book.__file__)
print("in", os.getcwd())
"""


def test_every_notebook_begins_with_it():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        first = notebooks.code_cells(notebooks.read(path))[0]
        assert first.source == INSTALL and notebooks.tags(first) == ["remove-cell"], path.name


@pytest.fixture
def empty(tmp_path):
    """An environment without the book's packages; returns a function that runs a cell in it."""
    folder = tmp_path / "empty"
    subprocess.run(
        [sys.executable, "-m", "venv", *([] if WHOLE else ["--without-pip"]), str(folder)], check=True
    )
    [site] = folder.glob("lib/python*/site-packages")
    lent = {}
    if WHOLE:
        subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "ipython"], check=True)
    else:
        # A path of its own brings no other paths with it: the book's own packages stay unseen.
        (site / "lent.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")) + "\n")
        lent = {
            "PIP_NO_DEPS": "1",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_IGNORE_INSTALLED": "1",
        }

    def run(cell, where):
        kept = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH"}}
        return subprocess.run(
            [str(folder / "bin" / "python"), "-c", RUN, cell], cwd=where, env={**kept, **lent},
            capture_output=True, text=True,
        )  # fmt: skip

    return run


@pytest.fixture
def clone(tmp_path):
    """The repository as it stands here, committed, under another address."""
    folder = tmp_path / "origin"
    named = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in named:
        if name and (ROOT / name).is_file() and not name.startswith(("tests/", "book/results/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for command in ("init --quiet --initial-branch main", "add --all", "commit --quiet -m x"):
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *command.split()]
        subprocess.run(git, cwd=folder, check=True)
    return folder


def test_in_a_clone_it_installs_what_lies_there(empty, clone):
    done = empty(INSTALL, clone / "notebooks")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "site-packages/entanglement_book" in done.stdout


def test_elsewhere_it_fetches_the_repository_first(empty, clone, tmp_path):
    place = tmp_path / "content"
    place.mkdir()
    done = empty(published(INSTALL, f"--branch main {clone}"), place)
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"in {place}/entanglement-book/notebooks" in done.stdout
    assert "empty/lib" in done.stdout.split("from ")[1]


def test_where_the_library_is_it_does_nothing():
    done = subprocess.run([sys.executable, "-c", RUN, INSTALL], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and f"from {ROOT}" in done.stdout, done.stderr
