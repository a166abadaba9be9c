"""One cell is computed again: every number must be met, and what cannot be met is found out."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from entanglement.files import file_sha256
from entanglement_book.grids import load, rerun
from entanglement_book.grids.rerun import compare, difference, draw, drawn_cell, rerun_cell, rerun_one
from entanglement_book.grids.stored import Stored, read_tables


@pytest.fixture
def named(toy, monkeypatch):
    """The grid can be found by its name."""
    found = {"toy": toy.grid}
    monkeypatch.setattr(load, "GRIDS", found)
    monkeypatch.setattr(rerun, "GRIDS", found)
    return toy


def test_a_cell_is_met_again_exactly(named):
    named.run()
    again = rerun_one("toy", "smoke")
    assert again.same_machine and again.worst == 0 and again.allowed == 0 and again.agrees
    assert {kind for kind, _ in again.uses} == {"file", "toy_thing"}


def test_a_changed_number_is_found_out(named):
    named.run()
    table = pd.read_csv(named.folder / "means.csv")
    table["value"] += 1e-12
    table.to_csv(named.folder / "means.csv", index=False)
    with pytest.raises(ValueError, match="make the tables again"):
        load.load_tables("toy", "smoke")
    # A forger who mends the checksum too is found out by the live cell.
    provenance = json.loads((named.folder / "provenance.json").read_text())
    provenance["sha256"]["means.csv"] = file_sha256(named.folder / "means.csv")
    (named.folder / "provenance.json").write_text(json.dumps(provenance))
    assert not rerun_one("toy", "smoke").agrees


def test_another_machine_gets_the_stated_tolerance_and_no_more(toy, monkeypatch):
    toy.run()
    monkeypatch.setattr(rerun, "machine", lambda: {"processor": "another"})
    stored, cell = read_tables(toy.folder), toy.grid.cells("smoke", "nano")[0]

    def moved_by(share):
        tables = dict(stored.tables)
        tables["means"] = tables["means"].assign(value=lambda t: t["value"] + share * (1 + t["value"].abs()))
        return rerun_cell(toy.grid, "smoke", "nano", Stored(tables, stored.provenance), cell)

    assert not moved_by(0).same_machine and moved_by(0).allowed == toy.grid.tolerance == 0.02
    assert moved_by(0.019).agrees and not moved_by(0.021).agrees


@pytest.mark.parametrize(
    ("new", "stored", "expected"),
    [
        ([1.0], [1.0], 0.0),
        ([1.5], [1.0], 0.25),
        ([-3.0], [1.0], 2.0),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.nan], [1.0], np.inf),
        ([1.0], [np.nan], np.inf),
        ([np.inf], [np.inf], 0.0),
        ([np.inf], [1.0], np.inf),
        ([1.0, 2.0], [1.0], np.inf),  # a row too many
        ([1.0], [1.0, 2.0], np.inf),
        (["a"], ["a"], 0.0),
        (["a"], ["b"], np.inf),
        ([None], ["b"], np.inf),
        (["a", None], ["a", None], 0.0),
    ],
)
def test_the_difference_of_two_columns(new, stored, expected):
    assert difference(pd.DataFrame({"x": new}), pd.DataFrame({"x": stored})) == pytest.approx(expected)


def test_the_worst_of_all_columns_counts_and_columns_must_be_the_same():
    one = pd.DataFrame({"x": [1.0, 2.0], "y": [0.0, 0.0]})
    assert difference(one.assign(y=[0.5, 0.1]), one) == 0.5
    assert difference(one[["y", "x"]], one) == np.inf


@pytest.mark.parametrize(("kept", "worst"), [(float("nan"), 0.0), (3.0, float("inf"))])
def test_a_column_that_only_other_cells_fill_is_missing_on_both_sides(kept, worst):
    table = pd.DataFrame({"cell": [0, 1], "x": [1.0, 2.0], "only_in_1": [kept, 5.0]})
    fresh = {"means": pd.DataFrame({"cell": [0], "x": [1.0]})}
    assert compare(fresh, Stored({"means": table}, {}), {"cell": 0}) == worst


def test_a_table_that_one_side_lacks_differs(toy):
    toy.run()
    stored = read_tables(toy.folder)
    a, _, b, _ = toy.grid.cells("smoke", "nano")
    fresh = toy.grid.compute("smoke", "nano", a)
    assert compare(fresh, stored, a) == 0
    assert compare({"means": fresh["means"]}, stored, a) == np.inf
    assert compare(fresh | {"new": fresh["means"]}, stored, a) == np.inf
    assert compare(toy.grid.compute("smoke", "nano", b), stored, b) == 0  # a cell that has no "extra"


def test_readings_of_a_clock_need_not_be_met_and_must_be_there(toy):
    toy.run()
    stored, cell = read_tables(toy.folder), toy.grid.cells("smoke", "nano")[0]
    fresh = toy.grid.compute("smoke", "nano", cell)

    def apart(clocked, **values):
        return compare(fresh | {"means": fresh["means"].assign(**values)}, stored, cell, clocked)

    assert apart((), value=9.0) > 1 and apart(("value",), value=9.0) == 0
    assert apart(("value",), value=0.0) > 0.1 and apart(("value",), value=float("nan")) == np.inf
    assert apart(("value",), value=9.0, word="8") == np.inf
    gone = fresh | {"means": fresh["means"].drop(columns="value")}
    assert compare(gone, stored, cell, ("value",)) == np.inf
    later = Stored(
        {**stored.tables, "means": stored["means"].assign(value=stored["means"]["value"] + 1)},
        {**stored.provenance},
    )
    assert not rerun_cell(toy.grid, "smoke", "nano", later, cell).agrees
    clocked = replace(toy.grid, clocked=("value",))
    assert rerun_cell(clocked, "smoke", "nano", later, cell).agrees


def test_the_commit_draws_the_cell(toy, monkeypatch):
    toy.run()
    cells = [{"seed": seed} for seed in range(50)]
    assert draw(cells, "one") == draw(cells, "one")
    assert len({draw(cells, str(n))["seed"] for n in range(200)}) > 40
    stored, seen = read_tables(toy.folder), set()
    for n in range(40):
        monkeypatch.setattr(rerun, "commit", lambda root, n=n: f"commit {n}")
        seen.add(drawn_cell(toy.grid, "smoke", "nano", stored, toy.root, {})["variant"])
        only = drawn_cell(toy.grid, "smoke", "nano", stored, toy.root, {"variant": ["b"]})
        assert only["variant"] == "b"
    assert seen == {"a", "b"}
    with pytest.raises(ValueError, match="no cell"):
        draw([], "one")


def test_a_cell_that_amplifies_rounding_is_repeated_on_its_own_kind_of_machine_only(toy, monkeypatch):
    toy.run()
    stored = read_tables(toy.folder)
    cells = toy.grid.cells("smoke", "nano")
    grid = replace(toy.grid, amplifies=lambda cell: cell["seed"] == cells[0]["seed"])
    at_home, elsewhere = set(), set()
    for text in map(str, range(40)):
        monkeypatch.setattr(rerun, "commit", lambda root, text=text: text)
        at_home.add(drawn_cell(grid, "smoke", "nano", stored, toy.root, {})["seed"])
        with monkeypatch.context() as patch:
            patch.setattr(rerun, "machine", lambda: {"processor": "another"})
            elsewhere.add(drawn_cell(grid, "smoke", "nano", stored, toy.root, {})["seed"])
            with pytest.raises(ValueError, match="only on the kind of machine"):
                drawn_cell(grid, "smoke", "nano", stored, toy.root, {"seed": [cells[0]["seed"]]})
    assert at_home == {cell["seed"] for cell in cells}
    assert elsewhere == at_home - {cells[0]["seed"]}


def test_unknown_names_are_refused_with_what_is_allowed(toy, monkeypatch):
    with pytest.raises(ValueError, match=r"untanglin.*expected one of.*untangling"):
        load.load_tables("untanglin", "smoke")
    monkeypatch.setattr(load, "GRIDS", {"toy": toy.grid})
    monkeypatch.setattr(rerun, "GRIDS", {"toy": toy.grid})
    with pytest.raises(ValueError, match="expected one of smoke"):
        load.load_tables("toy", "huge")
    with pytest.raises(FileNotFoundError, match="make results"):
        load.load_tables("toy", "smoke")
    toy.run()
    with pytest.raises(ValueError, match="no cell of smoke, nano has"):
        rerun_one("toy", "smoke", seed=[99])
    for value in (99, "main"):
        with pytest.raises(ValueError, match=f"={value!r}; expected a list of values"):
            rerun_one("toy", "smoke", **{"seed" if value == 99 else "condition": value})
    with pytest.raises(ValueError, match="'sed'; expected condition, variant, seed"):
        rerun_one("toy", "smoke", sed=[0])


def test_a_model_whose_tables_are_not_kept_is_computed_outside_of_the_tree(named):
    stored = load.load_tables("toy", "smoke", "my/model")
    assert len(stored["means"]) == 8 and stored.provenance["model"] == "my/model"
    assert not named.folder.with_name("toy-my--model").exists()
