"""The parts of which the tables' code is made, each on its own."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from entanglement.uses import recording
from entanglement_book.cli import main
from entanglement_book.grids import freshness, grid, load, rerun, run
from entanglement_book.grids.freshness import check, problems_of
from entanglement_book.grids.grid import Grid, cell_name
from entanglement_book.grids.made_by import Code, in_repository
from entanglement_book.grids.rerun import (
    Rerun,
    compare,
    difference,
    draw,
    drawn_cell,
    repeat_one,
    rerun_cell,
)
from entanglement_book.grids.stored import Stored, as_stored, folder_of, read_tables

INF, NAN = float("inf"), float("nan")


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(
    ("new", "stored", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.5, 2.0], [1.0, 2.0], 0.25),
        ([0.5], [1.0], 0.25),
        ([-1.5], [-1.0], 0.25),
        ([1.0, 4.0], [1.5, 3.0], 0.25),  # the worst of them
        ([4.0, 1.0], [3.0, 1.5], 0.25),
        ([NAN, 1.0], [NAN, 1.0], 0.0),
        ([NAN, 1.0], [1.0, 1.0], INF),
        ([NAN, NAN], [NAN, 1.0], INF),
        ([INF, -INF], [INF, -INF], 0.0),
        ([INF], [-INF], INF),
        ([1.0], [INF], INF),
        ([INF], [1.0], INF),
        ([1.0], [1.0, 2.0], INF),
        ([], [], 0.0),
        ([1], [1.0], 0.0),
        (["a"], ["a"], 0.0),
        (["a"], ["b"], INF),
        (["a", None], ["a", None], 0.0),
        (["a", None], ["a", "b"], INF),
        (["1"], [1], INF),
        ([1], ["1"], INF),
        ([True], [True], 0.0),
    ],
)
def test_how_far_two_columns_are_apart(new, stored, expected):
    one, other = pd.DataFrame({"x": new}), pd.DataFrame({"x": stored})
    assert difference(one, other) == expected
    both = {"first": [0.0] * len(new), "x": new, "last": [0.0] * len(new)}
    if len(new) == len(stored):
        assert difference(pd.DataFrame(both), pd.DataFrame(both | {"x": stored})) == expected
    assert difference(one, other.rename(columns={"x": "y"})) == INF


def test_a_cell_is_compared_with_its_own_rows_of_each_table():
    cell = {"variant": "a", "seed": 0}
    rows = [{**cell, "x": 1.0}, {"variant": "b", "seed": 0, "x": 9.0}, {"variant": "a", "seed": 1, "x": 9.0}]
    stored = Stored({"one": pd.DataFrame(rows), "two": pd.DataFrame(rows[1:])}, {})
    one = pd.DataFrame(rows[:1])
    assert compare({"one": one}, stored, cell) == 0
    assert compare({"one": one.assign(x=1.5)}, stored, cell) == 0.25
    assert compare({}, stored, cell) == INF  # its rows are there and were not made
    assert compare({"one": one, "three": one}, stored, cell) == INF
    assert compare({"one": one, "two": one}, stored, cell) == INF
    whole = Stored({"one": pd.DataFrame(rows), "two": pd.DataFrame(rows)}, {})
    assert compare({"one": one.assign(x=1.5), "two": one}, whole, cell) == 0.25
    assert compare({"one": one, "two": one.assign(x=1.5)}, whole, cell) == 0.25
    last = {"variant": "a", "seed": 1}
    assert compare({"one": pd.DataFrame(rows[2:]), "two": pd.DataFrame(rows[2:])}, stored, last) == 0


@pytest.mark.parametrize(
    ("worst", "allowed", "agrees"), [(0.0, 0.0, True), (0.1, 0.1, True), (0.2, 0.1, False)]
)
def test_when_a_repetition_agrees(worst, allowed, agrees):
    assert Rerun({}, 1.0, True, worst, allowed).agrees is agrees


def test_a_page_shows_the_repeated_cell_or_stops(monkeypatch):
    asked, cell = [], {"variant": "a", "seed": 1}

    def found(worst):
        def rerun_one(*arguments, **only):
            asked.append((arguments, only))
            return Rerun(cell, 1.0, False, worst, 0.1)

        monkeypatch.setattr(rerun, "rerun_one", rerun_one)

    found(0.1)
    shown = repeat_one("toy", "smoke", seed=[1])
    assert isinstance(shown, pd.Series) and shown.to_dict() == cell
    repeat_one("toy", "smoke", "other")
    assert asked == [(("toy", "smoke", "nano"), {"seed": [1]}), (("toy", "smoke", "other"), {})]
    found(0.123456)
    with pytest.raises(ValueError, match=r"'seed': 1}: off by 0\.12; run `make results`\."):
        repeat_one("toy", "smoke")


def test_a_cell_is_drawn_by_a_text_and_each_may_be():
    cells = [{"seed": seed} for seed in range(5)]
    assert {draw(cells, f"commit {n}")["seed"] for n in range(40)} == set(range(5))
    assert [draw(cells, text)["seed"] for text in ("a", "b", "c", "d")] == [4, 0, 3, 0]
    with pytest.raises(ValueError, match="no cell to draw from"):
        draw([], "a")


def test_a_computed_table_is_compared_as_it_would_be_read():
    table = pd.DataFrame(
        {"n": [1, 2], "x": [0.1, NAN], "word": ["7", "8"], "flag": [True, False]}, index=[5, 6]
    )
    like = pd.DataFrame({"word": ["a"], "n": [1], "x": [1.0], "flag": [True], "filled_elsewhere": [1.0]})
    read = as_stored(table, like)
    assert list(read.columns) == ["word", "n", "x", "flag", "filled_elsewhere"] and list(read.index) == [0, 1]
    assert list(read["word"]) == ["7", "8"] and list(read["n"]) == [1, 2]
    assert read["filled_elsewhere"].isna().all()
    assert list(as_stored(table.assign(more=1), like).columns) == ["n", "x", "word", "flag", "more"]
    same = like.drop(columns="filled_elsewhere")
    assert list(as_stored(table, same).columns) == list(same.columns)


def test_a_model_in_a_folder_has_tables_of_its_own_by_what_it_holds(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("1")
    one = folder_of(tmp_path, "toy", "book", str(model))
    (model / "weights").write_text("2")
    two = folder_of(tmp_path, "toy", "book", str(model))
    assert one.parent == two.parent == tmp_path / "book" / "results" / "book" and one != two
    assert [len(path.name.rpartition("-")[2]) for path in (one, two)] == [8, 8]
    assert folder_of(tmp_path, "toy", "smoke", "nano") == tmp_path / "book/results/smoke/toy-nano"


def test_what_is_read_of_tables_is_written_down_and_what_they_used_is_told(toy):
    toy.run()
    with recording() as uses:
        stored = read_tables(toy.folder)
    read = {(kind, name.rpartition("/")[2]) for kind, name in uses}
    assert read == {("file", "provenance.json"), ("file", "means.csv"), ("file", "extra.csv")}
    assert stored.uses == [("file", "data.txt"), ("toy_thing", "third")]
    assert Stored({}, {}).uses is None and Stored({}, {"uses": []}).uses == []
    assert stored["extra"] is stored.tables["extra"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"code": None}, "holds no code"),
        ({"machine": {"a": 1}}, "holds no machine.a"),
        ({"sha256": {}}, "holds no sha256"),
        ({"uses": [["a"]]}, "lacks uses.0.1"),
        ({"files": []}, "holds no files"),
        ({"restamped": {}}, "holds no restamped"),
    ],
)
def test_what_is_wrong_with_a_provenance_is_said(toy, change, said):
    toy.run()
    path = toy.folder / "provenance.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | change))
    with pytest.raises(ValueError, match=rf"toy-nano/provenance\.json {said}; make the tables again"):
        read_tables(toy.folder)
    few = {key: whole[key] for key in ("code", "machine", "sha256")}
    path.write_text(json.dumps(few))
    assert read_tables(toy.folder).uses is None
    path.write_text(json.dumps({"code": "x"}))
    with pytest.raises(ValueError, match="lacks machine; lacks sha256; make"):
        read_tables(toy.folder)
    path.write_text("7")
    with pytest.raises(ValueError, match=r"provenance\.json holds no provenance; make"):
        read_tables(toy.folder)


def test_uses_in_a_repository(tmp_path):
    root, link = tmp_path / "root", tmp_path / "link"
    root.mkdir()
    link.symlink_to(root)
    uses = [
        ("loss", "/b"),
        ("file", str(root / "d" / "e")),
        ("file", "/elsewhere"),
        ("file", "c"),
        ("anchor", "a"),
    ]
    uses += [("loss", name) for name in "hgfedcba"]
    expected = [
        ("anchor", "a"),
        ("file", "c"),
        ("file", "d/e"),
        ("loss", "/b"),
        *(("loss", n) for n in "abcdefgh"),
    ]
    for place in (root, link):
        assert list(in_repository(uses, place)) == expected
    assert in_repository([], root) == ()


def test_a_code_is_what_stood_there_when_it_was_first_looked_at(toy):
    code, uses = Code(toy.root), [("file", "data.txt"), ("file", "gone.txt"), ("toy_thing", "third")]
    made = code.made_by(toy.grid.roots, uses)
    assert made.files["gone.txt"] == "missing" != made.files["data.txt"] and len(made.files) == 2
    assert made.uses == tuple(uses) and made.code != made.shape
    nobody_knows = Code(toy.root).made_by(toy.grid.roots, None)
    assert (nobody_knows.uses, nobody_knows.files) == ((), {}) and nobody_knows.code != made.code
    roots = toy.grid.roots
    toy.edit("return 1 / 3", "return 2 / 3", load=False)
    (toy.root / "data.txt").write_text("0.9")
    assert code.made_by(roots, uses) == made
    assert code.made_by(roots, None) == nobody_knows
    assert Code(toy.root).made_by(roots, uses).code != made.code
    assert Code(toy.root).made_by(roots, None).code != nobody_knows.code


def test_a_cell_s_columns_stand_first_in_tables_of_its_own():
    kept = {"one": pd.DataFrame({"x": [1.0, 2.0]})}
    made = Grid("g", lambda *_: [], lambda scale, model, cell: kept, lambda *_: {}, ("nano", "other"))
    for seed in (0, 1):
        (table,) = made.compute("smoke", "nano", {"variant": "a", "seed": seed}).values()
        assert list(table.columns) == ["variant", "seed", "x"] and set(table["seed"]) == {seed}
    assert list(kept["one"].columns) == ["x"]
    assert [made.kept(scale) for scale in grid.SCALES] == [("nano",), ("nano", "other"), ()]
    assert cell_name({"variant": "a", "seed": 0}) == "a-0" and made.tolerance == 0.02


def test_a_cell_is_repeated_with_one_thread_and_as_long_as_it_takes(toy):
    toy.run()
    stored, before = read_tables(toy.folder), torch.get_num_threads()
    (cell, *_) = toy.grid.cells("smoke", "nano")
    try:
        torch.set_num_threads(3)
        again = rerun_cell(toy.grid, "smoke", "nano", stored, cell)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert again.cell == cell and again.cell is not cell and 0 <= again.seconds < 60
    assert (again.same_machine, again.worst, again.allowed) == (True, 0.0, 0.0)
    assert {kind for kind, _ in again.uses} == {"toy_thing", "file"}
    stored.provenance["machine"] = {}
    again = rerun_cell(replace(toy.grid, tolerance=0.5), "smoke", "nano", stored, cell)
    assert (again.same_machine, again.allowed) == (False, 0.5)


def test_a_cell_is_drawn_among_those_that_are_asked_for_and_can_be_repeated_here(toy, monkeypatch):
    toy.run()
    stored, asked = read_tables(toy.folder), []
    monkeypatch.setattr(rerun, "draw", lambda cells, seed: asked.append(([*map(cell_name, cells)], seed)))
    amplifies = replace(toy.grid, amplifies=lambda cell: cell["variant"] == "a")

    def drawn(one=toy.grid, **only):
        asked.clear()
        drawn_cell(one, "smoke", "nano", stored, toy.root, only)
        return asked[0]

    every = ["main-a-0", "main-a-1", "main-b-0", "main-b-1"]
    monkeypatch.setattr(rerun, "commit", lambda root: "abc" if root == toy.root else None)
    assert drawn() == (every, "abc") and drawn(amplifies) == (every, "abc")
    assert drawn(seed=[1], variant=("a", "c")) == (["main-a-1"], "abc")
    monkeypatch.setattr(rerun, "commit", lambda root: "")
    assert drawn() == (every, stored.provenance["code"])
    stored.provenance["machine"] = {}
    assert drawn(amplifies)[0] == ["main-b-0", "main-b-1"] and drawn()[0] == every
    for only, said in (
        ({"seed": 1}, "toy: seed=1; expected a list of values"),
        ({"variant": "a"}, "toy: variant='a'; expected a list of values"),
        ({"zeal": [1], "age": [1]}, "cells have no 'age'; expected condition, variant, seed"),
        ({"seed": [7]}, "no cell of smoke, nano has"),
        ({"variant": ["a"]}, "can be repeated only on the kind of machine of the table"),
    ):
        with pytest.raises(ValueError, match=said):
            drawn(amplifies, **only)


def test_a_grid_of_one_cell_is_a_grid(toy):
    toy.edit('for v in ("a", "b") for s in range(2)', 'for v in ("a",) for s in range(1)')
    toy.run()
    assert problems_of(toy.grid, "smoke", "nano", Code(toy.root)) == [] and toy.ran() == ["a0"]


def test_only_files_weigh_and_what_weighs_the_most_that_is_allowed_is_kept(toy):
    folder = toy.root / "book" / "results" / "inner" / "more"
    folder.mkdir(parents=True)
    (folder / "big").write_bytes(b"0" * 16_000_000)
    assert check([], toy.root) == []
    (folder / "more").write_bytes(b"0")
    assert check([], toy.root) == ["book/results holds 16.0 MB; at most 16 MB are kept"]


def test_a_grid_is_asked_for_by_a_grid_and_a_scale(toy):
    with pytest.raises(ValueError, match="grid='toy'; expected a Grid"):
        run.run("toy", "smoke", "nano", root=toy.root)
    for scale in ("huge", "nano", ""):
        with pytest.raises(ValueError, match=f"scale={scale!r}; expected one of smoke, book, paper"):
            run.run(toy.grid, scale, "nano", root=toy.root)


def test_who_waits_for_another_process_says_so_where_progress_goes(toy, monkeypatch):
    asked = []
    whole = run.exclusive

    def exclusive(lock, what, **options):
        asked.append((lock, what, options))
        return whole(lock, what, **options)

    monkeypatch.setattr(run, "exclusive", exclusive)
    toy.run()
    ((lock, what, options),) = asked
    assert lock == toy.work.parent / ".toy-nano.lock" and what == "computing toy smoke nano"
    options["wait"]("waiting")
    assert toy.said[-1] == "waiting"


@pytest.fixture
def command(toy, monkeypatch, capsys):
    """Call the command; returns (exit status, stdout, stderr)."""
    for module in (grid, load, rerun):
        monkeypatch.setattr(module, "GRIDS", {"toy": toy.grid})
    monkeypatch.setattr(freshness, "SCALES", ("smoke",))

    def call(*arguments):
        capsys.readouterr()
        return (main(["results", *arguments]), *capsys.readouterr())

    return call


def test_the_list_says_of_each_table_how_it_is(command, toy):
    lacking = "toy-nano/provenance.json is not there; make the tables again: entanglement-book results run"
    status, out, err = command("list")
    line = "  {:<6} nano                4 cells  {}"
    assert (status, err) == (0, "")
    assert out.splitlines() == ["toy", line.format("smoke", lacking), line.format("book", lacking)]
    toy.run()
    assert command("list")[1].splitlines()[1] == line.format("smoke", "fresh")


def test_the_check_says_each_problem_and_how_many(command, toy):
    problem = "book/results/smoke/toy-nano: toy-nano/provenance.json is not there; make the tables again: "
    status, out, err = command("check")
    assert (status, err) == (1, "")
    assert out.splitlines() == [problem + "entanglement-book results run", "results: 1 problems"]


def test_a_table_that_may_not_be_stamped_is_told_on_stderr(command, toy):
    toy.run()
    toy.edit("return 1 / 3", "return 2 / 3", load=False)
    status, out, err = command("restamp", "--scale", "smoke")
    assert (status, out) == (1, "")
    assert err == "toy smoke nano: more than names changed since it was made; run: make results SCALE=smoke\n"


@pytest.mark.parametrize(
    "arguments",
    [("run", "--scale", "smoke"), ("check",), ("rerun",), ("restamp", "--scale", "smoke"), ("list",)],
)
def test_whose_book_it_is_is_said_where_nobody_asked_for_it(command, toy, monkeypatch, tmp_path, arguments):
    for module in ("cli", "run", "rerun", "load", "freshness", "restamp"):
        monkeypatch.setattr(f"entanglement_book.grids.{module}.repository", lambda: toy.root)
    toy.run()
    said = f"this is about the one in {toy.root}"
    assert said not in command(*arguments)[2]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert said in command(*arguments)[2]
