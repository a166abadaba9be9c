"""One table over everything that the chapters on untangling tried, and what a step of it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from entanglement_book.grids.results import Stored
from entanglement_book.studies.ch11_one_number import grid as untangling
from entanglement_book.studies.ch11_one_number.tables import end_table
from entanglement_book.studies.ch12_which_tokens import grid as masking
from entanglement_book.studies.ch12_which_tokens.tables import as_updates
from entanglement_book.studies.ch13_control import grid as controlling

__all__ = ["COSTS", "adversarial_cost", "control_means", "every_rule"]

#: Name of a way of training → the line of the benchmark that measured its step. What is not named here is a
#: loss's own step. PCGrad and MGDA do what "normalized" does, up to arithmetic on three numbers.
COSTS: dict[str, str] = {
    "normalized": "normalized",
    "pcgrad": "normalized",
    "mgda": "normalized",
    "normalized-metric": "normalized in AdamW's metric",
    "normalized-batch": "normalized, batch",
    "band": "clipped to the band",
    "band-25": "clipped to the band",
    "calibrated": "calibrated",
    "split": "split",
    "contrasting": "contrasting tokens",
    "two": "tokens by two references",
    "geometry": "tokens by their geometry",
    "learned": "learned token mask",
    "batch": "decoupled, batch",
    "all": "decoupled, all responses",
    "adversarial": "adversarial",
}
#: The request whose results stand for a way that is given requests.
REQUEST = "apart"


def control_means(table: pd.DataFrame, goal: str = REQUEST) -> pd.DataFrame:
    """Return the control grid's rows for one request, and those of ways that are given none, as updates."""
    return as_updates(table[table["goal"].isin([goal, "none"])], "way")


def adversarial_cost(steps: pd.DataFrame) -> pd.Series:
    """Return what adversarial training has cost after each of its steps, in DPO steps, the mean over seeds.

    A DPO step is a forward and a backward pass over two responses to each prompt, six passes of a token; an
    adversarial one is twelve (``adversarial.outsmart``), after the discriminator's head start.

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
        ValueError: a line of ``COSTS`` was not measured.
    """
    own = stored["untangling"]
    masks = {name: as_updates(stored["masking"][name], "weights") for name in ("means", "answers")}
    control = {name: control_means(stored["controlling"][name]) for name in ("means", "answers")}
    titles = {name: way.title for name, way in untangling.UPDATES.items()}
    titles |= {name: title for name, title in masking.WEIGHERS.items() if name != "everything"}  # DPO itself
    # KTO with an estimate of 0 for the KL, as here, is APO-zero: one row for both.
    titles |= {name: way.title for name, way in controlling.WAYS.items() if name != "apo_zero"}
    means, answers = (
        pd.concat([own[name], masks[name], control[name]], ignore_index=True) for name in ("means", "answers")
    )
    table = end_table(means, answers, titles)
    measured = {line["ours"]: line for line in lines}
    for name, title in titles.items():
        line = COSTS.get(name)
        if line is not None and f"{line}, nano" not in measured:
            raise ValueError(f"the benchmark has no line {line!r} for nano; run: make bench")
        found = None if line is None else measured[f"{line}, nano"]
        table.loc[title, "time"] = "1.0" if found is None else f"{1 / found['ratio']:.1f}"
        memory = 1.0 if found is None else found["peak_mb"] / found["their_peak_mb"]
        table.loc[title, "memory"] = f"{memory:.1f}"
    return table
