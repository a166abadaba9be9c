"""Archives that are cut, changed, incomplete or hostile; the cache; and what is said without a network."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import tarfile
from types import SimpleNamespace

import pytest

from entanglement import archive as archives
from entanglement_book.materials import DataError, cache_dir


def tar_of(members, kind=tarfile.REGTYPE):
    """A gzipped tar archive of name → bytes."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), kind
            tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ENTANGLEMENT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Index:
    """Stands in for pip: gives what it was told to give, and counts the calls."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, requirement, *, source):
        self.asked.append((requirement, source))
        return self.answers.pop(0)


GOOD = b"what was published"
DIGEST = archives.sha256(GOOD)


# --- the cache ----------------------------------------------------------------------------------------------


def test_cache_dir_is_what_the_environment_says(empty_cache, monkeypatch):
    assert cache_dir() == empty_cache
    monkeypatch.delenv("ENTANGLEMENT_CACHE")
    assert cache_dir().name == "entanglement"


def test_a_package_is_fetched_once(empty_cache):
    index = Index(GOOD)
    assert archives.fetch_package("thing==1.0", DIGEST, download=index) == GOOD
    assert archives.fetch_package("thing==1.0", DIGEST, download=index) == GOOD
    assert index.asked == [("thing==1.0", False)]
    assert (empty_cache / "packages" / "thing-1.0").read_bytes() == GOOD


def test_the_source_distribution_is_asked_for_by_name():
    index = Index(GOOD)
    archives.fetch_package("thing==1.0", DIGEST, source=True, download=index)
    assert index.asked == [("thing==1.0", True)]


@pytest.mark.parametrize("damage", [b"", GOOD[:-1], GOOD + b"x", b"something else"])
def test_a_damaged_cached_copy_is_fetched_again(empty_cache, damage):
    path = empty_cache / "packages" / "thing-1.0"
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    index = Index(GOOD)
    assert archives.fetch_package("thing==1.0", DIGEST, download=index) == GOOD
    assert len(index.asked) == 1
    assert path.read_bytes() == GOOD


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(empty_cache):
    with pytest.raises(DataError, match=f"thing==1.0: .*expected {DIGEST}"):
        archives.fetch_package("thing==1.0", DIGEST, download=Index(b"another file"))
    assert not (empty_cache / "packages").exists()


def test_a_good_cached_copy_needs_no_index(empty_cache):
    path = empty_cache / "packages" / "thing-1.0"
    path.parent.mkdir(parents=True)
    path.write_bytes(GOOD)
    index = Index()
    assert archives.fetch_package("thing==1.0", DIGEST, download=index) == GOOD
    assert index.asked == []


def test_a_file_is_there_whole_or_not_at_all(empty_cache, monkeypatch):
    path = empty_cache / "a" / "b"
    archives.write_whole(path, b"first")

    def fail(self, target):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        archives.write_whole(path, b"second")
    assert path.read_bytes() == b"first"


@pytest.mark.parametrize("place", ["", "packages", "packages/thing-1.0"])
def test_a_cache_that_cannot_be_written_costs_a_line_and_not_the_archive(empty_cache, place):
    """Something else stands in the place of the cache, of its folder or of the file."""
    path = empty_cache / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if place.endswith("1.0") else path.write_text("in the way")
    with pytest.warns(UserWarning, match=r"not kept for the next time \(.*ENTANGLEMENT_CACHE") as told:
        assert archives.fetch_package("thing==1.0", DIGEST, download=Index(GOOD)) == GOOD
    assert told[0].filename == __file__  # the caller's line, not one of ours
    assert len(told) == 1 and str(empty_cache) in str(told[0].message) and "\n" not in str(told[0].message)


def test_what_a_killed_download_left_in_the_cache_is_swept(empty_cache):
    left = empty_cache / "packages" / ".thing-1.0.x.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    archives.fetch_package("thing==1.0", DIGEST, download=Index(GOOD))
    assert [path.name for path in left.parent.iterdir()] == ["thing-1.0"]


# --- pip ----------------------------------------------------------------------------------------------------


def test_without_a_network_one_line_says_what_is_needed(monkeypatch):
    asked = []

    def run(command, **options):
        asked.append(command)
        return SimpleNamespace(returncode=1, stderr="noise\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError) as error:
        archives.fetch_package("thing==1.0", DIGEST, source=True)
    text = str(error.value)
    assert "\n" not in text
    assert "could not download thing==1.0 with pip (ERROR: No matching distribution found)" in text
    assert "package index must be reachable the first time" in text
    assert asked[0][-1] == "thing==1.0"
    assert "--no-deps" in asked[0]
    assert asked[0][asked[0].index("--no-binary") + 1] == ":all:"


def test_pip_that_is_silent_or_gives_no_file_is_an_error_too(monkeypatch):
    done = SimpleNamespace(returncode=0, stderr="")
    monkeypatch.setattr(subprocess, "run", lambda command, **options: done)
    with pytest.raises(DataError, match="pip gave no file"):
        archives.fetch_package("thing==1.0", DIGEST)


# --- tar archives -------------------------------------------------------------------------------------------


def test_a_member_is_found_by_the_end_of_its_name():
    data = tar_of({"pkg-1.0/a/wanted.txt": b"text", "pkg-1.0/other.txt": b"no"})
    assert archives.read_tar_member(data, "/wanted.txt") == b"text"
    assert archives.read_tar_member(data, "/wanted.txt", digest=archives.sha256(b"text")) == b"text"


def test_a_missing_member_and_two_of_a_name_are_refused():
    data = tar_of({"a/x.txt": b"1", "b/x.txt": b"2"})
    with pytest.raises(DataError, match=r"expected one file named \*/y.txt in the archive, found 0"):
        archives.read_tar_member(data, "/y.txt")
    with pytest.raises(DataError, match="found 2"):
        archives.read_tar_member(data, "/x.txt")


def test_a_member_that_was_changed_is_refused():
    with pytest.raises(DataError, match=r"\*/x.txt has SHA-256 .*, expected 00"):
        archives.read_tar_member(tar_of({"a/x.txt": b"1"}), "/x.txt", digest="00")


NOISE = random.Random(0).randbytes(200_000)


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_archive_is_refused(keep):
    data = tar_of({"a/x.txt": NOISE})
    with pytest.raises(DataError, match=r"\*/x.txt"):
        archives.read_tar_member(data[: int(keep * len(data))], "/x.txt")


@pytest.mark.parametrize("where", [0.0, 0.0001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("compressible", [False, True])
def test_an_archive_with_changed_bytes_never_passes(where, compressible):
    text = b" ".join(b"%d" % i for i in range(30_000)) if compressible else NOISE
    data = bytearray(tar_of({"a/x.txt": text}))
    start = int(where * len(data))
    for i in range(start, start + 20):
        data[i] ^= 0xA5
    with pytest.raises(DataError, match=r"\*/x.txt"):
        archives.read_tar_member(bytes(data), "/x.txt", digest=archives.sha256(text))


def test_what_is_no_archive_is_refused():
    for data in (b"", b"<html>not found</html>", gzip.compress(b"not a tar")):
        with pytest.raises(DataError, match=r"\*/x.txt"):
            archives.read_tar_member(data, "/x.txt")


@pytest.mark.parametrize("name", ["../../outside/x.txt", "/etc/x.txt", "a/../../../x.txt"])
def test_a_member_that_points_outside_is_refused_or_only_read(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.parent.rglob("*"))
    data = tar_of({name: b"evil"})
    if name.startswith("/"):  # tarfile's filter strips the leading slash, and nothing is ever written
        assert archives.read_tar_member(data, "/x.txt") == b"evil"
    else:
        with pytest.raises(DataError, match="outside"):
            archives.read_tar_member(data, "/x.txt")
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_link_is_no_file():
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        info = tarfile.TarInfo("a/x.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(info)
    with pytest.raises(DataError, match="found 0"):
        archives.read_tar_member(raw.getvalue(), "/x.txt")
