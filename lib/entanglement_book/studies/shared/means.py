"""From a trajectory's table to means: per step, and per step and set of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from entanglement.geometry import CASES, PairGeometry
from entanglement.logps import PairLogps
from entanglement.losses import Loss
from entanglement.training import Trajectory

__all__ = ["TOLERANCE", "set_means", "step_means", "with_weights"]


def with_weights(run: Trajectory, loss: Loss) -> pd.DataFrame:
    """Return a trajectory's held-out pairs with what the loss makes of them.

    Args:
        run: from ``align``; its first moment is the reference.
        loss: that it was trained with.

    Returns:
        One row a step and pair: step, pair, chosen, rejected, margin (changes since the reference, nats),
        d_w, d_l, r, cosine, norm_ratio, weighed (d_l b / d_w a) and case (for these weights; missing where no
        gradient was measured).
    """
    frames = []
    table = run.table
    first = table[table["step"] == table["step"].min()].set_index("pair")
    for step, rows in table.groupby("step", sort=True):
        reference = first.loc[rows["pair"]]

        def column(frame: pd.DataFrame, name: str) -> torch.Tensor:
            return torch.tensor(frame[name].to_numpy(copy=True))

        logps = PairLogps(
            column(rows, "chosen_logp"),
            column(rows, "rejected_logp"),
            column(reference, "chosen_logp"),
            column(reference, "rejected_logp"),
            column(rows, "chosen_len"),
            column(rows, "rejected_len"),
        )
        d_w, d_l = loss.weights(logps)
        frame = pd.DataFrame(
            {
                "step": step,
                "pair": rows["pair"].to_numpy(),
                "chosen": logps.chosen_logratio,
                "rejected": logps.rejected_logratio,
                "margin": logps.delta,
                "d_w": d_w,
                "d_l": d_l,
                "r": d_w / d_l,
                "cosine": rows["cosine"].to_numpy(),
                "norm_ratio": (rows["rejected_norm"] / rows["chosen_norm"]).to_numpy(),
                "case": None,
            }
        )
        frame["weighed"] = frame["norm_ratio"] / frame["r"]
        measured = frame["cosine"].notna().to_numpy(copy=True)
        if measured.any():
            some = rows[measured]
            a, b, rho = (column(some, name) for name in ("chosen_norm", "rejected_norm", "cosine"))
            geometry = PairGeometry(a * a, b * b, a * b * rho)
            where = torch.tensor(measured)
            frame.loc[measured, "case"] = geometry.case(d_w[where], d_l[where])
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def step_means(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a step: means over pairs, the shares of the cases and of what really happened."""
    rows = []
    for step, group in pairs.groupby("step", sort=True):
        measured = group.dropna(subset=["case"])
        row: dict[str, object] = {"step": step, "pairs": len(group)}
        row |= {name: group[name].mean() for name in ("chosen", "rejected", "margin")}
        row["r"] = group["r"].median()
        row["fell"] = float((group["chosen"] < 0).mean())
        row["both_fell"] = float(((group["chosen"] < 0) & (group["rejected"] < 0)).mean())
        row |= {name: measured[name].mean() for name in ("cosine", "norm_ratio")}
        row |= {c: float((measured["case"] == c).mean()) if len(measured) else np.nan for c in CASES}
        rows.append(row)
    return pd.DataFrame(rows)


#: A log-probability has fallen if it has fallen by more than this, in nats.
TOLERANCE = 0.05


def set_means(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a step and set of a trajectory's table.

    Columns: step, set; chosen, rejected, margin (mean changes since the first step, nats); fell (share of
    pairs whose chosen response fell by more than ``TOLERANCE``), rose (share whose rejected one rose by
    more), both_fell (share in which both fell at all); accuracy (share whose chosen response is the likelier
    one).
    """
    names = ["chosen_logp", "rejected_logp"]
    first = table[table["step"] == table["step"].min()].set_index(["set", "pair"])[names]
    rows = []
    for (step, name), group in table.groupby(["step", "set"], sort=True):
        now = group.set_index(["set", "pair"])[names]
        moved = now - first.loc[now.index]
        chosen, rejected = moved["chosen_logp"], moved["rejected_logp"]
        row: dict[str, Any] = {"step": step, "set": name, "chosen": chosen.mean()}
        row |= {"rejected": rejected.mean(), "margin": (chosen - rejected).mean()}
        row["fell"] = float((chosen < -TOLERANCE).mean())
        row["rose"] = float((rejected > TOLERANCE).mean())
        row["both_fell"] = float(((chosen < 0) & (rejected < 0)).mean())
        row["accuracy"] = float((now["chosen_logp"] > now["rejected_logp"]).mean())
        rows.append(row)
    return pd.DataFrame(rows)
