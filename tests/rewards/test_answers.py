"""Drawn answers: where they end, and what models say of them."""

import copy

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from entanglement.logps import row_logps
from entanglement.rewards.answers import Answers, draw_answers, read_answers, written_answers

PROMPTS = ["what a day", "the film was long and I did not like any of it", "people"]


@pytest.fixture
def model(tiny_model):
    return tiny_model("gpt2-tied")


@pytest.fixture
def answers(model, tokenizer):
    return draw_answers(model, tokenizer, PROMPTS, group=12, tokens=7, seed=1)


def test_an_answer_ends_with_its_end_token(model, tokenizer, answers):
    # A token that this model draws often is to be the end.
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(int(answers.ids.flatten().mode().values))
    answers = draw_answers(model, tokenizer, PROMPTS, group=12, tokens=7, seed=1)
    assert len(answers) == 36 and answers.group == 12
    ended = 0
    for ids, here, text in zip(answers.ids.tolist(), answers.mask, answers.texts(tokenizer), strict=True):
        n = int(here.sum())
        assert here.tolist() == [True] * n + [False] * (7 - n)
        end = tokenizer.eos_token_id
        if end in ids:
            ended += 1
            assert n == ids.index(end) + 1
        else:
            assert n == 7
        assert text == tokenizer.decode([i for i in ids[:n] if i != end])
    assert 0 < ended < 36
    assert answers.lengths.tolist() == answers.mask.sum(1).tolist()


@pytest.mark.parametrize("shape", ["gpt2-tied", "llama-untied", "neox-untied"])
def test_log_probabilities_are_those_of_whole_rows(tiny_model, tokenizer, answers, shape):
    model = tiny_model(shape)
    response = torch.zeros_like(answers.input_ids, dtype=torch.bool)
    response[:, -answers.tokens :] = True
    positions = (answers.attention_mask.cumsum(1) - 1).clamp(min=0)
    rows = row_logps(model, answers.input_ids, answers.attention_mask, positions, response)
    read = read_answers(model, answers)
    torch.testing.assert_close(read.logps, rows[:, -answers.tokens :])
    assert read.states.shape == (36, 7, 16) and read.logps.requires_grad


def test_groups_answer_the_same_prompt_and_rows_can_be_taken(answers, tokenizer):
    for g, prompt in enumerate(PROMPTS):
        for row in range(12 * g, 12 * g + 12):
            real = answers.input_ids[row, : -answers.tokens][
                answers.attention_mask[row, : -answers.tokens].bool()
            ]
            assert prompt.endswith(tokenizer.decode(real[1:]))
    some = answers.select([5, 30])
    assert torch.equal(some.input_ids, answers.input_ids[[5, 30]]) and some.group == 1
    with pytest.raises(ValueError, match="rows="):
        answers.select([36])


def test_seeds_are_seeds(model, tokenizer, answers):
    again, other = (draw_answers(model, tokenizer, PROMPTS, group=12, tokens=7, seed=s) for s in (1, 2))
    assert torch.equal(again.input_ids, answers.input_ids) and not torch.equal(other.ids, answers.ids)


def test_written_answers_keep_their_prompt_and_one_that_is_too_long_loses_its_beginning(tokenizer):
    long = "the film was what a day the people liked it"
    texts = [[" good", " bad and"]] * 2
    tokenizer.model_max_length, before = 12, tokenizer.model_max_length
    try:
        found = written_answers(tokenizer, ["the film", long], texts)
    finally:
        tokenizer.model_max_length = before
    whole = written_answers(tokenizer, ["the film", long], texts)
    real = found.attention_mask.sum(1)
    assert torch.equal(real[:2], whole.attention_mask.sum(1)[:2]) and bool((real[:2] < 12).all())
    assert real[2:].tolist() == [12, 12] and bool((whole.attention_mask.sum(1)[2:] > 12).all())
    assert found.texts(tokenizer) == whole.texts(tokenizer) == [" good", " bad and"] * 2


def test_the_end_belongs_to_a_written_answer_only_if_it_is_asked_for(tokenizer):
    texts = [[" good", " bad and"]]
    without, ended = (
        written_answers(tokenizer, ["the film"], texts, append_eos=append_eos) for append_eos in (False, True)
    )
    assert (ended.lengths - without.lengths).tolist() == [1, 1]
    for answers, is_end in ((without, False), (ended, True)):
        last = answers.ids.gather(1, (answers.lengths - 1)[:, None])[:, 0]
        assert (last == tokenizer.eos_token_id).tolist() == [is_end] * 2


def test_what_a_tokenizer_puts_around_a_text_stands_in_no_answer(tokenizer):
    adding = copy.deepcopy(tokenizer)
    mark = (tokenizer.bos_token, tokenizer.bos_token_id)
    adding.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{mark[0]} $A", special_tokens=[mark]
    )
    assert adding("the film")["input_ids"][0] == mark[1]
    for some in (adding, tokenizer):
        answers = written_answers(some, ["the film"], [[" good", " bad and"]])
        assert answers.texts(tokenizer) == [" good", " bad and"]
        assert (answers.ids[answers.mask] != mark[1]).all()
        assert int((answers.input_ids[0, : -answers.tokens] == mark[1]).sum()) == 1  # the prompt's own


def test_what_does_not_fit_is_refused(answers):
    ids, mask = answers.input_ids, answers.attention_mask
    with pytest.raises(ValueError, match="group=5; expected a divisor of the 36"):
        Answers(ids, mask, answers.mask, 5, 7)
    with pytest.raises(ValueError, match=r"mask is \(36, 7\)"):
        Answers(ids, mask, answers.mask, 12, 6)
    with pytest.raises(ValueError, match="expected a causal language model"):
        read_answers(torch.nn.Linear(2, 2), answers)
