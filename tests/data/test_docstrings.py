"""Docstrings of a made-up package: read without importing it, hashed, and made into preference pairs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from entanglement_book.materials import DataError, docstrings, read_docstrings, tldr_pairs
from entanglement_book.materials.docstrings import Docstring, corpus_hash, package_versions

BOOM = 'raise RuntimeError("this module must not be imported")\n'
FILES = {
    "__init__.py": f'"""The package in one line.\n\nIts body.\n"""\n{BOOM}',
    "alpha.py": BOOM
    + '''
def first():
    """Add two numbers
    and return the sum.

    A longer text
    about adding.
    """

class Thing:
    """A thing."""

    async def act(self):
        """Act."""

def bare():
    pass

def same():
    """A thing."""
''',
    "broken.py": "def f(:\n    pass\n",
    "latin.py": b'"""caf\xe9"""\n',
    "escape.py": 'def f():\n    """A \\d that is no escape."""\n',
    "tests/test_alpha.py": '"""A test."""\n',
    "_vendor/other.py": '"""Vendored."""\n',
    "zeta/__init__.py": '"""A sub-package."""\n',
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``fakepkg`` on the path, none of whose modules can be imported."""
    root = tmp_path / "site" / "fakepkg"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.syspath_prepend(str(root.parent))
    monkeypatch.setitem(docstrings.PACKAGES, "fakepkg", "fakepkg")
    return root


# --- reading ------------------------------------------------------------------------------------------------


def test_every_docstring_once_in_a_fixed_order(package):
    found = read_docstrings(["fakepkg"])
    assert [(d.module, d.name, d.summary) for d in found] == [
        ("fakepkg.__init__", "", "The package in one line."),
        ("fakepkg.alpha", "first", "Add two numbers and return the sum."),
        ("fakepkg.alpha", "Thing", "A thing."),
        ("fakepkg.alpha", "act", "Act."),
        ("fakepkg.escape", "f", "A \\d that is no escape."),
        ("fakepkg.zeta.__init__", "", "A sub-package."),
    ]


def test_summary_is_the_first_paragraph_and_body_the_rest(package):
    first = next(d for d in read_docstrings(["fakepkg"]) if d.name == "first")
    assert first.body == "A longer text\nabout adding."
    assert first.text == "Add two numbers and return the sum.\n\nA longer text\nabout adding."
    assert next(d for d in read_docstrings(["fakepkg"]) if d.name == "act").text == "Act."


def test_nothing_is_imported(package):
    read_docstrings(["fakepkg"])
    assert not [name for name in sys.modules if name.startswith("fakepkg")]


def test_reading_a_real_package_does_not_import_it():
    code = (
        "import sys; from entanglement_book.materials.docstrings import read_docstrings;"
        "found = read_docstrings(['matplotlib']); assert len(found) > 1000, len(found);"
        "assert 'matplotlib' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_reading_warns_about_nothing(package, recwarn):
    read_docstrings(["fakepkg"])
    assert not recwarn.list


def test_unknown_and_missing_packages_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="package 'requests'; expected one of numpy, "):
        read_docstrings(["requests"])
    monkeypatch.setitem(docstrings.PACKAGES, "no_such_package", "no-such-package")
    with pytest.raises(DataError, match=r"'no_such_package' is not installed; install requirements\.lock"):
        read_docstrings(["no_such_package"])
    with pytest.raises(DataError, match="'no_such_package' is not installed"):
        package_versions(["no_such_package"])


def test_the_packages_are_those_of_the_lock_file(pytestconfig):
    pinned = (pytestconfig.rootpath / "requirements.lock").read_text().lower().split()
    for distribution in docstrings.PACKAGES.values():
        assert any(line.startswith(f"{distribution}==") for line in pinned), distribution


# --- what was read ------------------------------------------------------------------------------------------


def test_the_hash_is_of_texts_and_order(package):
    found = read_docstrings(["fakepkg"])
    assert corpus_hash(found) == ("3db54bda2b3d7a1b156334fa8034f3c7d8f41981a55944abd5d8a85e666406bf")
    assert corpus_hash(found) == corpus_hash(read_docstrings(["fakepkg"]))
    assert corpus_hash(found[::-1]) != corpus_hash(found)
    assert corpus_hash(found[:-1]) != corpus_hash(found)
    (package / "zeta" / "__init__.py").write_text('"""A sub-package!"""\n')
    assert corpus_hash(read_docstrings(["fakepkg"])) != corpus_hash(found)


def test_the_hash_sees_where_a_text_ends():
    def one(text):
        return Docstring("p", "m", "n", text, "")

    assert corpus_hash([one("ab"), one("c")]) != corpus_hash([one("a"), one("bc")])


def test_versions_are_without_a_local_suffix(monkeypatch):
    monkeypatch.setattr(docstrings, "version", lambda name: "2.13.0+cpu")
    assert package_versions(["torch"]) == {"torch": "2.13.0"}

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(docstrings, "version", missing)
    with pytest.raises(DataError, match="'torch' is not installed"):
        package_versions(["torch"])


# --- pairs --------------------------------------------------------------------------------------------------

SUMMARIES = [
    "Compute every histogram bin edge again ({}).",
    "Draw some colorful arrows upon an image {}.",
    "Remove rows whose values were missing before step {}.",
    "Fit sparse covariance by coordinate descent, take {}.",
]
BODY = " ".join(["word"] * 25)


def corpus(modules=30):
    """Usable docstrings, four a module, lexically far from one another, and some that are not usable."""
    rows = []
    for m in range(modules):
        for i, summary in enumerate(SUMMARIES):
            rows.append(Docstring("p", f"p.m{m:02}", f"f{i}", summary.format(m), BODY))
        rows.append(Docstring("p", f"p.m{m:02}", "short", "Too short.", BODY))
        rows.append(Docstring("p", f"p.m{m:02}", "bodiless", "A fine summary of nothing.", "few words"))
        rows.append(Docstring("p", f"p.m{m:02}", "code", ">>> run the thing and look.", BODY))
        rows.append(Docstring("p", f"p.m{m:02}", "open", "Summaries that go on and on", BODY))
        rows.append(Docstring("p", f"p.m{m:02}", "listed", ".. note:: this is markup.", BODY))
    return rows


@pytest.mark.parametrize("kind", ["sibling", "edited"])
def test_a_pair_is_body_true_summary_and_another(kind):
    rows = corpus()
    by_name = {f"{d.module}.{d.name}": d for d in rows}
    pairs = tldr_pairs(kind, docstrings=rows)
    assert len(pairs) == 27 * 4  # every tenth module is held out; unusable rows are left out
    for pair in pairs:
        row = by_name[pair.id]
        assert pair.prompt == f"{row.body}\n\nTL;DR:"
        assert pair.chosen == f" {row.summary}"
        assert pair.rejected.startswith(" ") and pair.rejected != pair.chosen


def test_a_sibling_is_the_summary_of_another_object_of_the_same_module():
    rows = corpus()
    module_of = {f" {d.summary}": d.module for d in rows}
    for pair in tldr_pairs("sibling", docstrings=rows):
        assert module_of[pair.rejected] == module_of[pair.chosen]
        assert pair.rejected != pair.chosen


def test_siblings_that_say_nearly_the_same_are_left_out():
    twins = [
        Docstring("p", "p.m", f"f{i}", f"Return the value of the option number {i} as text.", BODY)
        for i in range(5)
    ]
    first_is_held_out = [Docstring("p", "p.a", "f", "Another module that is held out here.", BODY)]
    assert tldr_pairs("sibling", docstrings=[*twins, *first_is_held_out]) == []


def test_an_edited_copy_differs_in_one_word():
    for pair in tldr_pairs("edited", docstrings=corpus()):
        true, wrong = pair.chosen.split(), pair.rejected.split()
        assert len(true) == len(wrong)
        assert sum(a != b for a, b in zip(true, wrong, strict=True)) == 1
        assert true[-1] == wrong[-1]


@pytest.mark.parametrize("kind", ["sibling", "edited"])
def test_no_module_is_in_both_splits(kind):
    modules = {}
    for split in ("train", "test"):
        pairs = tldr_pairs(kind, split, docstrings=corpus())
        modules[split] = {pair.id.rsplit(".", 1)[0] for pair in pairs}
    assert modules["test"] == {"p.m00", "p.m10", "p.m20"}
    assert not modules["train"] & modules["test"]


def test_the_draw_is_the_seeds():
    draws = [tldr_pairs("edited", n=10, seed=seed, docstrings=corpus()) for seed in (1, 1, 2)]
    assert draws[0] == draws[1]
    assert [p.id for p in draws[0]] != [p.id for p in draws[2]]
    assert len({p.id for p in draws[0]}) == 10


def test_bad_arguments_are_named():
    rows = corpus()
    with pytest.raises(ValueError, match="kind='near'; expected 'sibling' or 'edited'"):
        tldr_pairs("near", docstrings=rows)
    with pytest.raises(ValueError, match="split='dev'; expected 'train' or 'test'"):
        tldr_pairs("edited", "dev", docstrings=rows)
    with pytest.raises(ValueError, match="n=1000; only 108 pairs of kind 'edited' in the train split"):
        tldr_pairs("edited", n=1000, docstrings=rows)
    for n in (0, -3):
        with pytest.raises(ValueError, match=f"n={n}; expected at least 1"):
            tldr_pairs("edited", n=n, docstrings=rows)


def test_a_corpus_with_no_other_word_is_refused_and_does_not_hang():
    rows = [Docstring("p", f"p.m{i}", "f", "Do it to an aardvark now.", BODY) for i in range(3)]
    with pytest.raises(ValueError, match="no other word to put for 'aardvark'"):
        tldr_pairs("edited", docstrings=rows)
