"""The grid of costs: each cell builds a model of random weights and measures five works on one batch.

The cells vary one size at a time around a middle one. Those held out are larger than every fitted one in at
least one size; the constants of the cost model are fitted without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn

from entanglement_book.bench.ways import random_batch
from entanglement_book.counting import count_operations, least_seconds, peak_bytes
from entanglement_book.grids.grid import GRIDS, Grid
from entanglement_book.studies.ch18_scale.architectures import Shape, make_model
from entanglement_book.studies.ch18_scale.works import WORKS, prepare
from entanglement_book.studies.shared.scales import at_scale

__all__ = ["describe", "grid_cells", "run_cell"]

#: family, width, layers, vocabulary, prompt, response, pairs.
_KEYS = ("family", "width", "layers", "vocabulary", "prompt", "response", "pairs")
_MIDDLE = ("gpt2", 256, 4, 8192, 64, 32, 4)
_LLAMA = ("llama", *_MIDDLE[1:])
FITTED = (
    _MIDDLE,
    ("gpt2", 128, 4, 8192, 64, 32, 4),
    ("gpt2", 512, 4, 8192, 64, 32, 4),
    ("gpt2", 256, 2, 8192, 64, 32, 4),
    ("gpt2", 256, 8, 8192, 64, 32, 4),
    ("gpt2", 256, 4, 2048, 64, 32, 4),
    ("gpt2", 256, 4, 32768, 64, 32, 4),
    ("gpt2", 256, 4, 8192, 32, 16, 4),
    ("gpt2", 256, 4, 8192, 128, 64, 4),
    ("gpt2", 256, 4, 8192, 64, 32, 1),
    ("gpt2", 256, 4, 8192, 64, 32, 8),
    _LLAMA,
    ("llama", 512, 4, 8192, 64, 32, 4),
    ("llama", 256, 8, 8192, 64, 32, 4),
    ("llama", 256, 4, 32768, 64, 32, 4),
    ("llama", 256, 4, 8192, 128, 64, 4),
)
HELD_OUT = (
    ("gpt2", 1024, 4, 8192, 64, 32, 4),
    ("gpt2", 256, 16, 8192, 64, 32, 4),
    ("gpt2", 256, 4, 65536, 64, 32, 4),
    ("gpt2", 256, 4, 8192, 512, 256, 2),
    ("gpt2", 256, 4, 8192, 64, 32, 24),
    ("gpt2", 768, 12, 50257, 96, 48, 2),
    ("llama", 768, 12, 32768, 96, 48, 2),
    ("llama", 512, 4, 8192, 640, 320, 1),
)
_SMOKE = (
    ("gpt2", 64, 2, 512, 12, 6, 2),
    ("llama", 128, 2, 512, 12, 6, 2),
)
_SMOKE_HELD_OUT = (("gpt2", 128, 4, 2048, 24, 12, 2),)
#: Runs of each work, of which the fastest counts; runs of a linear layer alone.
RUNS, SMOKE_RUNS, LAYER_RUNS = 3, 2, 20
#: Widths of a linear layer that is measured alone, with as many tokens each.
LAYER_WIDTHS, LAYER_TOKENS = (128, 256, 512, 1024), 256


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: part × shape and batch."""
    parts = {
        "fitted": at_scale(scale, _SMOKE, FITTED, FITTED),
        "held out": at_scale(scale, _SMOKE_HELD_OUT, HELD_OUT, HELD_OUT),
    }
    return [
        {"part": part, **dict(zip(_KEYS, sizes, strict=True)), "seed": 0}
        for part, cells in parts.items()
        for sizes in cells
    ]


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure one cell.

    Returns:
        "works": one row a work: work, parameters (of the model), operations, peak (bytes), seconds.
        "layers": of the first cell only, one row a width: a linear layer alone, forward (operations,
            seconds).
    """
    shape = Shape.of(cell["family"], cell["width"], cell["layers"], cell["vocabulary"])
    length = cell["prompt"] + cell["response"]
    batch = random_batch(cell["pairs"], length, cell["response"], shape.vocabulary, cell["seed"])
    runs = at_scale(scale, SMOKE_RUNS, RUNS, RUNS)
    rows = []
    for name in WORKS:
        net = make_model(shape, cell["seed"])
        work = prepare(name, net, batch)
        work()  # what is made once, an optimizer's state say, is no cost of a step
        row = {"work": name, "parameters": sum(p.numel() for p in net.parameters())}
        row |= {"operations": count_operations(work), "peak": peak_bytes(work)}
        rows.append(row | {"seconds": least_seconds(work, runs)})
        del net, work
    tables = {"works": pd.DataFrame(rows)}
    if dict(cell) == grid_cells(scale, model)[0]:
        tables["layers"] = pd.DataFrame([_layer(width) for width in LAYER_WIDTHS])
    return tables


def _layer(width: int) -> dict[str, Any]:
    """Return what one linear layer multiplies and takes."""
    layer, tokens = nn.Linear(width, width, bias=False), torch.randn(LAYER_TOKENS, width)

    @torch.no_grad()
    def work() -> None:
        layer(tokens)

    operations = count_operations(work)
    return {
        "layer_width": width,
        "tokens": LAYER_TOKENS,
        "operations": operations,
        "seconds": least_seconds(work, LAYER_RUNS),
    }


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return what was measured, for the provenance of a table."""
    runs = at_scale(scale, SMOKE_RUNS, RUNS, RUNS)
    return {"works": dict(WORKS), "runs": runs, "layer_runs": LAYER_RUNS, "weights": "random, float32"}


GRIDS.add(
    "costs",
    Grid("costs", grid_cells, run_cell, describe, models=("nano",), clocked=("seconds",)),
)
