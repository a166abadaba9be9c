"""The rivals of control: rewards in a discriminator's place, and the numbers that the text quotes of them."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from entanglement.geometry import PairGeometry
from entanglement.pairs import PreferencePair, collate
from entanglement.training import sft
from entanglement.updates.plans import plan
from entanglement_book.studies.ch13_control import judging, numbers as tell
from entanglement_book.studies.shared import start


@pytest.fixture
def pairs():
    return [
        PreferencePair("the film was", "good and the people liked it", "bad and the people liked it", "0"),
        PreferencePair("what a day", " positive people", " negative people", "1"),
        PreferencePair("the day", " good people", " good people", "2"),
    ]


def test_the_right_first_word_is_what_is_rewarded(tokenizer, pairs):
    batch = collate(pairs, tokenizer, padding_side="left")
    assert judging.FirstWord()(batch).tolist() == [1, 1, 1, 0, 0, 1]


@pytest.mark.parametrize("drawn", [True, False])
def test_a_discriminator_tells_what_it_was_shown(tiny_model, tokenizer, pairs, drawn):
    model = tiny_model("gpt2-tied")
    options = {"steps": 15, "batch_size": 2, "seed": 0, "lr": 1e-2}
    judge = judging.taught(model, tokenizer, pairs[:2], drawn=drawn, **options)
    found = judging.judge_pairs(judge, model, tokenizer, pairs, seed=1)
    assert found["pair"].tolist() == ["0", "1", "2"]
    assert abs(found["gap"][2]) < 1e-6  # twins
    assert (found["told_draw" if drawn else "told"][:2] == 1).all()
    other = judging.taught(model, tokenizer, pairs[:2], drawn=not drawn, **options)
    assert (
        judging.judge_pairs(other, model, tokenizer, pairs, seed=1)["gap"].tolist() != found["gap"].tolist()
    )
    blank = judging.taught(model, tokenizer, pairs[:2], drawn=drawn, **options | {"steps": 0})
    assert all(not p.detach().any() for p in blank.head.parameters())


@pytest.fixture
def two_words(tiny_model, tokenizer):
    """A model that begins about every other answer with "good", and the others with "bad"."""
    model = tiny_model("gpt2-tied")
    words = [PreferencePair("the day was", word, word, word) for word in ("good", "bad")]
    sft(model, tokenizer, words, steps=60, lr=1e-2, batch_size=2, seed=0)
    return model


def test_a_gap_is_measured_in_the_spread_of_the_reward_over_draws(two_words, tokenizer):
    pairs = [PreferencePair("the day was", "good", "bad", str(k)) for k in range(20)]
    found = judging.judge_pairs(judging.FirstWord(), two_words, tokenizer, pairs, seed=1)
    labeled = (found["gap_draw"] == 0).to_numpy(float)
    assert 0.1 < labeled.mean() < 0.9
    assert found["gap"].tolist() == pytest.approx([1 / labeled.std(ddof=1)] * 20, rel=1e-5)
    assert found["told_draw"].tolist() == pytest.approx(1 - labeled / 2)  # a tie counts half


def test_a_reward_for_the_first_word_parts_answers_that_differ_in_it(two_words, tokenizer):
    numbers = replace(start.recipe("smoke"), steps=16, lr=1e-3, batch=8)
    pairs = [PreferencePair("the day was", "good", "bad", str(k)) for k in range(8)]
    moved = judging.trained_for_first_word(two_words, tokenizer, pairs, pairs[:2], numbers, 0)
    assert moved["pair"].tolist() == ["0", "1"] and (moved["margin"] > 0.2).all()
    assert moved["margin"].tolist() == pytest.approx((moved["chosen"] - moved["rejected"]).tolist())


def test_requests_are_counted_pair_by_pair():
    rows = []
    for pair in range(40):
        for request in ("up, down", "up, stay", "down, up"):
            feasible = request != "down, up"
            rows.append(
                {"kind": "near-copies" if pair % 2 else "other words", "pair": f"p{pair}"}
                | {"request": request, "verdict": "feasible" if feasible else "negative weight"}
                | {"met": feasible and (pair, request) != (7, "up, stay"), "steps": 3}
                | {"price": 2.0 + pair % 2, "met_by_dpo": feasible and request == "up, down"}
            )
    found = tell.of_requests(pd.DataFrame(rows))
    assert (found["n_pairs"], found["n_tried"], found["n_feasible"], found["n_met"]) == (40, 120, 80, 79)
    assert found["share_met"].value == pytest.approx(39 / 40) and found["share_met"].n == 40
    assert found["share_met"].low < 0.9 < found["share_met"].high  # 79 of 80 would have cleared it
    assert found["pairs_missed"] == 1
    assert found["share_by_dpo"].value == 0 and found["met_by_dpo"] == pytest.approx(50)
    assert (found["price_near"], found["price_other"]) == (3.0, 2.0)


@pytest.mark.parametrize(("a", "b", "rho"), [(1.0, 1.0, 0.9), (1.0, 2.0, 0.9), (3.0, 1.0, 0.5)])
def test_what_is_in_common_is_settled_as_many_times_as_fast(a, b, rho):
    gram = torch.tensor([[a * a, rho * a * b], [rho * a * b, b * b]], dtype=torch.float64)
    slow, fast = torch.linalg.eigvalsh(gram).tolist()
    pair = PairGeometry(gram[:1, 0], gram[1:, 1], gram[:1, 1])
    assert tell.settling(pair) == pytest.approx(fast / slow)
    for_equal = (1 + rho) / (1 - rho)
    assert (
        tell.settling(pair) == pytest.approx(for_equal) if a == b else tell.settling(pair) > 1.05 * for_equal
    )


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("a", "b", "rho"), [(1.0, 2.0, 0.9), (2.0, 1.0, 0.9), (1.0, 1.1, 0.5), (1.0, 2.0, 0.4)]
)
def test_a_loss_can_ask_for_equal_amounts_only_between_the_squares(a, b, rho, sign):
    c = rho * a * b
    pair = PairGeometry(*(torch.tensor([x], dtype=torch.float64) for x in (a * a, b * b, c)))
    between = a * a <= c <= b * b if sign > 0 else b * b <= c <= a * a
    assert (plan(pair, 0.5 * sign, 0.5 * sign).verdicts == ("feasible",)) == between
