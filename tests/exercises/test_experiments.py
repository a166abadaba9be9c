"""Numbers in the solutions of experiments are what the exercise finds, where that takes seconds."""

import re
from pathlib import Path

import pytest
import torch

from entanglement_book.exercises.checking import alike
from entanglement_book.press import notebooks
from entanglement_book.press.asked import exercises_of

ROOT = Path(__file__).resolve().parents[2]


def asked(chapter, title):
    [path] = (ROOT / "notebooks").glob(f"{chapter}_*.ipynb")
    [found] = [e for e in exercises_of(notebooks.read(path), chapter) if e.title == title]
    return found


def blocks(text):
    """What the blocks of Python in a text define, when they are run one after the other."""
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M):
        exec(compile(block, "<experiment>", "exec"), names)
    return names


def cells(solution):
    """The rows of the table in a solution, as lists of words."""
    rows = [line.strip("|").split("|") for line in solution.splitlines() if line.startswith("|")]
    return [[word.strip().replace("\N{MINUS SIGN}", "-") for word in row] for row in rows[2:]]


def says(solution, *numbers):
    """Whether a solution has these numbers, as they are written there."""
    text = solution.replace("\N{MINUS SIGN}", "-").replace("{,}", "").replace(",", "")
    return [
        number for number in numbers if not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d])", text)
    ] == []


def test_where_chosen_turns():
    e = asked("03", "Where chosen turns")
    change = blocks(e.text)["change"]

    def turn(k_l):
        low, high = 1e-3, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if change(k_l, middle)[0] > 0 else (low, middle)
        return low

    for k_l, gap, eta in ((float(row[0]), float(row[1]), float(row[2])) for row in cells(e.solution)):
        assert gap == pytest.approx(4 / 3 + 1 / 3 - 2 / 3 * k_l, abs=6e-4)
        assert turn(k_l) == pytest.approx(eta, abs=6e-4)


def test_dpop_at_a_learning_rate():
    e = asked("04", "DPOP at a learning rate")
    train = blocks(e.text)["train"]
    for first, chosen, rejected, steps in cells(e.solution):
        name, _, rate = first.rpartition(", ")
        found = train(float(rate), "dpo" if name else "dpop")
        assert found == pytest.approx([float(chosen), float(rejected), float(steps)], abs=0.6), first
        assert found[:2] == pytest.approx([float(chosen), float(rejected)], abs=0.006), first


def test_two_percent():
    from entanglement_book.studies.ch07_suffix.study import suffix_study, table_geometry

    e = asked("07", "Two percent")
    lengths = (8, 16, 32, 64, 128)
    for row in (cells(e.solution)[0], cells(e.solution)[-1]):
        table = suffix_study({"longer": ("scaled", float(row[0]))}, lengths, 400, seed=0)
        case = "both_down" if float(row[0]) > 1 else "both_up"
        cases = [table_geometry(table[table.n == n]).case() for n in lengths]
        assert [sum(one == case for one in found) for found in cases] == [int(n) for n in row[1:]], row[0]


def test_the_same_map_for_another_loss():
    from entanglement_book.chapter import load_tables
    from entanglement_book.studies.ch10_probability.tables import mass_shares

    e = asked("10", "The same map for another loss")
    mass = load_tables("dynamics", "book", "nano")["mass"]
    values = 100 * mass_shares(mass, "sentiment", "rpo")[["value", "low", "high"]].to_numpy()
    assert says(e.solution, "24.3", "24.0", "24.6", "24.2", "-22.7")
    shown = {f"{number:.1f}" for number in values.ravel()}
    assert {"24.3", "24.0", "24.6", "24.2", "-22.7"} <= shown


def test_one_long_step_or_many():
    e = asked("11", "One long step, or many short ones?")
    turns = blocks(e.text)["turns"]
    for nats, steps in ((0.1, 1), (0.1, 16), (8.0, 1), (8.0, 16)):
        assert says(e.solution, *(f"{ratio:.3f}" for ratio in turns(nats, steps))), (nats, steps)


def test_a_suffix_that_remembers():
    e = asked("12", "A suffix that remembers")
    falls = blocks(e.text)["falls"]
    found = [falls(share) for share in (0.0, 0.5, 1.0)]
    assert says(e.solution, *(f"{100 * every:.0f}" for every, _ in found), "0.5", "5.5")
    assert alike([alone for _, alone in found], [0.0, 0.005, 0.055], 1e-9)


def test_a_longer_suffix():
    e = asked("13", "A longer suffix")
    slow = blocks(e.text)["slow"]
    found = [slow(suffix) for suffix in (0, 2, 8, 32)]
    assert says(e.solution, *(f"{cosine:.2f}" for cosine, _, _ in found))
    assert [f"{factor:.0f}" for _, factor, _ in found[2:]] == ["16", "64"]
    assert [steps for *_, steps in found] == [4, 14, 37, 146] and "4, 14, 37 and 146" in e.solution


def test_does_the_copy_rise_for_ever():
    e = asked("15", "Does the copy rise for ever?")
    for cosine, turn, top in ((0.8, 232, "0.95"), (0.95, 1051, "2.02")):
        path = torch.stack(blocks(e.text.replace("cosine = 0.8", f"cosine = {cosine}"))["path"])[:, 1]
        assert int(path.argmax()) == turn and f"{float(path.max()):.2f}" == top
        assert says(e.solution, str(turn), top)
