"""Origins as they are kept: files, words for what changed, and names that moved."""

import json
import os

import pytest

from entanglement.uses import FILE, VARIABLE, note, note_file, recording, remembered
from entanglement_book.provenance import (
    Origin,
    changes,
    differences,
    file_digest,
    only_names_moved,
    origin_of,
    read_uses,
    root_of,
)
from entanglement_book.provenance.views import is_left_out

RUN = "from entanglement.m import run\nrun()\n"


@pytest.fixture
def library(tree):
    tree.write({"entanglement/m.py": "from entanglement.n import f\n\n\ndef run():\n    return f()\n"})
    tree.write({"entanglement/n.py": "def f():\n    return 1\n"})
    (tree.root / "tables").mkdir()
    (tree.root / "tables" / "a.csv").write_text("1\n")
    return tree


def made(library, uses=()):
    return origin_of(library.graph(), RUN, uses, library.root)


def test_files_inside_count_by_content_and_by_their_path_from_the_root(library, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "b.csv"
    outside.write_text("1\n")
    with recording() as uses:
        note_file(library.root / "tables" / "a.csv")
        note_file(outside)
        note("loss", "dpo")
    origin = made(library, uses)
    assert list(origin.files) == ["tables/a.csv"] and origin.uses == (("loss", "dpo"),)
    assert str(library.root) not in json.dumps(origin.to_json())
    check = lambda: changes(origin, library.graph(), RUN, library.root)  # noqa: E731
    assert check() == []
    outside.write_text("2\n")
    assert check() == []
    (library.root / "tables" / "a.csv").write_text("2\n")
    assert check() == ["tables/a.csv changed"]
    (library.root / "tables" / "a.csv").write_text("1\n")
    assert check() == []
    (library.root / "tables" / "a.csv").unlink()
    assert check() == ["tables/a.csv is missing"]


def test_a_file_counts_when_nobody_knows_the_names(library):
    origin = made(library, {(FILE, str(library.root / "tables" / "a.csv"))})
    unknown = Origin(**{**vars(origin), "uses": None, "code": made(library, None).code})
    assert changes(unknown, library.graph(), RUN, library.root) == []
    (library.root / "tables" / "a.csv").write_text("2\n")
    assert changes(unknown, library.graph(), RUN, library.root) == ["tables/a.csv changed"]


def test_what_changed_is_said_in_words(library):
    origin = made(library)
    library.edit("entanglement/n.py", "return 1", "return 2")
    assert changes(origin, library.graph(), RUN, library.root) == ["entanglement.n: f changed"]
    library.edit("entanglement/n.py", "return 2", "return g()\n\n\ndef g():\n    return 2")
    library.edit("entanglement/m.py", "return f()", "return 3")
    assert changes(origin, library.graph(), RUN, library.root) == [
        "entanglement.m: run changed",
        "entanglement.n: f is not used any more",
    ]
    library.edit("entanglement/m.py", "return 3", "return h()\n\n\ndef h():\n    return 3")
    assert changes(origin, library.graph(), RUN, library.root)[-1] == "entanglement.m: h is used now"


def test_a_moved_definition_is_no_change_and_is_not_mentioned(library):
    origin = made(library)
    (library.root / "lib/entanglement/n.py").rename(library.root / "lib/entanglement/o.py")
    library.edit("entanglement/m.py", "entanglement.n", "entanglement.o")
    assert changes(origin, library.graph(), RUN, library.root) == []
    library.edit("entanglement/m.py", "return f()", "return -f()")
    assert changes(origin, library.graph(), RUN, library.root) == ["entanglement.m: run changed"]


def test_a_swap_that_no_definition_shows_is_still_a_change(library):
    library.write({"entanglement/p.py": "def f():\n    return 2\n"})
    library.write(
        {"entanglement/m.py": "from entanglement import n, p\n\n\ndef run():\n    return n.f() - p.f()\n"}
    )
    origin = made(library)
    library.edit("entanglement/m.py", "import n, p", "import n as p, p as n")
    (line,) = changes(origin, library.graph(), RUN, library.root)
    assert "what a name refers to" in line


def test_only_names_moved(library):
    origin = made(library, {(FILE, str(library.root / "tables" / "a.csv"))})
    again = lambda: origin.again(library.graph(), RUN, library.root)  # noqa: E731
    assert not only_names_moved(origin, again())
    library.edit("entanglement/n.py", "def f", "def g")
    library.edit("entanglement/m.py", "import f", "import g as f")
    assert only_names_moved(origin, again()) and differences(origin, again())
    (library.root / "tables" / "a.csv").write_text("2\n")
    assert not only_names_moved(origin, again())
    (library.root / "tables" / "a.csv").write_text("1\n")
    library.edit("entanglement/n.py", "return 1", "return 2")
    assert not only_names_moved(origin, again())


def test_through_json_and_back(library):
    origin = made(library, {("loss", "dpo"), (FILE, str(library.root / "tables" / "a.csv"))})
    assert Origin.from_json(json.loads(json.dumps(origin.to_json()))) == origin
    unknown = made(library, None)
    assert unknown.uses is None and Origin.from_json(json.loads(json.dumps(unknown.to_json()))) == unknown
    for bad in ({}, {"uses": 3}, {**origin.to_json(), "more": 1}, {**origin.to_json(), "uses": [["a"]]}):
        with pytest.raises(ValueError, match="is no origin"):
            Origin.from_json(bad)


def test_what_a_process_wrote_down(tmp_path, monkeypatch):
    target = tmp_path / "uses"
    monkeypatch.setenv(VARIABLE, str(target))
    monkeypatch.setattr("entanglement.uses._written", set())
    assert read_uses(target) == set()
    note("loss", "a name\twith a tab")
    note("loss", "dpo")
    note("loss", "dpo")
    note_file(tmp_path)
    assert read_uses(target) == {
        ("loss", "a name\twith a tab"),
        ("loss", "dpo"),
        (FILE, tmp_path.resolve().as_posix()),
    }
    assert len(target.read_text().splitlines()) == 3


def test_where_a_thing_is_defined():
    assert root_of(root_of) == ("entanglement_book.provenance.graph", "root_of")
    assert root_of(Origin) == ("entanglement_book.provenance.origins", "Origin")
    assert root_of(Origin.again) == ("entanglement_book.provenance.origins", "Origin")

    def inside():
        pass

    for thing in (inside, lambda: 1, recording().__enter__, 3):
        with pytest.raises(ValueError, match="expected a function or class defined at the top"):
            root_of(thing)


def test_a_renewed_stamp_changes_nothing_for_who_reads_the_table(tmp_path):
    file = tmp_path / "book" / "results" / "smoke" / "grid" / "provenance.json"
    file.parent.mkdir(parents=True)
    made = {"code": "one", "shape": "x", "uses": [["loss", "dpo"]], "files": {}, "seeds": [0, 1]}

    def hashed(content, path=file):
        path.write_text(json.dumps(content))
        os.utime(path, ns=(hashed.clock, hashed.clock))  # a version of its own
        hashed.clock += 1
        return file_digest(path)

    hashed.clock = 1
    before = hashed({**made, "lines": [{"code": "a", "ratio": 2.0}]})
    stamped = {**made, "code": "two", "restamped": [{"why": "moved"}], "lines": [{"code": "b", "ratio": 2.0}]}
    assert hashed(stamped) == before
    assert hashed({**made, "seeds": [0]}) != before
    assert hashed({**made, "lines": [{"code": "a", "ratio": 2.1}]}) != before
    # Elsewhere a file counts as it is.
    other = tmp_path / "config.json"
    assert hashed(made, other) != hashed({**made, "code": "two"}, other)


def origin(code="c", shape="s", uses=(), files=None, view="numbers", **parts):
    return Origin(view, code, shape, uses, files or {}, parts)


A, B, C = {"one: f": "1"}, {"one: f": "2"}, {"one: g": "1"}
OTHER_NAMES = "what a name refers to, or the order of registered things, changed"


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        (origin(), origin(), []),
        (origin(**A), origin(**B), []),  # the hash of all decides
        (origin(**A), origin("d", **B), ["one: f changed"]),
        (origin(**A), origin("d", **A), [OTHER_NAMES]),
        (origin(**A), origin("d", **A, **C), ["one: g is used now"]),
        (origin(**A, **C), origin("d", **C), ["one: f is not used any more"]),
        (origin(**A), origin("d", **C), ["one: f is not used any more", "one: g is used now"]),
        (origin(**A), origin("d", **{"two: f": "1"}), [OTHER_NAMES]),
        (origin(**A), origin("d", **{"two: f": "2"}), ["one: f is not used any more", "two: f is used now"]),
        (origin(**A), origin("d", **{"two: f": "1", "six: f": "1"}), ["six: f is used now"]),
        (origin(**A), origin("d", **{"two: f": "1", "two: g": "1"}), ["two: g is used now"]),
        (origin(**A), origin(uses=(("loss", "dpo"),), **A), [OTHER_NAMES]),
        (origin(), origin("d", uses=(("loss", "dpo"),)), [OTHER_NAMES]),
        (origin(files={"b": "1", "a": "1"}), origin(files={"b": "2", "a": "2"}), ["a changed", "b changed"]),
        (origin(files={"a": "1"}), origin(files={"a": "missing"}), ["a is missing"]),
        (origin(files={"a": "1"}), origin(), ["a changed"]),
        (origin(), origin(files={"a": "1"}), ["a changed"]),
        (origin(files={"a": "1"}, **A), origin("d", files={"a": "2"}, **B), ["a changed", "one: f changed"]),
        (origin(files={"a": "1", "b": "1"}), origin(files={"a": "1", "b": "2"}), ["b changed"]),
    ],
)
def test_what_differs_between_two_origins_is_said_file_by_file_and_name_by_name(before, now, lines):
    assert differences(before, now) == lines


@pytest.mark.parametrize(
    ("before", "now", "only_names"),
    [
        (origin("1"), origin("2"), True),
        (origin("1", **A), origin("2", **B), True),
        (origin("1"), origin("1"), False),
        (origin("1", "s"), origin("2", "t"), False),
        (origin("1", view="numbers"), origin("2", view="page"), False),
        (origin("1", uses=(("a", "b"),)), origin("2"), False),
        (origin("1", files={"a": "1"}), origin("2", files={"a": "2"}), False),
        (origin("1", "s"), origin("1", "t"), False),
    ],
)
def test_when_only_names_moved(before, now, only_names):
    assert only_names_moved(before, now) == only_names


def test_uses_and_files_are_kept_in_order(library):
    files = [library.root / "tables" / f"{name}.csv" for name in "hbgafced"]
    names = [("loss", name) for name in "hbgafced"]
    found = made(library, [*names, *((FILE, str(path)) for path in files), ("anchor", "z"), names[0]])
    assert list(found.files) == [f"tables/{name}.csv" for name in "abcdefgh"]
    assert list(found.uses) == [("anchor", "z"), *(("loss", name) for name in "abcdefgh")]
    assert found.files["tables/a.csv"] != "missing" == found.files["tables/b.csv"]


def test_an_origin_knows_its_view(library):
    page = origin_of(library.graph(), RUN, (), library.root, "page")
    again = page.again(library.graph(), RUN, library.root)
    assert (page.view, again, made(library).view) == ("page", page, "numbers")
    assert page.code != made(library).code


def test_what_a_process_wrote_is_read_line_by_line(tmp_path):
    target = tmp_path / "uses"
    target.write_text("loss\tdpo\nhalf a li\n\nloss\t\nfile\t/a\tb\n")
    assert read_uses(target) == {("loss", "dpo"), ("loss", ""), ("file", "/a\tb")}
    assert read_uses(tmp_path) == set()


def test_what_is_used_is_written_once_and_only_where_a_process_is_told_to(tmp_path, monkeypatch):
    target = tmp_path / "uses"
    monkeypatch.setattr("entanglement.uses._written", set())
    monkeypatch.delenv(VARIABLE, raising=False)
    note("loss", "unheard")
    monkeypatch.setenv(VARIABLE, str(target))

    @remembered()
    def start():
        for name in "hbgafced":
            note("loss", name)

    start()
    lines = target.read_text().splitlines()
    assert lines == [f"loss\t{name}" for name in "hbgafced"]
    monkeypatch.setattr("entanglement.uses._written", set())
    start()  # kept now, and told in order
    assert target.read_text().splitlines()[8:] == sorted(lines)
    note("loss", "unheard")
    assert target.read_text().splitlines()[16:] == ["loss\tunheard"]


def test_each_block_records_what_is_used_inside_it():
    with recording() as outer:
        note("a", "1")
        with recording() as inner:
            note("a", "2")
        note("a", "3")
        with pytest.raises(ZeroDivisionError), recording() as failed:
            note("a", "4")
            raise ZeroDivisionError
    note("a", "5")
    assert outer == {("a", "1"), ("a", "2"), ("a", "3"), ("a", "4")}
    assert inner == {("a", "2")} and failed == {("a", "4")}


@pytest.mark.parametrize(
    ("module", "numbers", "page"),
    [
        ("entanglement.uses", True, True),
        ("entanglement.uses_more", False, False),
        ("entanglement.files", False, False),
        ("entanglement_book.drawing", True, False),
        ("entanglement_book.drawing.style", True, False),
        ("entanglement_book.press.depends", True, False),
        ("entanglement_book.provenance.views", True, False),
        ("entanglement_book.studies.ch01.figures", True, False),
        ("entanglement_book.studies.ch01.study", False, False),
        ("entanglement_book.grids.run", False, False),
    ],
)
def test_which_modules_a_view_leaves_out(module, numbers, page):
    assert (is_left_out(module, "numbers"), is_left_out(module, "page")) == (numbers, page)
