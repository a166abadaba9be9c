"""A grid is computed cell by cell: resumed where it stopped, never half, never for a cell of other code."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import torch

from entanglement.files import file_sha256
from entanglement_book.grids import run
from entanglement_book.grids.freshness import check, problems_of
from entanglement_book.grids.made_by import Code
from entanglement_book.grids.stored import read_tables
from entanglement_book.machine import machine


def problems(toy):
    return problems_of(toy.grid, "smoke", "nano", Code(toy.root))


def forge(toy, change):
    """Change a table and its checksum."""
    table = change(pd.read_csv(toy.folder / "means.csv"))
    table.to_csv(toy.folder / "means.csv", index=False)
    provenance = json.loads((toy.folder / "provenance.json").read_text())
    provenance["sha256"]["means.csv"] = file_sha256(toy.folder / "means.csv")
    (toy.folder / "provenance.json").write_text(json.dumps(provenance))


def test_tables_hold_every_cell_and_say_where_they_come_from(toy):
    assert toy.run() == toy.folder
    stored = read_tables(toy.folder)
    assert list(stored["means"].columns) == ["condition", "variant", "seed", "value", "missing", "word"]
    assert len(stored["means"]) == 8 and len(stored["extra"]) == 2
    assert stored["means"]["value"].tolist() == [1 / 3 + s + 0.5 for s in (0, 0, 1, 1)] * 2
    found = stored.provenance
    assert found["seeds"] == [0, 1] and found["cells"] == 4 and found["model"] == "nano"
    needed = {"command", "code", "shape", "versions", "machine", "cell_seconds", "date", "sha256"}
    assert needed <= set(found)
    assert found["uses"] == [["file", "data.txt"], ["toy_thing", "third"]]
    assert set(found["files"]) == {"data.txt"}
    assert problems(toy) == []


def test_two_processes_make_the_same_tables(toy):
    toy.run()
    one = {name: content for name, (content, _) in toy.state().items() if name.endswith(".csv")}
    (toy.work / "main-a-0.json").unlink()
    (toy.work / "main-b-1.json").unlink()
    (toy.folder / "means.csv").unlink()
    toy.ran()
    toy.run(jobs=2)
    assert toy.ran() == ["a0", "b1"]
    assert {name: (toy.folder / name).read_bytes() for name in one} == one
    assert problems(toy) == []


def test_an_interrupted_grid_goes_on_where_it_stopped(toy):
    toy.run()
    (toy.folder / "provenance.json").unlink()
    (toy.work / "main-a-1.json").unlink()
    (toy.work / "main-b-0.json").write_text('{"half": ')  # cut off by something else
    (toy.work / "main-b-1.json").write_text("[]")
    toy.ran()
    toy.run()
    assert toy.ran() == ["a1", "b0", "b1"]
    assert problems(toy) == []


def test_a_cell_that_fails_is_named_and_the_others_stay(toy):
    toy.edit('row = {"value"', 'assert cell["variant"] + str(cell["seed"]) != "b0"\n    row = {"value"')
    with pytest.raises(AssertionError) as failed:
        toy.run()
    assert "in the cell main-b-0 of toy, smoke, nano" in failed.value.__notes__
    assert not toy.folder.exists()
    assert sorted(path.name for path in toy.work.iterdir()) == ["main-a-0.json", "main-a-1.json"]


def test_cells_of_other_code_are_computed_again(toy):
    toy.run()
    cell = json.loads((toy.work / "main-a-1.json").read_text())
    (toy.work / "main-a-1.json").write_text(json.dumps(cell | {"code": "x"}))
    (toy.folder / "provenance.json").unlink()
    toy.ran()
    toy.run()
    assert toy.ran() == ["a1"]


@pytest.mark.parametrize(
    ("old", "new", "cells"),
    [
        ("return 1 / 3", "return 2 / 3", 4),  # a thing that is looked up by name
        ("lambda: 5.0", "lambda: 6.0", 0),  # one that is not
        ('row = {"value": start', 'row = {"value": 2 * start', 4),
        ('"""A grid."""', '"""Another title."""', 0),
    ],
)
def test_what_the_cells_use_decides_whether_they_are_computed_again(toy, old, new, cells):
    toy.run()
    toy.ran()
    toy.edit(old, new)
    assert bool(problems(toy)) == bool(cells)
    toy.run()
    assert len(toy.ran()) == cells
    assert problems(toy) == []


def test_a_file_that_was_read_counts_by_what_it_holds(toy):
    toy.run()
    (toy.root / "data.txt").write_text("0.7")
    assert problems(toy) == [
        "book/results/smoke/toy-nano: made from other files (data.txt); run: make results SCALE=smoke"
    ]


def test_a_finished_grid_that_is_run_again_touches_no_file(toy):
    toy.run()
    before = toy.state()
    toy.ran()
    toy.run()
    assert toy.ran() == [] and toy.state() == before
    for cell in toy.work.iterdir():  # nor in a fresh clone, which has the tables only
        cell.unlink()
    toy.run(jobs=2)
    assert toy.ran() == [] and toy.state() == before


@pytest.mark.parametrize("jobs", [-2, 0, 1.5, True, "2", None])
def test_a_number_of_processes_that_is_none_is_refused_and_nothing_is_written(toy, jobs):
    with pytest.raises(ValueError, match=r"jobs=.*positive whole number"):
        toy.run(jobs=jobs)
    assert not toy.folder.exists() and not toy.work.exists() and toy.ran() == []


def test_a_cell_that_is_missing_after_all_is_an_error(toy, monkeypatch):
    whole = run.compute_cells
    monkeypatch.setattr(run, "compute_cells", lambda *args: list(whole(*args))[:-1])
    with pytest.raises(ValueError, match="1 cells are missing, the first of them main-b-1"):
        toy.run()
    assert not toy.folder.exists()


def test_code_that_changes_meanwhile_makes_no_table(toy, monkeypatch):
    whole = run.compute_cells

    def while_editing(*args):
        yield from whole(*args)
        toy.edit("return 1 / 3", "return 2 / 3", load=False)

    monkeypatch.setattr(run, "compute_cells", while_editing)
    with pytest.raises(ValueError, match="the code changed"):
        toy.run()
    assert not toy.folder.exists()


def test_a_cell_is_written_whole_or_not_at_all(toy, monkeypatch):
    toy.run()
    (toy.folder / "provenance.json").unlink()
    before = (toy.work / "main-a-0.json").read_bytes()
    toy.edit("return 1 / 3", "return 2 / 3")

    def full(self, target):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        toy.run()
    assert (toy.work / "main-a-0.json").read_bytes() == before
    assert [path for path in toy.work.iterdir() if "part" in path.name] == []


def test_a_table_that_is_no_longer_made_goes(toy):
    toy.run()
    toy.edit('if cell["variant"] == "a"', 'if cell["variant"] == "none"')
    toy.run()
    assert sorted(path.name for path in toy.folder.iterdir()) == ["means.csv", "provenance.json"]


def test_two_cells_of_one_name_are_refused(toy):
    toy.edit("for s in range(2)]", "for s in (0, 0)]")
    with pytest.raises(ValueError, match="same name"):
        toy.run()


def test_a_table_older_than_its_code_fails_the_check(toy):
    assert any("toy-nano" in problem for problem in problems(toy))  # missing
    toy.run()
    toy.edit("return 1 / 3", "return 2 / 3")
    assert problems(toy) == [
        "book/results/smoke/toy-nano: made by other library code than today's; run: make results SCALE=smoke"
    ]


def test_where_only_names_moved_the_check_says_so(toy):
    toy.run()
    toy.edit("def third", "def one_of_three")
    toy.edit("third)", "one_of_three)")
    assert problems(toy) == [
        "book/results/smoke/toy-nano: only names changed since it was made; "
        "run: entanglement-book results restamp"
    ]


def test_missing_and_surplus_cells_fail_the_check(toy):
    toy.run()
    whole = pd.read_csv(toy.folder / "means.csv")
    forge(toy, lambda table: pd.concat([table, table.tail(1).assign(seed=9)]))
    assert problems(toy) == ["book/results/smoke/toy-nano: 0 cells are missing, 1 too many"]
    forge(toy, lambda table: whole.iloc[:-2])
    assert problems(toy) == ["book/results/smoke/toy-nano: 1 cells are missing, 0 too many"]
    forge(toy, lambda table: pd.concat([table, table.assign(seed=9)]))
    assert problems(toy) == ["book/results/smoke/toy-nano: 1 cells are missing, 2 too many"]
    forge(toy, lambda table: table.drop(columns="variant"))
    assert problems(toy) == ["book/results/smoke/toy-nano: means.csv lacks variant"]


@pytest.mark.parametrize("content", ["[]", "{}", "no", '{"code": "x", "machine": {}, "sha256": {}}', "7"])
def test_a_damaged_provenance_is_one_line(toy, content):
    toy.run()
    (toy.folder / "provenance.json").write_text(content)
    (problem,) = problems(toy)
    assert "toy-nano" in problem and "make the tables again" in problem


def test_results_must_stay_small(toy):
    assert not any("MB" in problem for problem in check([], toy.root))
    (toy.root / "book" / "results" / "big").write_bytes(b"0" * 16_000_001)
    assert check([], toy.root) == ["book/results holds 16.0 MB; at most 16 MB are kept"]


@pytest.mark.parametrize(("jobs", "cells", "processes"), [(1, 4, 1), (2, 4, 2), (8, 4, 4), (3, 0, 1)])
def test_cells_go_one_by_one_to_as_many_processes_as_are_asked_for_and_no_more_than_there_are_cells(
    toy, monkeypatch, jobs, cells, processes
):
    asked = []

    class Counted(run.Parallel):
        def __init__(self, **options):
            asked.append(options)
            super().__init__(**{**options, "n_jobs": 1})

    monkeypatch.setattr(run, "Parallel", Counted)
    found = list(run.compute_cells(toy.grid, "smoke", "nano", toy.grid.cells("smoke", "nano")[:cells], jobs))
    assert len(found) == cells
    (options,) = asked
    assert options["n_jobs"] == processes and options["batch_size"] == 1
    assert options["prefer"] == "processes" and options["return_as"] == "generator_unordered"


def test_a_cell_is_computed_with_one_thread(toy):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        (cell, *_) = toy.grid.cells("smoke", "nano")
        run.computed(toy.grid, "smoke", "nano", cell)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_folder_of_the_tables_is_returned_whether_or_not_they_are_kept(toy):
    assert [toy.run(), toy.run()] == [toy.folder, toy.folder]
    assert toy.said == ["toy smoke nano: the tables are there, made by today's code"]
    assert toy.run(keep=False) == toy.work / "tables"
    assert toy.said == ["toy smoke nano: 4 cells, 4 done already"]
    assert read_tables(toy.work / "tables")["means"].equals(read_tables(toy.folder)["means"])


def test_progress_is_told_cell_by_cell(toy):
    toy.run()
    first, *rest = toy.said
    assert first == "toy smoke nano: 4 cells, 0 done already"
    names = ["main-a-0", "main-a-1", "main-b-0", "main-b-1"]
    assert [line.partition("  (")[0] for line in rest] == [
        f"  {n}/4 {name}  0 s" for n, name in enumerate(names, 1)
    ]
    assert all(line.endswith("(elapsed 0.0 min)") for line in rest)


def test_what_is_kept_of_a_cell(toy):
    toy.run()
    kept = json.loads((toy.work / "main-a-1.json").read_text())
    assert kept["cell"] == {"condition": "main", "variant": "a", "seed": 1}
    assert 0 <= kept["seconds"] < 60 and set(kept["tables"]) == {"means", "extra"}
    assert kept["uses"] == [["file", "data.txt"], ["toy_thing", "third"]]
    whole = {"cell", "seconds", "machine", "versions", "uses", "tables", "code", "shape", "files"}
    assert whole == set(kept) and kept["machine"] == machine()


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": "x"}, {"files": {}}, {"seconds": -1}, {"seconds": None}, {"uses": None}, {"uses": [["a"]]},
        {"machine": None}, {"versions": "1"}, {"tables": []}, {"tables": {"means": {"columns": []}}},
        {"cell": 3},
        {"cell": {"condition": "main", "variant": "a", "seed": 0}},
    ],
)  # fmt: skip
def test_a_cell_s_file_that_is_not_whole_or_another_cell_s_is_computed_again(toy, wrong):
    toy.run()
    path = toy.work / "main-a-1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    (toy.folder / "provenance.json").unlink()
    toy.ran()
    toy.run()
    assert toy.ran() == ["a1"] and problems(toy) == []


def test_what_stands_half_written_is_swept_from_the_tables_when_it_is_old(toy):
    toy.run()
    (toy.folder / "provenance.json").unlink()
    old, new = toy.folder / ".means.csv.x.part", toy.folder / ".means.csv.y.part"
    cell = toy.work / ".main-a-0.json.x.part"
    for path in (old, new, cell):
        path.write_text("")
    os.utime(old, (0, 0))
    toy.run()
    assert [path.exists() for path in (old, new, cell)] == [False, True, False]


def test_tables_of_the_same_code_are_not_written_again_though_the_day_is_another(toy, monkeypatch):
    toy.run()
    before = toy.state()
    monkeypatch.setattr(run, "problems_of", lambda *args: ["something"])
    monkeypatch.setattr(run, "today", lambda: "2000-01-01")
    toy.run(jobs=2)
    assert toy.state() == before
    monkeypatch.setattr(run, "machine", lambda: {"processor": "another"})
    toy.run()
    assert toy.state() == before  # its cells were computed where they were
    (toy.work / "main-a-1.json").unlink()
    toy.run(jobs=1)
    made = read_tables(toy.folder).provenance
    assert toy.state() != before and made["date"] == "2000-01-01"
    assert made["machine"] == machine() | {"processor": machine()["processor"] + "; another"}
    assert made["versions"] == read_tables(toy.folder).provenance["versions"] and "torch" in made["versions"]
