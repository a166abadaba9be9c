"""Numbers that chapters quote in words' place: how many losses, how far at the least, how many times."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from entanglement.stats import Interval
from entanglement_book.studies.ch04_losses import numbers as of_losses
from entanglement_book.studies.ch05_dynamics import numbers as of_dynamics
from entanglement_book.studies.ch09_tokens import numbers as of_tokens
from entanglement_book.studies.ch10_probability import numbers as of_probability
from entanglement_book.studies.ch13_control import grid as controlling, numbers as of_control
from entanglement_book.studies.shared.titles import UPDATE_TITLES, WAY_TITLES


def walk(*pairs):
    """Steps of pairs: (chosen, rejected) along the way."""
    rows = [
        {"pair": pair, "step": step, "chosen": chosen, "rejected": rejected, "margin": chosen - rejected}
        for pair, path in enumerate(pairs)
        for step, (chosen, rejected) in enumerate(path)
    ]
    return pd.DataFrame(rows)


def test_the_least_rise_is_of_losses_that_raise_both_and_arrive_with_every_pair():
    walks = {
        "high": walk([(0, 0), (20, 16), (30, 10)], [(0, 0), (22, 17), (40, 10)]),  # when it arrives: 21
        "low": walk([(0, 0), (9, 5)], [(0, 0), (11, 7)]),
        "falls": walk([(0, 0), (1, -4)], [(0, 0), (1, -4)]),
        "late": walk([(0, 0), (5, 1)], [(0, 0), (5, 2)]),
    }
    assert of_losses._least_raised(walks) == 10
    del walks["low"]
    assert of_losses._least_raised(walks) == 21


def ends_of(**changes):
    losses = dict.fromkeys((*of_dynamics.MARGIN_ONLY, *of_dynamics.PULLED), (0.0, -1.0)) | changes
    return pd.DataFrame(
        {"data": data, "loss": loss, "seed": seed, "step": step, "pairs": 10, "both_fell": 0.1}
        | {"chosen": chosen * step, "rejected": rejected * step, "margin": (chosen - rejected) * step}
        for data in ("sentiment", "summaries")
        for loss, (chosen, rejected) in losses.items()
        for seed in range(2)
        for step in (0, 1)
    )


def test_sppo_s_ratio_is_that_of_its_weights_at_the_end():
    found = of_dynamics.of_ends(ends_of(sppo=(-50.0, -100.0)))
    assert found["sppo_r"] == pytest.approx((0.5 + 0.001 * 50) / (0.5 - 0.001 * 100))


def test_where_the_pulled_losses_start_and_rpo_ends():
    shares = {"dpo": (0.9, 0.0), "rpo": (0.1, 0.9), "cpo": (0.0, 0.8), "orpo": (0.2, 1.0)}
    means = pd.DataFrame(
        {"data": data, "loss": loss, "seed": 0, "step": step, "cosine": 0.5}
        | {"ideal": ideal + 0.5 * (step > 0) * (loss != "dpo"), "both_up": up - 0.7 * (step > 0)}
        for data in ("sentiment", "summaries")
        for loss, (ideal, up) in shares.items()
        for step in (0, 8)
    )
    pairs = pd.DataFrame({"data": ["sentiment", "summaries"], "loss": "dpo", "step": 0, "norm_ratio": 1.1})
    found = of_dynamics.of_cases(means, pairs)
    assert (found["pulled_up"], found["rpo_ideal"]) == (pytest.approx(80), pytest.approx(60))


def test_how_many_times_the_largest_shared_term_is_the_smallest():
    tokens = SimpleNamespace(cross=torch.diag(torch.tensor([-9.0, 2.0, 8.0, 0.5])))
    found = of_tokens.of_one_pair(tokens)
    assert found["shared_spread"] == pytest.approx(16)
    assert (found["few_words"], found["n_shared"]) == (2, 3)


def test_losses_are_counted_that_part_the_tweets_and_lower_the_negative_ones():
    moved = {  # of the scores of positive and of negative tweets
        "dpo": (2.0, 0.5), "ipo": (0.8, -0.3), "kto": (1.5, 0.6), "simpo": (0.4, -0.6), "rpo": (0.1, -0.1),
    }  # fmt: skip
    shares = dict.fromkeys(("accuracy", "undrifted", "corrected", "ranked"), 70.0)
    shares |= {f"{name}_before": 70.0 for name in ("accuracy", "corrected", "ranked")}
    measured = pd.DataFrame(
        {"loss": loss, "seed": seed, "moved_positive": up + seed / 10, "moved_negative": down + seed / 10}
        | {"bias": (up + down) / 2}
        | shares
        for loss, (up, down) in moved.items()
        for seed in (-1, 1)
    )
    tokens = pd.DataFrame(
        {"data": "sentiment", "loss": "dpo", "place": "first difference", "token": token}
        | {"seed": seed, "change": 0.1}
        for token in (" positive", " negative")
        for seed in range(2)
    )
    found = of_probability.of_accuracy(measured, tokens)
    assert (found["n_parted"], found["n_lowered"]) == (3, 2)  # KTO and RPO gain less than half a nat


def test_the_margins_that_a_loss_with_goals_reached():
    margins = dict(zip(controlling.GOALS, (0.5, 0.3, 0.4), strict=True))
    columns = {"set": "trained", "rate": 1.0, "optimizer": "adamw", "step": 8}
    rows = [
        {"way": way, "goal": goal, "seed": seed, "margin": margin, "chosen": margin / 2}
        | {"rejected": -margin / 2}
        | columns
        for way in ("itself", "batch", "all")
        for goal, margin in margins.items()
        for seed in range(2)
    ]
    kto = [{"way": "kto", "goal": "none", "seed": seed} | columns for seed in range(2)]
    kto = [row | {"set": "test", "margin": 1.0, "chosen": -0.1, "rejected": -1.1} for row in kto]
    own = pd.DataFrame(rows[:2]).assign(update="joint").drop(columns=["way", "goal"])
    found = of_control.of_goals(pd.DataFrame(rows + kto), own)
    assert (found["itself_parted_least"], found["itself_parted_most"]) == (0.3, 0.5)


def test_ways_are_counted_that_end_on_the_right_side():
    def row(chosen, rejected):
        return {n: Interval(v, v, v, 2) for n, v in (("chosen", chosen), ("rejected", rejected))} | {
            "margin": Interval(1, 1, 1, 2),
            "gain": Interval(0, 0, 0, 2),
        }

    ends = {
        "before training": row(0.0, 0.0),
        "DPO, stopped early": row(-0.1, -0.2),
        "a": row(0.5, -0.5),
        "b": row(0.6, 0.1),
        "c": row(8.0, 9.0),
        "d": row(0.1, -3.0),
    }
    there = {"r = 1.005": row(0.5, -0.5), "band": row(0.6, -0.4), "other": 3}
    costs = {WAY_TITLES[name]: "2.5" for name in ("batch", "all", "adversarial")} | {
        UPDATE_TITLES["band"]: "2.0"
    }
    found = of_control.of_all_ways(ends, there, pd.DataFrame({"time": costs}), "r = 1.005")
    assert (found["n_apart"], found["raised_most"], found["time_band"]) == (2, 9.0, 2.0)
