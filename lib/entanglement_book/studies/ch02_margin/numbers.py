"""The numbers that the text of the underspecified margin quotes from its runs."""

from __future__ import annotations

import math

import pandas as pd

from entanglement.stats import Interval, mean_interval, share_interval
from entanglement_book.studies.ch02_margin.study import (
    ALL,
    ALL_NLL,
    ONE,
    ONLY_LIKELIHOOD,
    SAYS,
)
from entanglement_book.studies.shared.toys import KINDS, Sizes

__all__ = ["Number", "changes", "compliance", "of_refusals", "of_student", "spoken", "spoken_by_student"]

Number = float | Interval

#: Short name → way, for the names of numbers.
_SHORT = {"one": ONE, "all": ALL, "nll": ALL_NLL, "only": ONLY_LIKELIHOOD}


def changes(course: pd.DataFrame, way: str, kind: str, step: int, side: str = "rejected") -> pd.Series:
    """Return each seed's mean change of log π of one answer since step 0, nats.

    Args:
        course: as of ``run_refusals``, of several seeds.
        way, kind: of the lesson.
        step: up to which.
        side: "chosen" or "rejected".
    """
    rows = course[(course["way"] == way) & (course["kind"] == kind)]
    by = rows.pivot_table(index="seed", columns="step", values=side, aggfunc="mean")
    return by[step] - by[0]


def compliance(course: pd.DataFrame, numbers: Sizes) -> pd.DataFrame:
    """Return by how much lessons on all pairs change the compliance's log π, nats, with intervals over seeds:
    one row a lesson, one column a moment.

    Args:
        course: as of ``run_refusals``, of several seeds.
        numbers: sizes of the runs.
    """
    lessons = {
        "DPO": (ALL, KINDS[0]),
        "DPO + NLL": (ALL_NLL, KINDS[0]),
        "NLL alone": (ONLY_LIKELIHOOD, KINDS[0]),
        "DPO + NLL, other words": (ALL_NLL, KINDS[1]),
    }
    moments = (numbers.early, numbers.refuse_steps)
    rows = {
        name: {
            f"step {step}": f"{mean_interval(changes(course, *which, step).to_numpy()):+.2f}"
            for step in moments
        }
        for name, which in lessons.items()
    }
    return pd.DataFrame(rows).T


def _percent(values: pd.Series) -> Interval:
    found = mean_interval((100 * values).to_numpy())
    if not math.isfinite(found.low):
        return found
    return found._replace(low=max(found.low, 0.0), high=min(found.high, 100.0))


def of_refusals(course: pd.DataFrame, said: pd.DataFrame, numbers: Sizes) -> dict[str, Number]:
    """Return the compliance's probabilities, their changes, and what was said.

    Args:
        course, said: as of ``run_refusals``, of several seeds.
        numbers: sizes of the runs.

    Returns:
        With <name> for way and kind, such as one_same, and _early after it for the early step: changes
        of log π, chosen_<name> and rejected_<name>; the seeds in which the compliance rose, up_<name>. In
        percent, and with _before too: its probability p_<name>, and the shares of draws asked_<name> (what
        was asked for), gives_<name> (that or another thing) and refuses_<name>.
    """
    found: dict[str, Number] = {}
    shown = course.assign(p=course["rejected"].map(math.exp))
    shares = said.assign(n=said[list(SAYS)].sum(axis=1)).set_index("seed")
    for short, way in _SHORT.items():
        alone = way == ONE
        moments = {"": numbers.alone_steps} if alone else {"_early": numbers.early, "": numbers.refuse_steps}
        for kind in KINDS:
            rows = shown[(shown["way"] == way) & (shown["kind"] == kind)]
            if not len(rows):
                continue
            name = f"{short}_{kind.split()[0]}"
            for end, step in {"_before": 0, **moments}.items():
                there = shares[(shares["way"] == way) & (shares["kind"] == kind) & (shares["step"] == step)]
                found[f"p_{name}{end}"] = _percent(rows[rows["step"] == step].groupby("seed")["p"].mean())
                found[f"asked_{name}{end}"] = _percent(there[SAYS[0]] / there["n"])
                found[f"refuses_{name}{end}"] = _percent(there[SAYS[2]] / there["n"])
                found[f"gives_{name}{end}"] = _percent((there[SAYS[0]] + there[SAYS[1]]) / there["n"])
            for end, step in moments.items():
                for side in ("chosen", "rejected"):
                    moved = changes(course, way, kind, step, side)
                    found[f"{side}_{name}{end}"] = mean_interval(moved.to_numpy())
                    if side == "rejected":
                        found[f"up_{name}{end}"] = int((moved > 0).sum())
    return found | _few(course, said, numbers)


def _few(course: pd.DataFrame, said: pd.DataFrame, numbers: Sizes) -> dict[str, Number]:
    """Return both starts, the share of single pairs whose compliance rose, and the refusals drawn."""
    first = (
        course[(course["way"] == ALL) & (course["step"] == 0)].groupby("seed")[["chosen", "rejected"]].mean()
    )
    found: dict[str, Number] = {f"start_{side}": mean_interval(first[side].to_numpy()) for side in first}
    for kind in KINDS:
        rows = course[(course["way"] == ONE) & (course["kind"] == kind)]
        by = rows.pivot(index=["seed", "pair"], columns="step", values="rejected")
        rose = by[numbers.alone_steps] > by[0]
        short = kind.split()[0]
        found[f"rose_{short}"] = 100 * float(rose.mean())
        if kind == KINDS[0]:
            rare = by[0] < math.log(0.5)
            found["n_rare"], found["n_often"] = int(rare.sum()), int((~rare).sum())
            found["rose_rare"], found["rose_often"] = int(rose[rare].sum()), int(rose[~rare].sum())
    end = said[(said["way"] == ONE) & (said["kind"] == KINDS[0]) & (said["step"] == numbers.alone_steps)]
    counts = end[list(SAYS)].sum()
    refused = share_interval(int(counts[SAYS[2]]), int(counts.sum()))
    found |= {"one_refused": int(counts[SAYS[2]]), "one_drawn": int(counts.sum())}
    found["one_refused_high"] = 100 * refused.high
    return found


def spoken(said: pd.DataFrame, numbers: Sizes) -> pd.DataFrame:
    """Return what was said in percent of the draws, the mean over seeds: one row a moment of a lesson.

    Args:
        said: as of ``run_refusals``, of several seeds.
        numbers: sizes of the runs.
    """
    moments = {
        "all held-out prompts, before": (ALL_NLL, KINDS[0], 0),
        **{
            f"{name}, {when}": (way, kind, step)
            for name, way, kind in (
                ("DPO + NLL", ALL_NLL, KINDS[0]),
                ("NLL alone", ONLY_LIKELIHOOD, KINDS[0]),
                ("DPO", ALL, KINDS[0]),
                ("DPO + NLL, other words", ALL_NLL, KINDS[1]),
            )
            for when, step in (
                (f"step {numbers.early}", numbers.early),
                (f"step {numbers.refuse_steps}", numbers.refuse_steps),
            )
        },
    }
    rows = {}
    for name, (way, kind, step) in moments.items():
        there = said[(said["way"] == way) & (said["kind"] == kind) & (said["step"] == step)]
        counts = there[list(SAYS)]
        rows[name] = (100 * counts.div(counts.sum(axis=1), axis=0)).mean()
    return pd.DataFrame(rows).T


def spoken_by_student(said: pd.DataFrame) -> pd.DataFrame:
    """Return what the student said, in percent of the draws, and in how many percent of the pairs the
    teacher's answer is the likelier one: the mean over seeds, one row a kind and moment.

    Args:
        said: as of ``run_distillation``, of several seeds.
    """
    counts = said[["ideal", "goes on", "else"]]
    shares = counts.div(counts.sum(axis=1), axis=0).assign(preferred=said["preferred"])
    keys = [said["kind"], said["moment"]]
    return (100 * shares).groupby(keys, sort=False).mean()


def _with_width(lost: Interval, counts: pd.DataFrame) -> Interval:
    """Return the change of a share, with the pooled shares' exact ends where the seeds do not differ."""
    if lost.low < lost.high:
        return lost._replace(low=max(lost.low, -1.0), high=min(lost.high, 1.0))
    ends = {}
    for moment, rows in counts.groupby("moment"):
        drawn = int(rows[["ideal", "goes on", "else"]].to_numpy().sum())
        ends[moment] = share_interval(int(rows["ideal"].sum()), drawn)
    before, after = ends["before"], ends["after"]
    return lost._replace(low=after.low - before.high, high=after.high - before.low)


def of_student(course: pd.DataFrame, said: pd.DataFrame) -> dict[str, Number]:
    """Return how the student's answers changed.

    Args:
        course, said: as of ``run_distillation``, of several seeds.

    Returns:
        taught_<side>_<kind>: change of log π, nats; p_…_before and _after: of the teacher's answer, percent;
        ideal_<kind>_before and _after: share of the draws, percent; lost_<kind>: change of that share, as a
        share; lost_in_<kind>: in how many seeds it fell; preferred_least: the smallest share of the pairs in
        which the teacher's answer is the likelier one, of any seed, kind and moment, percent.
    """
    found: dict[str, Number] = {"preferred_least": 100 * float(said["preferred"].min())}
    ideal = said.assign(share=said["ideal"] / said[["ideal", "goes on", "else"]].sum(axis=1))
    for kind in KINDS:
        short = kind.split()[0]
        rows = course[course["kind"] == kind]
        ends = {"before": rows["step"].min(), "after": rows["step"].max()}
        for side in ("chosen", "rejected"):
            by = rows.pivot_table(index="seed", columns="step", values=side, aggfunc="mean")
            found[f"taught_{side}_{short}"] = mean_interval(
                (by[ends["after"]] - by[ends["before"]]).to_numpy()
            )
        p = rows.assign(p=rows["chosen"].map(math.exp))
        drawn = ideal[ideal["kind"] == kind].pivot(index="seed", columns="moment", values="share")
        for moment, step in ends.items():
            found[f"p_{short}_{moment}"] = _percent(p[p["step"] == step].groupby("seed")["p"].mean())
            found[f"ideal_{short}_{moment}"] = _percent(drawn[moment])
        lost = drawn["after"] - drawn["before"]
        found[f"lost_{short}"] = _with_width(mean_interval(lost.to_numpy()), ideal[ideal["kind"] == kind])
        found[f"lost_in_{short}"] = int((lost < 0).sum())
    return found
