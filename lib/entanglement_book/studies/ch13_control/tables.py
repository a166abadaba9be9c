"""All ways of training of the chapters on untangling: at the end, at equal margin, and what a step costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from entanglement.stats import Interval, mean_interval
from entanglement_book.bench.variants import line_of
from entanglement_book.grids.stored import Stored
from entanglement_book.studies.shared.constant_ratios import smaller_gain
from entanglement_book.studies.shared.titles import UPDATE_TITLES, WAY_TITLES, WEIGHER_TITLES
from entanglement_book.studies.shared.update_tables import as_updates, at_end, at_margin, end_table, inside

__all__ = [
    "adversarial_cost",
    "at_ends",
    "at_equal_margin",
    "at_own_margins",
    "beside_a_way",
    "control_means",
    "cost_line",
    "every_rule",
    "families",
    "places_at_margin",
    "rows_at_end",
    "together",
    "ways_and_families",
]

#: Ways of training that are a loss's own step.
_OWN_STEP = frozenset({"joint", "dpop", "rpo", "itself", "kto", "apo_zero"})
#: Ways that are an update under another name than its own, or with options that cost something.
_UPDATES: dict[str, tuple[str, dict[str, object]]] = {
    "normalized-metric": ("normalized", {"metric": "optimizer"}),
    "normalized-batch": ("normalized", {"level": "batch"}),
    "band-25": ("band", {}),
    "batch": ("decoupled", {"level": "batch"}),
    "all": ("decoupled", {"level": "all"}),
}
#: Rows that are no way of training.
BEFORE, EARLY = "before training", "DPO, stopped early"
#: The request whose results stand for a way that is given requests.
REQUEST = "apart"


def control_means(table: pd.DataFrame, goal: str = REQUEST) -> pd.DataFrame:
    """Return the rows for one request, and those of ways that are given none, as updates."""
    return as_updates(table[table["goal"].isin([goal, "none"])], "way")


def cost_line(way: str) -> str | None:
    """Return which line of the benchmark measured a step of a way of training; None for a loss's own step.

    Args:
        way: a name of ``UPDATE_TITLES``, ``WEIGHER_TITLES`` or ``WAY_TITLES``.

    Raises:
        ValueError: it is no update.
    """
    if way in _OWN_STEP:
        return None
    update, options = _UPDATES.get(way, (way, {}))
    return line_of(update, **options)


def adversarial_cost(steps: pd.DataFrame) -> pd.Series:
    """Return what adversarial training has cost after each of its steps, in DPO steps, the mean over seeds.

    A DPO step is a forward and a backward pass over two responses to each prompt, six passes of a token; an
    adversarial one is twelve (``updates.Adversarial``), after the discriminator's head start.

    Args:
        steps: the grid's table of that name.

    Returns:
        Indexed by step.
    """
    a_step = steps.groupby("seed")["passes"].diff().mean()
    return steps.groupby("step")["passes"].mean() / (a_step / 2)


def ways_and_families(constant: str) -> dict[str, tuple[str, str]]:
    """Return every way of training of the grids: name → (title, family), in the order of the figures.

    KTO with an estimate of 0 for the divergence, as here, is APO-zero: one row for both.

    Args:
        constant: the name of the constant ratio that stands beside them.
    """
    found = {"joint": ("DPO", "number"), constant: (f"{constant} for all pairs", "number")}
    losses = {"dpop", "rpo"}
    rules = {name: title for name, title in UPDATE_TITLES.items() if name != "joint"}
    found |= {name: (title, "rule") for name, title in rules.items() if name not in losses}
    found |= {
        name: (title.removesuffix(" (a loss)"), "loss") for name, title in rules.items() if name in losses
    }
    found["kto"] = (WAY_TITLES["kto"].removesuffix(" (a loss)"), "loss")
    found |= {n: (title, "tokens") for n, title in WEIGHER_TITLES.items() if n != "everything"}  # DPO itself
    found |= {name: (WAY_TITLES[name], "request") for name in ("itself", "batch", "all")}
    return found | {"adversarial": (WAY_TITLES["adversarial"], "adversary")}


def together(stored: Mapping[str, Stored], constants: pd.DataFrame) -> pd.DataFrame:
    """Return "means" of all ways of training, those with requests by ``REQUEST``.

    Args:
        stored: "untangling", "masking" and "controlling".
        constants: constant ratios, as ways of training.
    """
    masks = as_updates(stored["masking"]["means"], "weights")
    parts = [stored["untangling"]["means"], constants, masks, control_means(stored["controlling"]["means"])]
    return pd.concat(parts, ignore_index=True)


def at_ends(means: pd.DataFrame, names: Sequence[str]) -> dict[str, dict[str, Interval]]:
    """Return where ways end on held-out pairs: name → chosen, rejected, margin, accuracy, fell, rose."""
    columns = ("chosen", "rejected", "margin", "accuracy", "fell", "rose")
    found = {}
    for name in names:
        row = {column: at_end(means, name, column) for column in columns}
        found[name] = row | {column: inside(row[column]) for column in columns[3:]}
    return found


def places_at_margin(means: pd.DataFrame, names: Sequence[str], share: float, *, itself: str) -> pd.DataFrame:
    """Return where ways stand on held-out pairs at a share of the margin that one of them ends with.

    Args:
        means: of ``together``.
        names: of the ways.
        share: of the final margin of ``itself`` with the same seed. Steps beyond its last are left out.
        itself: whose margin it is.

    Returns:
        One row a way and seed, as of ``at_margin``, with gain (the smaller of chosen's rise and rejected's
        fall, nats) and accuracy; missing where the margin was not reached.
    """
    test = means[(means["set"] == "test") & (means["rate"] == 1.0) & (means["optimizer"] == "adamw")]
    test = test[test["step"] <= test.loc[test["update"] == itself, "step"].max()]
    there = at_margin(test, list(names), share, pairs="test", itself=itself)
    there["gain"] = smaller_gain(there)
    paths = {key: path.sort_values("step") for key, path in test.groupby(["update", "seed"])}
    places = zip(there["update"], there["seed"], there["step"], strict=True)
    there["accuracy"] = [
        np.interp(step, path["step"], path["accuracy"])
        for path, step in ((paths[update, seed], step) for update, seed, step in places)
    ]
    return there


def at_equal_margin(
    means: pd.DataFrame, names: Sequence[str], share: float, *, itself: str = "joint"
) -> dict[str, dict[str, Interval] | int]:
    """Return where ways stand on held-out pairs at a share of the margin that one of them ends with.

    Returns:
        name → chosen, rejected, gain (the smaller of chosen's rise and rejected's fall), fell, rose and
        accuracy; or, for a way that did not get there with every seed, with how many it did.
    """
    there = places_at_margin(means, names, share, itself=itself)
    found: dict[str, dict[str, Interval] | int] = {}
    for name in names:
        mine = there[there["update"] == name]
        known = mine.dropna(subset=["step"])
        if len(known) < len(mine):
            found[name] = len(known)
            continue
        row = {column: mean_interval(mine[column].to_numpy()) for column in ("chosen", "rejected", "gain")}
        shares = ("fell", "rose", "accuracy")
        found[name] = row | {column: inside(mean_interval(mine[column].to_numpy())) for column in shares}
    return found


def at_own_margins(
    means: pd.DataFrame, ways: Mapping[str, str], rivals: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[str, dict[str, Interval] | int]]:
    """Return ways, each with its rivals at the margin that it ends with itself, as rows of a figure.

    Args:
        means: of ``together``, and of further rivals.
        ways: name → title.
        rivals: name → (title, family).

    Returns:
        title → (family, as in ``at_equal_margin``); a rival's title has the margin.
    """
    rows: dict[str, tuple[str, dict[str, Interval] | int]] = {}
    for way, title in ways.items():
        found = at_equal_margin(means, [way, *rivals], 1.0, itself=way)
        margin = at_end(means, way, "margin").value
        rows[title] = ("request", found[way])
        for name, (rival, family) in rivals.items():
            rows[f"{rival} at {margin:.2f}"] = (family, found[name])
    return rows


def rows_at_end(means: pd.DataFrame, early: pd.DataFrame, constant: str) -> dict[str, dict[str, Interval]]:
    """Return ``at_ends`` of all ways by title, with rows for the start and for DPO stopped early.

    Args:
        means: of ``together``.
        early: DPO's rows of held-out pairs at the step at which it was stopped.
        constant: the name of the constant ratio that is shown.
    """
    ways = ways_and_families(constant)
    test = means[(means["update"] == "joint") & (means["set"] == "test") & (means["step"] == 0)]
    start = test[(test["rate"] == 1) & (test["optimizer"] == "adamw")]
    columns = ("chosen", "rejected", "margin", "accuracy", "fell", "rose")
    found = {
        title: {column: mean_interval(rows[column].to_numpy()) for column in columns}
        for title, rows in ((BEFORE, start), (EARLY, early))
    }
    ends = at_ends(means, list(ways))
    first = {BEFORE: found[BEFORE], ways["joint"][0]: ends["joint"], EARLY: found[EARLY]}
    return first | {title: ends[name] for name, (title, _) in ways.items()}


def families(constant: str) -> dict[str, str]:
    """Return title → family of all rows of ``rows_at_end``."""
    found = {title: family for title, family in ways_and_families(constant).values()}
    return found | {BEFORE: "number", EARLY: "number"}


def beside_a_way(means: pd.DataFrame, way: str, rival: str, column: str) -> Interval:
    """Return a way's value less a rival's at the margin that the way ends with, seed by seed.

    Args:
        means: of ``together``.
        way, rival: their names.
        column: chosen, rejected, fell, rose, accuracy or gain, as in ``at_equal_margin``.

    Raises:
        ValueError: the rival does not get there with every seed.
    """
    there = places_at_margin(means, [way, rival], 1.0, itself=way)
    by = there.pivot(index="seed", columns="update", values=column)
    return mean_interval((by[way] - by[rival]).to_numpy())


def every_rule(
    stored: Mapping[str, Stored],
    lines: Sequence[Mapping[str, Any]],
    constants: pd.DataFrame,
    constant: str,
) -> pd.DataFrame:
    """Return ``end_table`` of held-out pairs over all grids, with time and memory.

    Args:
        stored: "untangling", "masking" and "controlling".
        lines: of the stored benchmark.
        constants: constant ratios, as ways of training; the kept tables have no answers of theirs.
        constant: the one that is shown.

    Returns:
        One row a way of training; "time" and "memory" are those of a step, DPO's being 1.

    Raises:
        ValueError: a line of ``cost_line`` was not measured.
    """
    masks, control = as_updates(stored["masking"]["answers"], "weights"), stored["controlling"]["answers"]
    answers = pd.concat([stored["untangling"]["answers"], masks, control_means(control)], ignore_index=True)
    titles = {name: title for name, (title, _) in ways_and_families(constant).items()}
    table = end_table(together(stored, constants), answers, titles)
    measured = {line["ours"]: line for line in lines}
    for name, title in titles.items():
        line = None if name == constant else cost_line(name)  # a constant looks at no gradient
        if line is not None and f"{line}, nano" not in measured:
            raise ValueError(f"the benchmark has no line {line!r} for nano; run: make bench")
        found = None if line is None else measured[f"{line}, nano"]
        table.loc[title, "time"] = "1.0" if found is None else f"{1 / found['ratio']:.1f}"
        memory = 1.0 if found is None else found["peak_mb"] / found["their_peak_mb"]
        table.loc[title, "memory"] = f"{memory:.1f}"
    return table
