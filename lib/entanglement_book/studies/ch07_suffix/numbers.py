"""The numbers that the text of a shared suffix quotes from its studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from entanglement.stats import Interval, mean_interval, share_interval
from entanglement_book.studies.ch07_suffix.rivals import exponent_interval

__all__ = [
    "bad_share",
    "of_crosstalk",
    "of_growth",
    "of_noise",
    "of_small",
    "of_steps",
    "of_tables",
    "record_of",
    "share_of",
    "worse",
]

Found = dict[str, Any]


def _at(table: pd.DataFrame, variant: str, n: int) -> pd.DataFrame:
    return table[(table["variant"] == variant) & (table["n"] == n)].set_index("draw")


def share_of(table: pd.DataFrame, variant: str, n: int, case: str) -> Interval:
    """Return the share of a variant's pairs in a case, exactly; every pair has a model of its own."""
    rows = _at(table, variant, n)
    return share_interval(int((rows["case"] == case).sum()), len(rows))


def bad_share(rows: pd.DataFrame) -> Interval:
    """Return the share of pairs that are not ideal."""
    return share_interval(int((rows["case"] != "ideal").sum()), len(rows))


def of_small(small: pd.DataFrame) -> Found:
    """Return the changes of chosen in the smallest pair, in thousandths of a nat."""
    changes = 1e3 * small["Δ chosen"]
    return {"small_same": float(changes["t = t′ = 4"]), "small_longer": float(changes["t = 4, t′ = 5"])}


def of_tables(tabular: pd.DataFrame, apart: Sequence[str]) -> Found:
    """Return violations and mean cosines of the tabular models.

    Args:
        tabular: of ``tabular_study``.
        apart: cases of the pairs that go their own ways.
    """
    bad = int((tabular["case"] != "ideal").sum()) + sum(case != "ideal" for case in apart)
    longest = tabular[tabular["n"] == tabular["n"].max()]
    top = longest.groupby("model")["cosine"].mean()
    found: Found = {f"top_{model}": float(cosine) for model, cosine in top.items()}
    return found | {"tab_bad": bad, "tab_n": len(tabular) + len(apart)}


def of_growth(grown: pd.DataFrame) -> Found:
    """Return how c grows: with the same states, with other words in them, with orthogonal states.

    Args:
        grown: of ``growth_study``.
    """
    far = int(grown["n"].max())
    same, other, square = (_at(grown, name, far) for name in ("identical", "other words", "orthogonal"))
    slope = float(same["c"].mean()) / far
    means = {n: _at(grown, "orthogonal", n)["c"].mean() for n in (128, far)}
    relative = mean_interval(other["c"] / float(same["c"].mean()))
    return {
        "far": far,
        "n_grown": len(same),
        "slope": slope,
        "exponent": exponent_interval(grown, "identical", 2),
        "exponent_late": exponent_interval(grown, "identical", 512),
        "exponent_orthogonal": exponent_interval(grown, "orthogonal", 512),
        "other_words": relative,
        "other_percent": Interval(100 * relative.value, 100 * relative.low, 100 * relative.high, relative.n),
        "orthogonal_128": float(means[128]),
        "orthogonal_far": float(means[far]),
        "drift_share": 100 * float(square["drift"].mean() / means[far]),
        "overtakes": slope * far**2 / float(means[far]),
    }


def of_steps(table: pd.DataFrame) -> Found:
    """Return shares of cases, how well first order predicts exact steps, and what the margin would gain.

    Args:
        table: of ``suffix_study``, with the variants identical, longer and shorter.
    """
    first, last = int(table["n"].min()), int(table["n"].max())
    agree = (table["exact_w"] < 0) == (table["first_w"] < 0)
    agree &= (table["exact_l"] > 0) == (table["first_l"] > 0)
    identical = table[table["variant"] == "identical"]
    ever = identical.assign(bad=identical["case"] != "ideal").groupby("draw")["bad"].any()
    equal = _at(table, "identical", last)
    distance = (table["a2"] + table["b2"] - 2 * table["c"]).groupby([table["variant"], table["n"]]).mean()
    gains = {v: float(distance[v][last] / distance[v][first]) for v in ("identical", "longer")}
    return {
        "equal_share": float(equal["same_position"].mean() / equal["c"].mean()),
        "rho_same": float(equal["cosine"].mean()),
        "down_8": 100 * share_of(table, "longer", 8, "both_down").value,
        "down_32": 100 * share_of(table, "longer", 32, "both_down").value,
        "alone": share_interval(int(ever.sum()), len(ever)),
        "alone_bad": int(ever.sum()),
        "n_alone": len(ever),
        "agree": 100 * float(agree.mean()),
        "steps": len(table),
        "worst": float((table["exact_w"] - table["first_w"]).abs().max()),
        "gain_same": gains["identical"],
        "gain_longer": gains["longer"],
    }


def of_crosstalk(long: pd.DataFrame, still: pd.DataFrame) -> Found:
    """Return how the cross-talk spreads, and what it turns.

    Args:
        long: of ``suffix_study`` with identical and noisy states.
        still: the same pairs at the longest suffix, without cross-talk.
    """
    identical = long[long["variant"] == "identical"]
    walk = identical.groupby("n")["cross_talk"].std()
    far = int(long["n"].max())
    return {
        "walk_slope": float(np.polyfit(np.log(walk.index.to_numpy(float)), np.log(walk), 1)[0]),
        "turned": bad_share(_at(long, "identical", far)),
        "turned_noisy": bad_share(_at(long, "noisy", far)),
        "still": bad_share(still),
        "still_bad": int((still["case"] != "ideal").sum()),
        "still_rho": float(still["cosine"].min()),
    }


def of_noise(table: pd.DataFrame, coin: pd.DataFrame) -> Found:
    """Return the mean asymmetry terms, and what a coin does that says which suffix is longer.

    Args:
        table: of ``suffix_study``. coin: of ``measure``.
    """
    noisy, longer = (_at(table, name, int(table["n"].max())) for name in ("noisy", "longer"))
    fell, rose = ((coin["case"] == case).mean() for case in ("both_down", "both_up"))
    return {
        "gain": mean_interval(noisy["asymmetry"]),
        "noisy_least": float(noisy["asymmetry"].min()),
        "half": float(noisy["suffix_distance_sq"].mean() / 2),
        "loss": float(longer["asymmetry"].mean()),
        "coin_mean": mean_interval(coin["asymmetry"]),
        "coin_half": float(coin["suffix_distance_sq"].mean() / 2),
        "coin_bad": bad_share(coin),
        "coin_fell": 100 * float(fell),
        "coin_rose": 100 * float(rose),
        "noisy_bad": bad_share(noisy),
    }


def worse(first: Interval, second: Interval) -> Interval:
    """Return the larger of two shares: the one that a control is judged by."""
    return max(first, second, key=lambda share: share.value)


def record_of(facts: Mapping[str, Any], table: pd.DataFrame) -> dict[str, tuple[Any, Any]]:
    """Return what the ledger gets: claim → (value, control).

    Args:
        facts: of all the functions above.
        table: of ``suffix_study``.
    """
    far = int(table["n"].max())
    falls, rises = share_of(table, "longer", far, "both_down"), share_of(table, "shorter", far, "both_up")
    not_falls = (share_of(table, v, far, "both_down") for v in ("shorter", "identical"))
    not_rises = (share_of(table, v, far, "both_up") for v in ("longer", "identical"))
    return {
        "suffix-growth": (facts["exponent"], facts["other_words"]),
        "suffix-orthogonal": (facts["exponent_orthogonal"], facts["exponent_late"]),
        "suffix-alone": (facts["alone"], falls),
        "suffix-chosen-falls": (falls, worse(*not_falls)),
        "suffix-rejected-rises": (rises, worse(*not_rises)),
        "suffix-crosstalk": (facts["turned"], facts["still"]),
        "suffix-noise": (facts["turned_noisy"], facts["turned"]),
        "suffix-noise-mean": (facts["coin_bad"], facts["noisy_bad"]),
    }
