"""What the text of beyond language quotes and its claims are decided by, under the names that stand there."""

from __future__ import annotations

import pandas as pd

from entanglement.stats import Interval
from entanglement_book.grids.stored import Stored
from entanglement_book.studies.ch16_beyond_language import numbers as tell
from entanglement_book.studies.ch16_beyond_language.driving import OBJECTIVES
from entanglement_book.studies.ch16_beyond_language.fields import make_field
from entanglement_book.studies.ch16_beyond_language.grid_rules import CONSTANTS, HELD, LEARNED
from entanglement_book.studies.ch16_beyond_language.together import RULES, passes

__all__ = ["of_driving", "of_imitation", "of_settings", "of_sharing", "of_tasks", "of_towers"]

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
            quoted = ("sum", "separate", "gradnorm", "held")
            found |= {f"{name}_{equal}_{field}": left[name] for name in quoted}
        steps = tasks[(tasks["field"] == field) & tasks["way"].isin(LEARNED)]
        found[f"extra_{field}"] = float((steps["passes"] / steps["step"]).mean()) - passes(k, rule=False)
        compared = {
            "rules_to_sum": (RULES, ["sum"], "step"),
            "const_to_sum": (others, ["sum"], "step"),
            "rules_to_const": (RULES, CONSTANTS, "passes"),
            "sum_to_const": (["sum"], CONSTANTS, "passes"),
            "gradnorm_to_sum": (LEARNED, ["sum"], "step"),
            "gradnorm_to_const": (LEARNED, CONSTANTS, "passes"),
            "held_to_const": (HELD, CONSTANTS, "passes"),
            "gradnorm_to_held": (LEARNED, HELD, "passes"),
        }
        for name, (ways, against, equal) in compared.items():
            found[f"{name}_{field}"] = tell.advantages(tasks, field, list(ways), list(against), equal=equal)
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
    for way, name in {"1 to 1 to 1": "sum", "priorities": "order", "always slower": "slower"}.items():
        found[f"crashes_{name}"] = 100 * crashes[way].value
    case = driving["case"]
    case = case[case["seed"] == 0].set_index("objective")
    foretold, changed = (case[name].to_dict() for name in ("foretold", "changed"))
    found |= {"road_foretold": foretold["safety"], "road_changed": changed["safety"]}
    found["road_gained"] = changed["progress"]
    return found


def of_imitation(imitation: Stored) -> Facts:
    """Return how often drivers do what their teachers do, and what comes of it (crashes in percent).

    Args:
        imitation: tables of the grid ``imitation``.
    """
    counts = sorted(imitation["training"]["situations"].unique())
    found: Facts = {"n_few": float(counts[0]), "n_many": float(counts[1])}
    alone = dict.fromkeys(OBJECTIVES, "separate")
    turned = {"safety": "progress only", "progress": "safety only"}
    for size, count in zip(("few", "many"), counts, strict=True):
        training, teachers = (
            t[t["situations"] == count] for t in (imitation["training"], imitation["teachers"])
        )
        for objective in OBJECTIVES:
            agrees = tell.expected(training, objective, "agrees")
            found[f"agrees_{objective}_{size}"] = tell.percent(agrees["separate"])
        for name, pupils in {"ahead_of": alone, "ahead_of_turned": turned}.items():
            ahead = tell.ahead_of_the_commonest(training, teachers, pupils)
            found |= {f"{name}_{size}": ahead, f"points_{name}_{size}": tell.percent(ahead)}
        pupils = dict.fromkeys(OBJECTIVES, "1 to 1 to 1")
        found[f"points_shared_{size}"] = tell.percent(tell.ahead_of_the_commonest(training, teachers, pupils))
    # What follows is from the many.
    cosines, driven = (t[t["situations"] == counts[1]] for t in (imitation["cosines"], imitation["driving"]))
    pair = ("safety", "progress")
    found["imitation_cosine"] = tell.edge_cosines(cosines, "1 to 1 to 1", pair)
    found["imitation_cosine_last"] = tell.edge_cosines(cosines, "1 to 1 to 1", pair, last=True)
    for objective in pair:
        values = tell.expected(training, objective, "value")
        found |= {f"{objective}_imitated": values["1 to 1 to 1"], f"{objective}_alone": values["separate"]}
        found[f"{objective}_taught"] = float(teachers.set_index("objective").loc[objective, objective].mean())
    crashes = tell.closed_loop(driven, "crashes")
    ways = {"1 to 1 to 1": "imitated", "safety's teacher": "careful", "progress's teacher": "hurried"}
    found |= {f"crashes_{name}": 100 * crashes[way].value for way, name in ways.items()}
    return found
