"""The cache's key, part by part: each part changes alone, and with what it should."""

from __future__ import annotations

import json
import os
import sys

import pytest
from nbformat.v4 import new_code_cell as code_cell

from entanglement.uses import FILE
from entanglement_book.layout import Book, Settings
from entanglement_book.press import notebooks
from entanglement_book.press.depends import depends_on, key_of, why_changed
from entanglement_book.provenance import CodeGraph, Origin, file_digest

SMOKE = Settings("smoke")


class Asked:
    """A chapter of the tiny book that has a parameter for each setting, and what it depends on."""

    def __init__(self, tiny, chapter="03_first"):
        self.tiny, self.root, self.chapter = tiny, tiny.root, chapter
        self.settings, self.inputs = SMOKE, {"06_second": "one"}
        self.uses = [(FILE, str(self.root / "data.csv")), ("loss", "dpo")]

    def now(self):
        book = Book.find(self.root)
        graph = CodeGraph(book.library.parent)
        return depends_on(book, self.chapter, self.settings, self.uses, graph, self.inputs)

    def write(self, name, text):
        (self.root / name).write_text(text)


@pytest.fixture
def asked(tiny):
    (tiny.root / "data.csv").write_text("1\n")
    parameters = code_cell(
        'scale = "book"\nseed = 0\nmodel = "nano"', metadata={"tags": ["parameters", "mine"]}
    )
    tiny.write("03_first", parameters, code_cell("from entanglement import geometry\nprint(geometry.TWO)"))
    tiny.write("90_report", parameters, code_cell("print(scale)"))
    return Asked(tiny)


def other_python(asked, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))


def tag(name):
    def change(asked, monkeypatch):
        book = notebooks.read(asked.tiny.path("03_first"))
        book.cells[-1].metadata["tags"] = [name]
        asked.tiny.path("03_first").write_text(notebooks.dumps(book))

    return change


def pages_alone(asked, monkeypatch):
    """Packages that only make pages, written in two ways."""
    asked.write("pyproject.toml", '[project.optional-dependencies]\npages = ["sphinx-tippy>=1", "Sphinx"]\n')
    asked.write("requirements.lock", "numpy==1\nSphinx_tippy==4\nsphinx==8\n")


def model_folder(asked, monkeypatch):
    """A model in a folder: its name is a parameter, and so is what lies in it."""
    folder = asked.root / "model"
    folder.mkdir()
    (folder / "weights").write_text("1")
    asked.settings = Settings("smoke", model=str(folder))


COMMENTED = '"""Else."""\n\nfrom . import pairs\n\nTWO = 2  # 3\n'
EDITS = {
    "a cell": (lambda a, m: a.tiny.edit("03_first", "print", "repr"), {"code", "library"}, True),
    "a tag that changes how a cell runs": (tag("raises-exception"), {"code"}, True),
    "another tag that does": (tag("skip-execution"), {"code"}, True),
    "a tag that does not": (tag("hide-input"), set(), False),
    "prose": (lambda a, m: a.tiny.edit("03_first", "03_first", "Else", kind="markdown"), set(), False),
    "another scale": (lambda a, m: setattr(a, "settings", Settings("book")), {"parameters"}, True),
    "another seed": (lambda a, m: setattr(a, "settings", Settings("smoke", seed=1)), {"parameters"}, True),
    "seed 0 in so many words": (
        lambda a, m: setattr(a, "settings", Settings("smoke", seed=0)),
        {"parameters"},
        True,
    ),
    "a model": (model_folder, {"parameters"}, True),
    "what it imports": (
        lambda a, m: a.write("lib/entanglement/geometry.py", "TWO = 3\n"),
        {"library"},
        True,
    ),
    "what it does not": (lambda a, m: a.write("lib/entanglement/losses.py", "UNUSED = 1\n"), set(), False),
    "a comment": (
        lambda a, m: a.write("lib/entanglement/geometry.py", COMMENTED),
        set(),
        False,
    ),
    "a file that it read": (lambda a, m: a.write("data.csv", "2\n"), {"files"}, True),
    "a file that it did not": (lambda a, m: a.write("other.csv", "2\n"), set(), False),
    "a file more": (lambda a, m: a.uses.append((FILE, str(a.root / "other.csv"))), {"files"}, True),
    "a thing that it looked up": (lambda a, m: a.uses.append(("loss", "ipo")), {"library"}, True),
    "the lock file": (lambda a, m: a.write("requirements.lock", "numpy==2\n"), {"environment"}, False),
    "packages that make pages": (pages_alone, set(), False),
    "no lock file": (lambda a, m: (a.root / "requirements.lock").unlink(), {"environment"}, False),
    "its line breaks": (lambda a, m: a.write("requirements.lock", "\nnumpy==1\n\n"), set(), False),
    "Python": (other_python, {"environment"}, False),
    "the ledger": (lambda a, m: a.write("book/claims.yml", "claims: []\n"), set(), False),
    "another chapter's output": (lambda a, m: setattr(a, "inputs", {"06_second": "two"}), set(), False),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_each_part_of_a_key_changes_alone(asked, monkeypatch, edit):
    change, parts, science = EDITS[edit]
    before = asked.now()
    assert set(before.parts) == {"code", "parameters", "library", "files", "environment"}
    change(asked, monkeypatch)
    after = asked.now()
    assert {name for name in before.parts if before.parts[name] != after.parts[name]} == parts
    assert (key_of(before.parts) != key_of(after.parts)) == bool(parts)
    assert (before.science != after.science) == science


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        ("the ledger", {"inputs"}),
        ("another chapter's output", {"inputs"}),
        ("the lock file", {"environment"}),
        ("a file that it read", {"files"}),
        ("prose", set()),
    ],
)
def test_the_report_depends_on_the_ledger_and_on_all_other_outputs_besides(asked, monkeypatch, edit, parts):
    asked.chapter = "90_report"
    before = asked.now()
    EDITS[edit][0](asked, monkeypatch)
    after = asked.now()
    assert {name for name in before.parts if before.parts[name] != after.parts[name]} == parts
    assert before.science == after.science or parts == {"files"}
    asked.write("book/claims.yml", "claims: [{}]\n")
    assert asked.now().parts["inputs"] not in (before.parts["inputs"], after.parts["inputs"])
    asked.inputs = None
    nothing = asked.now().parts["inputs"]
    asked.inputs = {}
    assert asked.now().parts["inputs"] == nothing


def test_a_setting_that_a_chapter_does_not_declare_does_not_count(asked):
    asked.chapter = "06_second"  # declares scale and seed
    before = asked.now()
    asked.settings = Settings("smoke", model="other/model")
    assert asked.now().parts == before.parts
    asked.settings = Settings("smoke", seed=3)
    assert asked.now().parts != before.parts


def test_the_content_of_a_model_s_folder_counts_and_its_place_does_by_name(asked, monkeypatch):
    model_folder(asked, monkeypatch)
    before = asked.now()
    (asked.root / "model" / "weights").write_text("22")
    assert asked.now().parts["parameters"] != before.parts["parameters"]
    (asked.root / "model" / "weights").write_text("1")
    assert asked.now().parts == before.parts


def test_lines_for_ipython_alone_are_read_over(asked):
    """They are no Python, and yet the rest of the cell is understood."""
    asked.tiny.edit(
        "03_first", "print(geometry.TWO)", "if True:\n    %matplotlib inline\n!ls\nprint(geometry.TWO)"
    )
    before = asked.now()
    asked.write("lib/entanglement/losses.py", "UNUSED = 1\n")
    assert asked.now().parts == before.parts  # were it not understood, everything would count
    asked.write("lib/entanglement/geometry.py", "TWO = 4\n")
    assert asked.now().parts != before.parts


def origin(code="c", files=(), **parts):
    return Origin("page", code, "s", (), dict(files), parts)


def test_what_changed_is_said_in_a_few_words():
    one, two = origin("1", [("a.csv", "x")], **{"m: f": "1"}), origin("2", [("a.csv", "y")], **{"m: f": "2"})
    assert why_changed(one, two, ["code", "library", "files"]) == "changed: code; a.csv changed; m: f changed"
    assert why_changed(one, one, ["environment"]) == "changed: environment"
    assert why_changed(one, one, []) == "its key changed"
    assert why_changed(one, one, ["library"]) == "its key changed"
    many, other = origin("1", a="1", b="1", c="1", d="1"), origin("2", a="2", b="2", c="2", d="2")
    assert why_changed(many, other, ["library"]) == "a changed; b changed; and 2 more"
    three, four = origin("1", a="1", b="1"), origin("2", a="2", b="2")
    assert why_changed(three, four, ["library"]) == "a changed; b changed"
    cells = (origin("1", **{"(the source)": "1"}), origin("2", **{"(the source)": "2"}))
    assert why_changed(*cells, ["code", "library"]) == "changed: code"


def test_a_file_is_hashed_once_a_version_and_again_when_it_is_another(tmp_path):
    """By its size and by its time: a file that was rewritten in this process counts as what it is now."""
    path = tmp_path / "data.csv"

    def hashed(text, time):
        path.write_text(text)
        os.utime(path, ns=(time, time))
        return file_digest(path)

    first = hashed("1", 10)
    assert hashed("2", 11) != first  # the same size
    assert hashed("33", 10) != first  # the same time
    assert hashed("1", 12) == first
    path.unlink()
    assert file_digest(path) == "missing"


def test_a_stamp_is_left_out_of_json_under_results_alone(tmp_path):
    def hashed(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        os.utime(path, ns=(hashed.clock, hashed.clock))
        hashed.clock += 1
        return file_digest(path)

    hashed.clock = 1
    for key in ("code", "shape", "uses", "files", "restamped"):
        made, stamped = {"x": [{key: 1}]}, {"x": [{key: 2}]}
        assert hashed("results/a.json", made) == hashed("results/a.json", stamped), key
        assert hashed("elsewhere/a.json", made) != hashed("elsewhere/a.json", stamped), key
        assert hashed("results/a.txt", made) != hashed("results/a.txt", stamped), key
    assert hashed("results/b.json", [1]) != hashed("results/b.json", [2])
    assert hashed("results/b.json", "{no json") != hashed("results/b.json", "{nor this")


def test_a_key_stays_what_it_was(asked, monkeypatch):
    """Hashes are kept with outputs and verdicts: with others all would have to run again."""
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    first = asked.now()
    assert {name: value[:8] for name, value in first.parts.items()} == {
        "code": "9497c8d1",
        "parameters": "c5ebbd57",
        "library": "dffd47e3",
        "files": "baea6459",
        "environment": "54a3ac6a",
    }
    assert [first.science[:8], key_of(first.parts)[:8]] == ["36e0f10e", "c7bd6582"]
    asked.chapter = "90_report"
    assert asked.now().parts["inputs"][:8] == "040d0903"
