"""Files are there whole or not at all; hashes are what they say."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from entanglement import files


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "x.json"
    with pytest.raises(TypeError, match="content is NoneType"):
        files.write_whole(path, None)
    assert list(tmp_path.iterdir()) == []
    files.write_whole(path, "whöle")
    assert path.read_bytes() == "whöle".encode()
    assert path.stat().st_mode & 0o777 == 0o644

    real = os.fdopen
    monkeypatch.setattr(files.os, "fdopen", lambda *a, **k: _Full(real(*a, **k)))
    with pytest.raises(OSError, match="No space left on device; what was there is kept") as error:
        files.write_whole(path, "another")
    assert (error.value.errno, error.value.filename) == (28, str(path))
    monkeypatch.undo()
    assert path.read_bytes() == "whöle".encode()
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


class _Full:
    """A file on a disk that is full after two bytes."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        self.file.write(data[:2])
        raise OSError(28, "No space left on device")


def test_files_that_belong_together_are_written_together(tmp_path, monkeypatch):
    first, second = tmp_path / "a" / "first", tmp_path / "b" / "c" / "second"
    real, opened = os.fdopen, []

    def full_at_the_second(*arguments):
        opened.append(1)
        return real(*arguments) if len(opened) == 1 else _Full(real(*arguments))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fdopen", full_at_the_second)
        with pytest.raises(OSError, match="No space left") as error:
            files.write_all({first: "1", second: "2"})
    assert error.value.filename == str(second)
    assert list(tmp_path.iterdir()) == []  # nor a folder that was made for them
    files.write_all({first: "1", second: b"2"})
    assert (first.read_text(), second.read_text()) == ("1", "2")
    with pytest.raises(TypeError, match="content is int"):
        files.write_all({first: "3", second: 4})
    second.unlink()
    second.mkdir()
    with pytest.raises(IsADirectoryError) as error:
        files.write_all({first: "3", second: "4"})
    assert error.value.filename == str(second) and first.read_text() == "1"


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    folder = tmp_path / "deep" / "model"
    with pytest.raises(KeyError), files.whole_folder(folder) as part:
        (part / "x").write_text("half")
        raise KeyError
    assert list(folder.parent.iterdir()) == []
    with files.whole_folder(folder) as part:
        (part / "x").write_text("1")
        assert not folder.exists()
    assert (folder / "x").read_text() == "1" and folder.stat().st_mode & 0o777 == 0o755
    with pytest.raises(OSError, match="full; what was there is kept") as error, files.whole_folder(folder):
        raise OSError(28, "full", "some file of it")
    assert error.value.filename == str(folder) and (folder / "x").read_text() == "1"
    with files.whole_folder(folder) as part:
        (part / "y").write_text("2")
    assert [path.name for path in folder.iterdir()] == ["y"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def renames_until(monkeypatch, number, error):
    """Let the renames of files and folders work up to this one, which raises."""
    real, done = Path.replace, []

    def replace(self, target):
        done.append(target)
        if len(done) == number:
            raise error
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)


@pytest.mark.parametrize("links", [True, False])
def test_files_that_belong_together_are_all_older_or_all_new(tmp_path, monkeypatch, links):
    texts = {tmp_path / name: f"new {name}" for name in ("a", "b", "c")}
    files.write_all({tmp_path / name: f"old {name}" for name in ("a", "c")})
    if not links:
        monkeypatch.setattr(files.os, "link", lambda *names: Path("/no such file").stat())
    with monkeypatch.context() as patch, pytest.raises(OSError, match="what was there is kept") as error:
        renames_until(patch, 3, OSError(5, "Input/output error"))
        files.write_all(texts)
    assert error.value.filename == str(tmp_path / "c")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old a", "c": "old c"}
    files.write_all(texts)
    assert {path: path.read_text() for path in tmp_path.iterdir()} == texts


def test_an_older_folder_is_put_back(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "x").write_text("old")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="kept"):
        renames_until(patch, 2, OSError(5, "Input/output error"))
        with files.whole_folder(folder) as part:
            (part / "x").write_text("new")
    assert (folder / "x").read_text() == "old" and list(tmp_path.iterdir()) == [folder]
    # Killed between the two renames: the older one is nobody's litter, however long ago that was.
    left = folder.rename(tmp_path / f"{files._prefix(folder)}abc{files._OLD}")
    os.utime(left, (0, 0))
    assert files.sweep(tmp_path) == 0
    with pytest.raises(KeyError), files.whole_folder(folder):
        assert (folder / "x").read_text() == "old"
        raise KeyError
    assert list(tmp_path.iterdir()) == [folder]
    # Killed after them: the new one stands.
    (tmp_path / f"{files._prefix(folder)}abc{files._OLD}").mkdir()
    with files.whole_folder(folder) as part:
        (part / "x").write_text("new")
    assert (folder / "x").read_text() == "new" and list(tmp_path.iterdir()) == [folder]


def test_a_large_file_is_read_again_when_it_changed(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = files.known_sha256(path)
    assert first == files.file_sha256(path)
    monkeypatch.setattr(files, "file_sha256", lambda path: "read again")
    assert files.known_sha256(path) == first
    os.utime(path, ns=(1, 1))
    assert files.known_sha256(path) == "read again"


def test_a_text_that_is_none_is_named(tmp_path):
    path = tmp_path / "x"
    path.write_text("whöle")
    assert files.read_text(path) == "whöle"
    path.write_bytes(b"ab\xff")
    with pytest.raises(OSError, match=r"not a text in UTF-8 \(byte 2\)") as error:
        files.read_text(path)
    assert error.value.filename == str(path)
    with pytest.raises(FileNotFoundError):
        files.read_text(tmp_path / "y")


def test_only_a_changed_text_is_written(tmp_path):
    path = tmp_path / "x.txt"
    assert files.write_changed(path, "a") is True
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert files.write_changed(path, "a") is False
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert files.write_changed(path, "b") is True
    assert path.read_text() == "b"


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path):
    for name in (".x.json.abc.part", ".y.part", "x.part", ".hidden", "x.json"):
        (tmp_path / name).write_text("x")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / ".z.part").write_text("x")
    assert files.sweep(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "below", "x.json", "x.part"]
    assert (tmp_path / "below" / ".z.part").exists()
    (tmp_path / ".folder.part").mkdir()
    (tmp_path / ".folder.part" / "x").write_text("x")
    (tmp_path / ".young.part").write_text("x")
    os.utime(tmp_path / ".folder.part", (0, 0))
    assert files.sweep(tmp_path, idle=files.HOUR) == 1
    assert (tmp_path / ".young.part").exists() and not (tmp_path / ".folder.part").exists()
    assert files.sweep(tmp_path / "nothing") == 0


def test_a_writer_that_is_killed_leaves_what_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(files.Path, "replace", lambda *a: (_ for _ in ()).throw(SystemError))
    monkeypatch.setattr(files.Path, "unlink", lambda *a, **k: None)  # a killed process removes nothing
    with pytest.raises(SystemError):
        files.write_whole(tmp_path / "x.json", "text")
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 1
    assert files.sweep(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_hashes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    expected = hashlib.sha256(b"abc").hexdigest()
    assert files.sha256("abc") == files.sha256(b"abc") == files.file_sha256(tmp_path / "x") == expected
    assert files.digest({"a": 1, "b": 2}) == files.digest({"b": 2, "a": 1}) != files.digest({"a": 2, "b": 1})
    assert files.digest("a", "b") != files.digest(["a", "b"]) != files.digest("ab")
    assert len(files.digest()) == 32


def test_json_ends_with_a_line(tmp_path):
    files.write_json(tmp_path / "x.json", {"b": "ä", "a": 1}, sort_keys=True)
    assert (tmp_path / "x.json").read_text() == '{\n "a": 1,\n "b": "ä"\n}\n'


def test_what_was_left_of_a_file_goes_when_its_folder_is_written_to(tmp_path):
    for name, age in ((".x.abc.part", 2 * files.HOUR), (".x.new.part", 0)):
        (tmp_path / name).write_text("half")
        then = time.time() - age
        os.utime(tmp_path / name, (then, then))
    files.write_whole(tmp_path / "x", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.new.part", "x"]
