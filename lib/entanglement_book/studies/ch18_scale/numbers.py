"""The constants of the cost model, fitted on the smaller shapes, and how far off it is on the larger ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from scipy.stats import gmean

from entanglement.stats import Interval, median_interval
from entanglement_book.press.pasting import percent
from entanglement_book.studies.ch18_scale.architectures import LLAMA_8B, Shape
from entanglement_book.studies.ch18_scale.cost import Rows, moved, operations, peak, tokens

__all__ = ["CONSTANTS", "constants", "error_of", "facts_of", "shape_of", "with_predictions"]

#: What the constants of time multiply, in order.
CONSTANTS = ("operations", "numbers", "weights", "calls", "fresh")
#: Columns that name a shape and batch.
_SHAPE = ["family", "width", "layers", "vocabulary", "prompt", "response", "pairs"]
#: Operations a parameter and token of the plain rule: a pass forward and one back are six.
_PLAIN = {"logps": 2, "virtual": 2, "geometry": 6, "step": 8, "gradient": 12}


def shape_of(row: pd.Series) -> tuple[Shape, Rows]:
    """Return model and batch of a row of the grid ``costs``."""
    shape = Shape.of(row["family"], int(row["width"]), int(row["layers"]), int(row["vocabulary"]))
    return shape, Rows(int(row["prompt"]), int(row["response"]), int(row["pairs"]))


def _taken(works: pd.DataFrame) -> pd.DataFrame:
    """Return what each row takes, a column for each of ``CONSTANTS``."""
    rows = []
    for _, row in works.iterrows():
        shape, batch = shape_of(row)
        rows.append({"operations": operations(row["work"], shape, batch), **moved(row["work"], shape, batch)})
    return pd.DataFrame(rows, index=works.index)[list(CONSTANTS)]


def constants(works: pd.DataFrame) -> pd.Series:
    """Return the machine's constants, seconds for one of each of ``CONSTANTS``, none below 0.

    Least squares of the relative error over the rows whose part is "fitted", all works and both families
    together.

    Args:
        works: of the grid ``costs``.
    """
    some = works[works["part"] == "fitted"]
    relative = _taken(some).div(some["seconds"], axis=0)
    found, _ = nnls(relative.to_numpy(), np.ones(len(relative)))
    return pd.Series(found, index=list(CONSTANTS))


def with_predictions(works: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with what is told of them.

    Returns:
        With the columns derived_operations, plain_operations (two a parameter and token forward, four back),
        told_seconds, told_peak, and rival_seconds and rival_peak: in proportion to parameters times tokens,
        with one constant a work, the geometric mean over the fitted rows.
    """
    table = works.copy()
    taken = _taken(table)
    table["told_seconds"] = taken.to_numpy() @ constants(works).to_numpy()
    table["derived_operations"] = taken["operations"]
    shapes = [(row["work"], *shape_of(row)) for _, row in table.iterrows()]
    table["told_peak"] = [peak(work, shape, batch) for work, shape, batch in shapes]
    size = pd.Series([shape.parameters * tokens(batch) for _, shape, batch in shapes], table.index, float)
    table["plain_operations"] = size * table["work"].map(_PLAIN)
    for name in ("seconds", "peak"):
        ratio = (table[name] / size)[table["part"] == "fitted"]
        each = {str(work): float(gmean(some)) for work, some in ratio.groupby(table["work"])}
        table[f"rival_{name}"] = size * table["work"].map(each)
    return table


def _apart(table: pd.DataFrame, told: str, measured: str) -> pd.Series:
    return (table[told] / table[measured] - 1).abs()


def error_of(table: pd.DataFrame, told: str, measured: str, part: str = "held out") -> Interval:
    """Return the relative error: mean over works, median over shapes.

    Args:
        table: of ``with_predictions``.
        told, measured: its columns.
        part: of its rows.
    """
    some = table[table["part"] == part]
    return median_interval(_apart(some, told, measured).groupby([some[key] for key in _SHAPE]).mean())


def facts_of(works: pd.DataFrame) -> dict[str, float | Interval]:
    """Return what the text quotes and the claims are decided by (relative errors as shares; percent under
    percent_…).

    Args:
        works: of the grid ``costs``.
    """
    table, found = with_predictions(works), constants(works)
    facts: dict[str, float | Interval] = {
        "products_off": float(_apart(table, "derived_operations", "operations").max()),
        "plain_off": float(_apart(table, "plain_operations", "operations").max()),
        "rate": 1 / float(found["operations"]) / 1e9,
        "shapes_fitted": float(len(table[table["part"] == "fitted"][_SHAPE].drop_duplicates())),
        "shapes_held": float(len(table[table["part"] == "held out"][_SHAPE].drop_duplicates())),
    }
    for name in ("seconds", "peak"):
        for who in ("told", "rival"):
            for part in ("fitted", "held out"):
                error = error_of(table, f"{who}_{name}", name, part)
                key = f"{who}_{name}_{part.split()[0]}"
                facts |= {key: error, f"percent_{key}": percent(error)}
    held = table[table["part"] == "held out"]
    for who in ("told", "rival"):
        facts[f"worst_{who}_seconds"] = 100 * float(_apart(held, f"{who}_seconds", "seconds").max())
        facts[f"worst_{who}_peak"] = 100 * float(_apart(held, f"{who}_peak", "peak").max())
    errors = _apart(held, "told_seconds", "seconds").groupby([held[key] for key in _SHAPE]).mean()
    worst = errors.sort_values().reset_index(name="error").tail(2)  # of the shapes
    facts["off_percent"], facts["others_percent"] = (100 * float(x) for x in worst["error"].iloc[::-1])
    facts |= {f"off_{key}": float(worst[key].iloc[-1]) for key in _SHAPE[1:]}
    facts["products_percent"] = 100 * float(_apart(table, "derived_operations", "operations").max())
    facts["plain_percent"] = 100 * float(_apart(table, "plain_operations", "operations").max())
    facts["largest_held"] = float(held["parameters"].max()) / 1e6
    facts["to_eight"] = LLAMA_8B.parameters / float(held["parameters"].max())
    cells = table.pivot_table(index=["part", *_SHAPE], columns="work", values="seconds")
    # An epoch whose reference is known is a step without the reference's pass.
    epoch = cells["step"] - cells["logps"]
    rehearsal = cells["gradient"] / 2 + cells["logps"] + cells["virtual"]
    facts["rehearsal"] = median_interval(rehearsal / epoch)
    facts["geometry"] = median_interval(cells["geometry"] / epoch)
    return facts
