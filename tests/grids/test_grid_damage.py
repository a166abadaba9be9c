"""Tables, provenance and cells that are damaged, a disk that is full, and two processes at once."""

import errno
import json
import os
import threading

import filelock
import pytest
from damage import KINDS, damage

from entanglement import files
from entanglement_book.grids import run
from entanglement_book.grids.freshness import problems_of
from entanglement_book.grids.made_by import Code
from entanglement_book.grids.stored import read_tables
from entanglement_book.layout import BookError


def problems(toy):
    return problems_of(toy.grid, "smoke", "nano", Code(toy.root))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["provenance.json", "means.csv"])
def test_a_damaged_table_is_one_line_and_is_made_again(toy, name, kind):
    toy.run()
    before = {path.name: path.read_bytes() for path in toy.folder.iterdir()}
    toy.ran()
    damage(toy.folder / name, kind)
    with pytest.raises((BookError, FileNotFoundError), match=f"{name}.*results run") as found:
        read_tables(toy.folder)
    assert "\n" not in str(found.value)
    (problem,) = problems(toy)
    assert name in problem and "\n" not in problem
    if kind == "a folder":
        with pytest.raises(OSError, match="Is a directory; what was there is kept"):
            toy.run()
        (toy.folder / name).rmdir()
    toy.run()
    assert toy.ran() == []  # the cells are there
    assert {path.name: path.read_bytes() for path in toy.folder.iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [{"files": []}, {"uses": [1]}, {"machine": {}, "sha256": {"x": 1}}, {"sha256": {}}, {"code": None}],
)
def test_a_provenance_whose_values_are_of_other_kinds_is_one_line(toy, change):
    toy.run()
    path = toy.folder / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    (problem,) = problems(toy)
    assert "provenance.json holds no" in problem and "results run" in problem


@pytest.mark.parametrize("kind", [*KINDS, "another's", "no table"])
def test_a_damaged_cell_is_computed_again_and_it_alone(toy, kind):
    toy.run()
    before = {path.name: path.read_bytes() for path in toy.folder.glob("*.csv")}
    toy.ran()
    (toy.folder / "provenance.json").unlink()
    cell = toy.work / "main-a-0.json"
    if kind == "another's":
        cell.write_bytes((toy.work / "main-b-1.json").read_bytes())
    elif kind == "no table":
        cell.write_text(json.dumps(json.loads(cell.read_text()) | {"tables": {"means": 1}}))
    else:
        damage(cell, kind)
    if kind == "a folder":
        with pytest.raises(OSError, match="Is a directory"):
            toy.run()
        cell.rmdir()
        toy.ran()
    toy.run()
    assert toy.ran() == ["a0"]
    assert {path.name: path.read_bytes() for path in toy.folder.glob("*.csv")} == before


def test_on_a_full_disk_all_tables_of_a_grid_stay_as_they_were(toy, monkeypatch):
    toy.run()
    toy.edit("return 1 / 3", "return 2 / 3")
    before, real, written = toy.state(), os.fdopen, []

    def opened(*arguments):
        written.append(1)
        if len(written) == 6:  # four cells, one table, and then the second
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    monkeypatch.setattr(files.os, "fdopen", opened)
    with pytest.raises(OSError, match="No space left on device; what was there is kept") as error:
        toy.run()
    assert error.value.filename == str(toy.folder / "means.csv")
    assert toy.state() == before
    monkeypatch.undo()
    toy.ran()
    toy.run()
    assert toy.ran() == [] and problems(toy) == []  # what was computed is kept


def test_another_process_is_waited_for_and_its_cells_are_taken(toy):
    lock = toy.work.with_name(f".{toy.work.name}.lock")
    lock.parent.mkdir(parents=True)
    said, told = [], threading.Event()

    def say(line):
        said.append(line)
        told.set()

    options = {"root": toy.root, "jobs": 1, "say": say}
    thread = threading.Thread(target=run.run, args=(toy.grid, "smoke", "nano"), kwargs=options)
    with filelock.FileLock(lock):
        thread.start()
        assert told.wait(60)
        assert said == ["another run is computing toy smoke nano here: waiting for it to end"]
        assert toy.ran() == []
    thread.join(60)
    assert not thread.is_alive() and problems(toy) == []


def test_what_a_killed_run_left_is_swept(toy):
    toy.work.mkdir(parents=True)
    toy.folder.mkdir(parents=True)
    left = [toy.work / ".main-a-0.json.x.part", toy.folder / ".means.csv.x.part"]
    other = toy.folder / ".extra.csv.y.part"  # perhaps of a process that is writing it
    for path in (*left, other):
        path.write_text("x")
    os.utime(left[1], (0, 0))
    toy.run()
    assert [path.exists() for path in (*left, other)] == [False, False, True]


def test_a_run_that_computes_nothing_writes_nothing(toy):
    """Also where its tables are not kept in the repository, and where they are looked at for nothing new."""
    folder = toy.run(keep=False)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    toy.ran()
    assert toy.run(keep=False, jobs=2) == folder
    assert toy.ran() == []
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    (folder / "means.csv").write_text("value\n1\n")
    toy.run(keep=False)
    assert len(read_tables(folder)["means"]) == 8


def test_what_is_no_grid_is_refused():
    with pytest.raises(ValueError, match="grid='toy'; expected a Grid"):
        run.run("toy", "smoke", "nano")
