"""What every chapter's exercises must be, and that each check lets the solution pass and nothing else."""

from pathlib import Path

import pytest

import entanglement_book.exercises as exercises
from entanglement_book.exercises.checking import checks_of
from entanglement_book.press import notebooks
from entanglement_book.press.asked import KINDS, exercises_of, goals_of, stub_of

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path.name < "80"]
FOUND = {path.stem: exercises_of(notebooks.read(path), path.stem[:2]) for path in CHAPTERS}
CODE = {e.name: e for found in FOUND.values() for e in found if e.kind == "code"}
CHECKS = {name: one for path in CHAPTERS for name, one in checks_of(path.stem[:2]).items()}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_exercises_of_every_kind_for_every_goal(path):
    found, goals = FOUND[path.stem], goals_of(notebooks.read(path))
    assert len(found) >= 4
    assert {e.kind for e in found} == set(KINDS)
    assert 2 <= len(goals) <= 4
    assert {goal for e in found for goal in e.goals} == set(range(1, len(goals) + 1))
    for e in found:
        assert e.title and e.label and e.level and 0 < e.minutes <= 90, e.name
        assert len(e.text) > 40 and len(e.solution) > 40, e.name
        assert "{glue" not in e.text, f"{e.name}: a sheet has no run's numbers"
        assert (e.kind == "code") == bool(e.code), e.name


def test_checks_and_exercises_with_code_are_the_same():
    assert list(CODE) == list(CHECKS)


def run(code, monkeypatch):
    """Run an exercise's code; returns (name, judgment) of its check."""
    judged = []
    monkeypatch.setattr(
        exercises, "check", lambda name, answer: judged.append((name, CHECKS[name].judge(answer)))
    )
    exec(compile(code, "<exercise>", "exec"), {"__name__": "exercise"})
    [found] = judged
    return found


@pytest.mark.parametrize("name", CODE)
def test_the_solution_passes(name, monkeypatch):
    asked, judgment = run(CODE[name].code, monkeypatch)
    assert asked == name and judgment.right, judgment.said


@pytest.mark.parametrize("name", CODE)
def test_the_stub_does_not(name, monkeypatch):
    assert "# yours" in CODE[name].code
    stub = stub_of(CODE[name].code)
    assert stub in CODE[name].text + "\n"
    try:
        _, judgment = run(stub, monkeypatch)
    except Exception as error:  # dots taken for a value
        assert "llipsis" in str(error), f"{name}: {error}"
    else:
        assert not judgment.right


@pytest.mark.parametrize("name", CHECKS)
def test_at_least_two_usual_mistakes_are_named(name):
    one = CHECKS[name]
    hints = [hint for _, hint in one.mistakes]
    assert len(hints) >= 2 and len(set(hints)) == len(hints)
    for wrong, hint in one.mistakes:
        judgment = one.judge(wrong)
        assert not judgment.right and judgment.said == f"Not yet: {hint}", f"{name}: {hint}"
