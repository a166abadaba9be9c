"""Docstrings kept in the cache folder are those that would be read."""

import pytest

from entanglement_book.materials import cached
from entanglement_book.materials.docstrings import Docstring


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cached, "cache_dir", lambda: tmp_path / "cache")
    cached.cached_docstrings.cache_clear()
    yield tmp_path / "cache"
    cached.cached_docstrings.cache_clear()


def rows(n):
    return [Docstring(*[f"{name} {i}" for name in Docstring.__annotations__]) for i in range(n)]


def test_read_once_and_kept(folder, monkeypatch):
    read = []
    monkeypatch.setattr(cached, "read_docstrings", lambda: read.append(1) or rows(3))
    assert cached.cached_docstrings() == rows(3)
    cached.cached_docstrings.cache_clear()
    assert cached.cached_docstrings() == rows(3) and len(read) == 1
    assert [path.suffix for path in folder.iterdir()] == [".json"]


def test_other_versions_and_broken_files_are_read_again(folder, monkeypatch):
    monkeypatch.setattr(cached, "read_docstrings", lambda: rows(2))
    cached.cached_docstrings()
    (file,) = folder.iterdir()
    file.write_text("{")
    cached.cached_docstrings.cache_clear()
    assert cached.cached_docstrings() == rows(2)
    monkeypatch.setattr(cached, "package_versions", lambda: {"numpy": "another"})
    monkeypatch.setattr(cached, "read_docstrings", lambda: rows(1))
    cached.cached_docstrings.cache_clear()
    assert cached.cached_docstrings() == rows(1) and len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"7", b"[{}]", b'[{"package": 1}]', bytes(range(256))]
)
def test_what_is_no_list_of_docstrings_is_read_again(folder, monkeypatch, content):
    monkeypatch.setattr(cached, "read_docstrings", lambda: rows(2))
    cached.cached_docstrings()
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(content)
    cached.cached_docstrings.cache_clear()
    assert cached.cached_docstrings() == rows(2) and file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_a_line(folder, monkeypatch):
    folder.write_text("in the way")
    monkeypatch.setattr(cached, "read_docstrings", lambda: rows(2))
    with pytest.warns(UserWarning, match="not kept for the next time"):
        assert cached.cached_docstrings() == rows(2)


def test_other_code_reads_again(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(cached, "read_docstrings", lambda: rows(2))
    cached.cached_docstrings()
    other = tmp_path / "other.py"
    other.write_text("# reads otherwise")
    monkeypatch.setattr(cached.docstrings, "__file__", str(other))
    monkeypatch.setattr(cached, "read_docstrings", lambda: rows(1))
    cached.cached_docstrings.cache_clear()
    assert cached.cached_docstrings() == rows(1) and len(list(folder.iterdir())) == 2
