"""Execution: what runs, what is kept, what happens when something breaks. Real kernels, tiny notebooks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from nbformat.v4 import new_code_cell as code_cell

from entanglement_book.layout import Book
from entanglement_book.ledger.verdicts import check
from entanglement_book.press import notebooks
from entanglement_book.press.execute import clock, run_times, write_whole


def test_nothing_changed_runs_nothing(executed, capsys):
    before = {path: path.read_bytes() for path in executed.executed("03_first").parent.rglob("*.*")}
    assert executed.run("execute", "--scale", "smoke") == 0
    assert executed.runs() == []
    assert {path: path.read_bytes() for path in executed.executed("03_first").parent.rglob("*.*")} == before
    out = capsys.readouterr().out
    assert out.count("cached") == 3
    assert "[3/3] 90_report" in out


def test_prose_runs_nothing_and_code_runs_its_chapter_and_the_report(executed):
    executed.edit("06_second", "06_second", "Another title", kind="markdown")
    assert executed.run("execute", "--scale", "smoke") == 0
    assert executed.runs() == []
    executed.edit("06_second", "print(6)", "print(7)")
    assert executed.run("execute", "--scale", "smoke") == 0
    assert executed.runs() == ["06", "90"]
    assert "7\n" in executed.executed("06_second").read_text().replace("\\n", "\n")


def test_parameters_reach_the_notebook_and_scales_live_side_by_side(executed):
    assert executed.run("execute", "--scale", "book", "--only", "03", "--seed", "5") == 0
    assert executed.runs() == ["03"]
    shown = notebooks.read(executed.executed("03_first", "book+seed5")).cells[4]
    assert shown.outputs[-1].text == "book 5\n"
    assert executed.run("execute", "--scale", "smoke") == 0
    assert executed.runs() == []


def test_the_report_reads_what_the_others_recorded(executed):
    report = notebooks.read(executed.executed("90_report"))
    assert report.cells[-2].outputs[0].text == "0.5\n"
    times = report.cells[-1].outputs[0].data["text/plain"]
    assert "03_first" in times
    assert "06_second" in times


def test_damaged_outputs_are_found_and_made_again(executed, capsys):
    whole = executed.executed("03_first").read_bytes()
    executed.executed("03_first").write_bytes(whole[: len(whole) // 2])
    text = executed.sidecar("06_second").read_text()
    executed.sidecar("06_second").write_text(text.replace('"seconds": ', '"seconds": 9'))
    assert executed.run("execute", "--scale", "smoke") == 0
    out = capsys.readouterr().out
    # Made again, they are what they were, so that the report has nothing new to read.
    assert executed.runs() == ["03", "06"]
    assert "its stored output is damaged" in out
    assert "its sidecar is damaged" in out
    assert executed.executed("03_first").read_bytes() == whole


@pytest.mark.parametrize("damage", ["claims", "cut sidecar", "no notebook", "wrong key"])
def test_no_damage_counts_as_finished(executed, capsys, damage):
    sidecar = executed.sidecar("03_first")
    if damage == "claims":
        (sidecar.parent / "claims" / "03_first.json").write_text("[]\n")
    elif damage == "cut sidecar":
        sidecar.write_text(sidecar.read_text()[:40])
    elif damage == "no notebook":
        executed.executed("03_first").unlink()
    else:
        content = json.loads(sidecar.read_text())
        content["key"] = "0" * 32
        sidecar.write_text(json.dumps(content))
    assert executed.run("status", "--scale", "smoke") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("03_first")
    assert "to run" in lines[0]
    assert "current" in lines[1]
    assert "to run: it reads chapters that are to run" in lines[2] or "changed: inputs" in lines[2]


def test_a_notebook_that_raises(executed, capsys):
    executed.write(
        "06_second", code_cell("scale = 'book'", metadata={"tags": ["parameters"]}), code_cell("1 / 0")
    )
    executed.edit("03_first", "print(scale, seed)", "print(seed)")
    site = executed.root / "_build" / "site" / "smoke"
    site.mkdir(parents=True)
    (site / "index.html").write_text("an older site")
    assert executed.run("book", "--scale", "smoke") == 1
    assert executed.runs() == ["03"]  # the others go on, and the report does not run on half of the records
    out = capsys.readouterr().out
    end = out[out.index("FAILED") :]
    assert "notebooks/06_second.ipynb" in end
    assert "cell 3: 1 / 0" in end
    assert "ZeroDivisionError: division by zero" in end
    partial = executed.root / "_build" / "running" / "smoke" / "06_second.ipynb"
    assert str(partial) in end
    assert "no site was built" in end
    assert not site.exists()
    assert partial.is_file()
    # Mended, only what is missing runs.
    executed.edit("06_second", "1 / 0", "1 / 1")
    assert executed.run("execute", "--scale", "smoke") == 0
    assert executed.runs() == ["90"]


def test_a_kernel_that_dies(tiny, capsys):
    tiny.edit("06_second", "print(6)", "import signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert tiny.run("execute", "--scale", "smoke", "--jobs", "1") == 1
    assert tiny.runs() == ["03", "06"]
    out = capsys.readouterr().out
    assert "cell 4: import signal" in out
    assert "the kernel stopped while this cell was running" in out
    assert not tiny.executed("06_second").exists()


def test_a_killed_run_resumes(tiny, tmp_path):
    """The whole run is killed from inside its second notebook, as a full memory or a power cut would."""
    armed = tmp_path / "armed"
    armed.touch()
    kill = f"import psutil\nbomb = pathlib.Path({str(armed)!r})\nif bomb.exists():\n    bomb.unlink()\n"
    kill += "    psutil.Process().parent().parent().kill()\n    psutil.Process().parent().wait()"
    tiny.edit("06_second", "print(6)", kill)
    command = [sys.executable, "-m", "entanglement_book", "execute", "--scale", "smoke", "--jobs", "1"]
    killed = subprocess.run([*command, "--root", str(tiny.root)], capture_output=True, timeout=120)
    assert killed.returncode == -9
    assert tiny.runs() == ["03", "06"]
    assert not tiny.sidecar("06_second").exists()
    assert tiny.run("execute", "--scale", "smoke", "--jobs", "1") == 0
    assert tiny.runs() == ["06", "90"]


def test_a_second_run_is_told_that_one_is_going_on(executed, capsys):
    import filelock

    with filelock.FileLock(executed.executed("03_first").parent / ".lock"):
        assert executed.run("execute", "--scale", "smoke") == 2
    assert "another run" in capsys.readouterr().err


def test_two_runs_give_the_same_bytes(executed, capsys):
    assert executed.run("repeat", "--scale", "smoke", "--only", "03") == 0
    assert "1 notebooks ran again and gave the same bytes" in capsys.readouterr().out
    executed.edit("06_second", "print(6)", "import random\nprint(random.random())")
    assert executed.run("execute", "--scale", "smoke", "--only", "06") == 0
    capsys.readouterr()
    assert executed.run("repeat", "--scale", "smoke", "--only", "06") == 1
    assert "06_second: cell 4 differs between two runs" in capsys.readouterr().out


def test_the_environment_of_a_notebook_is_fixed(tiny):
    names = (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "PYTHONHASHSEED",
        "SOURCE_DATE_EPOCH",
        "TOKENIZERS_PARALLELISM",
    )
    tiny.edit("06_second", "print(6)", f"print([os.environ[name] for name in {names}])\nprint(os.getcwd())")
    assert tiny.run("execute", "--scale", "smoke", "--only", "06", "--jobs", "4") == 0
    printed = notebooks.read(tiny.executed("06_second")).cells[-1].outputs[0].text.splitlines()
    assert printed[0] == "['1', '1', '0', '1729123200', 'false']"
    assert printed[1] == str(tiny.root / "notebooks")


def test_what_goes_to_stderr_is_told_and_left_out(tiny, capsys):
    tiny.edit("06_second", "print(6)", "import sys\nprint(6)\nprint('careful', file=sys.stderr)")
    assert tiny.run("execute", "--scale", "smoke", "--only", "06") == 0
    assert "06_second wrote to stderr (left out of the page): careful" in capsys.readouterr().out
    assert "careful" not in tiny.executed("06_second").read_text().split('"source"')[-2]
    assert [o.name for o in notebooks.read(tiny.executed("06_second")).cells[-1].outputs] == ["stdout"]


def test_verdicts_are_recorded_and_checked(executed, capsys):
    root = executed.root
    book = Book.find(root)
    assert any("'first-holds': the verdict was 'not recorded'" in line for line in check(book))
    assert executed.run("claims", "--update", "--scale", "smoke") == 0
    assert [line for line in check(book) if line.startswith("smoke")] == []
    assert check(book) == ["book: claim 'first-holds' has no verdict (run: make book)"]
    # The published verdict: made by today's sources, or named as stale.
    assert executed.run("execute", "--scale", "book") == 0
    assert executed.run("claims", "--update", "--scale", "book") == 0
    assert check(book) == []
    path = root / "lib" / "entanglement" / "geometry.py"
    text = path.read_text()
    path.write_text(text + "THREE = 3\n")
    assert any("was not made by today's 03_first" in line for line in check(book))
    path.write_text(text)
    assert check(book) == []
    # A verdict that changes is a failure, whichever way.
    ledger = root / "book" / "claims.yml"
    ledger.write_text(ledger.read_text().replace("value <= 1", "value <= 0.1"))
    assert any("was 'reproduced' and is 'not reproduced'" in line for line in check(book))
    assert executed.run("claims", "--check") == 1
    ledger.write_text(ledger.read_text().replace("first-holds", "another"))
    problems = "\n".join(check(book))
    assert "03_first records 'first-holds', which is no claim of that chapter" in problems
    assert "a verdict is recorded for 'first-holds', which is not in the ledger" in problems


def test_run_times_outside_a_run(executed, monkeypatch):
    monkeypatch.chdir(executed.root)
    times = run_times("smoke")
    assert sorted(times) == ["03_first", "06_second", "90_report"]
    assert all(0 < seconds < 120 for seconds in times.values())


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(TypeError):
        write_whole(path, None)
    assert list(tmp_path.iterdir()) == []
    write_whole(path, "whole")
    assert path.read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_clock():
    assert [clock(s) for s in (0.44, 9.9, 59.6, 252)] == ["0.4 s", "9.9 s", "1 min 00 s", "4 min 12 s"]
