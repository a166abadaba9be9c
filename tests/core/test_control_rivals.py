"""The rivals of control: rewards in a discriminator's place, and the numbers that the text quotes of them."""

import pandas as pd
import pytest
import torch

from entanglement.geometry import PairGeometry
from entanglement.pairs import PreferencePair, collate
from entanglement.training import align
from entanglement.updates import get_update
from entanglement.updates.plans import plan
from entanglement_book.studies.ch13_control import numbers as tell
from entanglement_book.studies.ch13_control.grid_rivals import ADVERSARY, FirstWord, Judged, Rewarded


@pytest.fixture
def pairs():
    return [
        PreferencePair("the film was", "good and the people liked it", "bad and the people liked it", "0"),
        PreferencePair("what a day", " positive people", " negative people", "1"),
        PreferencePair("the day", " good people", " good people", "2"),
    ]


def rewarded(reward):
    update = Rewarded(seed=3, **ADVERSARY | {"head_start": 2})
    update.reward = reward
    return update


def test_the_right_first_word_is_what_is_rewarded(tokenizer, pairs):
    batch = collate(pairs, tokenizer, padding_side="left")
    assert FirstWord()(batch).tolist() == [1, 1, 1, 0, 0, 1]


def trained(model, tokenizer, pairs, update):
    options = {"steps": 2, "batch_size": 3, "lr": 1e-3, "seed": 0, "evaluate": {"all": pairs}}
    watch = Judged(collate(pairs, tokenizer, padding_side="left"), [2], 5)
    run = align(model, tokenizer, pairs, update=update, observers=[watch], evaluate_at=[0, 2], **options)
    return run.table["chosen_logp"].tolist(), run.others["judged"]


def test_with_drawn_answers_it_is_adversarial_training_itself(tiny_model, tokenizer, pairs):
    plain = get_update("adversarial", seed=3, **ADVERSARY | {"head_start": 2})
    own, judged = trained(tiny_model("gpt2-tied"), tokenizer, pairs, rewarded("drawn"))
    assert own == trained(tiny_model("gpt2-tied"), tokenizer, pairs, plain)[0]
    others = [
        trained(tiny_model("gpt2-tied"), tokenizer, pairs, rewarded(r))[0] for r in ("rejected", "word")
    ]
    assert own != others[0] != others[1]
    assert judged["step"].tolist() == [2]


def test_a_discriminator_that_sees_rejected_answers_learns_to_tell_them(tiny_model, tokenizer, pairs):
    batch = collate(pairs[:2], tokenizer, padding_side="left")
    gaps = {}
    for reward in ("drawn", "rejected"):
        update = rewarded(reward)
        update.lr = 1e-2
        update.begin(tiny_model("gpt2-tied"))
        for _ in range(12):
            update.rehearse(tiny_model("gpt2-tied"), [batch])
        with torch.no_grad():
            odds = update.judge(batch)
        gaps[reward] = odds[:2] - odds[2:]
    assert (gaps["rejected"] > 1).all() and (gaps["rejected"] > gaps["drawn"]).all()


def test_what_a_reward_makes_of_pairs_is_measured_in_its_own_spread(tiny_model, tokenizer, pairs):
    _, judged = trained(tiny_model("gpt2-tied"), tokenizer, pairs, rewarded("word"))
    row = judged.iloc[0]
    assert row["gap"] == pytest.approx(2 / 3) and row["right"] == pytest.approx(5 / 6)  # one pair of twins
    assert row["gap_draw"] == pytest.approx(1 - row["labeled"])
    table = pd.DataFrame(
        {"way": "word", "seed": [0, 1, 0, 1], "step": [1, 1, 2, 2]}
        | {"gap": [9.0, 9.0, 1.0, 2.0], "spread": [1.0, 1.0, 0.5, 0.5]}
    )
    worth = tell.worth_of_label(table, "word")
    assert worth.value == pytest.approx(3.0) and worth.n == 2


def test_requests_are_counted_pair_by_pair():
    rows = []
    for pair in range(40):
        for request in ("up, down", "up, stay", "down, up"):
            feasible = request != "down, up"
            rows.append(
                {"kind": "sentiment" if pair % 2 else "summaries", "seed": pair // 20, "pair": f"p{pair}"}
                | {"request": request, "verdict": "feasible" if feasible else "negative weight"}
                | {"met": feasible and (pair, request) != (7, "up, stay"), "steps": 3}
                | {"price": 2.0 + pair % 2, "met_by_dpo": feasible and request == "up, down"}
            )
    found = tell.of_requests(pd.DataFrame(rows))
    assert (found["n_pairs"], found["n_tried"], found["n_feasible"], found["n_met"]) == (40, 120, 80, 79)
    assert found["share_met"].value == pytest.approx(39 / 40) and found["share_met"].n == 40
    assert found["share_met"].low < 0.9 < found["share_met"].high  # 79 of 80 would have cleared it
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
