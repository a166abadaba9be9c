"""What the text of the audit quotes and its claims are decided by, under the names that stand there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from entanglement.auditing import AuditReport
from entanglement.stats import Interval, mean_interval
from entanglement_book.grids.stored import Stored
from entanglement_book.press.pasting import percent
from entanglement_book.studies.ch17_audit import numbers as tell

__all__ = ["of_advice", "of_plane", "of_report", "of_rivals", "of_settings", "of_signs", "of_sizes"]

Number = float | Interval
Facts = dict[str, Number]


def _share(interval: Interval) -> Interval:
    """Return an interval of a share, which ends at 0 and at 1."""
    return Interval(interval.value, max(interval.low, 0.0), min(interval.high, 1.0), interval.n)


def _judged(responses: pd.DataFrame) -> list[int]:
    """Return the moments that are judged: of a smoke run, which is shorter, its end."""
    steps = [step for step in tell.JUDGED if step in set(responses["step"])]
    return steps or [int(responses["step"].max())]


def of_settings(audits: Stored) -> Facts:
    """Return what the stored runs were made with."""
    run = audits.provenance["run"]
    found: Facts = {f"set_{name}": float(run[name]) for name in ("steps", "batch", "sampled", "blind")}
    table = audits["responses"]
    # A pass back costs two forward; a step has one of each, and the reference's pass forward.
    found["set_price"] = run["sampled"] * (1 + 2 + 2) / (1 + 2 + 1)
    found["set_seeds"] = float(table["seed"].nunique())
    found["set_held"] = float(table.groupby(tell.CELL)["pair"].nunique().max())
    found["set_runs"] = float(len(table.groupby(tell.CELL)))
    return found | {"set_settings": float(len(tell.settings(table)))}


def _ahead(responses: pd.DataFrame, by: str, other: str, side: str = "chosen") -> Interval:
    """Return by how much a larger share of signs one foretells than another, at the judged moments, over
    all settings, seed by seed; "lot" deals the rehearsal's signs to the responses by lot.
    """
    ours = _by_lot if by == "lot" else tell.right_signs(by)
    others = tell.right_signs(other)
    found = []
    for _, mine in responses.groupby("seed"):
        runs = [
            run
            for step in _judged(responses)
            for _, run in tell.at(mine, step, side).groupby(["data", "optimizer"])
        ]
        found.append(sum(ours(run) - others(run) for run in runs) / len(runs))
    return mean_interval(found)


def _by_lot(run: pd.DataFrame) -> float:
    return tell.chance(run.assign(says=np.sign(run["told"])))


def of_signs(responses: pd.DataFrame) -> Facts:
    """Return how many signs of held-out chosen responses are foretold (percent, and as a share under
    share_…), by setting at the judged moments, and the worst of them.

    Args:
        responses: of the grid ``audits``.
    """
    found: Facts = {}
    right: dict[tuple[str, str, int], Interval] = {}
    speaks, lot, agreed = dict(right), dict(right), dict(right)
    for step in _judged(responses):
        rows = tell.at(responses, step)
        for kept, of in (
            (right, tell.right_signs("says")),
            (speaks, tell.spoken),
            (lot, tell.chance),
            (agreed, tell.chance_to_speak),
        ):
            kept |= {(*at, step): _share(share) for at, share in tell.by_setting(rows, of).items()}
    for (data, optimizer, step), share in right.items():
        found[f"right_{data}_{optimizer}_{step}"] = percent(share)
        found[f"speaks_{data}_{optimizer}_{step}"] = percent(speaks[data, optimizer, step])
    worst = min(right, key=lambda key: right[key].value)
    quietest = min(speaks, key=lambda key: speaks[key].value)
    found |= {"share_right": right[worst], "right": percent(right[worst]), "share_lot": lot[worst].value}
    found |= {"share_speaks": speaks[quietest], "speaks": percent(speaks[quietest])}
    found["share_speaks_lot"] = agreed[quietest].value
    found["speaks_most"] = 100 * max(share.value for share in speaks.values())
    found["good"] = float(sum(share.value >= 0.9 for share in right.values()))
    found["loud"] = float(sum(share.value >= 0.8 for share in speaks.values()))
    found["judged"] = float(len(right))
    return found


def of_rivals(responses: pd.DataFrame) -> Facts:
    """Return by how many points the rehearsal is ahead of others, and their shares and rank correlations.

    Args:
        responses: of the grid ``audits``.
    """
    found: Facts = {}
    for other in ("own", "first", "label", "data"):
        gap = _ahead(responses, "told", other)
        found |= {f"share_ahead_{other}": gap, f"ahead_{other}": percent(gap)}
    found |= _of_short_run(responses)
    for other in ("own", "label"):
        found[f"share_lot_ahead_{other}"] = _ahead(responses, "lot", other).value
    last = tell.at(responses, int(responses["step"].max()))
    for by in tell.RANKED:
        found[f"rank_{by}"] = _over_settings(last, tell.rank_correlation(by))
    first = tell.at(responses, int(responses["step"].min()))
    found["right_first"] = percent(_share(_over_settings(first, tell.right_signs("says"))))
    for by in ("told", "own", "label"):
        found[f"signs_{by}"] = percent(_over_settings(last, tell.right_signs(by)))
    return found


def _of_short_run(responses: pd.DataFrame) -> Facts:
    """Return how many signs of the end a run has already that goes as far as the moment before."""
    ends = tell.short_run(responses)
    short, told = tell.right_signs("short"), tell.right_signs("told")
    gap = _over_settings(ends, lambda run: told(run) - short(run))
    lot = _over_settings(ends, lambda run: _by_lot(run) - short(run))
    return {
        "signs_short": percent(_share(_over_settings(ends, short))),
        "share_ahead_short": gap,
        "ahead_short": percent(gap),
        "share_lot_ahead_short": lot.value,
        "set_short": float(sorted(responses["step"].unique())[-2]),
    }


def _over_settings(rows: pd.DataFrame, of: Callable[[pd.DataFrame], float]) -> Interval:
    """Return the mean over settings, seed by seed."""
    found = []
    for _, mine in rows.groupby("seed"):
        runs = [run for _, run in mine.groupby(["data", "optimizer"])]
        found.append(sum(of(run) for run in runs) / len(runs))
    return mean_interval(found)


def of_sizes(responses: pd.DataFrame) -> Facts:
    """Return by what told changes must be multiplied, by setting, at the last moment."""
    last = tell.at(responses, int(responses["step"].max()))
    slopes = tell.by_setting(last, tell.slope)
    found: Facts = {f"slope_{data}_{optimizer}": each for (data, optimizer), each in slopes.items()}
    found["slope_low"] = min(each.value for each in slopes.values())
    found["over"] = 1 / min(each.value for each in slopes.values())
    found["slope_high"] = max(each.value for each in slopes.values())
    return found


def of_advice(means: pd.DataFrame) -> Facts:
    """Return what the rehearsed ratio did, beside DPO and a ratio that knows nothing (percent of runs, and as
    a share under share_…).

    Args:
        means: of the grid ``audits``.
    """
    ends = tell.after_training(means)
    found: Facts = {}
    for way in ("told", "blind", "dpo"):
        held = tell.advised(ends, way)
        share = _share(mean_interval(held.groupby("seed").mean()))
        found |= {f"share_held_{way}": share, f"held_{way}": percent(share)}
        mine = ends[ends["way"] == way]
        found[f"off_{way}"] = mean_interval(mine.groupby("seed")["chosen"].apply(lambda x: x.abs().mean()))
        found[f"kept_{way}"] = percent(mean_interval(mine.groupby("seed")["kept"].mean()))
    for optimizer in ("adamw", "sgd"):
        some = ends[ends["optimizer"] == optimizer]
        for way in ("told", "blind", "dpo"):
            share = _share(mean_interval(tell.parted(some, way).groupby("seed").mean()))
            found[f"parted_{way}_{optimizer}"] = percent(share)
            mine = some[some["way"] == way]
            found[f"kept_{way}_{optimizer}"] = percent(mean_interval(mine.groupby("seed")["kept"].mean()))
    shares = {way: tell.advised(ends, way).groupby("seed").mean() for way in ("told", "blind", "dpo")}
    found["share_told_ahead_blind"] = mean_interval(shares["told"] - shares["blind"])
    found["share_dpo_ahead_blind"] = float((shares["dpo"] - shares["blind"]).mean())
    return found


def of_report(report: AuditReport) -> Facts:
    """Return the numbers of an audit that the text quotes."""
    summary = report.summary
    found: Facts = {"report_rows": float(summary["rows"]), "report_held": float(summary["held_out"])}
    for side in ("chosen", "rejected"):
        found |= {f"report_{side}_{name}": float(value) for name, value in summary[side].items()}
    if summary["number"] is not None:
        found |= {f"report_at_{side}": float(summary["number"][side]) for side in ("chosen", "rejected")}
    return found


def of_plane(report: AuditReport) -> Facts:
    """Return how far an audit tells near-copies and the other pairs to go together and apart, nats."""
    held = report.pairs[report.pairs["held_out"]]
    found: Facts = {}
    for name, some in (("near", held["edits"] == 1), ("far", held["edits"] != 1)):
        chosen, rejected = (float(held.loc[some, f"{side}_whole"].mean()) for side in ("chosen", "rejected"))
        found[f"plane_{name}"] = (chosen + rejected) / 2
        found[f"plane_{name}_apart"] = (chosen - rejected) / 2
    return found
