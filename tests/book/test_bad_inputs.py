"""Every option of every command, given what it cannot mean: one line, exit status 2, nothing written.

The commands and their options are those that the two command lines declare, so that a new option has to be
given wrong values here.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from typer.core import TyperGroup

from entanglement import cli as science, models
from entanglement_book import cli as book
from entanglement_book.scale import cli as scale

LONG = "x" * 300
NUMBER = "whole number"
#: Option → what it cannot mean, and what the line then says.
WRONG = {
    "--scale": [(v, "smoke, book, paper") for v in ("tiny", "", " ", "Smoke", "$(touch x)", "smoke,book")],
    "--seed": [(v, NUMBER) for v in ("-1", "1.5", "", "²", str(10**30), "nan", "0x1", "`touch x`")],
    "--jobs": [(v, NUMBER) for v in ("0", "-2", "x", "1e9", "1000000000", "")],
    "--sample": [(v, "from 0 to 99999") for v in ("-1", "x", "1.5", "", "100000", "²")],
    "--port": [(v, NUMBER) for v in ("²", "", "-1", "65536", "8000.0", "http")],
    "--only": [
        *((v, "unknown chapter") for v in ("44", "", ",", "03,", "03-06", "3 6", "'")),
        ("03,03", "named twice"),
        ("3,first", "named twice"),
    ],
    "--model": [
        ("", "not a model's name"),
        ('a b;c"d', "not a model's name"),
        ("$(touch x)", "not a model's name"),
        ("./missing", "not a model's name"),
        ("nope", "the hub did not give it"),
        ("no-such/model", "the hub did not give it"),
        ("Makefile", "no such folder"),
        ("/etc", "config.json"),
        ("..", "config.json"),
        ("../..", "config.json"),
        ("models/bare", "weights"),
        ("models/dumb", "tokenizer"),
        ("models/torn", "cannot be read"),
        ("models/odd", "model_type"),
        (LONG, "too long"),
    ],
    "--out": [
        ("", "no path"),
        ("Makefile", "not a folder"),
        ("Makefile/x", "not a folder"),
        (LONG, "no path"),
    ],
    "--root": [("", "no path"), ("missing", "no book"), ("/", "no book"), (LONG, "no path")],
    "--grid": [("x", "expected one of"), ("", "expected one of")],
    "--device": [("moon", "cpu"), ("", "cpu"), ("cuda", "no GPU"), ("CPU", "cpu")],
    "--site": [("", "no path"), ("missing", "not a folder"), ("Makefile", "not a folder")],
    "--screenshots": [("", "no path"), ("Makefile", "not a folder"), ("Makefile/x", "not a folder")],
    "--pictures": [("", "no path"), ("Makefile", "not a folder"), ("Makefile/x", "not a folder")],
    "--before": [("", "no path"), ("missing", "not a folder"), ("Makefile", "not a folder")],
    "--code-moved": [("", "say what changed"), (" ", "say what changed")],
    "--smoke": [("", "no path"), ("missing", "with --code-moved")],
    "--part": [("", "--part"), ("IV", "--part")],
    "--title": [(v, "title") for v in ("", "x" * 81, "two\nlines", 'a "b"')],
    "--output": [
        ("", "no path"),
        (".", "is a folder"),
        ("Makefile/x", "not a folder"),
        ("/proc/x/y", "--output"),
    ],
    "--scheduler": [
        *((v, "tcp://host:8786") for v in ("", "here", "tcp://", "tcp://h:x", "http://h:1", "h:99999")),
        ("tcp://127.0.0.1:1", "nothing answers"),
        ("127.0.0.1:1", "nothing answers"),
    ],
    "--steps-scale": [(v, "above 0") for v in ("0", "-1", "nan", "inf", "x", "", "1e9")],
}
#: The same where a command means something else by the option.
OF_ITS_OWN = {
    ("mutants", "--only"): [("nothing", "run it in a checkout"), ("", "run it in a checkout")],
    ("bench", "--only"): [("nothing", "training step"), ("", "training step")],
    ("results restamp", "--scale"): [("tiny", "smoke, book, paper"), ("", "smoke, book, paper")],
}
COUNT = ("0", "-1", "x", "1.5", "")
#: Of the audit, whose options mean a training and not a book.
AUDIT = {
    "--data": [("Makefile", "expected a file"), ("", "a folder"), ("no-such/data", "no file or folder")],
    "--loss": [("dop", "is not known"), ("", "is not known")],
    "--beta": [(v, "beta") for v in ("0", "-1", "nan", "x", "")],
    "--optimizer": [("adam", "optimizer"), ("", "optimizer")],
    "--lr": [(v, "lr") for v in ("0", "-1", "nan", "inf", "x", "")],
    "--schedule": [("cosine", "schedule"), ("", "schedule")],
    "--batch-size": [(v, "batch") for v in COUNT],
    "--epochs": [(v, "epochs") for v in ("0", "-1", "nan", "x", "")],
    "--steps": [(v, "steps") for v in COUNT],
    "--sample": [(v, "sample") for v in (*COUNT, "3")],
    "--held-out": [(v, "held") for v in ("-0.1", "1.1", "nan", "x", "")],
    "--seed": [("x", "seed"), ("1.5", "seed"), ("", "seed")],
    "--tokens": [("words", "tokens"), ("", "tokens")],
    "--max-length": [(v, "max") for v in COUNT],
    "--format": [("explicite", "is not known"), ("", "is not known")],
    "--split": [],  # of a file without splits it means nothing
    "--max-tokens": [(v, "max") for v in COUNT],
    "--parameters": [("some", "parameters"), ("", "parameters")],
    "--geometry": [(v, "geometry") for v in ("-1", "x", "1.5", "")],
}
OF_ITS_OWN |= {("audit", option): wrong for option, wrong in AUDIT.items()}
OF_ITS_OWN |= {("read-log", "--beta"): AUDIT["--beta"]}
#: It takes any name for an id of the hub.
OF_ITS_OWN["audit", "--model"] = [
    (value, "the hub did not give it" if value == "Makefile" else told)
    for value, told in WRONG["--model"]
    if value != LONG  # the name of a file that is too long is told as the disk tells it
]
OF_ITS_OWN["audit", "--device"] = [(value, "device") for value, _ in WRONG["--device"]]
#: Of the training at scale, the only command of its command line.
OF_ITS_OWN |= {
    ("", option): AUDIT[option]
    for option in ("--data", "--beta", "--lr", "--steps", "--batch-size", "--max-length")
}
OF_ITS_OWN |= {
    ("", "--model"): OF_ITS_OWN["audit", "--model"],
    ("", "--loss"): [("dop", "is not TRL's"), ("", "is not TRL's")],
    ("", "--lora-r"): [(v, "lora") for v in ("-1", "x", "1.5", "")],
    ("", "--lora-alpha"): [(v, "lora") for v in ("0", "-1", "nan", "x", "")],
    ("", "--accumulate"): [(v, "accumulate") for v in COUNT],
    ("", "--sample"): [(v, "sample") for v in (*COUNT, "1")],
    ("", "--seed"): [(v, "seed") for v in ("-1", "x", "1.5", "")],
    ("", "--probe"): [("0", "at least 1"), ("-2", "at least 1"), ("", "at least 1"), ("no.jsonl", "no such")],
    ("", "--every"): [(v, "every") for v in ("-1", "x", "1.5", "")],
    ("", "--logging"): [(v, "logging") for v in COUNT],
    ("", "--precision"): [("fp8", "auto, bf16 or fp32"), ("", "auto, bf16 or fp32")],
}
#: Folders that cannot be written, for commands that write.
UNWRITABLE = [("/proc/x", "cannot be written"), ("/proc", "cannot be written")]
WRITE = ("book", "execute", "site", "nano", "")
#: What a command wants besides.
NEEDS = {
    "new-chapter": ["loaded_dice"],
    "audit": ["--data=pairs.jsonl"],
    "read-log": ["log.json"],
    "changes": ["--before=notebooks"],
    "": ["--out=elsewhere", "--data=pairs.jsonl", "--probe=2"],
}
ARGUMENTS = {
    "new-chapter": [
        *(([v], "is not allowed") for v in ("First", "1x", "a b", "", "class", "x" * 31, "../x", "-")),
        (["first"], "is taken"),
        ([], "Missing argument"),
    ],
    "tidy": [
        (["Makefile"], ".ipynb"),
        (["notebooks"], ".ipynb"),
        (["missing.ipynb"], "no such notebook"),
        (["notebooks/03_first.ipynb", "missing.ipynb"], "no such notebook"),
        ([""], "no path"),
        ([LONG], "no path"),
    ],
    "losses": [
        (["nothing"], "expected one of"),
        ([""], "expected one of"),
        (["dpo", "x"], "expected one of"),
    ],
    "claims": [
        (["--update", "--check"], "choose one"),
        (["--update", "--seed", "1"], "default seed"),
        (["--check", "--model", "smollm2-135m"], "default seed"),
        (["--check", "--scale", "smoke"], "leave out --scale"),
    ],
    "results run": [(["--grid", "dynamics", "--grid", "dynamics"], "named twice")],
    "results rerun": [
        (["--scale", "paper"], "no tables are kept"),
        (["--model", "models/whole"], "no tables"),
    ],
    "results restamp": [(["--smoke", "missing", "--code-moved", "x"], "not a folder")],
    "bench": [(["--measure", "nothing"], "--measure"), (["--device", "moon", "check"], "for measuring")],
    "exercises": [([name], "has no exercises") for name in ("44", "", "x", "90")],
    "repeat": [([], "run execute first"), (["--only", "03"], "run execute first")],
}


def commands(app):
    """The words of every command → the command itself; those of groups that do something alone, too."""

    def walk(words, one):
        if isinstance(one, TyperGroup):
            for name, below in one.commands.items():
                yield from walk((*words, name), below)
            if not one.invoke_without_command:
                return
        yield " ".join(words), one

    return dict(walk((), typer.main.get_command(app)))


BOOK, SCIENCE, SCALE = commands(book.app), commands(science.app), commands(scale.app)


def options(command):
    return {p.opts[0]: p for p in command.params if p.param_type_name == "option" and p.opts[0] != "--help"}


def table():
    """(command line's main, its arguments, what the line says)."""
    for main, found in ((book.main, BOOK), (science.main, SCIENCE), (scale.main, SCALE)):
        groups = {" ".join(words.split()[:-1]) for words in found if words}
        for words in groups - {"bench"}:
            yield main, words.split(), "Missing command"
            yield main, [*words.split(), "bake"], "Expected one of"
        for words, command in found.items():
            start = [*words.split(), *NEEDS.get(words, [])]
            yield main, [*start, "--nope"], "No such option"
            takes_more = any(p.nargs == -1 for p in command.params)
            if not takes_more:
                yield main, [*start, "more"], "more"
            for option, declared in options(command).items():
                if declared.is_flag:
                    yield main, [*start, f"{option}=x"], option
                    continue
                yield main, [*start, option], "requires an argument"
                wrong = OF_ITS_OWN[words, option] if (words, option) in OF_ITS_OWN else WRONG[option]
                for value, told in [*wrong, *(UNWRITABLE if option == "--out" and words in WRITE else [])]:
                    yield main, [*start, f"{option}={value}"], told
            for arguments, told in ARGUMENTS.get(words, []):
                yield main, [*words.split(), *arguments], told
    yield science.main, ["--version=2"], "--version"


ROWS = list(table())


NANO = Path(models.__file__).parent / "checkpoints" / "nano"


def model(folder, *files, config=None):
    """A folder with some of the files of a model that is whole."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config or (NANO / "config.json").read_text())
    for name in files:
        (folder / name).symlink_to(NANO / name)


@pytest.fixture(scope="module")
def place(tmp_path_factory, fill):
    """A tiny book with models of all kinds, each but one lacking something."""
    root = tmp_path_factory.mktemp("bad") / "in" / "book"
    fill(root)
    (root / "book" / "results").mkdir()
    (root / "Makefile").write_text("all:\n")
    row = '{{"prompt": "a {0}", "chosen": " b", "rejected": " c"}}'
    (root / "pairs.jsonl").write_text("\n".join(row.format(k) for k in range(8)))
    (root / "log.json").write_text("[]")
    whole = ("model.safetensors", "tokenizer.json")
    model(root / "models" / "whole", *whole)
    model(root / "models" / "bare")
    model(root / "models" / "dumb", "model.safetensors")
    model(root / "models" / "torn", *whole, config="{")
    model(root / "models" / "odd", *whole, config="{}")
    return root


def everything(root):
    here = [path for path in root.rglob("*") if not path.is_symlink()]
    return {path: path.read_bytes() if path.is_file() else None for path in here}


def wrong_about(row, place, capsys):
    """What is not as it must be when one line of the table is given; "" if nothing."""
    main, arguments, told = row
    before = everything(place)
    status = main(arguments)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    good = status == 2 and out == "" and len(lines) == 1 and everything(place) == before
    names = ("entanglement: ", "entanglement-book: ", "entanglement_book.scale: ")
    good = good and lines[0].startswith(names) and told in lines[0]
    return "" if good else f"{arguments}: status {status}, expected {told!r}, said {out + err!r}"


def test_one_line_status_2_nothing_written(place, monkeypatch, capsys):
    """All in one test: one for each would take longer to begin and end than to run."""
    monkeypatch.chdir(place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = [said for row in ROWS if (said := wrong_about(row, place, capsys))]
    assert "\n".join(found) == ""


def test_the_table_is_long_and_has_no_row_twice():
    rows = {(main, *arguments) for main, arguments, _ in ROWS}
    assert len(rows) == len(ROWS) >= 120
    declared = {option for one in BOOK.values() for option, p in options(one).items() if not p.is_flag}
    assert declared == set(WRONG)


@pytest.mark.parametrize(
    "arguments",
    [
        ["results", "run", "--model", "nope"],
        ["bench", "--measure", "nothing"],
        ["serve", "--port", "²"],
        ["tidy", "Makefile"],
        ["execute", "--only", "\udcff"],
    ],
)
def test_a_process_of_its_own_says_the_same(place, arguments):
    before = everything(place)
    command = [sys.executable, "-m", "entanglement_book", *map(os.fsencode, arguments)]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("entanglement-book: ")
    assert everything(place) == before


def test_what_is_allowed_is_not_refused(place, monkeypatch, capsys):
    """The same table, by values that commands take, so that it is not the place that they refuse."""
    monkeypatch.chdir(place)
    given = ["--scale=smoke", "--seed=3", "--model=models/whole", "--out=elsewhere", f"--root={place}"]
    before = everything(place)
    assert book.main(["status", *given]) == 0
    out, err = capsys.readouterr()
    assert out.count("to run: no stored output") == 3 and "Error" not in err
    assert book.main(["claims", *given]) == 0
    assert book.main(["tidy", "--check", "notebooks/03_first.ipynb"]) in (0, 1)
    assert book.main(["serve", "--port", "8000", *given]) == 1  # there are no pages
    assert everything(place) == before


def test_a_wrong_model_is_refused_before_the_grids_are_looked_for(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("entanglement_book.grids.cli._chosen", lambda names: pytest.fail("too late"))
    for command in ("run", "rerun", "restamp"):
        assert book.main(["results", command, "--model", "nope"]) == 2
        assert "nope" in capsys.readouterr().err
