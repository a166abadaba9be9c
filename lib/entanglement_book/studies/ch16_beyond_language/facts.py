"""What the text of beyond language quotes and its claims are decided by, under the names that stand there."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from entanglement.stats import Interval
from entanglement_book.grids.stored import Stored
from entanglement_book.studies.ch16_beyond_language import numbers as tell
from entanglement_book.studies.ch16_beyond_language.fields import make_field
from entanglement_book.studies.ch16_beyond_language.grid_rules import ALPHA, CONSTANTS
from entanglement_book.studies.ch16_beyond_language.together import RULES, passes

__all__ = ["of_driving", "of_gradnorm", "of_imitation", "of_settings", "of_sharing", "of_tasks", "of_towers"]

Number = float | Interval
Facts = dict[str, Number]
#: Fields of the grids by how their numbers' names end, with their numbers of tasks.
_FIELDS = {"digits": 4, "genes": 14}


def of_sharing(sharing: Stored) -> Facts:
    """Return what is foretold (percent, and as a share under share_…), and the geometry by width.

    Args:
        sharing: tables of the grid ``sharing``.
    """
    seen, moments = sharing["foretold"], sharing["moments"]
    found: Facts = {}
    shares = {
        "one": tell.foretold(seen, "one"),
        "total": tell.foretold(seen, "sum"),
        "adam": tell.foretold(seen, "training"),
        "adam_apart": tell.foretold(seen, "training", network="separate"),
        "habit": tell.foretold(seen, "one", "kept"),
        "one_genes": tell.foretold(seen, "one", field="genes"),
        "habit_genes": tell.foretold(seen, "one", "kept", field="genes"),
    }
    for name, share in shares.items():
        found |= {name: tell.percent(share), f"share_{name}": share}
    found["ahead_of_habit"] = tell.ahead_of_habit(seen, "one")
    found["ahead"] = tell.percent(tell.ahead_of_habit(seen, "one"))
    found["changed_apart"] = tell.changed_apart(seen)
    cosines = tell.geometry_by_width(moments, "cosine")
    beyond = tell.geometry_by_width(moments, "beyond")
    found |= {"cosine_narrow": cosines["width 2"], "cosine_wide": cosines["width 8"]}
    found["cosine_apart"] = cosines["separate, width 4"].value
    for width in (2, 4, 8):
        found[f"beyond_{width}"] = 100 * beyond[f"width {width}"].value
    found["narrower"] = tell.narrow_minus_wide(moments, "cosine")
    for field in _FIELDS:
        some = moments[(moments["field"] == field) & (moments["network"] == "shared")]
        found[f"conflicts_{field}"] = 100 * float(some["conflicts"].mean())
    found["n_genes"] = float(len(make_field("genes", 10**6, 10**6, 0).judged))
    return found


def of_settings(sharing: Stored, driving: Stored) -> Facts:
    """Return what the stored runs were made with, as the text quotes it.

    Args:
        sharing, driving: tables of these grids.
    """
    shared, drives = sharing.provenance["recipe"], driving.provenance["recipe"]
    found: Facts = {f"set_{name}": float(shared[name]) for name in ("batch", "ahead", "seeds")}
    found |= {f"set_{name}": float(drives[name]) for name in ("length", "episodes", "seconds")}
    return found | {"set_moments": float(len(shared["moments"]))}


def of_tasks(tasks: pd.DataFrame) -> Facts:
    """Return what rules buy (shares of the loss at chance), and what a step of a rule costs in steps of a
    sum.

    Args:
        tasks: of the grid ``tasks``.
    """
    found: Facts = {}
    others = [name for name in CONSTANTS if name != "sum"]
    for field, k in _FIELDS.items():
        found[f"cost_{field}"] = passes(k, rule=True) / passes(k, rule=False)
        for equal in ("step", "passes"):
            left = tell.left_at_the_end(tasks, field, equal=equal)
            found |= {f"{name}_{equal}_{field}": left[name] for name in ("sum", "separate")}
        compared = {
            "rules_to_sum": (RULES, ["sum"], "step"),
            "const_to_sum": (others, ["sum"], "step"),
            "rules_to_const": (RULES, CONSTANTS, "passes"),
            "sum_to_const": (["sum"], CONSTANTS, "passes"),
        }
        for name, (ways, against, equal) in compared.items():
            found[f"{name}_{field}"] = tell.advantages(tasks, field, list(ways), list(against), equal=equal)
    return found


def of_gradnorm(tasks: pd.DataFrame) -> Facts:
    """Return what GradNorm buys on pictures of digits (shares of the loss at chance), and what it costs, in
    forward passes a step.

    Args:
        tasks: of the grid ``tasks``, and the ways of GradNorm.
    """
    steps = tasks[tasks["way"] == "gradnorm"]
    cost = float((steps["passes"] / steps["step"]).mean())
    found: Facts = {"set_alpha": ALPHA, "extra": cost - passes(_FIELDS["digits"], rule=False)}
    for name, way, others in (
        ("gradnorm_to_const", "gradnorm", CONSTANTS),
        ("held_to_const", "held", CONSTANTS),
        ("gradnorm_to_held", "gradnorm", ["held"]),
        ("gradnorm_to_sum", "gradnorm", ["sum"]),
    ):
        found[name] = tell.advantages(tasks, "digits", [way], list(others), equal="passes")
    return found


def of_towers(looks: pd.DataFrame) -> Facts:
    """Return cosines before and after training, and recalls (percent).

    Args:
        looks: of the grid ``towers``.
    """
    found: Facts = {
        "tower_cosine": tell.last_cosine(looks, "1 to 1"),
        "tower_first": tell.last_cosine(looks, "1 to 1", first=True),
        "tower_apart": tell.last_cosine(looks, "separate").value,
        "towers_lose": tell.smaller_loss(looks, "1 to 1"),
        "taste_lost": tell.loss_of_one(looks, "intent only", "taste"),
    }
    found["lost"] = tell.percent(tell.smaller_loss(looks, "1 to 1"))
    ways = {"1 to 1": "both", "separate": "alone", "pcgrad": "pcgrad", "mgda": "mgda", "upgrad": "upgrad"}
    ways |= {"taste only": "taste_only", "intent only": "intent_only"}
    for way, (taste, intent) in tell.recall_points(looks, list(ways)).items():
        found |= {f"taste_{ways[way]}": tell.percent(taste), f"intent_{ways[way]}": tell.percent(intent)}
    return found


def of_driving(driving: Stored) -> Facts:
    """Return values of drivers, how often they crash (percent), and the case on the road of seed 0.

    Args:
        driving: tables of the grid ``driving``.
    """
    train = driving["training"]
    found: Facts = {"n_situations": float(driving.provenance["recipe"]["trained"])}
    pair = ("safety", "progress")
    found["driver_cosine"] = tell.edge_cosines(driving["cosines"], "1 to 1 to 1", pair)
    found["driver_apart"] = tell.edge_cosines(driving["cosines"], "separate", pair).value
    ways = {"1 to 1 to 1": "sum", "4 to 1 to 1": "four", "priorities": "order", "upgrad": "upgrad"}
    ways |= {"separate": "three"}
    for objective in pair:
        values = tell.expected(train, objective)
        found |= {f"{objective}_{name}": values[way] for way, name in ways.items()}
    for name, objective, one, other in (
        ("order_safer", "safety", "priorities", "1 to 1 to 1"),
        ("order_four", "safety", "priorities", "4 to 1 to 1"),
        ("order_faster", "progress", "priorities", "4 to 1 to 1"),
        ("progress_safer", "safety", "progress only", "1 to 1 to 1"),
    ):
        found[name] = tell.driver_difference(train, objective, one, other)
    crashes = tell.closed_loop(driving["driving"], "crashes")
    driven = tell.closed_loop(driving["driving"], "progress")
    for way, name in {"1 to 1 to 1": "sum", "priorities": "order", "always slower": "slower"}.items():
        found |= {f"crashes_{name}": 100 * crashes[way].value, f"driven_{name}": driven[way].value}
    case = driving["case"]
    case = case[case["seed"] == 0].set_index("objective")
    foretold, changed = (case[name].to_dict() for name in ("foretold", "changed"))
    found |= {"road_foretold": foretold["safety"], "road_changed": changed["safety"]}
    found["road_gained"] = changed["progress"]
    return found


def of_imitation(imitation: Mapping[str, pd.DataFrame]) -> Facts:
    """Return how often drivers do what their teachers do (percentage points under points_…), and how they
    drive.

    Args:
        imitation: what ``imitated`` returns.
    """
    agreement = imitation["agreement"]
    few, many = sorted(int(count) for count in agreement["situations"].unique())
    found: Facts = {"n_few": float(few), "n_many": float(many)}
    compared = {
        "few": tell.ahead_of_the_commonest(agreement, few),
        "many": tell.ahead_of_the_commonest(agreement, many),
        "one": tell.ahead_of_the_commonest(agreement, many, "one"),
        "turned": tell.ahead_of_the_commonest(agreement, many, column="turned"),
    }
    for name, ahead in compared.items():
        found |= {f"ahead_{name}": ahead, f"points_{name}": tell.percent(ahead)}
    pair = ("safety", "progress")
    cosines = imitation["cosines"].assign(way="one")
    found["imitation_cosine"] = tell.edge_cosines(cosines, "one", pair)
    found["imitation_cosine_last"] = tell.edge_cosines(cosines, "one", pair, last=True)
    crashes, progress = (tell.closed_loop(imitation["driving"], name) for name in ("crashes", "progress"))
    ways = {"imitator": "imitator", "safety's teacher": "careful", "progress's teacher": "hurried"}
    for way, name in ways.items():
        found |= {f"crashes_{name}": 100 * crashes[way].value, f"driven_{name}": progress[way].value}
    return found
