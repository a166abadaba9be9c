"""What the tables' code does at the turns that a plain run never takes."""

import json
from types import SimpleNamespace

import pytest

from entanglement.registry import Registry
from entanglement_book.cli import main
from entanglement_book.grids import grid, load, rerun, restamp, run
from entanglement_book.grids.restamp import NotMet


def test_tables_that_are_not_kept_are_computed_apart_with_one_process(toy, monkeypatch):
    asked = {}

    def run(*args, **options):
        asked.update(options)
        return whole(*args, **options)

    whole = load.run
    monkeypatch.setattr(load, "GRIDS", {"toy": toy.grid})
    monkeypatch.setattr(load, "run", run)
    monkeypatch.setattr(load, "repository", lambda: toy.root)
    with pytest.raises(FileNotFoundError, match=r"toy-nano is missing; run: make results SCALE=smoke"):
        load.load_tables("toy", "smoke")
    other = load.load_tables("toy", "smoke", "other")
    assert asked == {"jobs": 1, "root": toy.root, "keep": False}
    assert other.provenance["model"] == "other" and len(other["means"]) == 8
    assert list((toy.root / "book" / "results").rglob("*.csv")) == []
    load.load_tables("toy", "smoke", "other", jobs=2)
    assert asked["jobs"] == 2
    assert len(load.load_tables("toy", "paper")["means"]) == 8  # a scale of which nothing is kept
    for scale in ("huge", "", None):
        with pytest.raises(ValueError, match=f"scale={scale!r}; expected one of smoke, book, paper"):
            load.load_tables("toy", scale)
    toy.run()
    asked.clear()
    assert load.load_tables("toy", "smoke").provenance["model"] == "nano" and asked == {}


def test_code_that_changes_while_a_cell_is_repeated_stamps_nothing(toy, monkeypatch):
    toy.run()
    toy.edit("third()", "one_of_three()")
    toy.edit("third)", "one_of_three)")
    whole = restamp.rerun_cell

    def while_editing(*args, **exact):
        again = whole(*args, **exact)
        toy.edit("return 1 / 3", "return 2 / 6", load=False)
        return again

    monkeypatch.setattr(restamp, "rerun_cell", while_editing)
    before = (toy.folder / "provenance.json").read_bytes()
    with pytest.raises(NotMet, match="the code changed meanwhile"):
        restamp.restamp(toy.grid, "smoke", "nano", root=toy.root, say=toy.said.append)
    assert (toy.folder / "provenance.json").read_bytes() == before


@pytest.fixture
def command(toy, monkeypatch, capsys):
    found = Registry("grid")
    found.add("toy", toy.grid)
    monkeypatch.setattr(grid, "GRIDS", found)

    def call(*arguments):
        status = main(["results", *arguments])
        return SimpleNamespace(exit_code=status, output="".join(capsys.readouterr()))

    return call


def test_a_model_is_named_or_it_is_that_whose_tables_are_kept(command, toy, monkeypatch):
    asked = []
    monkeypatch.setattr(run, "run", lambda *args, **options: asked.append((*args[1:], options["jobs"])))
    for arguments in (
        (),
        ("--scale", "paper"),
        ("--model", "nano"),
        ("--model", "smollm2-135m", "--jobs", "3"),
    ):
        assert command("run", *arguments).exit_code == 0
    assert asked == [
        ("book", "nano", 2),
        ("paper", "nano", 2),
        ("book", "nano", 2),
        ("book", "smollm2-135m", 3),
    ]


def test_a_table_is_re_stamped_at_the_scale_and_for_the_model_that_are_named_or_for_all(
    command, toy, monkeypatch, tmp_path
):
    asked, shown = [], []
    monkeypatch.setattr(
        restamp, "restamp", lambda grid, at, name, moved: asked.append((grid.name, at, name, moved))
    )

    def repeat(grid, why, exact, folder, jobs):
        shown.append((grid.name, why, folder, jobs) if exact else "rounding")
        return "moved"

    monkeypatch.setattr(restamp, "repeat_smoke", repeat)
    assert command("restamp").exit_code == 0
    assert command("restamp", "--scale", "book", "--model", "nano").exit_code == 0
    nano = [("toy", scale, "nano", None) for scale in ("smoke", "book")]
    assert asked == [*nano, ("toy", "book", "nano", None)] and shown == []
    asked.clear()
    assert command("restamp", "--code-moved", "tidied", "--jobs", "3").exit_code == 0
    assert asked == [("toy", scale, "nano", "moved") for scale in ("smoke", "book")]
    assert command("restamp", "--code-moved", "tidied", "--smoke", str(tmp_path)).exit_code == 0
    assert shown == [("toy", "tidied", None, 3), ("toy", "tidied", tmp_path / "toy-nano", 2)]
    assert command("restamp", "--code-moved", "tidied", "--rounding").exit_code == 0
    assert shown[-1] == "rounding"
    asked.clear()
    shown.clear()
    for wrong, said in (
        (("--code-moved", " "), "--code-moved ' ' says nothing"),
        (("--smoke", str(tmp_path)), "--smoke is looked at with --code-moved only"),
        (
            ("--code-moved", "tidied", "--smoke", str(tmp_path / "no")),
            f"--smoke '{tmp_path / 'no'}' is not a folder",
        ),
        (("--grid", "toy", "--grid", "toy"), "grid 'toy' is named twice"),
        (("--rounding",), "--rounding goes with --code-moved only"),
    ):
        done = command("restamp", *wrong)
        assert done.exit_code == 2 and said in done.output
    assert asked == shown == []


def test_what_was_not_met_is_an_exit_status(command, toy, monkeypatch):
    facts = {"cell": {"seed": 0}, "worst": 0.5, "allowed": 0, "seconds": 1.0}
    for agrees, status, said in (
        (True, 0, ": met, differs by 5.0e-01 (allowed 0), 1 s"),
        (False, 1, ": NOT met, differs by 5.0e-01"),
    ):
        again = SimpleNamespace(agrees=agrees, **facts)
        monkeypatch.setattr(rerun, "rerun_one", lambda *args, again=again: again)
        done = command("rerun")
        assert done.exit_code == status and f"toy smoke nano {{'seed': 0}}{said}" in done.output


def test_a_provenance_is_written_to_be_read(toy):
    toy.run()
    text = (toy.folder / "provenance.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2) + "\n"
    found = json.loads(text)
    assert found["command"] == "make results SCALE=smoke MODEL=nano" and found["jobs"] == 1
    assert (found["grid"], found["scale"], found["threads_per_cell"]) == ("toy", "smoke", 1)
