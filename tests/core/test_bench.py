"""The ways that the benchmark compares do the same work, and its marks can be missed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from entanglement_book.bench import bench


@pytest.fixture(scope="module")
def small():
    # In evaluation mode, 300 tokens; large enough weights that nothing is lost in float32.
    model = bench.gpt2_shape(width=64, layers=2, vocabulary=300)
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    return model, bench.random_batch(4, 20, 6, vocabulary=300)


def way(name, small):
    model, batch = small
    ready = bench.WAYS[name]
    return ready.prepare(model, batch.select(list(range(ready.pairs))[: len(batch)]))()


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
    text = bench.table(found)
    assert "fast, 1.00 s, 1.1 GB" in text and "slow, 4.0 s, 2.1 GB" in text and "**4.00×**" in text
    assert "Measured 2026-01-01 and 2026-02-02 on a processor, 2 threads, PyTorch 2, TRL 1." in text
    assert "3e-07 (must be at most 1e-04) in fast" in text
    assert list(bench.frame(found)["at least"]) == ["2.00", ""]


def test_a_missed_mark_and_another_readme_are_reported(found, tmp_path, monkeypatch):
    (tmp_path / "cpu.json").write_text(json.dumps(found | {"code": "other"}))
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench: written by make bench -->\n<!-- bench: end -->\nafter\n")
    monkeypatch.setattr(bench, "_file", lambda device: tmp_path / f"{device}.json")
    monkeypatch.setattr(bench, "_readme", lambda: readme)
    assert any("another one" in line for line in bench.problems())
    bench._write_readme(found, readme)
    assert readme.read_text().startswith("before\n") and readme.read_text().endswith("\nafter\n")
    assert not any("another one" in line for line in bench.problems())
    assert any("other library code" in line for line in bench.problems())
    found["lines"][0]["met"] = found["growth"][0]["met"] = False
    (tmp_path / "cpu.json").write_text(json.dumps(found | {"code": "other"}))
    assert sum("misses its mark" in line or "too much memory" in line for line in bench.problems()) == 2


def test_every_line_names_ways_that_exist():
    for line in bench.LINES:
        known = bench.STEPS if line.ours in bench.STEPS else bench.WAYS
        assert line.ours in known and line.theirs in known
        assert (line.agree is not None) == line.theirs.startswith("TRL")


def test_losses_must_agree_and_move():
    line = next(line for line in bench.LINES if line.agree)

    def agreed(ours, theirs):
        return bench._agreement(line, {line.ours: ours, line.theirs: theirs})["agreed"]

    assert agreed([0.693, 0.6], [0.693, 0.60005])
    assert not agreed([0.693, 0.6], [0.693, 0.6002])
    assert not agreed([0.693, 0.693], [0.693, 0.693])  # says nothing about the gradients
    assert not agreed([0.693, float("nan")], [0.693, 0.6])


def test_a_step_with_a_rule_starts_from_the_same_loss(monkeypatch):
    line = next(line for line in bench.LINES if line.ours == "normalized, nano")
    names = [line.ours, line.theirs]
    for name in names:
        monkeypatch.setitem(bench.STEPS, name, replace(bench.STEPS[name], pairs=2))
    _, losses = bench.measure(names, repeats=2)
    ours, theirs = (losses[name] for name in names)
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5) and len(ours) == 3
    assert ours[2] < ours[0] and ours[2] != theirs[2]  # it learns, and by other steps


def test_both_trainers_of_a_line_find_the_same_losses(monkeypatch):
    line = next(line for line in bench.LINES if line.agree and bench.STEPS[line.ours].model == "nano")
    names = [line.ours, line.theirs]
    for name in names:
        monkeypatch.setitem(bench.STEPS, name, replace(bench.STEPS[name], pairs=2))
    seconds, losses = bench.measure(names, repeats=2)
    assert [len(seconds[name]) for name in names] == [2, 2]
    assert [len(losses[name]) for name in names] == [3, 3]
    assert bench._agreement(line, losses)["agreed"]
    with pytest.raises(ValueError, match="train different models"):
        bench.measure([line.ours, "training"])


@pytest.fixture
def stored(found, tmp_path, monkeypatch):
    """A stored table of all lines, as a dictionary and a function that stores it."""
    entry = found["lines"][0]
    found |= bench._place("cpu") | {"code": "old", "scaling": []}
    found["lines"] = [
        entry | {"work": line.work, "ours": line.ours, "theirs": line.theirs, "code": bench._code(line)}
        for line in bench.LINES
    ]
    monkeypatch.setattr(bench, "_file", lambda device: tmp_path / f"{device}.json")
    monkeypatch.setattr(bench, "_readme", lambda: tmp_path / "README.md")

    def store():
        (tmp_path / "cpu.json").write_text(json.dumps(found))
        (tmp_path / "README.md").write_text(f"{bench._BEGIN}\n{bench.table(found)}\n{bench._END}\n")

    store()
    return found, store


def test_lines_that_are_missing_or_of_other_code_are_reported(stored):
    found, store = stored
    work = bench.LINES[-1].work
    assert bench.problems() == [
        "bench: growth and scaling are of other library code than today's; run: make bench"
    ]
    found["lines"][-1]["code"] = "other"
    store()
    assert any(f"{work} was measured with other library code" in line for line in bench.problems())
    del found["lines"][-1]
    store()
    assert any(f"not every line of {work} was measured" in line for line in bench.problems())


def test_one_work_is_measured_again_and_takes_its_place(stored, monkeypatch):
    found, store = stored
    work = bench.LINES[0].work
    first = [line for line in bench.LINES if line.work == work]
    new = [found["lines"][i] | {"seconds": 9.0} for i in range(len(first))]
    monkeypatch.setattr(bench, "_measured", lambda lines, device, say: new if list(lines) == first else None)
    del found["lines"][1]  # and a line that was not there is added
    store()
    assert bench.main(["--only", work]) == 0
    again = bench.stored()
    assert [(row["ours"], row["theirs"]) for row in again["lines"]] == [
        (line.ours, line.theirs) for line in bench.LINES
    ]
    assert [row["seconds"] for row in again["lines"]].count(9.0) == len(first)
    assert "9.00 s" in bench._readme().read_text()

    new[0]["met"] = False
    assert bench.main(["--only", work]) == 1
    with pytest.raises(ValueError, match="work='nothing'"):
        bench.rerun("nothing")
    found["threads"] = 64
    store()
    with pytest.raises(ValueError, match="another threads"):
        bench.rerun(work)
