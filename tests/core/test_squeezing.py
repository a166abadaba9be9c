"""Where probability goes: against models whose next-token distributions are given."""

import math

import pandas as pd
import pytest
import torch
from torch import nn

from entanglement.outcomes.squeezing import (
    answer_moves,
    first_difference,
    mass_moves,
    next_token_probs,
    token_moves,
)
from entanglement.pairs import PreferencePair, collate


class Constant(nn.Module):
    """A model that predicts the same distribution everywhere."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, input_ids, attention_mask, position_ids):
        return self.logits.expand(*input_ids.shape, -1)


def constant(tokenizer, **probs):
    """Uniform, but for some tokens of ``probs`` (text → probability)."""
    values = torch.full((len(tokenizer),), (1 - sum(probs.values())) / (len(tokenizer) - len(probs)))
    for text, prob in probs.items():
        values[one_token(tokenizer, f" {text}")] = prob
    return Constant(values.log()).requires_grad_(False)


def one_token(tokenizer, text):
    (token,) = tokenizer(text)["input_ids"]
    return token


@pytest.mark.parametrize(
    ("chosen", "rejected", "place"),
    [([1, 2, 3], [1, 4, 3], 1), ([1], [2], 0), ([1, 2], [1, 2, 3], 2), ([1, 2], [1, 2], 2)],
)
def test_first_difference(chosen, rejected, place):
    assert first_difference(chosen, rejected) == place


def test_moves_of_probability_add_up_to_nothing(tokenizer):
    words = ("positive", "negative", "people")
    pair = PreferencePair("what a day", " positive people", " negative people", "pair")
    for word in words:
        one_token(tokenizer, f" {word}")
    before = constant(tokenizer, positive=0.2, negative=0.1, people=0.4)
    after = constant(tokenizer, positive=0.15, negative=0.05, people=0.6)
    table = mass_moves(before, after, tokenizer, [pair]).set_index(["response", "place"])
    assert (table[["own", "top", "other", "rest"]].sum(axis=1).abs() < 1e-7).all()
    first = table.loc[("chosen", "shared")]
    assert first["own"] == pytest.approx(-0.05) and first["top"] == pytest.approx(0.2)
    assert first["other"] == pytest.approx(-0.05) and first["rest"] == pytest.approx(-0.1)
    later = table.loc[("chosen", "apart")]  # its own token is the likeliest there
    assert later["own"] == pytest.approx(0.2) and later["top"] == 0 and later["top_share"] == 0
    assert table.loc[("rejected", "shared"), "own"] == pytest.approx(-0.05)


def test_nothing_moves_between_a_model_and_itself(tokenizer, pairs, tiny_model):
    model = tiny_model("gpt2-tied")
    table = mass_moves(model, model, tokenizer, pairs)
    assert table[["own", "top", "other", "rest", "entropy"]].abs().to_numpy().max() == 0


def test_distributions_are_those_that_predict_the_response(tokenizer, pairs, tiny_model):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    from entanglement.logps import token_logps

    tokens = token_logps(model, batch)
    probs = next_token_probs(model, batch)
    for row in range(2 * len(batch)):
        side, i = (tokens.chosen, row) if row < len(batch) else (tokens.rejected, row - len(batch))
        mask = batch.response_mask[row]
        own = probs[row].gather(1, batch.input_ids[row][mask][:, None]).squeeze(1)
        torch.testing.assert_close(own.log(), side[i][mask])


def test_answers_between_a_model_and_itself_do_not_move(tokenizer, pairs, tiny_model):
    model = tiny_model("gpt2-tied")
    table = answer_moves(model, model, tokenizer, pairs, tokens=4).set_index("answer")
    assert table["change"].abs().max() == 0
    assert table.loc["chosen", "is_chosen"] == 1 and table.loc["rejected", "is_rejected"] == 1


def test_the_likeliest_answer_of_a_sharper_model_rises(tokenizer, pairs, tiny_model):
    before, after = tiny_model("gpt2-tied"), tiny_model("gpt2-tied")
    with torch.no_grad():
        after.transformer.ln_f.weight.mul_(2.0)
        after.transformer.ln_f.bias.mul_(2.0)  # all logits doubled: the likeliest tokens gain
    table = answer_moves(before, after, tokenizer, pairs, tokens=4).set_index("answer")["change"]
    assert table["likeliest before"] > 0 and table["drawn after"] > 0 > table["drawn before"]


def test_tokens_that_gain_and_lose(tokenizer):
    pair = PreferencePair("what a day", " positive people", " negative people", "pair")
    before = constant(tokenizer, positive=0.2, negative=0.1, people=0.4)
    after = constant(tokenizer, positive=0.15, negative=0.05, people=0.6)
    table = token_moves(before, after, tokenizer, [pair], most=1).set_index(["place", "token"])
    for place in ("first difference", "after"):
        assert table.loc[(place, " people"), "change"] == pytest.approx(0.2)
        rows = table.loc[place]
        assert rows["change"].min() == pytest.approx(-0.05)
        assert rows["before"].max() == pytest.approx(0.4)


def entropy(**probs):
    """Entropy of ``constant``, nats."""
    rest = 1 - sum(probs.values())
    others = 300 - len(probs)
    return -sum(p * math.log(p) for p in probs.values()) - rest * math.log(rest / others)


def test_entropy_is_that_after_less_that_before(tokenizer):
    pair = PreferencePair("what a day", " positive people", " negative people", "pair")
    old, new = {"positive": 0.2, "people": 0.4}, {"positive": 0.1, "people": 0.7}
    table = mass_moves(constant(tokenizer, **old), constant(tokenizer, **new), tokenizer, [pair])
    assert len(tokenizer) == 300
    expected = entropy(**new) - entropy(**old)
    assert expected < -0.5 and table["entropy"].to_numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("chosen", "rejected"), [(" positive people", " people"), (" positive", " people positive")]
)
def test_the_other_responses_token_counts_once_where_it_is_the_likeliest(tokenizer, chosen, rejected):
    pair = PreferencePair("what a day", chosen, rejected, "pair")
    before = constant(tokenizer, positive=0.2, people=0.4)
    after = constant(tokenizer, positive=0.15, people=0.6)
    table = mass_moves(before, after, tokenizer, [pair]).set_index(["response", "place"])
    first = table.loc[("chosen", "shared")]
    assert (first["own"], first["top"], first["other"]) == pytest.approx((-0.05, 0.2, 0.0))
    # Of the rejected response the likeliest token is its own, and "positive" the other's.
    first = table.loc[("rejected", "shared")]
    assert (first["own"], first["top"], first["other"]) == pytest.approx((0.2, 0.0, -0.05))
    assert first["top_share"] == 0 and table.loc[("chosen", "shared"), "top_share"] == 1


def test_batches_and_draws_are_as_asked_for(tokenizer, pairs, tiny_model):
    before, after = tiny_model("gpt2-tied"), tiny_model("gpt2-tied", seed=1)
    one, other = (mass_moves(before, after, tokenizer, pairs, size=size) for size in (1, 8))
    pd.testing.assert_frame_equal(one, other, rtol=1e-9, atol=1e-9)
    assert set(one["positions"]) != {1} and one["positions"].sum() == sum(
        len(tokenizer(text)["input_ids"]) for pair in pairs for text in (pair.chosen, pair.rejected)
    )
    tables = [
        answer_moves(before, after, tokenizer, pairs, tokens=tokens, seed=seed).set_index("answer")["change"]
        for tokens, seed in ((3, 0), (3, 0), (3, 1), (4, 0))
    ]
    assert tables[0].equals(tables[1])
    drawn = ["drawn before", "drawn after"]
    assert (tables[0].drop(drawn) == tables[2].drop(drawn)).all()  # what is likeliest is not drawn
    assert (tables[0][drawn] != tables[2][drawn]).all()
    assert (tables[0] != tables[3]).drop(["chosen", "rejected"]).all()
