"""The cost model of the chapter on scale: counted by hand, by PyTorch, and fitted on a known answer."""

import numpy as np
import pandas as pd
import pytest

from entanglement_book import counting
from entanglement_book.bench.ways import random_batch
from entanglement_book.grids.grid import GRIDS
from entanglement_book.grids.rerun import rerun_one
from entanglement_book.studies.ch18_scale import on_paper, works
from entanglement_book.studies.ch18_scale.architectures import LLAMA_8B, Shape, make_model
from entanglement_book.studies.ch18_scale.cost import Rows, forward_operations, moved, operations, peak
from entanglement_book.studies.ch18_scale.numbers import (
    CONSTANTS,
    constants,
    error_of,
    facts_of,
    shape_of,
    with_predictions,
)


@pytest.mark.parametrize("work", works.WORKS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_operations_and_memory_are_those_of_pytorch(family, work):
    # The response is long in one batch and short in the other: gradients are formed in the first.
    for prompt, response, vocabulary in ((40, 8, 700), (6, 20, 300)):
        shape, rows = Shape.of(family, 128, 2, vocabulary), Rows(prompt, response, 3)
        net = make_model(shape)
        assert sum(p.numel() for p in net.parameters()) == shape.parameters
        batch = random_batch(3, prompt + response, response, vocabulary)
        one = works.prepare(work, net, batch)
        one()
        assert counting.count_operations(one) == pytest.approx(operations(work, shape, rows), rel=0.005)
        assert counting.peak_bytes(one) == pytest.approx(peak(work, shape, rows), rel=0.2)


def test_a_forward_pass_by_hand():
    shape = Shape("llama", 8, 3, 100, 24, shared=2, head=4)
    # A layer: queries and output 64 each, keys and values 32 each, three maps of 8 × 24.
    assert shape.layer_weights == 2 * 64 + 2 * 32 + 3 * 192
    assert shape.parameters == 3 * (768 + 16) + 8 + 2 * 800
    rows = Rows(prompt=5, response=2, pairs=10)
    # 9 tokens of a pair in one row, of which 3 are read.
    assert forward_operations(shape, rows) == (10 * 2 * (9 * 3 * 768 + 3 * 800), 10 * 4 * 81 * 8 * 3)
    assert forward_operations(shape, rows.apart) == (20 * 2 * (7 * 3 * 768 + 2 * 800), 20 * 4 * 49 * 8 * 3)


def test_what_is_asked_for_must_be_known():
    shape, rows = Shape.of("gpt2", 64, 1, 50), Rows(4, 2, 1)
    for function in (operations, peak):
        with pytest.raises(ValueError, match="work='dance'; expected"):
            function("dance", shape, rows)
    with pytest.raises(ValueError, match="work='dance'; expected"):
        works.prepare("dance", None, None)
    with pytest.raises(ValueError, match="family='bert'"):
        Shape.of("bert", 64, 1, 50)


@pytest.fixture
def measured():
    """Rows of the grid, with seconds by known constants on the fitted shapes and twice that on the others."""
    true = dict(zip(CONSTANTS, (1e-11, 3e-10, 2e-10, 5e-4, 1e-9), strict=True))
    rows = []
    for cell in GRIDS["costs"].cells("book", "nano"):
        shape, batch = shape_of(pd.Series(cell))
        for work in works.WORKS:
            found = {"operations": operations(work, shape, batch), **moved(work, shape, batch)}
            seconds = sum(true[name] * found[name] for name in CONSTANTS)
            seconds *= 2 if cell["part"] == "held out" else 1
            row = {"work": work, "parameters": shape.parameters, "operations": found["operations"]}
            rows.append(cell | row | {"seconds": seconds, "peak": peak(work, shape, batch) / 0.8})
    return pd.DataFrame(rows), true


def test_constants_are_found_again_from_the_fitted_shapes_alone(measured):
    table, true = measured
    assert constants(table).to_dict() == pytest.approx(true, rel=1e-6)
    told = with_predictions(table)
    assert error_of(told, "told_seconds", "seconds", "fitted").value == pytest.approx(0, abs=1e-9)
    assert error_of(told, "told_seconds", "seconds").value == pytest.approx(0.5)
    assert error_of(told, "told_peak", "peak").value == pytest.approx(0.2)
    fitted = told[told["part"] == "fitted"]
    for name in ("seconds", "peak"):
        apart = np.log(fitted[f"rival_{name}"] / fitted[name])
        assert (
            apart.groupby(fitted["work"]).mean().abs().max() < 1e-9
        )  # in the middle of what it was fitted on
    facts = facts_of(table)
    assert facts["products_off"] < 1e-12 < 0.1 < facts["plain_off"]
    assert facts["rate"] == pytest.approx(100) and facts["percent_told_peak_held"].value == pytest.approx(20)


def test_eight_billion_by_hand():
    assert LLAMA_8B.parameters == 8_030_261_248  # as its own card says
    # Rank 64 on queries (4096 + 4096), keys and values (4096 + 1024 each), 32 layers.
    assert on_paper.adapter_parameters(LLAMA_8B, 64) == 32 * 64 * (8192 + 2 * 5120)
    adapters, again, every = on_paper.WAYS
    one, eight = (on_paper.bill(adapters, n) for n in (1, 8))
    assert one["hours, H100"] == pytest.approx(8 * eight["hours, H100"]) and one["GB"] == eight["GB"] < 80
    each = on_paper.operations_of_a_pair(adapters)
    assert one["hours, H100"] == pytest.approx(92_500 * each / (0.4 * 989.5e12) / 3600)
    # Three passes forward and back at 2 operations a weight of the maps and token, and little besides.
    tokens, weights = 900, 32 * LLAMA_8B.layer_weights
    assert each == pytest.approx(3 * 2 * tokens * weights, rel=0.1)
    held = on_paper.memory(every, 1)
    assert sum(held[k] for k in ("weights", "gradients and optimizer")) == pytest.approx(16 * 8.030261)
    assert [on_paper.bill(every, n)["fits"] for n in (1, 8)] == [False, True]
    assert on_paper.memory(again, 1)["activations"] < on_paper.memory(adapters, 1)["activations"] / 10
    looks = on_paper.looks(on_paper.H100, 512)
    assert looks.loc["mean gradient", "GB"] > 160 > 80 > looks.loc["pair geometry", "GB"]
    facts = on_paper.facts_of(512)
    assert facts["full_gb"] == pytest.approx(sum(held.values())) and facts["set_looked"] == 512


def test_operations_and_bytes_of_a_stored_cell_are_met_again_and_seconds_are_not_asked_for():
    again = rerun_one("costs", "smoke", family=["gpt2"], part=["fitted"])
    assert again.agrees and again.cell["width"] == 64
    assert GRIDS["costs"].clocked == ("seconds",)
