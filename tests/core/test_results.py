"""Grids are resumable, their tables carry provenance, and a number that cannot be met again is found out."""

import json
import sys

import pandas as pd
import pytest

from entanglement_book.grids import results

MODULE = """
import pathlib
import pandas as pd

def grid_cells(scale, model):
    return [{"condition": "main", "variant": v, "seed": s} for v in ("a", "b") for s in range(2)]

def run_cell(scale, model, cell):
    (pathlib.Path(__file__).parent / "ran.log").open("a").write(f"{cell['variant']}{cell['seed']}\\n")
    value = 1 / 3 + cell["seed"]
    return {"means": pd.DataFrame([{**cell, "value": value, "missing": float("nan"), "word": None}])}

def describe(scale, model):
    return {"model": model}
"""


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """A grid of four cells in a repository of its own; returns its root."""
    (tmp_path / "made_up_grid.py").write_text(MODULE)
    (tmp_path / "book" / "results").mkdir(parents=True)
    (tmp_path / "lib" / "entanglement").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # for the processes that compute the cells
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("made_up_grid", None)
    kept = results.Grid("toy", "made_up_grid", ("nano",))
    monkeypatch.setattr(results, "SCALES", ("smoke",))  # the check wants every scale that is kept
    monkeypatch.setattr(results, "GRIDS", {"toy": kept})
    return tmp_path


def make(root, **options):
    results.run("toy", "smoke", "nano", root=root, say=lambda line: None, **{"jobs": 1, **options})
    return root / "book" / "results" / "smoke" / "toy-nano"


def ran(root):
    log = root / "ran.log"
    return sorted(log.read_text().split()) if log.exists() else []


def test_tables_hold_every_cell_and_say_where_they_come_from(grid):
    folder = make(grid)
    table = pd.read_csv(folder / "means.csv")
    assert len(table) == 4
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["seeds"] == [0, 1]
    assert {"command", "code", "versions", "machine", "cell_seconds", "date"} <= set(provenance)
    assert results.check(grid) == []


def test_two_processes_make_the_same_tables(grid):
    one = (make(grid) / "means.csv").read_bytes()
    (grid / "_build" / "results" / "smoke" / "toy-nano" / "main-a-0.json").unlink()
    (grid / "_build" / "results" / "smoke" / "toy-nano" / "main-b-1.json").unlink()
    assert (make(grid, jobs=2) / "means.csv").read_bytes() == one


def test_an_interrupted_grid_goes_on_where_it_stopped(grid):
    make(grid)
    work = grid / "_build" / "results" / "smoke" / "toy-nano"
    (work / "main-a-1.json").unlink()
    (work / "main-b-0.json").write_text('{"half": ')  # cut off while being written by something else
    (grid / "ran.log").unlink()
    make(grid)
    assert ran(grid) == ["a1", "b0"]


def test_a_cell_is_met_again_exactly(grid):
    make(grid)
    again = results.rerun_one("toy", "smoke")
    assert again.same_machine
    assert again.worst == 0
    assert again.agrees


def test_a_changed_number_is_found_out(grid, monkeypatch):
    folder = make(grid)
    table = pd.read_csv(folder / "means.csv")
    table["value"] += 1e-12
    table.to_csv(folder / "means.csv", index=False)
    with pytest.raises(ValueError, match="make it again"):
        results.load("toy", "smoke")
    # A forger who mends the checksum too is found out by the live cell.
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["sha256"]["means.csv"] = results.hashlib.sha256(
        (folder / "means.csv").read_bytes()
    ).hexdigest()
    (folder / "provenance.json").write_text(json.dumps(provenance))
    assert not results.rerun_one("toy", "smoke").agrees


def test_another_machine_gets_the_stated_tolerance_and_no_more(grid, monkeypatch):
    make(grid)
    monkeypatch.setattr(results, "machine", lambda: {"processor": "another"})
    again = results.rerun_one("toy", "smoke")
    assert not again.same_machine
    assert again.allowed == results.GRIDS["toy"].tolerance > 0


def test_a_table_older_than_its_code_fails_the_check(grid, monkeypatch):
    make(grid)
    monkeypatch.setattr(results, "code_hash", lambda module, model: "changed")
    assert any("other library code" in problem for problem in results.check(grid))


def test_missing_tables_and_cells_fail_the_check(grid):
    assert any("smoke/toy-nano" in problem for problem in results.check(grid))
    folder = make(grid)
    table = pd.read_csv(folder / "means.csv").iloc[:-1]
    table.to_csv(folder / "means.csv", index=False)
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["sha256"]["means.csv"] = results.hashlib.sha256(
        (folder / "means.csv").read_bytes()
    ).hexdigest()
    (folder / "provenance.json").write_text(json.dumps(provenance))
    assert any("1 cells are missing" in problem for problem in results.check(grid))


def test_unknown_names_are_refused_with_what_is_allowed(grid):
    with pytest.raises(ValueError, match="toy"):
        results.load("toi", "smoke")
    with pytest.raises(ValueError, match="expected one of smoke"):
        results.load("toy", "huge")
    with pytest.raises(FileNotFoundError, match="make results"):
        results.load("toy", "smoke")
