"""The numbers that the text of gradient entanglement quotes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from entanglement.geometry import PairGeometry
from entanglement.outcomes import steps
from entanglement.stats import Interval, median_interval

__all__ = ["of_errors", "of_forms", "of_paths", "of_reach"]

Number = float | Interval


def of_paths(changes: torch.Tensor, path: Sequence[PairGeometry]) -> dict[str, Number]:
    """Return where the pairs built by hand end and turn.

    Args:
        changes: (steps + 1, 3 pairs, 2 responses) of the log-probabilities, nats.
        path: the three pairs after 0, 1, … steps.
    """
    down_w, down_l = changes[-1, 1].tolist()
    rejected = changes[:, 2, 1]  # of the third pair
    return {
        "down_w": down_w,
        "down_l": down_l,
        "peak": 1e3 * float(rejected.max()),
        "back": [pair.case()[2] for pair in path].index("ideal"),
        "below": (rejected < 0).tolist().index(True),
    }


def of_forms(ladder: pd.DataFrame, usual: Sequence[str]) -> dict[str, Number]:
    """Return where the language model's pairs lie, by the form of their responses.

    Args:
        ladder: rows of ``steps.step_ladder`` with a column form.
        usual: the forms whose responses are not made to leave the tent.
    """
    forms = {str(form): steps.ladder_geometry(part) for form, part in ladder.groupby("form")}
    pairs = PairGeometry.cat([forms[form] for form in usual])
    ratio = forms["one_token"].norm_ratio
    found: dict[str, Number] = {f"cos_{form}": float(forms[form].cosine.median()) for form in usual}
    return found | {
        "usual_n": len(pairs),
        "usual_ideal": pairs.case().count("ideal"),
        "ratio_low": float(ratio.min()),
        "ratio_high": float(ratio.max()),
    }


def of_errors(small: Mapping[str, pd.DataFrame]) -> dict[str, Number]:
    """Return how far off a small step's prediction is for the worse response of a pair, percent.

    Args:
        small: "log-linear" and "nano" → rows of ``steps.small_steps``.

    Returns:
        By the last part of each name: error and without (shares, with intervals), and in percent median, low,
        high, alone (the median without c), within (responses within one percent) and worst; n.

    Raises:
        ValueError: a change below 0.001 nats is among them.
    """
    found: dict[str, Number] = {}
    for name, table in small.items():
        key, pairs = name.split("-")[-1], table.groupby("pair")
        error, alone = (median_interval(pairs[column].max()) for column in ("error", "alone_error"))
        if (table["exact"].abs() < 1e-3).any() or len(table) != 2 * error.n:
            raise ValueError(f"{name}: a response changed by less than 0.001 nats, or is missing.")
        found |= {
            f"{key}_error": error,
            f"{key}_without": alone,
            f"{key}_median": 100 * error.value,
            f"{key}_low": 100 * error.low,
            f"{key}_high": 100 * error.high,
            f"{key}_alone": 100 * alone.value,
            f"{key}_within": 100 * float((table["error"] <= 0.01).mean()),
            f"{key}_worst": 100 * float(table["error"].max()),
            f"{key}_n": error.n,
        }
    return found


def of_reach(reach: Mapping[str, pd.DataFrame]) -> dict[str, Number]:
    """Return how the error grows with the step, and up to which step it stays below one percent.

    Args:
        reach: "log-linear" and "nano" → rungs of ``steps.step_ladder``.
    """
    found: dict[str, Number] = {}
    for name, ladder in reach.items():
        key = name.split("-")[-1]
        worse = ladder.groupby(["size", "pair"])["error"].max()
        median = worse.groupby("size").median()
        found[f"reach_{key}"] = float(median[median <= 0.01].index.max())
        found[f"far_{key}"] = float(100 * median.iloc[10])
        found[f"slope_{key}"] = float((median.iloc[3] / median.iloc[0]) ** (1 / 3))
        found |= {"far_size": float(median.index[10]), "reach_n": int(ladder["pair"].nunique())}
    return found
