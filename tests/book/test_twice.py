"""Two builds are compared byte by byte: what may differ is a clock, and everything else is named."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from nbformat.v4 import new_output

from entanglement_book.cli import main
from entanglement_book.layout import Book, BookError, Settings
from entanglement_book.press import notebooks, twice
from entanglement_book.press.store import Store, inspect

SMOKE = Settings("smoke")
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")


def commit(root):
    for command in (
        ("init", "-q"),
        ("add", "book", "lib", "notebooks", "_toc.yml", "_config.yml"),
        ("commit", "-qm", "all"),
    ):
        subprocess.run([*GIT, *command], cwd=root, check=True, capture_output=True)


def change(book, chapter, position, text):
    """Let a cell of a stored output have said something else, as if it had been run so."""
    store = Store(book, SMOKE)
    notebook = notebooks.read(store.notebook(chapter))
    notebook.cells[position].outputs = [new_output("stream", name="stdout", text=text)]
    store.notebook(chapter).write_text(notebooks.dumps(notebook))


@pytest.fixture
def two(executed, tmp_path):
    """Two books in which the same was executed."""
    shutil.copytree(executed.root, tmp_path / "an öther")
    return [Book.find(root) for root in (executed.root, tmp_path / "an öther")]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (b"same", b"same", ""),
        (b"abc", b"abd", "page, byte 2: 'abc' and 'abd'"),
        (b"abc", b"abcd", "page, byte 3: 'abc' and 'abcd'"),
        (b"", b"x", "page, byte 0: '' and 'x'"),
        (b"x" * 100 + b"1", b"x" * 100 + b"2", f"page, byte 100: '{'x' * 40}1' and '{'x' * 40}2'"),
    ],
)
def test_the_first_byte_that_differs_is_told_with_what_stands_around_it(one, other, said):
    assert twice.first_difference("page", one, other) == said


def test_clocks_may_differ_and_are_those_of_the_first_from_then_on(two):
    change(two[1], "90_report", -1, "another time")
    store = Store(two[1], SMOKE)
    sidecar = store.sidecar("06_second")
    sidecar.write_text(sidecar.read_text().replace('"seconds": ', '"seconds": 1'))
    assert store.seconds("06_second") != Store(two[0], SMOKE).seconds("06_second")
    assert twice.differing_outputs(*two, SMOKE) == []
    assert set(inspect(two[1], SMOKE).stale.values()) == {""}
    for chapter in two[0].chapters():
        for path in (Store(two[0], SMOKE).notebook(chapter), Store(two[0], SMOKE).sidecar(chapter)):
            assert (store.folder / path.name).read_bytes() == path.read_bytes()


def test_what_is_no_clock_is_named(two):
    folder = Store(two[1], SMOKE).folder
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def told():
        found = twice.differing_outputs(*two, SMOKE)
        for path, content in before.items():
            path.write_bytes(content)
        return found

    change(two[1], "06_second", 3, "7\n")
    (line,) = told()
    assert line.startswith("06_second.ipynb, byte ") and "6" in line and "7" in line
    for name in ("claims/03_first.json", "verdicts.json", "03_first.run.json"):
        text = (folder / name).read_text()
        old, new = ("0.5", "0.6") if "run" not in name else ('"library": "', '"library": "0')
        assert old in text
        (folder / name).write_text(text.replace(old, new))
        (line,) = told()
        assert line.startswith(f"{name}, byte "), line
    (folder / "06_second.ipynb").unlink()
    assert told() == ["only one build has 06_second"]
    assert told() == []


def test_pages_are_compared_whole(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "static").mkdir(parents=True)
        (tmp_path / name / "static" / "x.js").write_bytes(b"\x00\x01")
        (tmp_path / name / "page.html").write_text(f"<p>{name}</p>")
    (tmp_path / "a" / "more.html").write_text("")
    assert twice.differing_files(tmp_path / "a", tmp_path / "b") == [
        "only one build has more.html",
        "page.html, byte 3: '<p>a</p>' and '<p>b</p>'",
    ]
    assert twice.differing_files(tmp_path / "a", tmp_path / "a") == []


def test_the_committed_state_is_built_in_two_clones(executed, monkeypatch, capsys):
    commit(executed.root)
    calls = []

    def call(book, where, arguments):
        """Stand for a build: what was executed is there, and the pages are the clone's ledger."""
        calls.append((book.root.name, arguments))
        if arguments[0] == "execute":
            shutil.copytree(executed.root / "_build" / "executed", book.out / "executed")
        else:
            book.site(SMOKE).mkdir(parents=True)
            page = (book.root / "book" / "claims.yml").read_text()
            (book.site(SMOKE) / "a.html").write_text(page + (where.folder if self_naming else ""))

    self_naming = False
    monkeypatch.setattr(twice, "call_in", call)
    arguments = ["twice", "--root", str(executed.root)]
    assert main(arguments) == 0
    assert "two builds, the same bytes" in capsys.readouterr().out
    first, second = (each.folder for each in twice.SURROUNDINGS)
    assert [(name, what[0]) for name, what in calls] == [
        (first, "execute"), (second, "execute"), (first, "site"), (second, "site"),
    ]  # fmt: skip
    assert calls[0][1] != calls[1][1]  # another number of notebooks at a time
    work = executed.root / "_build" / "twice"
    assert not work.exists()
    self_naming = True
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "a.html, byte " in out and "1 files differ" in out and work.is_dir()
    calls.clear()
    assert main([*arguments, "--only", "03"]) == 1
    assert [what[-1] for _, what in calls] == ["03", "03", "--partial", "--partial"]
    assert main([*arguments, "--only", "77"]) == 2 and len(calls) == 4


def test_the_surroundings_differ_in_everything_that_must_not_matter():
    one, other = twice.SURROUNDINGS
    assert one.jobs != other.jobs and {*one.variables} == {*other.variables}
    assert {*one.variables} >= {"OMP_NUM_THREADS", "LC_ALL", "TZ", "PYTHONHASHSEED"}
    assert all(one.variables[name] != other.variables[name] for name in one.variables)
    assert " " in other.folder and not other.folder.isascii()


def test_a_command_runs_in_the_clone_with_its_own_library_and_one_that_fails_is_an_error(executed, tmp_path):
    book = Book.find(executed.root)
    where = twice.Surrounding("here", 1, {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7"})
    with pytest.raises(BookError, match=r"here: status failed \(.*\); log: "):
        twice.call_in(book, where, ["status"])  # the tiny book's library has no such command
    assert "entanglement_book" in (tmp_path / "here status.log").read_text()
    own = book.root / "lib" / "entanglement_book"
    own.mkdir(exist_ok=True)
    (own / "__init__.py").write_text("")
    (own / "__main__.py").write_text(
        "import os, sys\nprint(sys.argv[1:], os.getcwd(), os.environ['TZ'], os.environ['PYTHONHASHSEED'])"
    )
    twice.call_in(book, where, ["status", "--scale", "smoke"])
    said = (tmp_path / "here status.log").read_text().strip()
    assert said == f"['status', '--scale', 'smoke'] {book.root} Asia/Kathmandu 7"


def test_without_a_checkout_there_is_nothing_to_clone(executed, capsys):
    assert main(["twice", "--root", str(executed.root)]) == 2
    assert "cannot be cloned" in capsys.readouterr().err
