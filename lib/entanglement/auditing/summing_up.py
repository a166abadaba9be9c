"""The numbers of an audit: what stands in ``report.json``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from entanglement.geometry import CASES
from entanglement.rows import TRAINED, VERDICTS

__all__ = ["SCHEMA", "sum_up"]

#: Of ``report.json``: it grows when a field changes its meaning.
SCHEMA = 2


def sum_up(
    rows: pd.DataFrame,
    pairs: pd.DataFrame,
    run: dict[str, Any],
    number: dict[str, Any] | None = None,
    ratios: pd.DataFrame | None = None,
    direction: dict[str, Any] | None = None,
    changes: pd.DataFrame | None = None,
    compared: dict[str, int] | None = None,
    calibration: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Return the numbers of an audit.

    Args:
        rows, pairs, ratios, changes: as in ``AuditReport``.
        run: what was asked for.
        number: of ``turning_number``, by field; None where nothing could be rehearsed.
        direction: of ``shared_direction``.
        compared: on how many rows the changes rest: train, held_out.
        calibration: (low, high) slope of what runs did on what was told of them, where that is known.
    """
    counts = rows["verdict"].value_counts()
    found: dict[str, Any] = {"schema": SCHEMA, "run": run, "rows": len(rows)}
    found["verdicts"] = {name: int(counts[name]) for name in VERDICTS if name in counts}
    found["trained"] = int(rows["verdict"].isin(TRAINED).sum())
    found["equal"] = int((rows["case"] == "equal").sum())
    found["sampled"] = len(pairs)
    held = pairs[pairs["held_out"]] if len(pairs) else pairs
    found["held_out"] = len(held)
    found["chosen"] = found["rejected"] = None
    for side in ("chosen", "rejected"):
        if len(held):
            says = held[f"{side}_says"]
            found[side] = {
                "change": float(held[f"{side}_whole"].mean()),
                "rise": float((says > 0).mean()),
                "fall": float((says < 0).mean()),
                "undecided": float((says == 0).mean()),
            }
    found["number"] = number
    found["sharpness"] = None if number is None or ratios is None else _sharpness(ratios)
    found["direction"] = direction
    found["geometry"] = _geometry(pairs) if "case" in pairs else None
    found["changes"] = [] if changes is None else changes.to_dict("records")
    found["compared"] = compared
    found["calibration"] = None if calibration is None else list(calibration)
    return found


def _sharpness(ratios: pd.DataFrame) -> dict[str, float]:
    """Return by how much the mean responses change if r grows by a hundredth, around r = 1, nats."""
    logs = np.log(ratios["ratio"].to_numpy())
    near = np.sort(np.argsort(np.abs(logs), kind="stable")[:3])  # 1 and its two neighbors, in order
    reach = float(logs[near[-1]] - logs[near[0]])
    found = {}
    for side in ("chosen", "rejected"):
        values = ratios[side].to_numpy()
        found[side] = float(values[near[-1]] - values[near[0]]) / reach * math.log(1.01)
    return found


def _geometry(pairs: pd.DataFrame) -> dict[str, Any]:
    """Return what the gradients of single pairs are like."""
    some = pairs[pairs["case"].notna()]
    counts = some["case"].value_counts()
    return {
        "pairs": len(some),
        "cases": {name: int(counts.get(name, 0)) for name in (*CASES, "equal")},
        "cosine": float(some["cosine"].median()),
        "norm_ratio": float((some["b"] / some["a"]).median()),
    }
