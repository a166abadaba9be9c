"""One table over everything that three grids of ways to train tried, and what a step of it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from entanglement_book.bench.variants import line_of
from entanglement_book.grids.stored import Stored
from entanglement_book.studies.shared.titles import UPDATE_TITLES, WAY_TITLES, WEIGHER_TITLES
from entanglement_book.studies.shared.update_tables import as_updates, end_table

__all__ = ["adversarial_cost", "control_means", "cost_line", "every_rule"]

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


def every_rule(stored: Mapping[str, Stored], lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return ``end_table`` of held-out pairs over three grids, with time and memory.

    Args:
        stored: "untangling", "masking" and "controlling".
        lines: of the stored benchmark.

    Returns:
        One row a way of training; "time" and "memory" are those of a step, DPO's being 1.

    Raises:
        ValueError: a line of ``cost_line`` was not measured.
    """
    own = stored["untangling"]
    masks = {name: as_updates(stored["masking"][name], "weights") for name in ("means", "answers")}
    control = {name: control_means(stored["controlling"][name]) for name in ("means", "answers")}
    titles = dict(UPDATE_TITLES)
    titles |= {name: title for name, title in WEIGHER_TITLES.items() if name != "everything"}  # DPO itself
    # KTO with an estimate of 0 for the KL, as here, is APO-zero: one row for both.
    titles |= {name: title for name, title in WAY_TITLES.items() if name != "apo_zero"}
    means, answers = (
        pd.concat([own[name], masks[name], control[name]], ignore_index=True) for name in ("means", "answers")
    )
    table = end_table(means, answers, titles)
    measured = {line["ours"]: line for line in lines}
    for name, title in titles.items():
        line = cost_line(name)
        if line is not None and f"{line}, nano" not in measured:
            raise ValueError(f"the benchmark has no line {line!r} for nano; run: make bench")
        found = None if line is None else measured[f"{line}, nano"]
        table.loc[title, "time"] = "1.0" if found is None else f"{1 / found['ratio']:.1f}"
        memory = 1.0 if found is None else found["peak_mb"] / found["their_peak_mb"]
        table.loc[title, "memory"] = f"{memory:.1f}"
    return table
