"""The ways that the benchmark compares do the same work, and its marks can be missed."""

import json

import numpy as np
import pytest
import torch
from entanglement import bench


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
    return {
        "lines": [entry, entry | {"faster": None, "aim": None}],
        "growth": [{"tokens": 16, "seconds": 1.0, "peak_mb": 1024.0, "met": True}],
        "device": "cpu",
        "threads": 2,
        "date": "2026-01-01",
        "machine": {"processor": "a processor", "torch": "2"},
    }


def test_the_table_says_what_was_measured(found):
    text = bench.table(found)
    assert "fast, 1.00 s, 1.1 GB" in text and "slow, 4.0 s, 2.1 GB" in text and "**4.00×**" in text
    assert "a processor, 2 threads" in text
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
