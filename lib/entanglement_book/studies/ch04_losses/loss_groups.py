"""Which losses belong together: by what their ratio r does on the way, found from the paths themselves.

No loss is named here, so a new one finds its row by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from entanglement.losses import LossSpec

__all__ = ["GROUPS", "NOTICES", "effective_ratio", "grouped", "noticing"]

#: Kinds of losses in the order of the figures, with what is written before their names.
GROUPS: dict[str, str] = {
    "one": "r = 1",
    "means": "$r=n_l/n_w$, here 1",
    "constant": "another constant",
    "falls": "r falls from about 1",
    "rises": "r rises from 1",
    "jumps": "r jumps",
    "rests": "SFT once its hinge rests",
    "pull": "a likelihood term",
    "sft": "mostly or only likelihood",
    "zero": "r = 0 at first",
    "negative": "negative weights at first",
}

_NEAR = 1.25  # r is near 1 up to this factor
_JUMP = 3.0  # from one step to the next
_MOSTLY = 10.0


def _kind(walk: pd.DataFrame, spec: LossSpec) -> str:
    start = walk[walk["step"] == 0]
    moving = walk[(walk["d_w"] != 0) | (walk["d_l"] != 0)]
    ratio = moving["r"]
    if (start["d_w"] < 0).any():
        return "negative"
    if (start["r"] == 0).all():
        return "zero"
    if np.allclose(ratio, ratio.iloc[0], rtol=1e-9, atol=0):
        if not np.isclose(ratio.iloc[0], 1, rtol=1e-9):
            return "sft" if np.isinf(ratio.iloc[0]) else "constant"
        return "means" if spec.length_normalized else "one"
    near_one = 1 / _NEAR < start["r"].median() < _NEAR
    if near_one and np.isinf(ratio).any():
        return "rests"
    if near_one:
        change = moving.groupby("pair")["r"].transform(lambda r: r / r.shift())
        if (change > _JUMP).any():
            return "jumps"
        ends = moving.groupby("pair")["r"].agg(["first", "last"])
        return "rises" if np.log(ends["last"] / ends["first"]).mean() > 0 else "falls"
    return "sft" if ratio.median() >= _MOSTLY else "pull"


def grouped(walks: Mapping[str, pd.DataFrame], specs: Mapping[str, LossSpec]) -> dict[str, list[str]]:
    """Return kind → names of its losses, in the order of ``GROUPS``; kinds without a loss are left out.

    Args:
        walks: loss → rows of ``study.descend``.
        specs: loss → its declaration.
    """
    kinds = {name: _kind(walk, specs[name]) for name, walk in walks.items()}
    found = {kind: [name for name, its in kinds.items() if its == kind] for kind in GROUPS}
    return {kind: names for kind, names in found.items() if names}


def effective_ratio(walk: pd.DataFrame) -> pd.Series:
    """Return the ratio of all weights that were put on g_w and on g_l along the way, one a pair."""
    put = walk.assign(w=walk["eta"] * walk["d_w"], l=walk["eta"] * walk["d_l"])
    sums = put.groupby("pair")[["w", "l"]].sum()
    return sums["w"] / sums["l"]


#: How a loss's r answers when both responses have fallen, in the order of the panels.
NOTICES: dict[str, str] = {
    "flat": "does not notice",
    "grows": "the further, the harder",
    "turns": "toward a target, which it passes",
    "steps": "a switch; a start at 0",
}


def noticing(fallen: pd.DataFrame) -> dict[str, list[str]]:
    """Return how losses answer a fall → their names; see ``NOTICES``. Without a finite r a loss is flat.

    Args:
        fallen: columns loss, fallen (nats), r.
    """
    found: dict[str, list[str]] = {kind: [] for kind in NOTICES}
    for name, rows in fallen.groupby("loss", sort=False):
        r = rows.sort_values("fallen")["r"].to_numpy()
        if (r < 0).any():
            kind = "turns"
        elif not np.isfinite(r).any() or (r[0] > 0 and np.nanmax(r) <= 1.5 * np.nanmin(r)):
            kind = "flat"
        elif r[0] == 0 or np.nanmax(r[1:] / r[:-1]) > _JUMP:
            kind = "steps"
        else:
            kind = "grows"
        found[kind].append(str(name))
    return {kind: names for kind, names in found.items() if names}
