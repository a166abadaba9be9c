"""The numbers that the text of every margin loss quotes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from entanglement.losses import list_losses
from entanglement.stats import Interval, mean_interval, share_interval
from entanglement_book.press.pasting import percent
from entanglement_book.studies.ch04_losses import loss_groups, study

__all__ = ["EQUAL", "STARTS", "fell_behind", "of_falls", "of_first_steps", "of_starts", "of_walks"]

Number = float | Interval
Walks = Mapping[str, pd.DataFrame]

#: Log-probabilities of chosen and rejected at the reference, nats.
STARTS: tuple[tuple[float, float], ...] = ((-12.0, -12.0), (-12.0, -14.0), (-14.0, -12.0))
EQUAL = STARTS[0]
QUOTED = ("simpo", "slic_hf")


def of_first_steps(table: pd.DataFrame) -> dict[str, Number]:
    """Return how many cases were predicted, and how many would be with equal weights, percent.

    Args:
        table: rows of ``study.one_step_cases`` of all losses.
    """
    unequal = table[(table["d_w"] - table["d_l"]).abs() > 1e-9 * table["d_w"].abs()]
    right = share_interval(int((table["measured"] == table["predicted"]).sum()), len(table))
    blind = share_interval(int((unequal["measured"] == unequal["as_if_equal"]).sum()), len(unequal))
    shares: dict[str, Number] = {"right_share": right, "blind_share": blind, "right_n": len(table)}
    return shares | {"right": percent(right), "blind": percent(blind)}


def fell_behind(walk: pd.DataFrame, stride: float, way: float = 3.0, by: float = 0.01) -> Interval:
    """Return the share of pairs whose margin was below its start by ``by`` nats within ``way`` nats of way,
    while the loss fell in every step.
    """
    some = walk[walk["step"] <= round(way / stride)]
    rose = some.groupby("pair")["value"].diff() > 0
    falling = ~rose.groupby(some["pair"]).any()
    behind = some.groupby("pair")["margin"].min() < -by
    return share_interval(int((falling & behind).sum()), len(behind))


def of_walks(walks: Walks, groups: Mapping[str, Sequence[str]], stride: float) -> dict[str, Number]:
    """Return what the paths show: starts, ends, how long they were in the band, whose margin fell.

    Args:
        walks: loss → rows of ``study.descend``.
        groups: of ``loss_groups.grouped``.
        stride: nats a step.
    """
    first = {name: walk[walk["pair"] == 0] for name, walk in walks.items()}
    dpo = first["dpo"].iloc[0]
    found: dict[str, Number] = {
        "n_losses": len(walks),
        "n_groups": len(groups),
        "rho_first": dpo["cosine"],
        "band_low": dpo["cosine"] * dpo["norm_ratio"],
        "band_high": dpo["norm_ratio"] / dpo["cosine"],
        "way": 3,
    }
    starts = {name: w["case"].iloc[0] for name, w in first.items() if name not in groups.get("negative", ())}
    for case in ("both_down", "both_up", "ideal"):
        found[f"n_{case}"] = sum(c == case for c in starts.values())
    found |= {f"n_{kind}": len(groups.get(kind, ())) for kind in ("one", "means", "rises", "falls")}
    found["n_alike"] = sum(len(groups.get(kind, ())) for kind in ("one", "means"))
    inside = {}
    for name, walk in walks.items():
        moving = walk[(walk["d_w"] != 0) | (walk["d_l"] != 0)]
        inside[name] = float((moving["case"] == "ideal").mean())
    found |= {"most_inside": 100 * max(inside.values()), "dpop_inside": 100 * inside["dpop"]}
    edge = (walks["dpop"]["cosine"] * walks["dpop"]["norm_ratio"]).groupby(walks["dpop"]["pair"]).mean()
    found["dpop_edge"] = mean_interval(edge.to_numpy())
    for name, short in (("slic_hf", "slic"), ("dpo_shift", "shift")):
        begun = walks[name][walks[name]["step"] == 0]
        found[f"{short}_inside"] = 100 * float((begun["case"] == "ideal").mean())
    found["least_raised"] = _least_raised(walks)
    found["shift_ratio"] = float(walks["dpo_shift"]["r"].iloc[0])
    for name in ("dpo", "dpop", "dpo_shift"):
        end = walks[name][walks[name]["margin"] >= 4].groupby("pair").first()
        for side in ("chosen", "rejected"):
            found[f"{name}_{side}"] = mean_interval(end[side].to_numpy())
    found["dpop_ratio"] = mean_interval(loss_groups.effective_ratio(walks["dpop"]).to_numpy())
    found["dpop_jump"] = float(walks["dpop"]["r"].max())
    for name in ("orpo", "rrhf", "sft"):
        found[f"{name}_behind"] = percent(fell_behind(walks[name], stride))
        some = walks[name][walks[name]["step"] == round(3 / stride)]
        for column in ("chosen", "rejected", "margin"):
            found[f"{name}_{column}"] = mean_interval(some[column].to_numpy())
    weights = study.at_reference(list(walks))["d_w"].abs()
    found["scales"] = weights.max() / weights[weights > 0].min()
    return found


def _least_raised(walks: Walks, margin: float = 4.0) -> float:
    """Return by how much, in the mean over pairs, the chosen answer has risen when the margin has grown by
    ``margin`` nats: the least of the losses that raise both answers and get there for every pair.
    """
    raised = []
    for walk in walks.values():
        end = walk[walk["margin"] >= margin].groupby("pair")[["chosen", "rejected"]].first()
        if len(end) == walk["pair"].nunique() and end["rejected"].mean() > 0:
            raised.append(float(end["chosen"].mean()))
    return min(raised)


def of_starts() -> dict[str, Number]:
    """Return how many losses start at r = 1 with positive weights, with equal lengths and with others."""
    found: dict[str, Number] = {}
    for lengths, short in (((10, 10), "equal"), ((15, 10), "longer")):
        table = study.at_reference(list_losses(), lengths, EQUAL)
        one = (table["r"] - 1).abs() < 1e-9
        found[f"n_one_{short}"] = int((one & (table["d_w"] > 0)).sum())
        found[f"n_negative_{short}"] = int((one & (table["d_w"] < 0)).sum())
        found |= {f"{name}_{short}": float(table.loc[table["loss"] == name, "r"].iloc[0]) for name in QUOTED}
    return found


def of_falls(at_beta: pd.DataFrame, at_defaults: pd.DataFrame) -> dict[str, Number]:
    """Return r after both answers have fallen as far as the tables go.

    Args:
        at_beta, at_defaults: of ``study.fallen``, at one β for all and at each loss's own.
    """
    found: dict[str, Number] = {}
    for table, end in ((at_beta, ""), (at_defaults, "_default")):
        last = table[table["fallen"] == table["fallen"].max()].set_index("loss")["r"]
        found |= {f"at_{name}{end}": float(last[name]) for name in ("bco", "nca", "dpop")}
    r = at_beta.pivot_table(index="loss", columns="fallen", values="r", aggfunc="first")
    flat = (r - 1).abs().max(axis=1) < 1e-9
    found["n_flat"] = int(flat.sum())
    found["at_dpo"] = float(at_beta.loc[at_beta["loss"] == "dpo", "r"].max())
    found["sppo_end"] = float(at_beta[(at_beta["loss"] == "sppo") & (at_beta["r"] > 0)]["fallen"].max())
    return found
