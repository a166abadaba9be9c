"""Continuations: the model's own, whatever the padding, and their log-probabilities."""

import copy

import pytest
import torch

from entanglement.sampling import continuation_logps, continue_prompts

PROMPTS = ["what a day", "the film was long and I did not like any of it", "people"]


def test_the_likeliest_continuation_is_that_of_transformers(tokenizer, tiny_model):
    model = tiny_model("gpt2-tied")
    found = continue_prompts(model, tokenizer, PROMPTS, 5)
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    for prompt, ids in zip(PROMPTS, found.ids, strict=True):
        row = torch.tensor([bos + tokenizer(prompt, add_special_tokens=False)["input_ids"]])
        alone = model.generate(row, do_sample=False, max_new_tokens=5, min_new_tokens=5, pad_token_id=0)
        assert alone[0, -5:].tolist() == ids.tolist()


@pytest.mark.parametrize("shape", ["gpt2-tied", "llama-untied"])
def test_log_probabilities_are_those_of_each_row_alone(tokenizer, tiny_model, shape):
    model = tiny_model(shape)
    some = continue_prompts(model, tokenizer, PROMPTS, 4, seed=3)
    values = continuation_logps(model, some)
    assert values.shape == (3,)
    for i in range(3):
        row = some.input_ids[i][some.attention_mask[i].bool()]
        logps = model(input_ids=row[None]).logits[0].log_softmax(-1)
        alone = sum(logps[t - 1, row[t]] for t in range(len(row) - 4, len(row)))
        torch.testing.assert_close(values[i], alone.detach().double(), rtol=1e-5, atol=1e-5)


def test_draws_repeat_with_their_seed_and_follow_the_model(tokenizer, tiny_model):
    model = tiny_model("gpt2-tied")
    one, same = (continue_prompts(model, tokenizer, PROMPTS, 6, seed=1).ids for _ in range(2))
    other = continue_prompts(model, tokenizer, PROMPTS, 6, seed=2).ids
    assert torch.equal(one, same) and not torch.equal(one, other)
    # 400 draws of one token: no further from the model's probabilities than chance allows (χ², 8 groups).
    drawn = continue_prompts(model, tokenizer, ["what a day"] * 400, 1, seed=5)
    row = drawn.input_ids[0][drawn.attention_mask[0].bool()][:-1]
    probs = model(input_ids=row[None]).logits[0, -1].double().softmax(-1).detach()
    groups = torch.arange(len(probs)) % 8
    expected = 400 * torch.zeros(8, dtype=torch.float64).index_add(0, groups, probs)
    seen = torch.bincount(drawn.ids[:, 0] % 8, minlength=8)
    assert float(((seen - expected) ** 2 / expected).sum()) < 24.3  # the 0.1 % point for 7 degrees


def test_a_length_that_leaves_no_room_is_refused(tokenizer, tiny_model):
    with pytest.raises(ValueError, match="tokens=0"):
        continue_prompts(tiny_model("gpt2-tied"), tokenizer, PROMPTS, 0)


def test_a_prompt_too_long_for_the_context_loses_its_beginning_and_no_more(tokenizer, tiny_model):
    model, short = tiny_model("gpt2-tied"), copy.deepcopy(tokenizer)
    short.model_max_length = 12
    found = continue_prompts(model, short, [PROMPTS[1], PROMPTS[2]], 5)
    ids = tokenizer(PROMPTS[1], add_special_tokens=False)["input_ids"]
    assert len(ids) > 12 and found.input_ids.shape == (2, 12) and found.ids.shape == (2, 5)
    assert found.input_ids[0, :7].tolist() == [tokenizer.bos_token_id, *ids[-6:]]
    # One that fits is whole, behind its padding.
    whole = [tokenizer.bos_token_id, *tokenizer(PROMPTS[2], add_special_tokens=False)["input_ids"]]
    assert found.input_ids[1, 7 - len(whole) : 7].tolist() == whole
    assert found.attention_mask[1].tolist() == [0] * (7 - len(whole)) + [1] * (len(whole) + 5)
    with pytest.raises(ValueError, match="tokens=12; expected 1 to 11"):
        continue_prompts(model, short, PROMPTS, 12)
    with pytest.raises(ValueError, match="prompts"):
        continue_prompts(model, tokenizer, [], 2)
