"""The numbers that the text of token by token quotes, and the summaries behind its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from entanglement.bounded import summarize_bounded
from entanglement.gradients import TokenGeometry
from entanglement.pairs import PreferencePair, collate
from entanglement.stats import Interval, mean_interval, summarize
from entanglement_book.studies.ch09_tokens import study
from entanglement_book.studies.ch09_tokens.output_layer import output_layer_geometry
from entanglement_book.studies.ch09_tokens.study import KINDS

__all__ = [
    "BY",
    "agreements",
    "control_table",
    "gaps",
    "layer_table",
    "of_controls",
    "of_gaps",
    "of_kinds",
    "of_layer",
    "of_one_pair",
    "of_stages",
    "of_suffix",
    "still_there",
]

Found = dict[str, Any]
#: What makes one sum: the pairs of one run share a model.
BY = ["run", "pair"]


def of_kinds(terms: pd.DataFrame, kinds: pd.DataFrame) -> Found:
    """Return the mean cosines of the text.

    Args:
        terms: the rows of block c of ``token_table``, with run.
        kinds: their summary, by kind.
    """
    sizes = terms.assign(size=terms["cosine"].abs())
    sizes = summarize_bounded(sizes, "size", ["kind"], unit="run").set_index("kind")
    corner = terms[terms["kind"] == "contrast"]
    fives = corner.groupby(["run", corner.groupby("run").cumcount() // 5])["cosine"].mean()
    return {
        "apart": kinds.loc["contrast"],
        "together": kinds.loc["same_position"],
        "elsewhere": sizes.loc["other_position"],
        "aligned_size": sizes.loc["same_position"],
        "five_low": float(fives.min()),
        "five_high": float(fives.max()),
    }


def of_one_pair(tokens: TokenGeometry) -> Found:
    """Return how few of a pair's shared tokens make nine tenths of what shared tokens with their copies add,
    and how many times the largest of these inner products is the smallest.

    Args:
        tokens: of a pair whose responses differ in their first token only.
    """
    own = np.sort(tokens.cross.diagonal()[1:].numpy())[::-1]
    so_far = own.cumsum() / own.sum()
    few = int((so_far < 0.9).sum()) + 1
    spread = float(own[0] / np.abs(own).min())
    return {
        "few_words": few,
        "n_shared": len(own),
        "few_share": 100 * float(so_far[few - 1]),
        "shared_spread": spread,
    }


def _place(rows: pd.DataFrame) -> pd.DataFrame:
    place = np.where(rows["s"] == rows["t"], "diagonal", "elsewhere")
    corner = (rows["s"] == 0) & (rows["t"] == 0)
    return rows.assign(place=np.where(corner, "corner", place))


def of_controls(controls: pd.DataFrame) -> Found:
    """Return, for every control, the cosines of corner and diagonal and what the suffix adds to ρ.

    Args:
        controls: of ``negative_controls``, with run, and rows "as it is".
    """
    places = _place(controls[controls["block"] == "c"])
    cosines = summarize_bounded(places, "cosine", ["control", "place"], unit="run", low=-1.0)
    cosines = cosines.set_index(["control", "place"])
    part = study.after_first(controls, ["control", *BY])
    part = summarize(part, "part", ["control"], unit="run").set_index("control")
    return {
        "rivals": cosines.loc[("unlikely labels", "corner")],
        "aligned": cosines.loc[("suffix turned", "diagonal")],
        "reworded": part.loc["suffix reworded"],
        "turned": part.loc["suffix turned"],
        "as_it_is": part.loc["as it is"],
    }


def control_table(controls: pd.DataFrame) -> pd.DataFrame:
    """Return the means of ``of_controls`` as the page's table, one row a control."""
    places = _place(controls[controls["block"] == "c"])
    means = places.groupby(["control", "place", "run"])["cosine"].mean()
    table = means.groupby(["control", "place"]).mean().unstack("place")[["corner", "diagonal"]]
    part = study.after_first(controls, ["control", *BY]).groupby(["control", "run"])["part"].mean()
    table["suffix's part of ρ"] = part.groupby("control").mean()
    return table.loc[controls["control"].unique()].rename_axis(None).rename_axis(None, axis=1)


def of_stages(sums: Mapping[str, pd.DataFrame]) -> Found:
    """Return the parts of ρ at the four stages, in their order, as base_, now_, late_ and last_<part>.

    Args:
        sums: stage → of ``summarize_parts``.
    """
    parts = ("contrast", "mixed", "shared", "total")
    stages = zip(("base", "now", "late", "last"), sums.values(), strict=True)
    return {f"{short}_{part}": rows.loc[part] for short, rows in stages for part in parts}


def still_there(after: pd.DataFrame, before: pd.DataFrame) -> Interval:
    """Return the suffix's inner product after some training over that before, the mean over runs.

    Args:
        after, before: of ``suffix_table``; only what both have is compared.
    """
    same = before.merge(after[["run", "pair", "s"]])
    late, early = (rows.groupby("run")["inner"].sum() for rows in (after, same))
    return mean_interval((late / early).to_numpy())


def of_suffix(suffixes: Mapping[str, pd.DataFrame], stage: str, by_heart: str) -> Found:
    """Return which word of the suffix does the work at a stage, and the slope at small surprises.

    Args:
        suffixes: stage → of ``suffix_table``.
        stage: at which the words are compared.
        by_heart: the stage at which the suffix is known.
    """
    means = suffixes[stage].groupby("s")[["share", "surprise"]].mean()
    words = suffixes[stage].groupby("s")["first"].first()
    top = int(means["share"].to_numpy().argmax())
    every = pd.concat(suffixes.values())
    known = every[(every["surprise"] < 0.1) & (every["inner"] > 0)]
    logs = known.assign(x=np.log(known["surprise"]), y=np.log(known["inner"]))
    slopes = [np.polyfit(rows["x"], rows["y"], 1)[0] for _, rows in logs.groupby("run")]
    return {
        "top_word": str(words.iloc[top]).strip(),
        "top_share": 100 * float(means["share"].iloc[top] / means["share"].sum()),
        "top_surprise": float(means["surprise"].iloc[top]),
        "rest_surprise": float(np.delete(means["surprise"].to_numpy(), top).max()),
        "slope": mean_interval(slopes),
        "heart_cosine": float(suffixes[by_heart]["cosine"].mean()),
    }


def agreements(rows: pd.DataFrame) -> Found:
    """Return how well surprise, a neighbor's surprise, and the place alone order the inner products.

    ``rank_rival`` is the better of the last two, whichever way it orders.
    """

    def one(**how: Any) -> pd.Series:
        found = study.rank_agreement(rows, BY, **how).assign(what="rank")
        return summarize_bounded(found, "agreement", ["what"], unit="run", low=-1.0).iloc[0]

    true, shifted, place = one(), one(shift=1), one(column="s")
    sizes = [_size(shifted), _size(place)]
    rival = max(sizes, key=lambda interval: interval.value)
    return {"rank": true, "rank_shifted": shifted, "rank_place": place, "rank_rival": rival}


def _size(row: pd.Series) -> Interval:
    """Return an interval without its sign."""
    value, low, high = float(row["value"]), float(row["low"]), float(row["high"])
    ends = (low, high) if value >= 0 else (-high, -low)
    return Interval(abs(value), max(ends[0], 0.0), ends[1], int(row["n"]))


def gaps(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return a² − c and b² − c of every pair by what its terms come from; "a2" and "b2" → one row a pair.

    Args:
        table: of ``measure_tokens`` with all blocks, and run.
    """
    wide = study.parts_of_inner(table, [*BY, "block"]).set_index([*BY, "block"]).unstack("block")
    columns = ("contrast", "mixed", "shared", "total")
    return {
        side: pd.DataFrame({kind: wide[kind][side] - wide[kind]["c"] for kind in columns})
        for side in ("a2", "b2")
    }


def of_gaps(table: pd.DataFrame, split: Mapping[str, pd.DataFrame]) -> Found:
    """Return the means of ``gaps``, and how many pairs violate Condition 1, and do so by shared tokens."""
    found: Found = {
        f"{side}_{kind}": float(rows[kind].mean())
        for side, rows in split.items()
        for kind in ("contrast", "shared", "total")
    }
    violated = (split["a2"]["total"] < 0) | (split["b2"]["total"] < 0)
    fine = np.logical_and.reduce([rows["total"] - rows["shared"] >= 0 for rows in split.values()])
    chosen = study.parts_of_inner(table[table["block"] == "a2"], BY)
    found["shared_in_a2"] = float(chosen["shared"].mean())
    return found | {"violated": int(violated.sum()), "by_shared": int((violated & fine).sum())}


def layer_table(models: Sequence[nn.Module], tokenizer: Any, pairs: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """Return the token tables of the output layer alone, all blocks.

    Args:
        models: one a run.
        tokenizer: theirs.
        pairs: of each run.
    """
    rows = []
    for run, (model, own) in enumerate(zip(models, pairs, strict=True)):
        for pair in own:
            assert isinstance(pair, PreferencePair)
            layer = output_layer_geometry(model, collate([pair], tokenizer))
            made = study.token_table(layer.geometry, blocks=study.ALL_BLOCKS)
            rows.append(made.assign(run=run, pair=pair.id))
    return pd.concat(rows)


def of_layer(layer: pd.DataFrame, table: pd.DataFrame) -> tuple[pd.DataFrame, Found]:
    """Compare the cosines of the output layer with those of all parameters, on the same pairs.

    Returns:
        The mean cosines by kind, and numbers for the text.
    """
    keys = [*BY, "s", "t", "kind"]
    both = layer[layer["block"] == "c"].merge(table[table["block"] == "c"], on=keys)
    both["difference"] = (both["cosine_x"] - both["cosine_y"]).abs()
    by_kind = both.groupby("kind")[["cosine_x", "cosine_y", "difference"]].mean().loc[list(KINDS)]
    by_kind.columns = pd.Index(["output layer", "all parameters", "mean |difference|"])
    own, whole = (study.parts_of_cosine(rows, BY).set_index(BY)["total"] for rows in (layer, table))
    whole = whole.loc[own.index]
    return by_kind, {
        "layer_rho": float(own.mean()),
        "full_rho": float(whole.mean()),
        "layer_same": float(by_kind["output layer"].loc["same_position"]),
        "layer_gap": float((own - whole).abs().mean()),
    }
