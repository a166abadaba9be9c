"""The command ``results``: exit status 0 done, 1 something is not as it should be, 2 not allowed."""

import pytest

from entanglement.registry import Registry
from entanglement_book.cli import main
from entanglement_book.grids import freshness, grid, load, rerun


@pytest.fixture
def command(toy, monkeypatch, capsys):
    """Call the command in the toy's repository; returns (exit status, output)."""
    found = Registry("grid")
    found.add("toy", toy.grid)
    for module in (grid, load, rerun):
        monkeypatch.setattr(module, "GRIDS", found)
    monkeypatch.setattr(freshness, "SCALES", ("smoke",))  # the check wants every scale that is kept

    def call(*arguments):
        capsys.readouterr()
        status = main(["results", *arguments])
        return status, "".join(capsys.readouterr())

    return call


def test_run_check_rerun_and_list(command, toy):
    status, said = command("check")
    assert status == 1 and "1 problems" in said
    status, said = command("run", "--scale", "smoke", "--jobs", "1")
    assert status == 0 and "4 cells, 0 done already" in said and str(toy.folder) in said
    assert command("check", "--grid", "toy") == (0, "results: as they should be\n")
    status, said = command("rerun", "--scale", "smoke")
    assert status == 0 and "met, differs by 0.0e+00" in said
    status, said = command("list")
    assert status == 0 and "fresh" in said and "4 cells" in said
    toy.edit("return 1 / 3", "return 2 / 3")
    assert "made by other library code" in command("list")[1]


@pytest.mark.parametrize(
    "wrong",
    [("--jobs", "-2"), ("--jobs", "0"), ("--jobs", "x"), ("--grid", "toi"), ("--scale", "huge"), ("--what",)],
)
def test_what_is_not_allowed_is_refused_and_writes_nothing(command, toy, wrong):
    status, said = command("run", *wrong)
    assert status == 2 and len(said.splitlines()) == 1 and wrong[-1] in said
    assert not (toy.root / "_build").exists() and not list((toy.root / "book" / "results").iterdir())


def test_restamp(command, toy):
    command("run", "--scale", "smoke", "--jobs", "1")
    toy.edit("third()", "one_of_three()", load=False)
    toy.edit("third)", "one_of_three)", load=False)
    assert command("restamp", "--scale", "smoke")[0] == 0
    assert command("check")[0] == 0
    toy.edit('start(cell["seed"])', 'float(start(cell["seed"]))', load=False)
    status, said = command("restamp", "--scale", "smoke")
    assert status == 1 and "more than names changed" in said
    status, said = command("restamp", "--scale", "smoke", "--code-moved", "tidied", "--jobs", "1")
    assert status == 0 and "all 4 cells equal" in said
    assert command("check")[0] == 0


def test_only_tables_that_are_there_are_met_or_stamped(command, toy):
    for what in ("rerun", "restamp"):
        status, said = command(what, "--scale", "paper")
        assert status == 2 and "no tables are kept at scale 'paper'" in said
        status, said = command(what, "--model", "smollm2-135m")
        assert status == 2 and "grid 'toy' has no tables" in said
    assert command("rerun", "--scale", "smoke")[0] == 1  # kept, and not made yet
    assert not (toy.root / "_build").exists() and not list((toy.root / "book" / "results").iterdir())
