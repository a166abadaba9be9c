"""The study of rewards: the toy that hesitates, what is foretold of it, and pairs of a policy's own."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from entanglement.batches import collate_for
from entanglement.models import load_model
from entanglement.pairs import PreferencePair
from entanglement.rewards import RewardModel, draw_answers
from entanglement.rewards.negative_tokens import hidden_weights
from entanglement_book.studies.ch14_rewards import copying
from entanglement_book.studies.ch14_rewards.copying import (
    KINDS,
    TOKENS,
    held_out,
    hesitant,
    prompts,
    sizes,
    taught,
    worth,
)
from entanglement_book.studies.ch14_rewards.grid import _read
from entanglement_book.studies.ch14_rewards.grid_copying import shuffled_weights
from entanglement_book.studies.ch14_rewards.own_pairs import drawn_pairs, in_common
from entanglement_book.studies.ch14_rewards.prediction import SHARES, agreement, single_steps
from entanglement_book.studies.ch14_rewards.runs import numbers_of, scored

SMALL = replace(sizes("smoke"), lessons=2500, teach_steps=360, teach_batch=48)


@pytest.fixture(scope="module", params=KINDS)
def pupil(request):
    return request.param, *taught(request.param, SMALL, 1)


def test_the_toy_copies_at_once_and_hesitates_to_no_good(pupil):
    kind, model, tokenizer = pupil
    seen, unseen = prompts(1, SMALL.held_out)
    assert len(seen) == 86 and len(unseen) == 4 and not {*seen} & {*unseen}
    answers = draw_answers(model, tokenizer, seen, group=8, tokens=TOKENS, seed=0)
    right, slow = worth(tokenizer, answers).bool(), torch.tensor(hesitant(tokenizer, answers))
    assert 0.3 < slow.double().mean() < 0.7
    assert right[~slow].double().mean() > 2 * right[slow].double().mean() > 0
    said = answers.texts(tokenizer)
    words = {text.split()[0] for text, s in zip(said, slow, strict=True) if s}
    assert words == ({"hm"} if kind == "same words" else {"hm", "er"})


def test_an_answer_is_right_if_it_ends_in_the_two_digits(pupil):
    _, model, tokenizer = pupil
    answers = draw_answers(model, tokenizer, prompts(1, 4)[0], group=4, tokens=TOKENS, seed=3)
    found = worth(tokenizer, answers)
    for row, text in enumerate(answers.texts(tokenizer)):
        asked = tokenizer.decode(answers.input_ids[row, :-TOKENS]).split("copy ")[1].split()[:2]
        assert bool(found[row]) == (text.split()[-2:] == asked)
    assert 0 < found.sum() < len(found)


def test_held_out_answers_differ_in_the_last_digit_and_in_the_controls_words():
    for kind in KINDS:
        sets = held_out(kind, prompts(1, 4)[1], 1)
        assert list(sets) == ["hesitant", "at once"]
        for name, pairs in sets.items():
            for pair in pairs:
                right, wrong = pair.chosen.split(), pair.rejected.split()
                assert right[-2:] == pair.prompt.split()[1:3] and right[-1] != wrong[-1]
                assert len(right) == len(wrong) and (len(right) > 2) == (name == "hesitant")
                same = right[:-1] == wrong[:-1]
                assert same == (kind == "same words" or name == "at once")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_short_step_is_what_is_foretold_of_it(pupil, optimizer):
    _, model, tokenizer = pupil
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = single_steps(
        model, tokenizer, prompts(1, 4)[0][:8], lambda a: worth(tokenizer, a), optimizer=optimizer,
        lr=1e-4 if optimizer == "sgd" else 1e-6, group=8, tokens=TOKENS, seed=0, warm=2,
    )  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    groups = found.groupby("prompt")["right"]
    assert (groups.sum() > 0).all() and (groups.sum() < groups.size()).all()
    told = found["plain" if optimizer == "sgd" else "optimizer"]
    scale = float(found["change"].abs().max())
    if optimizer == "sgd":  # AdamW's step has momentum, which is no part of what is foretold
        np.testing.assert_allclose(found["change"], told, atol=0.03 * scale, rtol=0.05)
    assert found["change"].corr(told, method="spearman") > 0.6
    np.testing.assert_allclose(found[list(SHARES)].sum(axis=1), found["plain"], rtol=1e-5, atol=1e-12)
    assert (found.loc[found["right"], "own"] > 0).all() and (found.loc[~found["right"], "own"] < 0).all()


def test_agreement_counts_right_answers_only():
    table = pd.DataFrame(
        {
            "right": [True, True, True, True, False],
            "change": [1.0, -1.0, 2.0, -2.0, 5.0],
            "plain": [1.0, 1.0, 2.0, -2.0, -5.0],
            "optimizer": [-1.0, 1.0, -2.0, 2.0, 5.0],
        }
    )
    found = agreement(table).set_index("metric")
    assert found.loc["plain", ["answers", "fell", "agree", "always", "told"]].tolist() == [
        4,
        0.5,
        0.75,
        0.5,
        0.5,
    ]
    assert found.loc["optimizer", "agree"] == 0 and found.loc["optimizer", "correlation"] == pytest.approx(-1)


def test_what_is_not_known_is_refused():
    with pytest.raises(ValueError, match="kind='none'"):
        taught("none", SMALL, 0)
    for function in (sizes, numbers_of):
        with pytest.raises(ValueError, match="scale='none'"):
            function("none")
    assert copying.TOKENS == copying.LONGEST + 3


def test_the_best_and_the_worst_draw_make_a_pair():
    model, tokenizer = load_model("nano")
    asked = [PreferencePair(f"The film was {word} and", "a", "b", word) for word in ("good", "bad", "long")]

    def letters(answers):
        return torch.tensor([float(len(text)) for text in answers.texts(tokenizer)])

    found, back = drawn_pairs(model, tokenizer, asked, letters, draws=6, tokens=6, seed=0)
    assert [pair.prompt for pair in found] == [pair.prompt for pair in asked] and 0.5 < back <= 1
    assert all(len(pair.chosen) > len(pair.rejected) for pair in found)
    same, _ = drawn_pairs(model, tokenizer, asked, letters, draws=6, tokens=6, seed=0)
    other, _ = drawn_pairs(model, tokenizer, asked, letters, draws=6, tokens=6, seed=1)
    assert same == found and other != found


def test_what_two_responses_share_is_counted_in_tokens():
    _, tokenizer = load_model("nano")
    pairs = [
        PreferencePair("x", " good bad", " good good", "x"),
        PreferencePair("x", " good", " good", "y"),
        PreferencePair("x", " bad", " good", "z"),
    ]
    found = in_common(tokenizer, pairs)
    assert found == {"begin": [1, 1, 0], "shared": [0.5, 1, 0]}


def test_dealt_weights_are_as_many_and_elsewhere(pupil):
    _, model, tokenizer = pupil
    answers = draw_answers(model, tokenizer, prompts(1, 4)[0][:6], group=8, tokens=TOKENS, seed=2)
    right = worth(tokenizer, answers)
    advantages = (2 * right[:, None] - 1) * answers.mask
    near, dealt = (weigh(model, answers, advantages) for weigh in (hidden_weights, shuffled_weights))
    wrong = (right == 0)[:, None] & answers.mask
    assert (dealt[~wrong] == 1).all() and not torch.equal(near, dealt)
    for start in range(0, len(answers), 8):
        rows = slice(start, start + 8)
        assert (near[rows] == 0).sum() == (dealt[rows] == 0).sum()
    assert (near == 0).any()


def test_answers_are_told_apart_by_their_label(monkeypatch):
    from entanglement_book.studies.ch14_rewards import runs

    model, tokenizer = load_model("nano")
    pairs = [PreferencePair("x", " positive sentiment.", " negative sentiment.", "x")]
    drawn = draw_answers(model, tokenizer, ["x"], group=4, tokens=3, seed=0)
    texts = [" positive sentiment", " positive day", " negative sentiment", " nothing"]
    monkeypatch.setattr(type(drawn), "texts", lambda self, tokenizer: texts)
    monkeypatch.setattr(runs, "draw_answers", lambda *_, **__: drawn)
    found = scored(model, tokenizer, RewardModel(model), pairs, draws=4, tokens=3, seed=0)
    assert found == {"reward": 0.0, "true": 0.5, "false": 0.25, "formed": 0.5}


def test_tokens_are_counted_once_for_a_prompt_and_thrice_for_a_step():
    model, tokenizer = load_model("nano")
    pairs = [
        PreferencePair("The film was", " good", " bad", "x"),
        PreferencePair("A day", " bad", " good", "y"),
    ]
    batch = collate_for(model, pairs, tokenizer, False)
    prompts = int((batch.attention_mask.sum() - batch.response_mask.sum()) / 2)
    assert _read(tokenizer, pairs, [[0, 1]], both=True) == 4 * (prompts + int(batch.response_mask.sum()))
    assert _read(tokenizer, pairs, [[0, 1], [0, 1]], both=False) == 6 * (
        prompts + int(batch.chosen_len.sum())
    )
