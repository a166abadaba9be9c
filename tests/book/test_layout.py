"""Chapters and their numbers, the names of folders, and what a run may be asked for."""

import os
import shutil
from pathlib import Path

import pytest

from entanglement import models
from entanglement.files import digest
from entanglement_book.grids.stored import folder_of
from entanglement_book.layout import (
    Book,
    BookError,
    Settings,
    UsageError,
    number_of,
    parse_jobs,
    parse_model,
    parse_only,
    parse_port,
    parse_scale,
    parse_seed,
)


@pytest.fixture
def book(tiny):
    return Book.find(tiny.root)


def test_the_order_comes_from_the_table_of_contents(book):
    assert book.order() == book.chapters() == ["03_first", "06_second", "90_report"]
    assert number_of("06_second") == "06"
    assert book.disagreements() == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "06_second",
            "07_gone",
            ["names notebooks/07_gone.ipynb, which is not there", "06_second.ipynb is not in"],
        ),
        ("  - file: notebooks/06_second\n", "", ["notebooks/06_second.ipynb is not in _toc.yml"]),
        (
            "  - file: notebooks/03_first\n  - file: notebooks/06_second\n",
            "  - file: notebooks/06_second\n  - file: notebooks/03_first\n",
            ["names notebooks/03_first.ipynb after notebooks/06_second.ipynb: the numbers"],
        ),
    ],
)
def test_what_the_files_and_the_table_of_contents_do_not_agree_on(book, old, new, told):
    path = book.root / "_toc.yml"
    path.write_text(path.read_text().replace(old, new))
    lines = book.disagreements()
    assert len(lines) == len(told)
    assert all(part in line for part, line in zip(told, lines, strict=True))


@pytest.mark.parametrize("content", ["root: [", "- a", "", "chapters: []"])
def test_a_damaged_table_of_contents_is_named_in_one_line(book, content):
    (book.root / "_toc.yml").write_text(content)
    with pytest.raises(BookError, match=r"^_toc\.yml .*git checkout -- _toc\.yml") as found:
        book.toc()
    assert "\n" not in str(found.value)


def test_chapters_may_be_named_in_four_ways():
    chapters = ["03_first", "06_second", "90_report"]
    for name in ("03", "3", "03_first", "first"):
        assert parse_only(name, chapters) == ["03_first"]
    assert parse_only("90, 6", chapters) == ["06_second", "90_report"]
    assert parse_only(None, chapters) == chapters


@pytest.mark.parametrize(
    ("parse", "wrong"),
    [
        (parse_scale, ["", " ", "tiny", "book\n", "$(touch x)"]),
        (parse_seed, ["", " ", "-1", "1.5", "²", "٣", "1e3", "1234567890"]),
        (parse_jobs, ["", "0", "-2", "many", "²", "1000"]),
        (parse_port, ["", "-1", "²", "65536", "http", "99999"]),
        (
            lambda text: parse_only(text, ["03_first"]),
            ["", ",", "44", "03,", "²", "_first", "3x", "03-06", "03,3"],
        ),
    ],
)
def test_nothing_else_is_taken(parse, wrong):
    for text in wrong:
        with pytest.raises(UsageError) as found:
            parse(text)
        assert repr(text.split(",")[-1].strip() if "," in text else text) in str(found.value)


def test_no_run_shares_another_s_folder():
    runs = [
        Settings("book"),
        Settings("smoke"),
        Settings("book", seed=1),
        Settings("book", model="seed1"),
        Settings("book", model="org/x"),
        Settings("book", model="org-x"),
        Settings("book", model="org x"),
        Settings("book", model=f"x-{digest('org/x')[:8]}"),
        Settings("book", model="/a/x"),
        Settings("book", model="/b/x"),
        Settings("book", seed=1, model="x"),
        Settings("book", model="x"),
    ]
    labels = [run.label for run in runs]
    assert len(set(labels)) == len(labels)
    assert all(os.sep not in label and label.isascii() for label in labels)
    assert Settings("book", model="smollm2-135m").label == "book+smollm2-135m"
    assert [run.is_default for run in runs[:4]] == [True, True, False, False]


FILES = {"config.json": "config.json", "model.safetensors": "weights", "tokenizer.json": "tokenizer"}


def a_model(folder, lacking=""):
    """A folder with the files of a model, but one."""
    folder.mkdir(parents=True)
    for name in set(FILES) - {lacking}:
        shutil.copy(Path(models.__file__).parent / "checkpoints" / "nano" / name, folder)
    return folder


def test_a_model_s_folder_is_looked_into_and_known_by_its_full_path(tmp_path, monkeypatch):
    a_model(tmp_path / "mine")
    (tmp_path / "smollm2-135m").mkdir()
    for number, (file, part) in enumerate(FILES.items()):
        a_model(tmp_path / str(number), file)
        with pytest.raises(UsageError, match=f"it has no {part}") as found:
            parse_model(str(tmp_path / str(number)))
        assert "\n" not in str(found.value)
    monkeypatch.chdir(tmp_path)
    for name in ("..", "/etc"):
        with pytest.raises(UsageError, match=r"config\.json"):
            parse_model(name)
    for name in ("mine", "./mine", "../" + tmp_path.name + "/mine", str(tmp_path / "mine")):
        assert parse_model(name) == str(tmp_path / "mine")
    assert parse_model("nano") is parse_model(None) is None
    assert parse_model("smollm2-135m") == "smollm2-135m"  # a name of the ladder is that model
    assert Settings("smoke", model="smollm2-135m").model_digest() == ""
    (tmp_path / "mine" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="model_type"):
        parse_model("mine")


def test_other_weights_are_another_model(tmp_path):
    folder = a_model(tmp_path / "mine")
    settings, weights = Settings("smoke", model=str(folder)), folder / "model.safetensors"
    seen = {settings.model_digest()}
    assert seen == {settings.model_digest()} != {""}
    times = (weights.stat().st_atime_ns, weights.stat().st_mtime_ns)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        text = (folder / name).read_bytes()
        # As many bytes, and the time set back: the clock that cannot be set tells, and so does a new process.
        (folder / name).write_bytes(b"#" + text[1:])
        os.utime(folder / name, ns=times)
        seen.add(settings.model_digest())
        (folder / name).write_bytes(text)
        seen.add(settings.model_digest())
    (folder / "adapter.bin").write_bytes(b"")
    seen.add(settings.model_digest())
    assert len(seen) == 5
    (folder / ".git").mkdir()
    (folder / ".git" / "index").write_bytes(b"1")
    assert settings.model_digest() in seen
    assert Settings("smoke").model_digest() == Settings("smoke", model="gpt2").model_digest() == ""


def test_no_tables_are_those_of_another_model(tmp_path):
    folder = a_model(tmp_path / "mine")
    names = ["nano", "org/x", "org-x", "org--x", "x", str(folder), str(tmp_path / "mine2")]
    assert folder_of(tmp_path, "grid", "smoke", "nano") == tmp_path / "book/results/smoke/grid-nano"
    before = [folder_of(tmp_path, "grid", "smoke", name) for name in names]
    assert len({path.name for path in before}) == len(names)
    assert {path.parent for path in before} == {tmp_path / "book" / "results" / "smoke"}
    (folder / "model.safetensors").write_bytes(b"2")
    after = [folder_of(tmp_path, "grid", "smoke", name) for name in names]
    assert [a == b for a, b in zip(before, after, strict=True)] == [name != str(folder) for name in names]
