"""The ways that the benchmark compares do the same work, and its marks can be missed."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from entanglement.updates import UPDATES
from entanglement.updates.weighted import by_rule
from entanglement_book.bench import (
    lines,
    measured,
    readme,
    stored,
    timing,
    trainings,
    update_steps,
    upkeep,
)
from entanglement_book.bench.lines import LINES
from entanglement_book.bench.made_of import made_of_line, made_of_ways
from entanglement_book.bench.trainings import OWN_STEP, STEPS
from entanglement_book.bench.variants import line_of, measured_updates
from entanglement_book.bench.ways import WAYS, gpt2_shape, random_batch
from entanglement_book.cli import main
from entanglement_book.grids.made_by import Code
from entanglement_book.machine import repository


@pytest.fixture(scope="module")
def small():
    # In evaluation mode, 300 tokens; large enough weights that nothing is lost in float32.
    model = gpt2_shape(width=64, layers=2, vocabulary=300)
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    return model, random_batch(4, 20, 6, vocabulary=300)


def way(name, small):
    model, batch = small
    ready = WAYS[name]
    return ready.prepare(model, batch.select(list(range(ready.pairs))[: len(batch)]), **ready.options)()


def test_all_ways_of_measuring_pairs_find_the_same(small):
    geometry = way("pair geometry", small)
    scale = (geometry.chosen_sq * geometry.rejected_sq).sqrt()
    found = torch.tensor(way("two gradients a pair, the authors' way", small), dtype=torch.float64)
    theirs = [found[:, 0] ** 2, found[:, 1] ** 2, found[:, 2]]
    func = way("torch.func, two responses at a time", small).double()
    four = way("torch.func, four responses at a time", small).double()
    reference = way("two gradients a pair, our reference", small)
    ways = {
        "authors": theirs,
        "torch.func": [func[:, 0, 0], func[:, 1, 1], func[:, 0, 1]],
        "torch.func, four": [four[:, 0, 0], four[:, 1, 1], four[:, 0, 1]],
        "reference": [reference.chosen_sq, reference.rejected_sq, reference.inner],
    }
    for name, (a2, b2, c) in ways.items():
        torch.testing.assert_close(a2, geometry.chosen_sq, rtol=1e-4, atol=0, msg=name)
        torch.testing.assert_close(b2, geometry.rejected_sq, rtol=1e-4, atol=0, msg=name)
        assert bool(((c - geometry.inner).abs() < 1e-4 * scale).all()), name


def test_all_heat_maps_are_the_same(small):
    cosines = way("heat map", small).cosine.numpy()
    np.testing.assert_allclose(way("heat map, the authors' way", small), cosines, atol=1e-4)
    np.testing.assert_allclose(way("heat map, our reference", small).cosine.numpy(), cosines, atol=1e-4)


@pytest.fixture
def found():
    entry = {
        "work": "w",
        "ours": "fast",
        "theirs": "slow",
        "faster": 2.0,
        "lighter": None,
        "aim": 3.0,
        "seconds": 1.0,
        "their_seconds": 4.0,
        "ratio": 4.0,
        "peak_mb": 1024.0,
        "their_peak_mb": 2048.0,
        "memory_ratio": 2.0,
        "met": True,
    }
    step = {"agree": 1e-4, "loss_difference": 3e-7, "trl": "1", "date": "2026-02-02", "theirs": "another"}
    return {
        "lines": [entry, entry | {"faster": None, "aim": None} | step],
        "growth": [{"tokens": 16, "seconds": 1.0, "peak_mb": 1024.0, "met": True}],
        "device": "cpu",
        "threads": 2,
        "date": "2026-01-01",
        "machine": {"processor": "a processor", "torch": "2"},
    }


def test_the_table_says_what_was_measured(found):
    text = readme.table(found)
    assert "fast, 1.00 s, 1.1 GB" in text and "slow, 4.0 s, 2.1 GB" in text and "**4.00×**" in text
    assert "Measured 2026-01-01 and 2026-02-02 on a processor, 2 threads, PyTorch 2, TRL 1." in text
    assert "3e-07 (must be at most 1e-04) in fast" in text
    assert list(stored.frame(found)["at least"]) == ["2.00", ""]


def test_every_line_names_ways_that_exist():
    for line in LINES:
        known = STEPS if line.ours in STEPS else WAYS
        assert line.ours in known and line.theirs in known
        assert (line.agree is not None) == line.theirs.startswith("TRL")


def test_losses_must_agree_and_move():
    line = next(line for line in LINES if line.agree)

    def agreed(ours, theirs):
        return measured.agreement(line, {line.ours: ours, line.theirs: theirs})["agreed"]

    assert agreed([0.693, 0.6], [0.693, 0.60005])
    assert not agreed([0.693, 0.6], [0.693, 0.6002])
    assert not agreed([0.693, 0.693], [0.693, 0.693])  # says nothing about the gradients
    assert not agreed([0.693, float("nan")], [0.693, 0.6])


def test_a_step_with_a_rule_starts_from_the_same_loss(monkeypatch):
    line = next(line for line in LINES if line.ours == "normalized, nano")
    names = [line.ours, line.theirs]
    for name in names:
        monkeypatch.setitem(STEPS, name, replace(STEPS[name], pairs=2))
    _, losses = timing.measure(names, repeats=2)
    ours, theirs = (losses[name] for name in names)
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5) and len(ours) == 3
    assert ours[2] < ours[0] and ours[2] != theirs[2]  # it learns, and by other steps


def test_both_trainers_of_a_line_find_the_same_losses(monkeypatch):
    line = next(line for line in LINES if line.agree and STEPS[line.ours].model == "nano")
    names = [line.ours, line.theirs]
    for name in names:
        monkeypatch.setitem(STEPS, name, replace(STEPS[name], pairs=2))
    seconds, losses = timing.measure(names, repeats=2)
    assert [len(seconds[name]) for name in names] == [2, 2]
    assert [len(losses[name]) for name in names] == [3, 3]
    assert measured.agreement(line, losses)["agreed"]
    with pytest.raises(ValueError, match="train different models"):
        timing.measure([line.ours, "training"])


def test_a_step_with_a_frozen_model_and_one_of_plain_sgd_learn(monkeypatch):
    # A decoupled step moves both answers by the rate times the loss's weight, of AdamW's rate far too little
    # for float32.
    for name, rate in (("contrasting tokens, nano", update_steps.LR), ("decoupled, batch, nano", 1.0)):
        monkeypatch.setattr(update_steps, "LR", rate)
        step = replace(STEPS[name], pairs=2).ready()
        losses = [step() for _ in range(3)]
        assert losses[2] < losses[0], name


@pytest.fixture
def kept(found, tmp_path, monkeypatch):
    """A stored table of all lines, of today's code, as a dictionary and a function that stores it."""
    entry, code = found["lines"][0], Code(repository())
    found |= measured.place("cpu") | made_of_ways([], code) | {"scaling": []}
    found["lines"] = [
        entry | {"work": line.work, "ours": line.ours, "theirs": line.theirs} | made_of_line(line, USES, code)
        for line in LINES
    ]
    file = tmp_path / "cpu.json"
    for module in (stored, upkeep):
        monkeypatch.setattr(module, "file_of", lambda device="cpu": file)
    for module in (upkeep, readme):
        monkeypatch.setattr(module, "readme", lambda: tmp_path / "README.md")

    def store():
        file.write_text(json.dumps(found))
        (tmp_path / "README.md").write_text(
            f"before\n{readme.BEGIN}\n{readme.table(found)}\n{readme.END}\nafter\n"
        )

    store()
    return found, store


#: What all lines are said to have looked up.
USES = [("loss", "dpo"), ("update", "joint")]


def told(problem):
    """What stands before the last word about where to go from here."""
    return problem.rpartition("; run")[0] or problem


def test_a_fresh_benchmark_has_no_problem(kept):
    assert upkeep.problems() == []


def test_lines_that_are_missing_or_of_other_code_are_named(kept):
    found, store = kept
    found["lines"][-1]["code"] = "other"
    found["code"] = "other"
    store()
    assert [told(problem) for problem in upkeep.problems()] == [
        "bench: adversarial, nano was measured with other library code than today's",
        "bench: growth and scaling are of other library code than today's",
    ]
    del found["lines"][-1]
    store()
    assert told(upkeep.problems()[0]) == "bench: adversarial, nano was not measured"


def test_a_missed_mark_and_another_readme_are_reported(kept, tmp_path):
    found, store = kept
    found["lines"][0]["met"] = found["growth"][0]["met"] = False
    store()
    assert upkeep.problems() == ["bench: heat map misses its mark", "bench: 16 tokens take too much memory"]
    found["lines"][0]["met"] = found["growth"][0]["met"] = True
    store()
    found["lines"][0]["seconds"] = 7.0
    (tmp_path / "cpu.json").write_text(json.dumps(found))
    assert upkeep.problems() == ["bench: the table in README.md is another one; run: make bench"]
    readme.write_readme(found, tmp_path / "README.md")
    assert upkeep.problems() == []
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n")


@pytest.mark.parametrize("name", ["cpu.json", "README.md"])
@pytest.mark.parametrize(
    "content", [None, b"", b"half", b"[]", b"{}", b"null", b"a row", bytes(range(256)), "folder"]
)
def test_a_damaged_benchmark_is_one_line(kept, tmp_path, name, content):
    path = tmp_path / name
    whole = path.read_bytes()
    path.unlink()
    if content == "folder":
        path.mkdir()
    elif content == b"half":
        path.write_bytes(whole[: len(whole) // 2])
    elif content == b"a row":
        path.write_text(json.dumps(kept[0] | {"lines": [1]}))
    elif content is not None:
        path.write_bytes(content)
    (problem,) = upkeep.problems()
    assert problem.startswith("bench: ") and "\n" not in problem
    assert (name if content is not None or name != "cpu.json" else "make bench") in problem


def test_one_work_is_measured_again_and_takes_its_place(kept, monkeypatch):
    found, store = kept
    work = LINES[0].work
    first = [line for line in LINES if line.work == work]
    new = [found["lines"][i] | {"seconds": 9.0} for i in range(len(first))]

    def measure(lines, device, say):
        assert list(lines) == first
        return new

    monkeypatch.setattr(measured, "measure_lines", measure)
    del found["lines"][1]  # and a line that was not there is added
    store()
    assert main(["bench", "--only", work]) == 0
    again = stored.stored()
    assert [(r["ours"], r["theirs"]) for r in again["lines"]] == [(x.ours, x.theirs) for x in LINES]
    assert [row["seconds"] for row in again["lines"]].count(9.0) == len(first)
    assert "9.00 s" in readme.readme().read_text()

    new[0]["met"] = False
    assert main(["bench", "--only", work]) == 1
    with pytest.raises(ValueError, match="work='nothing'"):
        measured.measure_work("nothing")
    found["threads"] = 64
    store()
    with pytest.raises(ValueError, match="another threads"):
        measured.measure_work(work)


def test_the_command_checks(kept, capsys):
    assert main(["bench", "check"]) == 0
    assert capsys.readouterr().out == "bench: as it should be\n"
    found, store = kept
    found["lines"][0]["met"] = False
    store()
    assert main(["bench", "check"]) == 1


# --- what a line is measured with ---------------------------------------------------------------------


def line_named(ours):
    return next(line for line in LINES if line.ours == ours)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the library, its root and a function that changes a file of it."""
    root = tmp_path_factory.mktemp("copy")
    for package in ("entanglement", "entanglement_book"):
        shutil.copytree(
            repository() / "lib" / package,
            root / "lib" / package,
            ignore=shutil.ignore_patterns("checkpoints", "__pycache__"),
        )
    return root


def stale_after(root, file, old, new):
    """Return the lines whose fingerprint another text of a file changes."""

    def now():
        code = Code(root)
        return {line: made_of_line(line, USED[line.ours], code)["code"] for line in LINES}

    path = root / "lib" / file
    text, before = path.read_text(), now()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    after = now()
    path.write_text(text)
    return {line.ours for line in LINES if before[line] != after[line]}


def updates_of(name):
    return [("update", STEPS[name].options.get("update", "joint"))] if name in STEPS else []


#: What each line looks up, as far as it matters here.
USED = {line.ours: [("loss", "dpo"), ("update", "joint"), *updates_of(line.ours)] for line in LINES}


def test_another_damping_makes_the_decoupled_lines_stale_and_no_other(tree):
    found = stale_after(
        tree, "entanglement/updates/decoupled.py", "self.damping * float", "2 * self.damping * float"
    )
    assert found == {"decoupled, batch, nano", "decoupled, all responses, nano"}


def test_a_title_makes_no_line_stale(tree):
    old = 'title="clipped to the band"'
    assert stale_after(tree, "entanglement/updates/pair_rules.py", old, 'title="in the band"') == set()


def test_another_loss_makes_no_line_stale(tree):
    assert (
        stale_after(tree, "entanglement/losses/strict.py", "def ", "def another():\n    return 1\n\n\ndef ")
        == set()
    )


def test_the_loss_and_the_loop_make_every_training_line_stale(tree):
    trained = {line.ours for line in LINES if line.ours in STEPS}
    found = stale_after(tree, "entanglement_book/bench/trl_steps.py", "LR = 1e-5", "LR = 2e-5")
    assert found == trained


def test_sizes_and_options_of_a_line_count(monkeypatch):
    code = Code(repository())

    def now(name):
        return made_of_line(line_named(name), USES, code)["code"]

    before = {name: now(name) for name in ("calibrated, nano", "pair geometry")}
    monkeypatch.setitem(STEPS, "calibrated, nano", replace(STEPS["calibrated, nano"], pairs=16))
    monkeypatch.setitem(WAYS, "pair geometry", replace(WAYS["pair geometry"], length=65))
    assert all(now(name) != was for name, was in before.items())
    options = STEPS["split, nano"].options
    first = now("split, nano")
    monkeypatch.setitem(
        STEPS, "split, nano", replace(STEPS["split, nano"], options={**options, "optimizer": "sgd"})
    )
    assert now("split, nano") != first


# --- a new update ---------------------------------------------------------------------


@pytest.fixture
def new_rule(monkeypatch):
    """One more update in the registry."""
    list(UPDATES)
    monkeypatch.setitem(UPDATES._things, "half", by_rule(title="half a step", function=half, safe=True))
    return "half"


def half(geometry, d_w, d_l):
    return d_w / 2, d_l / 2


def test_a_new_update_has_its_step_and_its_line_without_being_listed(new_rule):
    step = trainings.all_steps()["half a step, nano"]
    assert step.options["update"] == "half"
    assert replace(step, pairs=2).ready()() == pytest.approx(0.693, abs=1e-3)
    new = [line for line in lines.update_lines() if line not in LINES]
    assert [(line.ours, line.theirs) for line in new] == [("half a step, nano", OWN_STEP["nano"])]
    assert line_of("half") == "half a step"


def test_what_costs_like_another_update_has_that_ones_line():
    assert line_of("pcgrad") == line_of("normalized") == "normalized"
    assert line_of("normalized", level="batch") == "normalized, batch"
    assert line_of("band", slack=0.25) == "clipped to the band"
    assert line_of("decoupled", level="all", damping=0.1) == "decoupled, all responses"
    with pytest.raises(ValueError, match="no line of the benchmark"):
        line_of("joint")
    with pytest.raises(ValueError, match="no line of the benchmark"):
        line_of("decoupled")
    without = {"joint", *(name for name in UPDATES if UPDATES[name].costs_like)}
    assert (
        set(UPDATES) - set(measured_updates())
        == without
        >= {"joint", "constant", "pcgrad", "mgda", "everything"}
    )


# --- re-stamping ---------------------------------------------------------------------


def test_a_benchmark_of_other_code_is_stamped_when_a_line_is_as_fast_as_before(kept, monkeypatch):
    found, store = kept
    for entry in (found, found["lines"][11]):
        entry |= {"code": "other", "shape": "other"}
    store()
    with pytest.raises(ValueError, match="more than names changed"):
        upkeep.restamp("", say=lambda line: None)
    row = found["lines"][11]
    monkeypatch.setattr(upkeep, "measure_lines", lambda lines, device, say: [{"ratio": row["ratio"] * 2}])
    with pytest.raises(ValueError, match=r"8\.00 times as fast"):
        upkeep.restamp("moved", say=lambda line: None)
    monkeypatch.setattr(upkeep, "measure_lines", lambda lines, device, say: [{"ratio": row["ratio"] * 1.1}])
    assert upkeep.restamp("moved", say=lambda line: None) == 1
    assert upkeep.problems() == []
    again = stored.stored()["lines"][11]
    (entry,) = again["restamped"]
    assert entry["from"] == "other" and entry["to"] == again["code"] and entry["why"] == "moved"
    assert entry["repeated"][0]["ours"] == row["ours"]
    assert ["update", "normalized"] in again["uses"] and ["loss", "dpo"] in again["uses"]
    assert "restamped" not in stored.stored()["lines"][0]


def test_where_only_names_moved_no_reason_is_needed(kept):
    found, store = kept
    found["lines"][11]["code"] = "other"  # and its shape is today's
    store()
    assert upkeep.restamp("", measure=False, say=lambda line: None) == 1
    assert upkeep.problems() == []
    assert stored.stored()["lines"][11]["restamped"][0]["why"] == "only names changed"
