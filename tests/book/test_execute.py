"""Execution: what runs, what is kept, what happens when something breaks. Real kernels, tiny notebooks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from nbformat.v4 import new_code_cell as code_cell

from entanglement import files
from entanglement_book.layout import Book, Settings, UsageError
from entanglement_book.ledger.verdicts import VerdictFile
from entanglement_book.locks import exclusive
from entanglement_book.press import notebooks
from entanglement_book.press.depends import depends_on
from entanglement_book.press.execute import Execution, clock
from entanglement_book.press.store import Store, inspect, run_times
from entanglement_book.provenance import CodeGraph


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
    assert report.cells[-2].outputs[0].text == "0.5 reproduced\n"
    times = report.cells[-1].outputs[0].data["text/plain"]
    assert "03_first" in times
    assert "06_second" in times


def test_damaged_outputs_are_found_and_made_again(executed, capsys):
    whole = executed.executed("03_first").read_bytes()
    executed.executed("03_first").write_bytes(whole[: len(whole) // 2])
    text = executed.sidecar("06_second").read_text()
    executed.sidecar("06_second").write_text(text.replace('"seconds"', '"minutes"'))
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


@pytest.mark.parametrize("name", ["03_first.ipynb", "03_first.run.json", "claims/03_first.json"])
def test_a_stored_output_that_is_damaged_in_any_way_is_to_run(executed, capsys, name):
    path = executed.sidecar("03_first").parent / name
    whole, smoke = path.read_bytes(), ("--scale", "smoke")
    for content in (None, b"", whole[: len(whole) // 2], b"[]", b"{}", b"null", bytes(range(256)), "folder"):
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        if content == "folder":
            path.mkdir()
        elif content is not None:
            path.write_bytes(content)
        assert executed.run("status", *smoke) == 0
        out, err = capsys.readouterr()
        assert [line.split()[0] for line in out.splitlines() if "to run" in line] == ["03_first", "90_report"]
        assert err == ""
        assert executed.run("execute", *smoke, "--only", "06") == 0  # another chapter's is still current
        assert executed.run("site", *smoke) == 1
        assert "no current output: notebooks/03_first, notebooks/90_report" in capsys.readouterr().err
    assert executed.runs() == []


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


def test_two_builds_of_one_site_exclude_each_other(executed, capsys):
    import filelock

    book = Book.find(executed.root)
    site = book.site(Settings("smoke"))
    site.mkdir(parents=True)
    with filelock.FileLock(book.lock_of_site(Settings("smoke"))):
        assert executed.run("site", "--scale", "smoke") == 2
    assert "another run is building the site of 'smoke' here" in capsys.readouterr().err
    assert site.is_dir()  # the other one's


def test_a_holder_that_was_killed_is_no_obstacle(tmp_path):
    lock = tmp_path / "folder" / ".lock"
    lock.parent.mkdir()
    hold = "import sys, filelock\nlock = filelock.FileLock(sys.argv[1])\nlock.acquire()\n"
    hold += "print(flush=True)\nsys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", hold, str(lock)], **pipes) as holder:
        assert holder.stdout.readline() == b"\n"
        with pytest.raises(UsageError, match="another run is building here"), exclusive(lock, "building"):
            pass
        holder.kill()
    assert lock.exists()
    with exclusive(lock, "building"):
        pass


def test_a_run_that_fails_leaves_a_site_that_another_one_is_building(executed, capsys):
    import filelock

    book = Book.find(executed.root)
    executed.path("03_first").write_text("{")
    index = book.site(Settings("smoke")) / "index.html"
    index.parent.mkdir(parents=True)
    index.write_text("another's")
    with filelock.FileLock(book.lock_of_site(Settings("smoke"))):
        assert executed.run("book", "--scale", "smoke") == 1
    assert index.exists()
    assert executed.run("book", "--scale", "smoke") == 1
    assert not index.exists()  # nobody is: it would be taken for a newer one


def test_a_damaged_notebook_stops_itself_alone(executed, capsys):
    executed.edit("06_second", "print(6)", "print(7)")
    executed.path("03_first").write_text('{"cells": [')
    assert executed.run("status", "--scale", "smoke") == 1
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["03_first", "06_second", "90_report"]
    assert "its notebook cannot be read" in out
    assert len(err.splitlines()) == 1 and "03_first.ipynb" in err and "git checkout" in err
    assert executed.run("execute", "--scale", "smoke", "--only", "06") == 0
    assert executed.runs() == ["06"]
    capsys.readouterr()
    assert executed.run("execute", "--scale", "smoke") == 1
    out = capsys.readouterr().out
    assert executed.runs() == []
    assert "FAILED notebooks/03_first.ipynb" in out
    assert "90_report                    not run: it reads 03_first, which failed" in out


def test_a_source_that_changes_under_way_is_not_taken_for_what_ran(tiny, capsys):
    path = tiny.root / "lib" / "entanglement" / "pairs.py"
    tiny.edit("03_first", "print(scale, seed)", f"pathlib.Path({str(path)!r}).write_text('ONE = 2')")
    assert tiny.run("execute", "--scale", "smoke", "--only", "03") == 1
    assert (
        "its sources changed while it ran (entanglement.pairs: ONE changed): run it again"
        in capsys.readouterr().out
    )
    assert not tiny.sidecar("03_first").exists()
    assert tiny.run("execute", "--scale", "smoke", "--only", "03") == 0


def dependencies(tiny, chapter):
    """What a chapter's stored output depends on today."""
    book, settings = Book.find(tiny.root), Settings("smoke")
    uses = Store(book, settings).read_sidecar(chapter).uses(book.root)
    return depends_on(book, chapter, settings, uses, CodeGraph(book.library.parent))


def test_a_save_that_is_interrupted_counts_for_nothing(executed, monkeypatch):
    """The old output is not vouched for while the new one is being written, nor is half a new one."""
    from entanglement_book.press import store as module

    store, parts = Store(Book.find(executed.root), Settings("smoke")), dependencies(executed, "03_first")
    assert store.why_stale("03_first", parts) == ""
    text, real = executed.executed("03_first").read_text(), module.write_whole
    for stop_at in ("03_first.ipynb", "03_first.json"):

        def write(path, content, stop_at=stop_at):
            if path.name == stop_at:
                raise KeyboardInterrupt
            real(path, content)

        monkeypatch.setattr(module, "write_whole", write)
        with pytest.raises(KeyboardInterrupt):
            store.save("03_first", text, [], parts, 1.0)
        assert store.why_stale("03_first", parts) == "no stored output"
    monkeypatch.undo()
    store.save("03_first", text, [], parts, 1.0)
    assert store.why_stale("03_first", parts) == ""


def test_the_report_is_stale_when_an_output_that_it_read_is_another(executed):
    book, settings = Book.find(executed.root), Settings("smoke")
    store, parts = Store(book, settings), dependencies(executed, "06_second")
    store.save("06_second", executed.executed("06_second").read_text() + "\n", [], parts, 1.0)
    state = inspect(book, settings)
    assert state.stale == {"03_first": "", "06_second": "", "90_report": "changed: inputs"}


def test_a_kernel_does_not_outlive_its_run(tiny, tmp_path):
    """A worker that is killed leaves a kernel, which is ended with it."""
    import psutil

    said = tmp_path / "kernel"
    tiny.edit(
        "06_second",
        "print(6)",
        f"import time\npathlib.Path({str(said)!r}).write_text(str(os.getpid()))\n"
        "import signal, psutil\npsutil.Process().parent().kill()\ntime.sleep(60)",
    )
    assert tiny.run("execute", "--scale", "smoke", "--only", "06") == 1
    kernel = int(said.read_text())
    assert not psutil.pid_exists(kernel) or psutil.Process(kernel).status() == psutil.STATUS_ZOMBIE


def test_what_a_killed_run_left_is_swept(executed, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    folder = executed.executed("03_first").parent
    left = tmp_path / "temporary" / "entanglement-0badcafe"
    other = tmp_path / "temporary" / "entanglement-another"
    for path in (left, other):
        path.mkdir(parents=True)
        (path / "x").write_text("x")
    (folder / ".scratch").write_text(f"{left}\n")
    parts = [folder / ".03_first.ipynb.x.part", folder / "claims" / ".03_first.json.x.part"]
    for path in parts:
        path.write_text("x")
    assert executed.run("execute", "--scale", "smoke") == 0
    assert executed.runs() == []
    assert not left.exists()
    assert other.exists()  # another run's, which may be going on
    assert not any(path.exists() for path in parts)
    assert not (folder / ".scratch").exists()
    assert [path.name for path in (tmp_path / "temporary").iterdir()] == ["entanglement-another"]


def test_kernels_of_a_killed_run_are_ended_by_the_next(executed, tmp_path, monkeypatch):
    """A kernel leads a group of its own: who kills a run and its workers leaves it."""
    left = tmp_path / "entanglement-0badcafe"
    orphan, other = (
        subprocess.Popen(
            [sys.executable, "-c", "print(flush=True)\nimport sys\nsys.stdin.read()"],
            env={"IPYTHONDIR": f"{folder}/06/ipython"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for folder in (left, tmp_path / "entanglement-0badcafe1")
    )
    with orphan, other:
        for process in (orphan, other):
            assert process.stdout.readline() == b"\n"
        (executed.executed("03_first").parent / ".scratch").write_text(f"{left}\n")
        assert executed.run("execute", "--scale", "smoke") == 0
        assert orphan.wait(10) == -9
        assert other.poll() is None
        other.kill()


def test_what_a_notebook_leaves_in_the_folder_for_temporary_files_goes_with_its_run(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # in which nothing can be written
    (tmp_path / "home").write_text("in the way")
    (tmp_path / "temporary").mkdir()
    tiny.edit("06_second", "print(6)", "import tempfile\nprint(pathlib.Path(tempfile.mkdtemp()).is_dir())")
    assert tiny.run("execute", "--scale", "smoke", "--only", "06") == 0
    assert notebooks.read(tiny.executed("06_second")).cells[-1].outputs[0].text == "True\n"
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_full_disk_is_told_in_one_line_and_outputs_are_kept(executed, capsys, monkeypatch):
    """The run's verdicts cannot be written."""
    executed.path("06_second").touch()
    verdicts = executed.executed("03_first").with_name("verdicts.json")
    verdicts.unlink()
    real = files.os.fdopen

    def opened(*arguments):
        if any(verdicts.parent.glob(".verdicts.json.*")):
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(files.os, "fdopen", opened)
    assert executed.run("execute", "--scale", "smoke") == 1
    out, err = capsys.readouterr()
    assert "finished notebooks are kept" in out
    (line,) = err.splitlines()
    assert f"{verdicts}: No space left on device; what was there is kept" in line
    monkeypatch.undo()
    monkeypatch.setenv("RUNS", str(executed.log))
    assert executed.run("execute", "--scale", "smoke") == 0
    assert executed.runs() == [] and verdicts.is_file()


def test_only_folders_of_ours_are_swept(executed, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (executed.executed("03_first").parent / ".scratch").write_text(f"{precious}\n")
    assert executed.run("execute", "--scale", "smoke") == 0
    assert precious.exists()


def test_a_long_folder_for_temporary_files(tiny, tmp_path, monkeypatch):
    """A socket's name is short: the kernel then talks otherwise."""
    long = tmp_path / ("long" * 25)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert tiny.run("execute", "--scale", "smoke", "--only", "06") == 0
    assert tiny.runs() == ["06"]
    assert list(long.iterdir()) == []


def test_other_weights_in_a_model_s_folder_run_its_chapters_again(tiny, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    declared = code_cell('scale = "book"\nmodel = "nano"', metadata={"tags": ["parameters"]})
    show = "import os, pathlib\nprint(pathlib.Path(model).is_absolute(), pathlib.Path(model).is_dir())"
    tiny.write("06_second", declared, code_cell(show))
    book, settings = Book.find(tiny.root), Settings("smoke", model=str(model))
    assert [outcome.state for outcome in Execution(book, settings).run(["03_first", "06_second"])] == [
        "finished",
        "finished",
    ]
    shown = notebooks.read(Store(book, settings).notebook("06_second")).cells[-1].outputs[0].text
    assert shown == "True True\n"
    (model / "weights").write_bytes(b"others")
    stale = inspect(book, settings).stale
    assert (stale["03_first"], stale["06_second"]) == ("", "changed: parameters")


def test_two_runs_give_the_same_bytes(executed, capsys):
    assert executed.run("repeat", "--scale", "smoke", "--only", "03,90") == 0
    assert "2 notebooks ran again and gave the same bytes" in capsys.readouterr().out
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

    def told():
        status = executed.run("claims", "--check")
        lines = capsys.readouterr().out.splitlines()
        assert status == (0 if lines[0].startswith("the recorded verdicts hold") else 1)
        return lines if status else []

    assert any("'first-holds': the verdict was 'not recorded'" in line for line in told())
    assert executed.run("claims", "--update", "--scale", "smoke") == 0
    assert "claims at scale smoke: 1 reproduced (book/verdicts/smoke.json)" in capsys.readouterr().out
    assert told() == ["book: claim 'first-holds' has no verdict (run: make book)"]
    # The published verdict: made by today's sources, or named as stale.
    assert executed.run("book", "--scale", "book") == 0
    capsys.readouterr()
    assert told() == []
    path = root / "lib" / "entanglement" / "geometry.py"
    text = path.read_text()
    path.write_text(text + "THREE = 3\n")
    assert any("was not made by today's 03_first" in line for line in told())
    path.write_text(text)
    assert told() == []
    # A verdict that changes is a failure, whichever way.
    ledger = root / "book" / "claims.yml"
    ledger.write_text(ledger.read_text().replace("value <= 1", "value <= 0.1"))
    assert any("was 'reproduced' and is 'not reproduced'" in line for line in told())
    ledger.write_text(ledger.read_text().replace("first-holds", "another"))
    problems = "\n".join(told())
    assert "03_first records 'first-holds', which is no claim of that chapter" in problems
    assert "a verdict is recorded for 'first-holds', which is not in the ledger" in problems


def test_records_of_stale_chapters_are_no_verdicts_of_today(executed):
    """Their code changed: what they measured with the old one is neither decided nor recorded."""
    assert executed.run("claims", "--update", "--scale", "smoke") == 0
    path = Book.find(executed.root).verdicts("smoke")
    before = path.read_bytes()
    executed.edit("03_first", '"first-holds", 0.5', '"first-holds", 7.5')
    assert executed.run("claims", "--update", "--scale", "smoke") == 0
    assert path.read_bytes() == before  # kept, with what it was measured with, and told as stale by the check
    decided = VerdictFile.read(Store(Book.find(executed.root), Settings("smoke")).verdicts, "smoke")
    assert decided.claims["first-holds"].verdict == "not run"
    assert decided.notebooks == {}
    assert executed.run("execute", "--scale", "smoke") == 0
    assert executed.run("claims", "--update", "--scale", "smoke") == 0
    after = VerdictFile.read(path, "smoke").claims["first-holds"]
    assert (after.verdict, after.record.value) == ("not reproduced", 7.5)


def test_the_report_shows_the_file_that_was_decided_before_it(executed):
    """A rule that changed re-runs the report, which shows the verdict of the run's file."""
    path = executed.executed("03_first").with_name("verdicts.json")
    assert json.loads(path.read_text())["claims"]["first-holds"]["verdict"] == "reproduced"
    ledger = executed.root / "book" / "claims.yml"
    ledger.write_text(ledger.read_text().replace("value <= 1", "value <= 0.1"))
    assert executed.run("execute", "--scale", "smoke") == 0
    assert executed.runs() == ["90"]
    assert json.loads(path.read_text())["claims"]["first-holds"]["verdict"] == "not reproduced"
    report = notebooks.read(executed.executed("90_report"))
    assert report.cells[-2].outputs[0].text == "0.5 not reproduced\n"
    assert not (executed.root / "book" / "verdicts").exists()  # recording is another step


def test_run_times_outside_a_run(executed, monkeypatch):
    monkeypatch.chdir(executed.root)
    times = run_times("smoke")
    assert sorted(times) == ["03_first", "06_second", "90_report"]
    assert all(0 < seconds < 120 for seconds in times.values())


def test_clock():
    assert [clock(s) for s in (0.44, 9.9, 59.6, 252)] == ["0.4 s", "9.9 s", "1 min 00 s", "4 min 12 s"]
