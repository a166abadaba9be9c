"""What the log of a preference training says: TRL's ``trainer_state.json`` or TensorBoard files, after a run.

TRL logs rewards: β times the log-ratio to the reference, a mean over a batch. Batches differ, so the curve of
a run is noisy; what is said here compares the run's beginning with its end, each a fifth of the log, and says
nothing where the two intervals do not tell.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from entanglement.auditing.events import event_files, events_log
from entanglement.checks import positive
from entanglement.files import read_text
from entanglement.signatures import checked
from entanglement.stats import Interval

__all__ = ["CURVES", "LogReading", "log_table", "read_log"]

#: Curve → its column in TRL's log.
CURVES = {
    "chosen": "rewards/chosen",
    "rejected": "rewards/rejected",
    "margin": "rewards/margins",
    "accuracy": "rewards/accuracies",
    "loss": "loss",
}
#: Fewer logged steps have no beginning and end that could be told apart.
_FEWEST = 10
_CHANCE = math.log(2)


@dataclass(frozen=True)
class LogReading:
    """What a log says.

    Attributes:
        table: one row a logged step: step and the curves that are there.
        changes: curve → its mean in the last fifth of the log minus that in the first, with an interval that
            takes the logged batches for independent draws (95 %).
        beta: by which rewards are divided to be nats; None if it is not known.
        findings: sentences, the most important first.
    """

    table: pd.DataFrame
    changes: dict[str, Interval]
    beta: float | None
    findings: list[str]

    def __str__(self) -> str:
        return "\n".join(self.findings)


def _rows(path: Path) -> Any:
    if path.is_dir():  # of a run, or of a checkpoint
        found = sorted(path.glob("checkpoint-*/trainer_state.json"), key=lambda p: int(p.parent.name[11:]))
        found += [path / "trainer_state.json"] if (path / "trainer_state.json").exists() else []
        if not found and event_files(path):
            return events_log(path)
        if not found:
            raise ValueError(
                f"source={str(path)!r}: a folder without trainer_state.json, also in its checkpoints, and "
                "without event files of TensorBoard."
            )
        path = found[-1]
    if event_files(path):
        return events_log(path)
    if not path.is_file():
        raise ValueError(f"source={str(path)!r}: there is no such file.")
    try:
        state = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"source={str(path)!r}: no JSON: {error.msg} in line {error.lineno}.") from None
    return state.get("log_history") if isinstance(state, Mapping) else state


@checked()
def log_table(source: str | Path) -> pd.DataFrame:
    """Return the training curves of a log.

    Args:
        source: ``trainer_state.json``, its ``log_history`` in a file, an event file of TensorBoard, or the
            folder of a run: its last ``trainer_state.json`` is read, and where there is none the event files
            of the last run begun (``runs/…``).

    Returns:
        One row a logged step, in order: step, and those of ``CURVES`` that are there.

    Raises:
        ValueError: no such log, or none of a preference training.
        OSError: it cannot be read.
    """
    rows = _rows(Path(source))
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(f"source={str(source)!r}: expected a log_history, a list of logged steps.")
    kept = [
        {"step": row.get("step")} | {name: row[key] for name, key in CURVES.items() if key in row}
        for row in rows
        if CURVES["chosen"] in row and CURVES["rejected"] in row
    ]
    if not kept:
        raise ValueError(
            f"source={str(source)!r}: no step has {CURVES['chosen']} and {CURVES['rejected']}; expected the "
            "log "
            "of a preference training with TRL."
        )
    table = pd.DataFrame(kept).sort_values("step", kind="stable").reset_index(drop=True)
    if "margin" not in table:
        table["margin"] = table["chosen"] - table["rejected"]
    return table


def _change(curve: pd.Series) -> Interval:
    """Return the last fifth's mean minus the first's, with Welch's interval."""
    size = max(2, len(curve) // 5)
    first, last = (np.asarray(part, dtype=float) for part in (curve[:size], curve[-size:]))
    found = stats.ttest_ind(last, first, equal_var=False)
    value = float(last.mean() - first.mean())
    with np.errstate(invalid="ignore"):
        ends = found.confidence_interval()
    low, high = float(ends.low), float(ends.high)
    if math.isnan(low):  # both parts are constant
        low = high = value
    return Interval(value, low, high, size)


def _moved(interval: Interval) -> int:
    return 1 if interval.low > 0 else -1 if interval.high < 0 else 0


def _turned(table: pd.DataFrame) -> int | None:
    """Return the step from which the chosen reward, smoothed over a fifth of the log, only falls."""
    smooth = table["chosen"].rolling(max(2, len(table) // 5), min_periods=1, center=True).mean()
    top = int(smooth.to_numpy().argmax())
    return int(table["step"][top]) if top < len(table) - 1 else None


@checked(beta=positive)
def read_log(source: str | Path, *, beta: float | None = None) -> LogReading:
    """Read the log of a run and say what its curves mean.

    Args:
        source: as in ``log_table``.
        beta: of the loss; with it changes are said in nats as well.

    Raises:
        ValueError: fewer than ten logged steps, or what ``log_table`` refuses.
        OSError: it cannot be read.
    """
    table = log_table(source)
    if len(table) < _FEWEST:
        raise ValueError(
            f"source={str(source)!r}: {len(table)} logged steps; expected at least {_FEWEST}. Log every "
            "step or "
            "every few (logging_steps)."
        )
    changes = {name: _change(table[name]) for name in CURVES if name in table}
    return LogReading(table, changes, beta, [*_main(table, changes, beta), *_besides(table, changes)])


def _said(interval: Interval, beta: float | None) -> str:
    text = f"{interval.value:+.3g} [{interval.low:+.3g}, {interval.high:+.3g}]".replace("-", "\u2212")
    nats = "" if beta is None else f", {interval.value / beta:+.3g} nats".replace("-", "\u2212")
    return text + nats


def _main(table: pd.DataFrame, changes: Mapping[str, Interval], beta: float | None) -> list[str]:
    chosen, rejected, margin = (changes[name] for name in ("chosen", "rejected", "margin"))
    numbers = f"chosen {_said(chosen, beta)}; rejected {_said(rejected, beta)}; margin {_said(margin, beta)}"
    moves = (_moved(chosen), _moved(rejected))
    turned = _turned(table)
    since = f", from step {turned} on" if turned is not None else ""
    told = {
        (-1, -1): f"Both responses have become less likely{since}: the margin grows because the rejected "
        "one falls "
        "faster. A margin loss asks for no more; where the two share their tokens, their gradients are "
        "coupled.",
        (1, 1): "Both responses have become likelier, the chosen one more so. Most of what they share was "
        "learned.",
        (1, -1): "The two move apart: chosen up, rejected down. This is what the loss is meant to do.",
        (-1, 1): "The chosen response has fallen and the rejected one has risen: on these pairs the loss is "
        "not minimized. A β of the wrong sign does this, or a log of other pairs than the trained ones, with "
        "the two columns exchanged.",
        (-1, 0): f"The chosen response has fallen{since}; of the rejected one the log does not tell.",
        (1, 0): "The chosen response has risen; of the rejected one the log does not tell.",
        (0, -1): "The rejected response has fallen; of the chosen one the log does not tell.",
        (0, 1): "The rejected response has risen; of the chosen one the log does not tell.",
        (0, 0): "Neither response has moved by more than batches differ.",
    }  # fmt: skip
    if moves == (-1, -1) and _moved(margin) <= 0:
        told[moves] = f"Both responses have become less likely{since}, and the margin has not grown."
    advice = []
    if moves[0] < 0:
        advice.append(
            "Whether the chosen response would stay up at another ratio of the two weights, and at which, "
            "is told by "
            "entanglement audit before the next run."
        )
    return [told[moves], f"From the first to the last fifth of the log: {numbers}.", *advice]


def _besides(table: pd.DataFrame, changes: Mapping[str, Interval]) -> list[str]:
    """Return what else a reader of these curves asks for."""
    found = []
    size = max(2, len(table) // 5)
    end = table.iloc[-size:]
    if "loss" in table:
        loss = float(end["loss"].mean())
        if abs(loss - _CHANCE) < 0.005 and _moved(changes["margin"]) <= 0:
            found.append(
                f"The loss has stayed at {loss:.3f}, which is ln 2: no margin. Too small a rate, too few "
                "steps, or "
                "rows whose two responses are the same."
            )
        elif loss < 0.01:
            found.append(
                f"The loss has fallen to {loss:.2g}: the margin is as good as infinite to it. On so few "
                "rows or at so "
                "large a rate everything that the model knew may have moved."
            )
    if "accuracy" in table:
        share = float(end["accuracy"].mean())
        if share == 1:
            found.append("The accuracy at the end is 1 in every batch: all pairs are learned.")
        elif share == 0 and bool((end["margin"] == 0).all()):
            found.append(
                "The accuracy at the end is 0 in every batch, because TRL counts a tie as wrong and all "
                "margins are 0: nothing has moved, or the two responses of every row are the same, which "
                "entanglement audit tells."
            )
        elif share == 0:
            found.append("The accuracy at the end is 0 in every batch: no margin is above 0.")
    if bool(table[["chosen", "rejected"]].isna().any(axis=None)):
        found.append("Some rewards are no numbers: the run has diverged, or a batch had no response.")
    return found
