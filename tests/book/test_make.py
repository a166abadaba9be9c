"""make hands every value on as it is: no shell and no make reads it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Stands for Python: it writes down its arguments, and makes an environment that holds itself.
FAKE = """#!/bin/sh
for word in "$@"; do printf '%s\\0' "$word"; done >> "$LOG"
printf '\\n' >> "$LOG"
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi
"""
#: What a shell, or make, would run, split or end a word at.
VALUES = [
    "$(touch x)",
    "`touch x`",
    "${HOME}",
    "$HOME",
    "a b",
    'a b;c"d',
    "'",
    '"',
    "\\",
    "a\\b",
    "#",
    "*",
    "-n",
    "a&b|c>x",
]


#: What make needs of a checkout.
FILES = ("Makefile", "requirements-build.lock", "requirements.lock", "pyproject.toml")


@pytest.fixture
def made(tmp_path):
    """Run make in a folder with a blank in its name; returns (status, the calls of Python, what was said)."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    python = tmp_path / "my 'own' bin" / "python three"
    python.parent.mkdir()
    python.write_text(FAKE)
    python.chmod(0o755)
    log = tmp_path / "log"

    def make(*words, **environment):
        log.write_bytes(b"")
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        done = subprocess.run(
            ["make", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**kept, "LOG": str(log), "PYTHON": str(python), **environment},
        )
        calls = [line.split("\0")[:-1] for line in log.read_text().split("\n")[:-1]]
        left = {path.name for path in folder.iterdir()} - {".venv"}
        assert left == set(FILES), "nothing else was run"
        return done.returncode, calls, done.stdout + done.stderr

    make.python = python
    return make


def test_the_environment_is_made_once_by_a_python_whose_name_is_left_alone(made):
    status, calls, said = made("env")
    assert status == 0, said
    assert [call[:3] for call in calls[1:]] == [
        ["-m", "venv", ".venv"],
        ["-m", "pip", "install"],
        ["-m", "pip", "install"],
        ["-m", "compileall", "-qq"],
    ]
    assert made("env")[:2] == (0, [])
    status, calls, said = made("env", "PYTHON=$(touch x) `touch x`", "-B")
    assert status != 0 and calls == []
    assert "$(touch x) `touch x` was not found" in said


def test_values_reach_the_command_letter_by_letter(made):
    made("env")
    for value in VALUES:
        names = ("SCALE", "SEED", "MODEL", "ONLY", "JOBS")
        given = [f"{name}={value}" for name in names]
        status, calls, said = made("book", *given)
        options = [
            word for name in ("scale", "seed", "model", "only", "jobs") for word in (f"--{name}", value)
        ]
        assert (status, calls) == (0, [["-m", "entanglement_book", "book", *options]]), said
    value = VALUES[0]
    assert made("serve", f"PORT={value}")[1] == [["-m", "entanglement_book", "serve", "--port", value]]
    # The environment's are the same, and empty is not given.
    assert made("status", SCALE=value)[1] == [["-m", "entanglement_book", "status", "--scale", value]]
    assert made("book", "SCALE=", "JOBS=", SEED="")[1] == [["-m", "entanglement_book", "book"]]


def test_nothing_that_is_given_is_dropped(made):
    """Each command gets what was given of a run, and refuses what it does not take."""
    made("env")
    given = ["SCALE=smoke", "SEED=1", "MODEL=m", "ONLY=o"]
    options = ["--scale", "smoke", "--seed", "1", "--model", "m", "--only", "o"]
    targets = ("book", "execute", "site", "check", "serve", "status", "claims", "bench", "nano")
    for target in targets:
        assert made(target, *given)[1] == [["-m", "entanglement_book", target, *options]]
    assert made("results", *given, "JOBS=3")[1] == [
        ["-m", "entanglement_book", "results", "run", *options, "--jobs", "3"]
    ]
    assert made("test", "JOBS=3")[1] == [["-m", "entanglement_book", "test", "--jobs", "3"]]


def test_what_would_be_run_holds_no_value_and_no_bare_variable(made):
    """``make -n`` shows the recipe: values stand in the environment, every use of one in quotes."""
    made("env")
    for target in ("book", "serve", "results", "nano"):
        said = made("-n", target, "SCALE=$(touch x)", "PORT=`touch x`")[2]
        assert "touch" not in said
        assert re.findall(r'(?<!")\$[A-Z]+|\$\([A-Z]+\)', said) == []
    recipe = (ROOT / "Makefile").read_text()
    bare = [
        line for line in recipe.splitlines() if re.search(r'(?<!")\$\(PY\)', line) and line.startswith("\t")
    ]
    assert bare == []
