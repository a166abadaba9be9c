"""Tables outlive a change of names once a cell was met, and a refactoring once all of smoke was."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from entanglement.files import file_sha256
from entanglement_book.grids import freshness, load, rerun, restamp, run as runs
from entanglement_book.grids.freshness import problems_of
from entanglement_book.grids.made_by import Code
from entanglement_book.grids.restamp import NotMet, repeat_smoke
from entanglement_book.grids.run import run
from entanglement_book.grids.stored import read_tables


@pytest.fixture
def made(toy):
    """The grid's tables at smoke and book are there."""
    toy.run()
    run(toy.grid, "book", "nano", root=toy.root, jobs=1, say=lambda line: None)
    toy.ran()
    return toy


def stamp(toy, scale="smoke", **options):
    return restamp.restamp(toy.grid, scale, "nano", root=toy.root, say=toy.said.append, **options)


def moved(toy, why="tidied", **options):
    return repeat_smoke(toy.grid, why, root=toy.root, say=toy.said.append, **options)


def fresh(toy, scale="smoke"):
    return problems_of(toy.grid, scale, "nano", Code(toy.root)) == []


def provenance(toy, scale="smoke"):
    return json.loads((toy.folder.parents[1] / scale / "toy-nano" / "provenance.json").read_text())


def rename(toy):
    toy.edit("third()", "one_of_three()")
    toy.edit("third)", "one_of_three)")


def tidy(toy):
    toy.edit('start(cell["seed"])', 'float(start(cell["seed"]))')


def forge(toy, scale="smoke"):
    folder = toy.folder.parents[1] / scale / "toy-nano"
    table = pd.read_csv(folder / "means.csv")
    table["value"] += 1e-12
    table.to_csv(folder / "means.csv", index=False)
    found = json.loads((folder / "provenance.json").read_text())
    found["sha256"]["means.csv"] = file_sha256(folder / "means.csv")
    (folder / "provenance.json").write_text(json.dumps(found))


def test_what_is_of_todays_code_stays(made):
    before = made.state()
    assert not stamp(made)
    assert made.state() == before and made.ran() == []


def test_a_renamed_definition_is_stamped_after_one_cell(made):
    tables, old = (made.folder / "means.csv").read_bytes(), provenance(made)
    rename(made)
    assert not fresh(made)
    assert stamp(made) and fresh(made)
    new = provenance(made)
    assert len(made.ran()) == 1 and (made.folder / "means.csv").read_bytes() == tables
    assert new["code"] != old["code"] and new["shape"] == old["shape"]
    assert {**new, "code": 0, "restamped": 0} == {**old, "code": 0, "restamped": 0}
    (entry,) = new["restamped"]
    assert (entry["from"], entry["to"]) == (old["code"], new["code"])
    assert entry["why"] == "only names changed"
    (repeated,) = entry["repeated"]
    assert repeated["worst"] == 0 and repeated["scale"] == "smoke" and repeated["same_machine"]
    made.edit("one_of_three", "a_third")
    assert stamp(made) and len(provenance(made)["restamped"]) == 2


def test_the_commit_draws_the_cell_that_is_repeated(made, monkeypatch):
    rename(made)
    original, seen = (made.folder / "provenance.json").read_bytes(), set()
    for n in range(12):
        (made.folder / "provenance.json").write_bytes(original)
        monkeypatch.setattr(rerun, "commit", lambda root, n=n: f"commit {n}")
        assert stamp(made)
        seen |= set(made.ran())
    assert len(seen) == 4


def test_a_number_that_is_not_met_is_not_stamped(made):
    rename(made)
    forge(made)
    before = made.state()
    with pytest.raises(NotMet, match="differs by"):
        stamp(made)
    assert made.state() == before


def test_another_machine_is_given_the_tolerance(made, monkeypatch):
    rename(made)
    forge(made)
    monkeypatch.setattr(rerun, "machine", lambda: {"processor": "another"})
    assert stamp(made)
    (repeated,) = provenance(made)["restamped"][0]["repeated"]
    assert 0 < repeated["worst"] < repeated["allowed"] == 0.02 and not repeated["same_machine"]


def test_more_than_names_is_refused(made):
    tidy(made)
    before = made.state()
    with pytest.raises(NotMet, match="more than names changed"):
        stamp(made)
    assert made.state() == before and made.ran() == []


def test_another_file_is_refused(made):
    (made.root / "data.txt").write_text("0.50")
    with pytest.raises(NotMet, match="more than names changed"):
        stamp(made)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_refactoring_is_stamped_after_all_smoke_cells_and_one_of_the_book(made, jobs):
    tidy(made)
    shown = moved(made, jobs=jobs)
    assert made.ran() == ["a0", "a1", "b0", "b1"]
    assert stamp(made, moved=shown) and made.ran() == []
    assert stamp(made, "book", moved=shown) and len(made.ran()) == 1
    assert fresh(made) and fresh(made, "book")
    repeated = {"worst": 0.0, "allowed": 0.0, "same_machine": True}
    cells = [{"condition": "main", "variant": v, "seed": s} for v in ("a", "b") for s in range(2)]
    assert shown.why == "tidied"
    assert shown.cells == tuple({"scale": "smoke", "cell": cell} | repeated for cell in cells)
    assert shown.uses == {("file", (made.root / "data.txt").as_posix()), ("toy_thing", "third")}
    (entry,) = provenance(made)["restamped"]
    assert entry["repeated"] == list(shown.cells)
    (entry,) = provenance(made, "book")["restamped"]
    assert [cell["scale"] for cell in entry["repeated"]] == ["smoke"] * 4 + ["book"]
    assert entry["why"] == "tidied" and all(cell["worst"] == 0 for cell in entry["repeated"])


def test_tables_from_before_uses_were_written_down_get_them(made):
    old = provenance(made)
    for key in ("shape", "uses", "files"):
        del old[key]
    (made.folder / "provenance.json").write_text(json.dumps(old | {"code": "old"}))
    with pytest.raises(NotMet, match="more than names changed"):
        stamp(made)
    assert stamp(made, moved=moved(made)) and fresh(made)
    assert provenance(made)["uses"] == [["file", "data.txt"], ["toy_thing", "third"]]


def test_a_refactoring_that_moved_a_number_is_refused(made):
    made.edit("return 1 / 3", "return 1 / 3 + 1e-15")
    with pytest.raises(NotMet, match="differs by"):
        moved(made)


def test_a_refactoring_that_moved_a_number_of_the_book_alone_is_refused(made):
    made.edit('"value": start(cell["seed"])', '"value": start(cell["seed"]) + 1e-9 * (scale == "book")')
    shown = moved(made)
    with pytest.raises(NotMet, match="differs by"):
        stamp(made, "book", moved=shown)
    assert not fresh(made, "book")


def test_where_rounding_moved_numbers_are_met_as_on_another_kind_of_machine(made):
    made.edit("return 1 / 3", "return 1 / 3 + 1e-15")
    assert made.grid.tolerance > 0
    shown = moved(made, "sums in another order", exact=False)
    assert not shown.exact
    assert all(0 < cell["worst"] < 1e-14 and cell["allowed"] == made.grid.tolerance for cell in shown.cells)
    assert stamp(made, moved=shown) and stamp(made, "book", moved=shown) and fresh(made, "book")
    (entry,) = provenance(made, "book")["restamped"]
    last = entry["repeated"][-1]
    assert last["scale"] == "book" and last["same_machine"]
    assert 0 < last["worst"] <= last["allowed"] == made.grid.tolerance


def test_tables_that_were_rounded_are_met_so_from_then_on(made):
    made.edit("return 1 / 3", "return 1 / 3 + 1e-15")
    shown = moved(made, "sums in another order", exact=False)
    assert stamp(made, moved=shown) and stamp(made, "book", moved=shown)
    stored, cell = read_tables(made.folder), made.grid.cells("smoke", "nano")[0]
    again = rerun.rerun_cell(made.grid, "smoke", "nano", stored, cell)
    assert again.agrees and again.worst > 0 and again.allowed == made.grid.tolerance
    rename(made)
    assert stamp(made)
    (_, last) = provenance(made)["restamped"]
    assert last["repeated"][0]["allowed"] == made.grid.tolerance
    tidy(made)
    assert stamp(made, moved=moved(made))


def test_rounding_is_no_excuse_for_another_number(made):
    made.edit("return 1 / 3", "return 1 / 3 + 0.1")
    with pytest.raises(NotMet, match="differs by"):
        moved(made, "sums in another order", exact=False)


def test_cells_that_amplify_rounding_are_not_asked_where_it_moved(made):
    made.edit('models=("nano",))', 'models=("nano",), amplifies=lambda cell: cell["variant"] == "b")')
    made.edit("return 1 / 3", "return 1 / 3 + 1e-15")
    shown = moved(made, "sums in another order", exact=False)
    assert {entry["cell"]["variant"] for entry in shown.cells} == {"a"}
    assert stamp(made, "book", moved=shown)
    (entry,) = provenance(made, "book")["restamped"]
    assert entry["repeated"][-1]["cell"]["variant"] == "a"


def test_smoke_may_be_held_against_tables_of_the_earlier_code_on_this_machine(made, tmp_path):
    earlier = tmp_path / "toy-nano"
    shutil.copytree(made.folder, earlier)
    forge(made)  # as if another machine had made those of the repository
    tidy(made)
    with pytest.raises(NotMet, match="differs by"):
        moved(made)
    assert stamp(made, moved=moved(made, folder=earlier)) and fresh(made)


def test_no_reason_no_stamp(made):
    with pytest.raises(ValueError, match="say what changed"):
        moved(made, " ")
    with pytest.raises(ValueError, match="jobs=0"):
        moved(made, jobs=0)


def test_a_smoke_table_with_rows_of_no_cell_is_refused(made):
    made.edit("for s in range(2)]", "for s in range(1)]")
    with pytest.raises(NotMet, match="rows of no cell"):
        moved(made)


def test_where_only_names_moved_nothing_else_is_claimed_though_more_was_shown(made):
    rename(made)
    shown = moved(made)
    made.ran()
    assert stamp(made, moved=shown) and len(made.ran()) == 1
    (entry,) = provenance(made)["restamped"]
    assert entry["why"] == "only names changed" and len(entry["repeated"]) == 1


def test_a_cell_that_is_repeated_for_a_name_takes_no_other_cell_s_uses_away(made, monkeypatch):
    rename(made)
    whole, old = restamp.rerun_cell, provenance(made)["uses"]
    found = {("toy_thing", "other")}
    monkeypatch.setattr(
        restamp, "rerun_cell", lambda *args, **exact: replace(whole(*args, **exact), uses=frozenset(found))
    )
    assert stamp(made)
    assert provenance(made)["uses"] == [["file", "data.txt"], ["toy_thing", "other"], ["toy_thing", "third"]]
    assert old == [["file", "data.txt"], ["toy_thing", "third"]]


def test_what_a_refactoring_no_longer_looks_up_goes(made):
    made.edit('THINGS["third"]()', "third()")
    shown = moved(made)
    assert stamp(made, moved=shown) and fresh(made)
    assert stamp(made, "book", moved=shown) and fresh(made, "book")
    for scale in ("smoke", "book"):
        assert provenance(made, scale)["uses"] == [["file", "data.txt"]]


def test_what_was_done_is_said(made):
    made.said.clear()
    stamp(made)
    rename(made)
    stamp(made)
    tidy(made)
    stamp(made, moved=moved(made))
    cell = made.said[1].split()[3].rstrip(":")
    assert made.said == [
        "toy smoke nano: made by today's code already",
        f"  toy smoke nano {cell}: differs by 0.0e+00, allowed 0",
        "toy smoke nano: re-stamped",
        "toy smoke nano: all 4 cells equal",
        "toy smoke nano: re-stamped",
    ]


def test_a_table_of_another_folder_is_named_by_it_when_a_number_is_not_met(made, tmp_path, monkeypatch):
    earlier = tmp_path / "toy-nano"
    shutil.copytree(made.folder, earlier)
    found = json.loads((earlier / "provenance.json").read_text())
    (earlier / "provenance.json").write_text(json.dumps(found | {"machine": {"processor": "another"}}))
    made.edit("return 1 / 3", "return 1 / 3 + 1e-9")
    here = "toy smoke nano: main-[ab]-[01] differs by [0-9.e-]+ from .*toy-nano"
    with pytest.raises(NotMet, match=f"{here}; they are of another machine: name a folder"):
        moved(made, folder=earlier)
    with pytest.raises(NotMet, match=rf"{here}\.$"):
        moved(made)


def test_a_repository_that_is_named_is_the_one_and_else_it_is_found(made, monkeypatch):
    tidy(made)
    modules = (freshness, load, rerun, restamp, runs)
    options = {"root": made.root, "say": made.said.append}
    for found in (lambda: pytest.fail("looked for"), lambda: made.root):
        for module in modules:
            monkeypatch.setattr(module, "repository", found)
        shown = repeat_smoke(made.grid, "tidied", **options)
        assert restamp.restamp(made.grid, "smoke", "nano", moved=shown, **options) == (len(options) == 2)
        assert runs.run(made.grid, "smoke", "nano", jobs=1, **options) == made.folder
        assert len(freshness.check([], *([made.root] if "root" in options else []))) == 0
        options.pop("root", None)
