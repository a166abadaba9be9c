"""A grid of four cells in a repository of its own."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from joblib.externals.loky import get_reusable_executor

import entanglement
from entanglement_book.grids.cluster import on_cluster
from entanglement_book.grids.run import run

MODULE = '''
"""A grid."""
from pathlib import Path

import pandas as pd

from entanglement.registry import Registry
from entanglement.uses import note_file, remembered
from entanglement_book.grids.grid import Grid

THINGS = Registry("toy_thing")
ROOT = Path(__file__).parents[2]


def third():
    return 1 / 3


THINGS.add("third", third)
THINGS.add("other", lambda: 5.0)


@remembered()
def start(seed):
    note_file(ROOT / "data.txt")
    return THINGS["third"]() + seed + float((ROOT / "data.txt").read_text())


def told(scale, model):
    """Each must arrive as what it is."""
    scales = ("smoke", "book", "paper")
    assert scale in scales and model not in scales, (scale, model)


def grid_cells(scale, model):
    told(scale, model)
    return [{"condition": "main", "variant": v, "seed": s} for v in ("a", "b") for s in range(2)]


def run_cell(scale, model, cell):
    told(scale, model)
    with (ROOT / "ran.log").open("a") as log:
        log.write(f"{cell['variant']}{cell['seed']}\\n")
    row = {"value": start(cell["seed"]), "missing": float("nan"), "word": "7" if cell["seed"] else "seven"}
    tables = {"means": pd.DataFrame([row, row])}
    if cell["variant"] == "a":
        tables["extra"] = pd.DataFrame([{"single": 0.1}])
    return tables


def describe(scale, model):
    told(scale, model)
    return {"model": model}


TOY = Grid("toy", grid_cells, run_cell, describe, models=("nano",))
'''


class Toy:
    """The grid, its repository, and what was computed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = root / "lib" / "toys" / "grid.py"
        self.folder = root / "book" / "results" / "smoke" / "toy-nano"
        self.work = root / "_build" / "results" / "smoke" / "toy-nano"
        self.said: list[str] = []

    @property
    def grid(self):
        return import_module("toys.grid").TOY

    def run(self, **options):
        self.said.clear()
        return run(self.grid, "smoke", "nano", root=self.root, say=self.said.append, **{"jobs": 1, **options})

    def ran(self):
        """Return which cells were computed since this was last asked."""
        log = self.root / "ran.log"
        found = sorted(log.read_text().split()) if log.exists() else []
        log.unlink(missing_ok=True)
        return found

    def edit(self, old, new, *, load=True):
        """Change the grid's code; ``load``: and import it again."""
        text = self.source.read_text()
        assert text.count(old) >= 1, old
        self.source.write_text(text.replace(old, new))
        if load:
            forget()

    def state(self):
        """Return name, content and time of every stored file."""
        return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(self.folder.iterdir())}


def forget():
    """Let no process of this test or an earlier one know the module."""
    get_reusable_executor().shutdown(wait=True)
    for name in [name for name in sys.modules if name.split(".")[0] == "toys"]:
        del sys.modules[name]


@contextmanager
def made_toy(folder):
    """The grid in a repository of its own, below a folder."""
    root = folder / "repository"
    (root / "book" / "results").mkdir(parents=True)
    (root / "lib" / "toys").mkdir(parents=True)
    (root / "lib" / "entanglement").mkdir()
    (root / "lib" / "toys" / "__init__.py").write_text("")
    (root / "lib" / "toys" / "grid.py").write_text(MODULE)
    (root / "data.txt").write_text("0.5")
    # For the graph of the code only: the package that is imported stands before it.
    for name in ("__init__", "registry", "uses"):
        shutil.copy(Path(entanglement.__file__).parent / f"{name}.py", root / "lib" / "entanglement")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(root / "lib")])
        patch.setattr(sys, "dont_write_bytecode", True)  # an edit within one second must be seen
        patch.chdir(root)
        forget()
        yield Toy(root)
        forget()


@pytest.fixture
def toy(tmp_path):
    with made_toy(tmp_path) as made:
        yield made


#: What kills the process of the cell that the file names, once for each line with its name.
FATAL = """fatal = ROOT / "fatal"
    names = fatal.read_text().split() if fatal.exists() else []
    if (name := cell["variant"] + str(cell["seed"])) in names:
        names.remove(name)
        fatal.write_text(" ".join(names))
        os.kill(os.getpid(), signal.SIGKILL)
    row = {"value\""""


@pytest.fixture(scope="module")
def toy_on_cluster(tmp_path_factory):
    """The grid, which can kill the process of a cell, and a cluster of two processes that knows it."""
    with made_toy(tmp_path_factory.mktemp("cluster")) as made:
        made.edit("from pathlib import Path", "import os\nimport signal\nfrom pathlib import Path")
        made.edit('row = {"value"', FATAL)
        # Processes that are spawned look for modules where this one does.
        with on_cluster("local", 2, made.said.append) as found:
            yield made, found
