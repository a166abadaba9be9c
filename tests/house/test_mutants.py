"""The tool of the mutation run: which changes it makes, that each is tried, that its lists are whole."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tests" / "mutation"


@pytest.fixture
def tool(monkeypatch):
    """The module that finds mutants."""
    monkeypatch.syspath_prepend(str(TOOL))
    import mutants

    return mutants


@pytest.fixture
def changes(tool, tmp_path):
    """A function: source → the changes of it, as texts."""

    def found(source):
        path = tmp_path / "toy.py"
        path.write_text(source)
        mutants = tool.mutants_of(path, tmp_path)
        for mutant in mutants:  # each is a module, and another one
            assert ast.unparse(mutant.tree(source)) != ast.unparse(ast.parse(source))
            compile(mutant.tree(source), "toy.py", "exec")
        assert len({mutant.key for mutant in mutants}) == len(mutants)
        return [f"{mutant.old} → {mutant.new}" for mutant in mutants]

    return found


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("a < b", ["a < b → a <= b", "a < b → a > b"]),
        ("a == b", ["a == b → a != b"]),
        ("a in b", ["a in b → a not in b"]),
        ("a + b", ["a + b → a - b"]),
        ("a ** b", ["a ** b → a * b"]),
        ("-a", ["-a → a"]),
        ("not a", ["not a → a"]),
        ("x = 3", ["3 → 4"]),
        ("x = 0.5", ["0.5 → 1.0"]),
        ("x = True", ["True → False"]),
        ("a and b", ["a and b → a or b", "a and b → b", "a and b → a"]),
        ("max(a)", ["max(a) → min(a)"]),
        ("x.any()", ["x.any() → x.all()"]),
        ("x.detach()", ["x.detach() → x"]),
        ("f(a, k=b)", ["f(…, k=b) → (left out)"]),
        ("f(a, b)", ["f(a, b) → f(b, a)"]),
        ("a[b:]", ["b: → :"]),
        ("x.y = a", ["x.y = a → (removed)"]),
        ("x += a", ["x += a → x -= a", "x += a → (removed)"]),
        ("raise E(1 + 1)", ["raise E(1 + 1) → (removed)"]),
        ("if a: pass", ["if a → if True", "if a → if False", "if a → if not a"]),
        ("while a: break", ["while a → while False", "break → pass"]),
        ("[x for x in y if z]", ["z → True"]),
        ("def f():\n    return a", ["return a → return None"]),
    ],
)
def test_what_is_changed(changes, source, wanted):
    found = changes(source)
    statement = f"{source} → (removed)"
    assert [change for change in found if change != statement or statement in wanted] == wanted


@pytest.mark.parametrize(
    "source",
    [
        '"""Text."""', "import a", "assert a < b", '__all__ = ["a"]', "if TYPE_CHECKING:\n    x = 1",
        "def f(x: int | None = None) -> A | B: pass", "@dataclass(frozen=True)\nclass A: pass",
        'x = f"{a + 1}"', "zip(a, strict=True)",
    ],
)  # fmt: skip
def test_what_no_test_could_notice_is_left_alone(changes, source):
    assert [change for change in changes(source) if "(removed)" not in change] == []


def test_a_mutant_keeps_its_name_and_its_place_in_the_draw_when_lines_move(tool, tmp_path):
    path = tmp_path / "toy.py"
    source = "def f(a):\n    if a < 1:\n        return 2\n    return 3\n"
    path.write_text(source)
    before = tool.mutants_of(path, tmp_path)
    path.write_text("x = 7\n\n" + source.replace("return 3", "return 4"))
    after = tool.mutants_of(path, tmp_path)
    moved = {mutant.key: mutant for mutant in after}
    kept = [mutant for mutant in before if mutant.key in moved]
    assert len(kept) == len(before) - 2
    assert all(moved[mutant.key].line == mutant.line + 2 for mutant in kept)
    order = [mutant.key for mutant in sorted(kept, key=lambda m: m.rank(0))]
    assert order == [m.key for m in sorted(after, key=lambda m: m.rank(0)) if m.key in set(order)]
    assert order != [mutant.key for mutant in sorted(kept, key=lambda m: m.rank(1))]
    assert {mutant.place for mutant in before} == {"f"}
    assert before[0].span == range(2, 3)


def test_what_an_import_runs_is_shown_to_all_who_import_it(tool, tmp_path):
    from targets import Guards, Target

    path = tmp_path / "toy.py"
    path.write_text("def f(a=1):\n    return a\n\n\nclass A:\n    def g(self, b=2):\n        return b\n")
    named = {mutant.old: mutant for mutant in tool.mutants_of(path, tmp_path)}
    guards = Guards(Target("toy", ["toy.py"], []), ROOT, TOOL, tmp_path)

    def seen(file, lines, imported):
        tests = {
            f"{file}::{name}": {"seconds": seconds, "starts": False, "lines": {"toy.py": own} if own else {}}
            for name, (seconds, own) in lines.items()
        }
        guards.take(file, {"tests": tests, "import": {"toy.py": imported} if imported else {}})

    seen("one", {"calls": (2.0, [2]), "looks": (3.0, []), "quick": (1.0, [])}, [1, 5, 6])
    seen("two", {"calls": (1.0, [7])}, [1, 5, 6])
    seen("three", {"other": (1.0, [])}, [])
    for text in ("1", "2"):  # a default of a function, and one of a method
        assert guards.chosen(named[text]) == (["two::calls", "one::calls"], ["one::quick", "one::looks"])
    assert guards.chosen(named["return a"]) == (["one::calls"], ["two::calls"])
    assert guards.chosen(named["return b"]) == (["two::calls"], ["one::calls"])


def test_the_run_finds_which_mutants_live(tmp_path):
    """End to end, on a library of one function whose tests see its sign and not its limit."""
    tool = tmp_path / "tests" / "mutation"
    shutil.copytree(TOOL, tool, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "lib" / "toy").mkdir(parents=True)
    (tmp_path / "lib" / "toy" / "__init__.py").write_text("")
    source = "def f(a):\n    if a > 5:\n        return 0\n    return -a\n\n\ndef g(a):\n    return a + a\n"
    (tmp_path / "lib" / "toy" / "part.py").write_text(source)
    (tmp_path / "tests" / "conftest.py").write_text("")
    (tmp_path / "lib" / "entanglement").mkdir()
    for name in ("__init__.py", "checks.py", "files.py", "signatures.py"):
        shutil.copy(ROOT / "lib" / "entanglement" / name, tmp_path / "lib" / "entanglement")
    (tmp_path / "tests" / "test_part.py").write_text(
        "from toy.part import f\n\n\ndef test_f():\n    assert f(2) == -2 and f(9) == 0\n"
    )
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["gpu: a", "site: b"]\n')
    (tool / "targets.yml").write_text("- {name: toy, files: [lib/toy/p*.py], tests: [tests/test_*.py]}\n")
    known = "lib/toy/part.py::f: a > 5 → a >= 5"
    (tool / "equivalents.yml").write_text(json.dumps([{"mutant": known, "reason": "for the test"}]))
    run = (tool / "run.py").read_text()
    light, count = re.subn(r"HEAVY = \(.*?\)  # fmt", 'HEAVY = ("pytest",)  # fmt', run, flags=re.DOTALL)
    assert count == 1
    (tool / "run.py").write_text(light)

    def told(*options):
        command = [sys.executable, str(tool / "run.py"), "--jobs", "1", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        return done.returncode, done.stdout

    stored = tmp_path / "book" / "results" / "mutation.json"
    status, out = told("--only", "toy.py:3", "--sample", "1")
    assert status == 2 and not stored.exists()
    status, out = told("--killers")
    assert status == 0, out
    assert "toy: 7 of 10 noticed (70%)" in out and "1 known as equivalent" in out
    assert "killed     lib/toy/part.py:4 -a → a   (tests/test_part.py::test_f, " in out
    assert "survived   lib/toy/part.py:2 5 → 6\n" in out
    assert "survived   lib/toy/part.py:8 a + a → a - a   (no test runs it)\n" in out
    assert (tmp_path / "lib" / "toy" / "part.py").read_text() == source
    found = json.loads(stored.read_text())
    assert (found["tried"], found["killed"], found["sample"], found["seed"]) == (10, 7, 25, 0)
    (row,) = found["targets"]
    assert (row["name"], row["modules"], row["mutants"]) == ("toy", ["lib/toy/part.py"], 11)
    assert (row["equivalent"], row["tried"], row["killed"], len(row["survived"])) == (1, 10, 7, 3)
    stored.unlink()
    (tmp_path / "tests" / "test_part.py").write_text("def test_f():\n    assert False\n")
    status, out = told()
    assert not stored.exists()
    assert status == 1 and "fail as they are" in out and "tests/test_part.py::test_f" in out


def test_the_lists_name_what_is_there(tool, monkeypatch):
    from targets import load_targets

    targets = {target.name for target in load_targets(TOOL / "targets.yml", ROOT)}
    known = yaml.safe_load((TOOL / "equivalents.yml").read_text(encoding="utf-8"))
    files = {row["mutant"].partition("::")[0] for row in known}
    keys = {mutant.key for file in files for mutant in tool.mutants_of(ROOT / file, ROOT)}
    assert [row["mutant"] for row in known if row["mutant"] not in keys] == []
    assert all(row["reason"].strip() for row in known)
    file = ROOT / "book" / "results" / "mutation.json"  # not there before the first whole run
    stored = json.loads(file.read_text(encoding="utf-8"))["targets"] if file.is_file() else []
    assert {row["name"] for row in stored} in (targets, set())


def test_the_last_whole_run_is_kept_and_its_score_is_high_enough():
    found = json.loads((ROOT / "book" / "results" / "mutation.json").read_text())
    targets = {row["name"] for row in yaml.safe_load((TOOL / "targets.yml").read_text())}
    assert {row["name"] for row in found["targets"]} == targets, "make mutants"
    assert found["tried"] == sum(row["tried"] for row in found["targets"]) >= 20 * len(targets)
    assert found["killed"] >= 0.92 * found["tried"]
