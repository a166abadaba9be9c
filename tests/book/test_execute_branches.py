"""Every branch of an execution, with notebooks that another hand "runs": no kernel, no waiting."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import filelock
import pytest
from nbformat.v4 import new_code_cell as code_cell, new_output

from entanglement.uses import VARIABLE
from entanglement_book.layout import Book, BookError, Settings, UsageError
from entanglement_book.ledger.records import Record, dump_records
from entanglement_book.ledger.verdicts import VerdictFile
from entanglement_book.locks import exclusive
from entanglement_book.press import execute, notebooks
from entanglement_book.press.execute import Execution, Outcome, report_failures
from entanglement_book.press.store import (
    Store,
    inspect,
    judge,
    measured,
    run_times,
    science_now,
    unclaimed,
)
from entanglement_book.press.workers import Runner

SMOKE = Settings("smoke")


class Hand(Runner):
    """In place of a worker: writes what a notebook would have left.

    Attributes:
        jobs: what it was asked to run, in order.
        does: what it does for a chapter, (its job, its environment, its stream) → exit status.
    """

    def __init__(self, **does):
        super().__init__()
        self.jobs, self.does, self.stops = [], does, 0

    def stop(self):
        self.stops += 1
        super().stop()

    def call(self, job, env, stream):
        content = json.loads(job.read_text())
        chapter = Path(content["source"]).stem
        self.jobs.append((chapter, content, env))
        return self.does.get(f"c{chapter[:2]}", finish)(content, env, stream)


def finish(content, env, stream, printed="done\n", records=(), uses=""):
    notebook = notebooks.read(Path(content["source"]))
    for number, cell in enumerate(notebooks.code_cells(notebook), start=1):
        cell.execution_count = number
        cell.outputs = [new_output("stream", name="stdout", text=printed)]
    Path(content["output"]).write_text(notebooks.dumps(notebook))
    for record in records:
        (Path(env["ENTANGLEMENT_CLAIMS_DIR"]) / f"{record.id}.json").write_text(dump_records([record]))
    Path(env[VARIABLE]).write_text(uses)
    return 0


def recording(**values):
    return lambda *job: finish(*job, records=[Record("first-holds", **values)])


class Run:
    """A tiny book, and one execution after the other in it."""

    def __init__(self, tiny):
        self.tiny, self.book = tiny, Book.find(tiny.root)
        self.store = Store(self.book, SMOKE)

    def __call__(self, *chapters, jobs=1, settings=SMOKE, force=False, verdicts=None, **does):
        self.hand = Hand(**does)
        run = Execution(self.book, settings, jobs, force=force, verdicts=verdicts)
        run.runner = self.hand
        return {o.chapter: o for o in run.run(list(chapters) or self.book.chapters())}

    def ran(self):
        return [chapter for chapter, _, _ in self.hand.jobs]


@pytest.fixture
def run(tiny):
    return Run(tiny)


def states(outcomes):
    return {name[:2]: outcome.state for name, outcome in outcomes.items()}


def test_all_run_once_and_the_report_last(run, capsys):
    assert states(run()) == {"03": "finished", "06": "finished", "90": "finished"}
    assert run.ran() == ["03_first", "06_second", "90_report"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("(elapsed")[0].split() for line in lines] == [
        ["[0/3]", "03_first", "started:", "no", "stored", "output"],
        ["[1/3]", "03_first", "finished", "in", *lines[1].split()[4:6]],
        ["[1/3]", "06_second", "started:", "no", "stored", "output"],
        ["[2/3]", "06_second", "finished", "in", *lines[3].split()[4:6]],
        ["[2/3]", "90_report", "started:", "no", "stored", "output"],
        ["[3/3]", "90_report", "finished", "in", *lines[5].split()[4:6]],
    ]
    assert states(run()) == {"03": "cached", "06": "cached", "90": "cached"} and run.ran() == []
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["[1/3]", "03_first", "cached"], ["[2/3]", "06_second", "cached"], ["[3/3]", "90_report", "cached"],
    ]  # fmt: skip
    for chapter in ("03_first", "06_second"):
        sidecar = run.store.sidecar(chapter)
        sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"seconds": 62.0}))
    assert run()["03_first"].seconds == 62
    assert states(run("06_second", force=True)) == {"06": "finished"} and run.ran() == ["06_second"]
    assert (
        "06_second                    started: forced; took 1 min 02 s last time   (elapsed"
        in capsys.readouterr().out
    )


def test_what_a_worker_is_told(run):
    run("03_first", settings=Settings("book", seed=4, model="other"))
    ((_, job, env),) = run.hand.jobs
    scratch = Path(job["source"]).parent
    assert job == {
        "parent": os.getpid(),
        "source": str(scratch / "03_first.ipynb"),
        "output": str(run.book.out / "running" / "book+seed4+other" / "03_first.ipynb"),
        "folder": str(run.book.notebooks),
        "parameters": {"scale": "book", "seed": 4},  # it declares no model
    }
    assert scratch.name == "03"
    assert env["ENTANGLEMENT_RUN_DIR"] == str(run.book.out / "executed" / "book+seed4+other")
    assert env["ENTANGLEMENT_CLAIMS_DIR"] == str(scratch / "claims")
    assert env[VARIABLE] == str(scratch / "uses")
    assert not scratch.exists()  # swept when the run is over
    assert not Path(job["output"]).exists() and not Path(job["output"]).with_suffix(".log").exists()


def test_what_a_notebook_used_and_recorded_is_kept(run):
    data = run.tiny.root / "data.csv"
    data.write_text("1")

    def first(*job):
        return finish(
            *job, records=[Record("first-holds", 0.25, control=3.0)], uses=f"file\t{data}\nloss\tdpo\n"
        )

    run(c03=first)
    assert json.loads(run.store.claims("03_first").read_text())[0]["value"] == 0.25
    sidecar = run.store.read_sidecar("03_first")
    assert sidecar.uses(run.book.root) == (("loss", "dpo"), ("file", data.as_posix()))
    assert VerdictFile.read(run.store.verdicts, "smoke").claims["first-holds"].verdict == "reproduced"
    data.write_text("2")
    assert inspect(run.book, SMOKE).stale["03_first"] == "data.csv changed"


def test_heavy_chapters_start_first_then_those_that_took_long(run):
    for name in ("17_heavy", "02_heavy", "07_third"):
        shutil.copy(run.tiny.path("06_second"), run.tiny.path(name))
    run()
    for chapter, seconds in (
        ("03_first", 1.0),
        ("06_second", 9.0),
        ("07_third", 4.0),
        ("17_heavy", 0.1),
        ("02_heavy", 0.2),
    ):
        sidecar = run.store.sidecar(chapter)
        content = json.loads(sidecar.read_text())
        sidecar.write_text(json.dumps(content | {"seconds": seconds}))
    run(force=True)
    assert run.ran() == ["17_heavy", "02_heavy", "06_second", "07_third", "03_first", "90_report"]
    outcomes = run()
    assert list(outcomes) == sorted(outcomes)  # told in the order of the book


@pytest.mark.parametrize(("jobs", "together"), [(1, 1), (2, 2)])
def test_so_many_run_at_a_time(run, jobs, together):
    now, most, lock = [0], [0], threading.Lock()
    met = threading.Barrier(together)

    def call(*job):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        met.wait(timeout=20)
        status = finish(*job)
        with lock:
            now[0] -= 1
        return status

    shutil.copy(run.tiny.path("06_second"), run.tiny.path("07_third"))
    shutil.copy(run.tiny.path("06_second"), run.tiny.path("05_heavy"))
    outcomes = run(
        "03_first", "05_heavy", "06_second", "07_third", jobs=jobs, c03=call, c05=call, c06=call, c07=call
    )
    assert set(states(outcomes).values()) == {"finished"}
    assert most[0] == together


def test_one_that_fails_stops_no_other_but_the_report(run, capsys):
    def fault(content, env, stream):
        raise OSError(28, "No space left on device", "/a/file")

    outcomes = run(c03=fault)
    assert states(outcomes) == {"03": "failed", "06": "finished", "90": "left out"}
    assert outcomes["03_first"].error == "  OSError: /a/file: No space left on device"
    out = capsys.readouterr().out
    assert "[3/3] 90_report                    not run: it reads 03_first, which failed" in out
    report_failures(list(outcomes.values()))
    assert capsys.readouterr().out == f"\nFAILED notebooks/03_first.ipynb\n{outcomes['03_first'].error}\n"
    assert states(run()) == {"03": "finished", "06": "cached", "90": "finished"}


def partly(status, text="", cells=True, damaged=False):
    """Stop after the first cell that has an output; ``text`` goes to the log."""

    def call(content, env, stream):
        if cells:
            finish(content, env, stream)
            path = Path(content["output"])
            notebook = notebooks.read(path)
            cell = notebooks.code_cells(notebook)[-1]
            cell.outputs = [new_output("error", ename="ValueError", evalue="no", traceback=[])]
            path.write_text(notebooks.dumps(notebook) if not damaged else "{")
        stream.write(text.encode("latin-1"))
        return status

    return call


@pytest.mark.parametrize(
    ("does", "told"),
    [
        (
            partly(1),
            "  cell 4: print(6)\n  ValueError: no\n  partly executed notebook: {partial}\n  log: {log}",
        ),
        (
            partly(-9),
            "  cell 4: print(6)\n  ValueError: no (killed by signal 9)\n"
            "  partly executed notebook: {partial}\n  log: {log}",
        ),
        (
            partly(3, "one\nlast line\n", cells=False),
            "  before or between cells: exit status 3\n  last line\n"
            "  partly executed notebook: none was written\n  log: {log}",
        ),
        (
            partly(-11, cells=False),
            "  before or between cells: killed by signal 11\n"
            "  partly executed notebook: none was written\n  log: {log}",
        ),
        (
            partly(1, "caf\xe9\n", damaged=True),
            "  before or between cells: exit status 1\n  caf\ufffd\n"
            "  partly executed notebook: {partial}\n  log: {log}",
        ),
    ],
)
def test_a_failure_says_where_and_why_and_what_is_left(run, does, told):
    folder = run.book.out / "running" / "smoke"
    folder.mkdir(parents=True)
    (folder / "06_second.ipynb").write_text("of an earlier run")
    outcome = run("06_second", c06=does)["06_second"]
    partial, log = folder / "06_second.ipynb", folder / "06_second.log"
    assert outcome.error == told.format(partial=partial, log=log)
    assert log.is_file() and partial.is_file() == ("none was written" not in told)
    assert inspect(run.book, SMOKE).stale["06_second"] == "no stored output"


def test_what_went_to_stderr_stays_in_a_log(run, capsys):
    def careful(*job):
        status = finish(*job)
        notebook = notebooks.read(Path(job[0]["output"]))
        text = "\n" + "careful " * 40 + "\nsecond line\n"
        notebook.cells[-1].outputs.append(new_output("stream", name="stderr", text=text))
        Path(job[0]["output"]).write_text(notebooks.dumps(notebook))
        return status

    outcome = run("06_second", c06=careful)["06_second"]
    assert outcome.stderr.endswith("second line\n")
    log = run.book.out / "running" / "smoke" / "06_second.log"
    assert log.read_text() == outcome.stderr and not log.with_suffix(".ipynb").exists()
    out = capsys.readouterr().out
    shown = ("careful " * 40)[:160]
    assert f"      06_second wrote to stderr (left out of the page): {shown}\n" in out
    assert "second line" not in out
    run("06_second", force=True)
    assert not log.exists()


def test_an_interrupt_keeps_what_was_finished(run, capsys):
    def interrupt(*job):
        os.kill(os.getpid(), signal.SIGINT)  # reaches the main thread, which waits
        run.stopped.wait(timeout=20)
        return -9

    run.stopped = threading.Event()
    original = Hand.stop

    def stop(self):
        original(self)
        run.stopped.set()

    Hand.stop = stop
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            run(c06=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
        Hand.stop = original
    assert run.hand.stops >= 1 and run.ran() == ["03_first", "06_second"]
    out = capsys.readouterr().out
    assert "interrupted; finished notebooks are kept" in out
    assert "06_second                    failed" not in out
    assert states(run()) == {"03": "cached", "06": "finished", "90": "finished"}


def test_a_notebook_that_ends_while_the_run_is_stopping_is_left_out(run):
    def ended(*job):
        run.hand.stopping = True
        return finish(*job)

    outcomes = run("03_first", "06_second", c03=ended)
    assert states(outcomes) == {"03": "left out", "06": "left out"}
    assert run.ran() == ["03_first"]
    assert not run.store.sidecar("03_first").exists()


@pytest.mark.parametrize("changed", ["lib/entanglement/pairs.py", "notebooks/03_first.ipynb"])
def test_sources_that_change_while_it_runs(run, changed):
    path = run.tiny.root / changed

    def edit(*job):
        path.write_text(path.read_text().replace("ONE = 1", "ONE = 2").replace("seed)", "scale)"))
        return finish(*job)

    outcomes = run("03_first", c03=edit)
    said = {"lib": "entanglement.pairs: ONE changed", "not": "changed: code"}
    assert outcomes["03_first"].error == (
        f"  its sources changed while it ran ({said[changed[:3]]}): run it again"
    )
    assert not run.store.sidecar("03_first").exists()
    assert states(run("03_first")) == {"03": "finished"}


def test_the_ledger_is_read_before_anything_runs(run):
    run.book.ledger.write_text("claims: [{id: x}]")
    with pytest.raises(BookError, match="claim 'x'"):
        run()
    assert run.hand.jobs == []
    run.book.ledger.unlink()
    with pytest.raises(BookError, match=r"claims\.yml cannot be read"):
        run("06_second")
    assert run.hand.jobs == []


def test_a_report_shows_the_verdicts_that_it_is_given(run):
    given = VerdictFile("smoke", {})
    run(c03=recording(value=0.5, control=2.0), verdicts=given)
    assert VerdictFile.read(run.store.verdicts, "smoke") == given


# --- repeating -------------------------------------------------------------------------------------------


def again(run, monkeypatch, *chapters, jobs=1, **does):
    """Repeat chapters with another hand."""
    hand = Hand(**does)
    real = execute.Execution

    def made(*args, **kwargs):
        made = real(*args, **kwargs)
        made.runner = hand
        return made

    monkeypatch.setattr(execute, "Execution", made)
    found = execute.repeat(run.book, SMOKE, jobs, list(chapters))
    monkeypatch.undo()
    return found


def test_a_repetition_compares_outputs_and_records(run, monkeypatch):
    run(c03=recording(value=0.5, control=2.0))
    before = {path: path.read_bytes() for path in run.store.folder.rglob("*") if path.is_file()}
    all_ = run.book.chapters()
    assert again(run, monkeypatch, *all_, c03=recording(value=0.5, control=2.0)) == []
    assert again(run, monkeypatch, "03_first", c03=recording(value=0.6, control=2.0)) == [
        "03_first: its recorded claims differ between two runs"
    ]
    other = lambda *job: finish(*job, printed="else\n")  # noqa: E731
    assert again(run, monkeypatch, "06_second", c06=other) == [
        f"06_second: cell {number} differs between two runs" for number in (2, 3, 4)
    ]
    # A volatile cell may; the others of that chapter may not.
    assert again(run, monkeypatch, "90_report", c90=other) == [
        f"90_report: cell {number} differs between two runs" for number in (2, 3, 4)
    ]
    (line,) = again(run, monkeypatch, "06_second", c06=partly(1))
    assert line.startswith("06_second: failed when run again\n  cell 4: print(6)\n  ValueError: no")
    named = [Path(part.partition(": ")[2]) for part in line.splitlines()[-2:]]
    assert [path.name for path in named if path.is_file()] == ["06_second.ipynb", "06_second.log"]
    assert {path: path.read_bytes() for path in run.store.folder.rglob("*") if path.is_file()} == before


def test_a_repetition_shows_the_report_the_verdicts_of_all(run, monkeypatch):
    run(c03=recording(value=0.5, control=2.0))
    seen = []

    def report(content, env, stream):
        seen.append(VerdictFile.read(Path(env["ENTANGLEMENT_RUN_DIR"]) / "verdicts.json", "smoke"))
        return finish(content, env, stream)

    assert again(run, monkeypatch, "90_report", c90=report) == []
    assert seen[0].claims["first-holds"].verdict == "reproduced"


def test_a_repetition_and_an_execution_exclude_each_other(run, monkeypatch):
    run()
    with filelock.FileLock(run.store.lock), pytest.raises(UsageError, match="executing scale 'smoke'"):
        again(run, monkeypatch, "06_second")


def test_a_repetition_of_nothing_differs_in_nothing(run, monkeypatch):
    assert again(run, monkeypatch) == [] and run.book.out.is_dir()
    assert not (run.book.out / "running").exists()


def test_what_failed_when_repeated_is_kept_beside_what_is_there_and_the_last_one_only(run, monkeypatch):
    run()
    shutil.rmtree(run.book.out / "running")
    kept = run.book.working(SMOKE) / "repeat"
    for chapter, does in (("06_second", {"c06": partly(1)}), ("03_first", {"c03": partly(1)})):
        assert len(again(run, monkeypatch, chapter, **does)) == 1
        assert sorted(path.name for path in kept.iterdir()) == [f"{chapter}.ipynb", f"{chapter}.log"]
    assert again(run, monkeypatch, "06_second") == []
    assert sorted(kept.iterdir()) == []


# --- the store -------------------------------------------------------------------------------------------


def test_a_lock_is_held_inside_and_free_afterwards(tmp_path):
    path = tmp_path / "new" / "lock"
    with pytest.raises(ZeroDivisionError), exclusive(path, "counting"):
        with (
            pytest.raises(UsageError, match="another run is counting here: wait for it to end"),
            exclusive(path, "counting"),
        ):
            raise AssertionError("two at once")
        raise ZeroDivisionError
    with exclusive(path, "counting"):
        pass


def changed(run, chapter, **parts):
    """Change what a sidecar says."""
    sidecar = run.store.sidecar(chapter)
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | parts))
    return inspect(run.book, SMOKE).stale[chapter]


def test_why_an_output_does_not_count(run):
    run(c03=recording(value=0.5, control=2.0))
    content = json.loads(run.store.sidecar("03_first").read_text())
    parts = content["parts"]
    assert changed(run, "03_first") == ""
    assert changed(run, "03_first", key="x") == "its sidecar is damaged"
    assert changed(run, "03_first", key="x", parts=parts | {"code": "y"}) == "changed: code"
    gone = {name: value for name, value in parts.items() if name != "environment"}
    assert changed(run, "03_first", key="x", parts=gone) == "changed: environment"
    assert changed(run, "03_first", key="x", parts=parts | {"more": "z"}) == "changed: more"
    assert changed(run, "03_first", **content) == ""
    for text in ("", "[]", "{}"):
        run.store.sidecar("03_first").write_text(text)
        assert inspect(run.book, SMOKE).stale["03_first"] == "its sidecar is damaged"
        assert run.store.seconds("03_first") is None and run.store.identity("03_first") == ""
    run.store.sidecar("03_first").unlink()
    assert inspect(run.book, SMOKE).stale["03_first"] == "no stored output"


def test_what_is_kept_of_an_output(run, monkeypatch):
    run("03_first", c03=recording(value=0.5, control=2.0))
    kept = json.loads(run.store.sidecar("03_first").read_text())
    assert set(kept) == {"key", "parts", "origin", "seconds", "sha256"}
    book, state = run.book, inspect(run.book, SMOKE)
    assert state.stale["03_first"] == ""
    from entanglement_book.press.depends import depends_on

    made = depends_on(book, "03_first", SMOKE, (), state.graph)
    run.store.save("03_first", "text", [], made, 12.3456)
    assert run.store.seconds("03_first") == 12.3
    one = run.store.identity("03_first")
    run.store.save("03_first", "text", [], made, 99.0)
    assert run.store.identity("03_first") == one  # time is no output
    run.store.save("03_first", "other text", [], made, 12.3456)
    two = run.store.identity("03_first")
    run.store.save("03_first", "text", [Record("first-holds", 1.0)], made, 12.3456)
    three = run.store.identity("03_first")
    made.parts["code"] = "other"
    run.store.save("03_first", "text", [], made, 12.3456)
    assert len({one, two, three, run.store.identity("03_first")}) == 4


def test_the_report_reads_what_is_current_and_waits_for_what_is_not(run):
    run()
    state = inspect(run.book, SMOKE)
    assert set(state.inputs) == {"03_first", "06_second"} and set(state.bases) == set(run.book.chapters())
    assert state.broken == {}
    run.tiny.edit("06_second", "print(6)", "print(7)")
    state = inspect(run.book, SMOKE)
    assert state.stale["90_report"] == "changed: inputs" and set(state.inputs) == {"03_first"}
    run.tiny.path("06_second").write_text("{")
    state = inspect(run.book, SMOKE)
    assert set(state.broken) == {"06_second"} and "06_second" not in state.bases
    # Made without 06, the report is whole, and yet to run again when 06 has run.
    run.tiny.path("06_second").unlink()
    run()
    run.tiny.write("06_second", code_cell("print(6)"))
    run.store.sidecar("06_second").unlink()
    assert inspect(run.book, SMOKE).stale["90_report"] == "it reads chapters that are to run"


def test_only_what_is_current_was_measured(run):
    run(c03=recording(value=0.5, control=2.0))
    whole = measured(run.book, SMOKE)
    assert whole.scale == "smoke" and set(whole.records) == set(whole.bases) == set(run.book.chapters())
    run.tiny.edit("06_second", "print(6)", "print(8)")
    with pytest.raises(BookError, match="recorded twice"):
        run(c06=recording(value=3.0))
    run.tiny.edit("06_second", "print(8)", "print(7)")
    half = measured(run.book, SMOKE)
    assert set(half.records) == {"03_first"} and half.stale["06_second"] == "changed: code"
    assert judge(run.book, SMOKE).records() == {"first-holds": Record("first-holds", 0.5, control=2.0)}
    state = inspect(run.book, SMOKE)
    state.stale["03_first"] = "said so"
    assert measured(run.book, SMOKE, state).records == {}
    assert judge(run.book, SMOKE, state).records() == {}


def test_verdicts_of_a_run_lie_in_its_folder_if_there_is_one(run):
    assert judge(run.book, SMOKE).claims["first-holds"].verdict == "not run"
    assert not run.book.out.exists()
    run.store.folder.mkdir(parents=True)
    judge(run.book, SMOKE)
    assert VerdictFile.read(run.store.verdicts, "smoke").claims["first-holds"].verdict == "not run"


def test_records_without_a_claim_are_told(run):
    run(c06=recording(value=3.0))
    line = "06_second records 'first-holds', which is no claim of that chapter in the ledger"
    assert unclaimed(run.book, SMOKE, run.book.chapters()) == [line]
    assert unclaimed(run.book, SMOKE, ["03_first", "no output"]) == []


def test_what_published_verdicts_would_rest_on_today(run):
    data = run.tiny.root / "data.csv"
    data.write_text("1")
    run(c03=lambda *job: finish(*job, uses=f"file\t{data}\nloss\tdpo\n"))
    recorded = VerdictFile("smoke", {}, measured(run.book, SMOKE).bases)
    then = {name: basis.science for name, basis in recorded.notebooks.items()}
    assert dict(recorded.notebooks["03_first"].uses) == {"loss": "dpo", "file": "data.csv"}
    assert science_now(run.book, recorded) == then
    data.write_text("2")
    now = science_now(run.book, recorded)
    assert {name for name in then if now[name] != then[name]} == {"03_first"}
    assert (
        science_now(run.book, VerdictFile("book", {}, recorded.notebooks))["06_second"] != then["06_second"]
    )
    run.tiny.path("06_second").unlink()
    assert set(science_now(run.book, recorded)) == {"03_first", "90_report"}


def test_times_are_read_from_whole_sidecars_of_the_running_scale(run, tmp_path, monkeypatch):
    run("03_first", "06_second")
    monkeypatch.chdir(run.tiny.root)
    monkeypatch.delenv("ENTANGLEMENT_RUN_DIR", raising=False)
    assert set(run_times("smoke")) == {"03_first", "06_second"} and run_times("book") == {}
    for number, text in enumerate(
        ('{"seconds": 2.5}', "{", "[]", "{}", '{"seconds": "x"}', '{"seconds": null}')
    ):
        (tmp_path / f"0{number}_x.run.json").write_text(text)
    monkeypatch.setenv("ENTANGLEMENT_RUN_DIR", str(tmp_path))
    assert run_times("smoke") == {"00_x": 2.5}


def test_a_run_has_a_runner_of_its_own_and_works_in_the_folder_that_it_is_given(run, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "Runner", Hand)
    one, other = (Execution(run.book, SMOKE, scratch=folder) for folder in (tmp_path / "s", None))
    assert one.runner is not other.runner
    for execution, inside in ((one, True), (other, False)):
        (outcome,) = execution.run(["06_second"])
        assert outcome.state == "finished"
        ((_, job, _),) = execution.runner.jobs
        assert Path(job["source"]).is_relative_to(tmp_path / "s") == inside
        run.store.sidecar("06_second").unlink()
    assert (tmp_path / "s" / "06" / "06_second.ipynb").is_file()


@pytest.mark.parametrize("fault", [OSError("the disk is full"), KeyboardInterrupt()])
def test_a_run_that_cannot_go_on_says_what_is_kept(run, monkeypatch, capsys, fault):
    def judged(*args):
        raise fault

    monkeypatch.setattr(execute, "judge", judged)
    with pytest.raises(type(fault)):
        run("06_second")
    stopped = isinstance(fault, KeyboardInterrupt)
    said = "interrupted" if stopped else "stopped"
    assert f"{said}; finished notebooks are kept and will not run again\n" in capsys.readouterr().out
    assert run.hand.stops == stopped
    monkeypatch.undo()
    assert states(run("06_second")) == {"06": "cached"}


def test_a_report_that_is_left_out_took_no_time(run):
    outcomes = run(c03=partly(1))
    assert outcomes["90_report"] == Outcome("90_report", "left out", 0.0, "", "")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.95, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (252.0, "4 min 12 s"),
    ],
)
def test_how_a_time_is_said(seconds, said):
    assert execute.clock(seconds) == said


def test_an_outcome_says_little_by_default():
    assert Outcome("a", "cached") == Outcome("a", "cached", 0.0, "", "")
