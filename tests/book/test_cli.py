"""Bad input: one line naming what was given and what is allowed, status 2, nothing written."""

import subprocess
import sys
import time

import pytest

from entanglement import cli as science
from entanglement.archive import DataError
from entanglement_book.cli import LATE, main
from entanglement_book.layout import Book


def everything(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


@pytest.mark.parametrize("command", ["book", "execute"])
@pytest.mark.parametrize(
    ("arguments", "given", "allowed"),
    [
        (("--scale", "tiny"), "'tiny'", "smoke, book, paper"),
        (("--only", "44"), "'44'", "03, 06, 90"),
        (("--only", "03,x"), "'x'", "03, 06, 90"),
        (("--seed", "1.5"), "'1.5'", "whole number"),
        (("--seed", "-1"), "'-1'", "whole number"),
        (("--jobs", "0"), "'0'", "whole number"),
        (("--jobs", "many"), "'many'", "whole number"),
        (("--scale", "$(touch x)"), "'$(touch x)'", "smoke, book, paper"),
        (("--scale", ""), "''", "smoke, book, paper"),
        (("--jobs", "-2"), "'-2'", "whole number"),
        (("--model", ".."), "'..'", "config.json"),
        (("--out", "{root}/Makefile"), "Makefile", "not a folder"),
        (("--out", "/proc/x"), "/proc/x", "--out"),
        (("--scal", "smoke"), "--scal", "--scale"),
        (("more",), "more", "unexpected"),
    ],
)
def test_bad_input_is_refused_in_one_line(tiny, capsys, command, arguments, given, allowed):
    (tiny.root / "Makefile").write_text("")
    before = everything(tiny.root)
    assert tiny.run(command, *(text.format(root=tiny.root) for text in arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert given in err
    assert allowed in err
    assert everything(tiny.root) == before


def test_a_model_that_cannot_be_had_is_refused_in_one_line(tiny, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = everything(tiny.root)
    assert tiny.run("book", "--model", "no-such/model") == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1
    assert "no-such/model" in err
    assert "nano" in err
    assert everything(tiny.root) == before


def test_no_command_and_an_unknown_one(capsys):
    assert main([]) == 2
    assert main(["bake"]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "Expected one of book, execute" in first and first.endswith(
        "claims, new-chapter, results, bench, nano"
    )
    assert "'bake'" in second and "Expected one of book, execute" in second


def test_outside_a_book(tmp_path, capsys):
    assert main(["status", "--root", str(tmp_path)]) == 2
    assert f"no book at {tmp_path}" in capsys.readouterr().err


def test_a_table_of_contents_that_names_no_notebook(tiny, capsys):
    (tiny.root / "_toc.yml").write_text(
        (tiny.root / "_toc.yml").read_text() + "  - file: notebooks/07_gone\n"
    )
    assert tiny.run("book", "--scale", "smoke") == 1
    assert "names notebooks/07_gone.ipynb, which is not there" in capsys.readouterr().err
    assert tiny.runs() == []


def test_tidy_brings_notebooks_into_order(tiny, capsys):
    path = tiny.path("06_second")
    tidied = path.read_text()
    path.write_text(tidied.replace('"execution_count": null', '"execution_count": 7'))
    assert tiny.run("tidy", "--check") == 1
    assert "holds outputs" in capsys.readouterr().out
    tiny.run("tidy")  # what else is not in order is told, and left to whoever writes
    assert "tidied" in capsys.readouterr().out
    assert path.read_text() == tidied
    tiny.run("tidy")
    out = capsys.readouterr().out
    assert "tidied" not in out and "holds outputs" not in out


def test_serving_what_is_not_there(tiny, capsys):
    assert tiny.run("serve") == 1
    assert "make book" in capsys.readouterr().err
    for port in ("http", "\u00b2", "65536"):
        assert tiny.run("serve", "--port", port) == 2
        assert repr(port) in capsys.readouterr().err
    assert tiny.run("check", "--scale", "smoke") == 1
    assert "make book" in capsys.readouterr().err
    assert tiny.run("check", "--site", str(tiny.root / "gone")) == 2
    assert "gone" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["entanglement.cli", "entanglement_book"])
def test_help_is_quick_and_imports_nothing_heavy(module):
    best = 9.0
    for _ in range(3):  # a busy machine is no fault of ours
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", module, "--help"], capture_output=True, text=True
        )
        best = min(best, time.perf_counter() - began)
    assert done.returncode == 0, done.stderr[-500:]
    assert "Usage:" in done.stdout
    heavy = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert heavy.isdisjoint({"torch", "transformers", "pandas", "scipy", "matplotlib", "sklearn"})
    assert best < 1


def test_every_command_explains_itself(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    names = (
        "book",
        "execute",
        "site",
        "repeat",
        "check",
        "serve",
        "status",
        "tidy",
        "browser",
        "test",
        "claims",
        "new-chapter",
    )
    for name in (*names, *LATE):
        assert f" {name} " in text
    for name in names:
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert "Example" in text and f"entanglement-book {name}" in text, name
    assert main(["book", "--help"]) == 0
    text = capsys.readouterr().out
    assert "[default: book]" in text and "Which run" in text and "--root" not in text


def test_the_commands_of_a_late_room_are_its_own(capsys):
    assert main(["nano", "--help"]) == 0
    assert "--steps-scale" in capsys.readouterr().out
    assert main(["nano", "--steps-scale", "0"]) == 2
    assert main(["nano", "--seed", "x"]) == 2
    assert main(["nano", "--device", "moon"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_what_the_library_declares(capsys):
    from entanglement import __version__
    from entanglement.losses import list_losses

    assert science.main(["--version"]) == 0
    assert capsys.readouterr().out == f"entanglement {__version__}\n"
    assert science.main(["losses"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n{name}: " in f"\n{text}" for name in list_losses())
    assert science.main(["losses", "dpo"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("dpo: ") and "beta = 0.1, in (0, inf)" in text
    assert "needs a reference model" in text and "2305.18290" in text
    assert science.main(["models"]) == 0
    assert "nano: " in capsys.readouterr().out
    assert science.main(["losses", "nothing"]) == 2
    assert science.main(["audit"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "'nothing'" in first and "expected one of dpo" in first
    assert "'audit'" in second and "losses, models" in second


def damage_ledger(root):
    (root / "book" / "claims.yml").write_text("claims: [")
    return "claims.yml", ("execute", "book", "claims")


def damage_verdicts(root):
    (root / "book" / "verdicts").mkdir()
    (root / "book" / "verdicts" / "smoke.json").write_text("[]")
    return "smoke.json", ("claims", "claims --update")


def damage_toc(root):
    (root / "_toc.yml").write_text("- a")
    return "_toc.yml", ("book", "site")


def damage_notebook(root):
    (root / "notebooks" / "06_second.ipynb").write_text("{")
    return "06_second.ipynb", ("tidy", "status", "tidy --check")


def damage_folder(root):
    (root / "_build").write_text("a file")
    return "_build", ("execute", "book", "site")


@pytest.mark.parametrize(
    "damage", [damage_ledger, damage_verdicts, damage_toc, damage_notebook, damage_folder]
)
def test_a_damaged_file_is_named_in_one_line(tiny, capsys, damage):
    name, commands = damage(tiny.root)
    before = everything(tiny.root)
    for command in commands:
        where = () if command.startswith("tidy") else ("--scale", "smoke")
        assert tiny.run(*command.split(), *where) in (1, 2), command
        out, err = capsys.readouterr()
        told = [line for line in (err or out).splitlines() if name in line]
        assert len(told) == 1, (command, out, err)
        assert "Traceback" not in out + err
    assert tiny.runs() == []
    assert [path for path in everything(tiny.root) if "_build" not in path] == [
        path for path in before if "_build" not in path
    ]


def test_only_runs_with_default_parameters_are_recorded(executed, capsys):
    root = executed.root
    for option in (("--seed", "1"), ("--model", "smollm2-135m")):
        for what in ("--update", "--check"):
            assert executed.run("claims", what, "--scale", "smoke", *option) == 2
            assert len(capsys.readouterr().err.splitlines()) == 1
    assert executed.run("claims", "--update", "--check") == 2
    assert not (root / "book" / "verdicts").exists()
    assert executed.run("claims", "--update", "--scale", "book") == 0  # nothing was executed at this scale
    assert not (root / "book" / "verdicts").exists()
    assert executed.run("claims", "--update", "--scale", "smoke") == 0
    assert [path.name for path in (root / "book" / "verdicts").iterdir()] == ["smoke.json"]
    capsys.readouterr()
    # A run with a seed has verdicts of its own, which are shown.
    assert executed.run("execute", "--only", "03", "--scale", "smoke", "--seed", "1") == 0
    before = Book.find(root).verdicts("smoke").read_bytes()
    capsys.readouterr()
    assert executed.run("claims", "--scale", "smoke", "--seed", "1") == 0
    assert "first-holds" in capsys.readouterr().out
    assert Book.find(root).verdicts("smoke").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("results",), "Expected one of run, check"),
        (("results", "nothing"), "'nothing'"),
        (("results", "run", "--scale", "tiny"), "tiny"),
        (("results", "run", "--jobs", "-2"), "--jobs"),
        (("results", "run", "--grid", "x"), "'x'"),
        (("results", "run", "--model", "no-such/model"), "no-such/model"),
        (("results", "run", "--model", "/etc"), "config.json"),
        (("bench", "--only", "nothing"), "nothing"),
        (("bench", "--device", "moon"), "moon"),
    ],
)
def test_the_commands_of_late_rooms_refuse_in_one_line_too(monkeypatch, capsys, arguments, told):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert told in err


@pytest.mark.parametrize(
    ("options", "recorded"), [((), True), (("--seed", "0"), False), (("--model", "smollm2-135m"), False)]
)
def test_the_book_records_verdicts_of_runs_with_default_parameters_only(tiny, monkeypatch, options, recorded):
    from entanglement_book.press import claims_cli, cli, execute

    called = []
    monkeypatch.setattr(execute.Execution, "run", lambda self, chapters: [])
    monkeypatch.setattr(cli, "_build_site", lambda *arguments, **options: tiny.root)
    monkeypatch.setattr(claims_cli, "record_verdicts", lambda book, settings: called.append(settings.scale))
    assert tiny.run("book", "--scale", "book", *options) == 0
    assert called == (["book"] if recorded else [])
    assert tiny.run("book", "--scale", "smoke", *options) == 0
    assert called == (["book"] if recorded else [])


def test_data_that_cannot_be_had_is_one_line(tiny, capsys, monkeypatch):
    def unreachable(*arguments):
        raise DataError("could not download thing==1.0 with pip (no route).\nIt is needed.")

    monkeypatch.setattr("entanglement_book.press.store.inspect", unreachable)
    assert tiny.run("status") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "could not download thing==1.0" in line
