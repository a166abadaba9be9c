"""The numbers that the text of where the probability goes quotes from the stored grids, and its records."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from entanglement.stats import Interval, mean_interval
from entanglement_book.press.pasting import percent
from entanglement_book.studies.ch10_probability import tables
from entanglement_book.studies.shared.seeds import over_seeds, rows_of

__all__ = ["changes", "of_accuracy", "of_answers", "of_mass", "records"]

Number = float | Interval


def of_mass(mass: pd.DataFrame) -> dict[str, Number]:
    """Return where probability went, points, and the entropy's change, nats:
    <near|far>_<chosen|rejected>_<shared|apart>_<part|entropy>, and the gains that squeezing speaks of. All
    are under DPO but simpo_<top|entropy>, and rpo_<own|rest> on near-copies, after the first difference of
    chosen answers.

    Args:
        mass: of the grid of training dynamics.
    """
    found: dict[str, Number] = {}
    for data, short in (("sentiment", "near"), ("summaries", "far")):
        rows = rows_of(mass, data=data, loss="dpo")
        for (response, place), some in rows.groupby(["response", "place"]):
            for part in tables.PARTS:
                found[f"{short}_{response}_{place}_{part}"] = percent(over_seeds(some, part))
            found[f"{short}_{response}_{place}_entropy"] = over_seeds(some, "entropy")
    for place in ("shared", "apart"):
        found[f"squeezed_{place}"] = percent(tables.rejected_less_chosen(mass, "summaries", "dpo", place))
    simpo = rows_of(mass, data="summaries", loss="simpo", response="chosen", place="apart")
    found["simpo_top"] = percent(over_seeds(simpo, "top"))
    found["simpo_entropy"] = over_seeds(simpo, "entropy")
    rpo = rows_of(mass, data="sentiment", loss="rpo", response="chosen", place="apart")
    found |= {f"rpo_{part}": percent(over_seeds(rpo, part)) for part in ("own", "rest")}
    return found


def of_answers(answers: pd.DataFrame) -> dict[str, Number]:
    """Return how whole answers changed under DPO, nats: <near|far>_<answer>."""
    found: dict[str, Number] = {}
    for data, short in (("sentiment", "near"), ("summaries", "far")):
        rows = rows_of(answers, data=data, loss="dpo")
        for name in ("chosen", "likeliest before"):
            found[f"{short}_{name.replace(' ', '_')}"] = over_seeds(rows_of(rows, answer=name), "change")
    return found


#: Measures, and the column that each is compared with.
_MEASURES = {
    "accuracy": "accuracy_before",
    "undrifted": "accuracy_before",
    "corrected": "corrected_before",
    "ranked": "ranked_before",
}


def changes(measured: pd.DataFrame, measure: str) -> dict[str, Interval]:
    """Return loss → the change of a measure since the checkpoint, seed by seed (points).

    Args:
        measured: of ``tables.measures``.
        measure: "accuracy", "undrifted", "corrected" or "ranked".
    """
    gain = measured.assign(gain=measured[measure] - measured[_MEASURES[measure]])
    return {str(loss): over_seeds(rows, "gain") for loss, rows in gain.groupby("loss", sort=False)}


def of_accuracy(measured: pd.DataFrame, tokens: pd.DataFrame) -> dict[str, Number]:
    """Return the label bias and what it does to accuracy.

    Args:
        measured: of ``tables.measures``.
        tokens: of the grid of training dynamics.

    Returns:
        label_positive, label_negative (points); for dpo, ipo, kto, simpo: <column>_<loss>, nats, and
        <measure>_gain_<loss>, points; accuracy_before, ranked_before, percent; raised, the number of losses
        whose accuracy grew for certain; n_parted, that of losses that gained half a nat of margin or more on
        these pairs, and n_lowered, that of those among them whose negative tweets' score fell.
    """
    found: dict[str, Number] = {
        f"label_{name}": percent(tables.label_gain(tokens, f" {name}")) for name in ("positive", "negative")
    }
    for loss in ("dpo", "ipo", "kto", "simpo"):
        rows = rows_of(measured, loss=loss)
        for column in ("moved_positive", "moved_negative", "bias"):
            found[f"{column}_{loss}"] = over_seeds(rows, column)
        for measure in _MEASURES:
            found[f"{measure}_gain_{loss}"] = changes(measured, measure)[loss]
    dpo = rows_of(measured, loss="dpo")
    found |= {name: float(dpo[name].mean()) for name in ("accuracy_before", "ranked_before")}
    found["raised"] = sum(gain.low > 0 for gain in changes(measured, "accuracy").values())
    found["apart_dpo"] = mean_interval((dpo["moved_positive"] - dpo["moved_negative"]).to_numpy())
    means = measured.groupby("loss")[["moved_positive", "moved_negative"]].mean()
    # The margin of a positive tweet is its score, that of a negative one the score with the other sign.
    parted = means[(means["moved_positive"] - means["moved_negative"]) / 2 >= 0.5]
    return found | {"n_parted": len(parted), "n_lowered": int((parted["moved_negative"] < 0).sum())}


def records(facts: Mapping[str, Number]) -> dict[str, tuple[Number, Number]]:
    """Return claim → what was measured and its control."""
    return {
        "dynamics-squeezing": (facts["squeezed_apart"], facts["squeezed_shared"]),
        "dynamics-sharpening": (facts["far_chosen_apart_top"], facts["simpo_top"]),
        "dynamics-label-bias": (facts["label_positive"], facts["near_chosen_shared_own"]),
        "dynamics-accuracy-bias": (facts["accuracy_gain_dpo"], facts["corrected_gain_dpo"]),
    }
