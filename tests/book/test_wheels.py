"""The science and the book as wheels of their own."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from entanglement_book.layout import Book, BookError
from entanglement_book.press import wheels

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return wheels.write_wheels(Book.find(ROOT), tmp_path_factory.mktemp("wheels"))


def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return next(archive.read(n).decode() for n in archive.namelist() if n.endswith("/METADATA"))


def test_each_package_is_in_one_wheel(made):
    science, book = made
    tops = [{name.split("/")[0] for name in names(wheel) if ".dist-info/" not in name} for wheel in made]
    assert tops == [{"entanglement"}, {"entanglement_book"}]
    assert science.stat().st_size < wheels.SCIENCE_BYTES
    assert "entanglement/checkpoints/nano/model.safetensors" in names(science)
    assert not any("nano-unlabeled" in name for name in names(science))
    assert "entanglement/py.typed" in names(science)
    assert any(
        name.startswith("entanglement/auditing/") and name.endswith(".jinja") for name in names(science)
    )
    assert "Requires-Dist: entanglement==" in metadata(book)
    assert "sphinx" not in metadata(science).split("\n\n")[0].lower()


def test_a_wheel_that_grew_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(wheels, "SCIENCE_BYTES", 1_000)
    monkeypatch.setattr(wheels, "_wheel", lambda there, folder: _file(folder / "x.whl"))
    with pytest.raises(BookError, match="must be below 1,000"):
        wheels.write_wheels(Book.find(ROOT), tmp_path)


def _file(path):
    path.write_bytes(b"x" * 2_000)
    return path


def test_a_build_that_fails_says_why(tmp_path):
    (tmp_path / "pyproject.toml").write_text("no toml")
    with pytest.raises(BookError, match="a wheel was not built"):
        wheels._wheel(tmp_path, tmp_path)


def environment(folder, seen):
    """An empty environment that finds the packages of this one, and neither of the book's."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    (site / "seen.pth").write_text("\n".join(seen) + "\n")
    return folder / "bin" / "python"


def test_the_science_works_alone(made, tmp_path):
    """What is installed with it comes from this environment; ``make install-test`` installs that, too."""
    whole = bool(os.environ.get("INSTALL_ALL"))
    seen = [] if whole else [path for path in sys.path if path.endswith("site-packages")]
    python = environment(tmp_path / "empty", seen)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, *([] if whole else ["--no-deps", "--no-index"]), str(made[0])], check=True)

    def run(*arguments):
        return subprocess.run([str(python), *arguments], cwd=tmp_path, capture_output=True, text=True)

    listed = run("-m", "entanglement.cli", "losses", "dpo")
    assert listed.returncode == 0 and "DPO" in listed.stdout, listed.stderr
    where = run("-c", "import entanglement; print(entanglement.__file__)")
    assert str(tmp_path) in where.stdout
    missing = run("-c", "import entanglement_book")
    assert "No module named 'entanglement_book'" in missing.stderr
