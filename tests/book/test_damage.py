"""Every file that the book reads, damaged in every way: one line that names it, and nothing is written."""

import pytest
from damage import KINDS, damage

#: A lock may hold anything.
ANY_FILE = tuple(kind for kind in KINDS if kind != "a folder")
VERDICTS = '{"claims": {"first-holds": {"notebook": "03_first", "verdict": "reproduced"}}, "notebooks": {}}\n'
#: File → the commands that read it, and the kinds of damage after which it is still one of its kind.
FILES = {
    "book/claims.yml": (("status", "execute --only 06", "claims", "claims --check", "claims --update"), ()),
    "book/verdicts/smoke.json": (("claims", "claims --check", "claims --update"), ("missing", "a mapping")),
    "book/verdicts/book.json": (("claims --check",), ("missing", "a mapping")),
    "_toc.yml": (("status", "execute --only 06", "book", "site --partial", "tidy --check"), ("cut",)),
    "_config.yml": (("execute --only 06", "book", "site --partial"), ("a mapping",)),
    "notebooks/03_first.ipynb": (("status", "tidy", "tidy --check"), ("missing",)),
    "requirements.lock": (
        ("status", "execute --only 06", "site --partial"),
        ("missing", "empty", "cut", "a list", "a mapping", "null", "zeros"),
    ),
    "lib/entanglement/pairs.py": (
        ("status", "execute --only 03", "site --partial"),
        ("missing", "empty", "cut", "a list", "a mapping", "null", "zeros"),
    ),
    "_build/executed/smoke/.lock": (
        ("execute --only 06",),
        ANY_FILE,
    ),
    "_build/site/.smoke.lock": (("site",), ANY_FILE),
}


def run(book, command):
    """Call a command at scale smoke, where it has a scale."""
    where = () if command in ("tidy", "tidy --check", "claims --check") else ("--scale", "smoke")
    return book.run(*command.split(), *where)


def everything(root):
    paths = [path for path in root.rglob("*") if path.is_file() and "_build" not in path.parts]
    return {path: path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_in_one_line_and_nothing_is_written(tiny, capsys, name):
    (tiny.root / "book" / "verdicts").mkdir()
    for scale in ("smoke", "book"):
        (tiny.root / "book" / "verdicts" / f"{scale}.json").write_text(VERDICTS)
    path, (commands, harmless) = tiny.root / name, FILES[name]
    whole = path.read_bytes() if path.is_file() else b""
    for kind in set(KINDS) - set(harmless):
        damage(path, kind, whole)
        before = everything(tiny.root)
        for command in commands:
            status = run(tiny, command)
            out, err = capsys.readouterr()
            case = (kind, command, status, out, err)
            assert status in (1, 2), case
            # What a check found wrong is its answer; else nothing but the one line is on stderr.
            lines = out.splitlines() if command == "tidy --check" and not err else err.splitlines()
            told = [line for line in lines if path.name in line]
            assert len(told) == 1 and (not err or len(err.splitlines()) == 1), case
            assert "Traceback" not in out + err, case
        assert everything(tiny.root) == before, kind
    assert tiny.runs() == []


def quick(name):
    """Return the commands that read a file and start no notebook and no build."""
    return [command for command in FILES[name][0] if command.split()[0] in ("status", "claims")]


@pytest.mark.parametrize("name", filter(quick, FILES))
def test_the_same_file_whole_or_of_its_kind_is_read(tiny, capsys, name):
    """The commands above fail for the damage alone. Those that execute and build are seen to work with whole
    files in test_execute and test_build.
    """
    path, harmless = tiny.root / name, FILES[name][1]
    whole = path.read_bytes() if path.is_file() else b""
    for kind in ("whole", *harmless):
        if kind != "whole":
            damage(path, kind, whole)
        for command in quick(name):
            assert run(tiny, command) == (1 if "--check" in command else 0)
            err = capsys.readouterr().err
            assert not err or (kind != "whole" and err.startswith("warning: "))
