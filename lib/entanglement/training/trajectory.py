"""What was seen along a training run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from entanglement.geometry import CASES
from entanglement.signatures import checked

__all__ = ["Trajectory"]


@checked()
@dataclass
class Trajectory:
    """What was seen along a training run.

    Attributes:
        table: one row a step, pair set and pair: columns step, set, pair, chosen_logp, rejected_logp (nats,
            summed over the response), chosen_len, rejected_len (tokens), chosen_norm, rejected_norm, cosine,
            case (for d_w = d_l, as at the reference). The last four are missing where no gradient was taken.
        losses: one row a training step: step, loss (nats, mean over the batch before the step), lr,
            grad_norm.
        account: one row a step, set, pair and response, of the observer ``Account``; empty without one.
        monitor: one row a training step: what the update reports (``updates.StepReport.row``), and with the
            observer ``Monitor`` its columns.
        others: tables of further observers, by name.
    """

    table: pd.DataFrame
    losses: pd.DataFrame
    account: pd.DataFrame = field(default_factory=pd.DataFrame)
    monitor: pd.DataFrame = field(default_factory=pd.DataFrame)
    others: dict[str, pd.DataFrame] = field(default_factory=dict)

    def means(self) -> pd.DataFrame:
        """Return one row a step and set: means over pairs, the shares of the cases, and accuracy.

        Accuracy is the share of pairs whose chosen response is the more probable one.
        """
        rows = []
        for (step, name), group in self.table.groupby(["step", "set"], sort=True):
            measured = group.dropna(subset=["cosine"])
            row: dict[str, object] = {"step": step, "set": name, "pairs": len(group)}
            row |= {
                c: group[c].mean()
                for c in ("chosen_logp", "rejected_logp", "chosen_norm", "rejected_norm", "cosine")
            }
            row["accuracy"] = float((group["chosen_logp"] > group["rejected_logp"]).mean())
            row["measured_pairs"] = len(measured)
            row |= {
                case: float((measured["case"] == case).mean()) if len(measured) else np.nan for case in CASES
            }
            rows.append(row)
        return pd.DataFrame(rows)
