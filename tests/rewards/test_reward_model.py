"""The reward model: it learns what is preferred, and says of drawn answers what it says of pairs."""

import copy

import pytest
import torch
from torch.nn import functional

from entanglement.pairs import PreferencePair, collate
from entanglement.rewards import RewardModel, draw_answers, pair_rewards, reward_accuracy, train_reward
from entanglement.rewards.answers import Answers

PROMPTS = ("the film was", "what a day", "today the people", "abab", "the people")


@pytest.fixture
def model(tiny_model):
    return tiny_model("gpt2-tied", torch.float32)


def judged(better=" good", worse=" bad"):
    return [
        PreferencePair(p, f"{better} film", f"{worse} film", f"{p} {i}") for p in PROMPTS for i in range(4)
    ]


def test_an_untrained_one_finds_all_equally_good(model, tokenizer):
    reward = RewardModel(model)
    chosen, rejected = pair_rewards(reward, tokenizer, judged())
    assert not chosen.any() and not rejected.any() and reward_accuracy(reward, tokenizer, judged()) == 0.5


def test_it_learns_what_is_preferred_and_the_opposite_from_swapped_pairs(model, tokenizer):
    before = copy.deepcopy(model.state_dict())
    shares = []
    for pairs in (judged(), judged(" bad", " good")):
        reward = train_reward(model, tokenizer, pairs, steps=20, lr=3e-3, batch_size=8)
        shares.append(reward_accuracy(reward, tokenizer, judged()))
    assert shares == [1.0, 0.0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    both = pair_rewards(reward, tokenizer, judged())
    assert abs(float(torch.cat(both).mean())) < 0.5 < float((both[1] - both[0]).mean())


def test_the_first_step_is_the_logistic_losss(model, tokenizer):
    pairs = judged()[:6]
    reward = train_reward(model, tokenizer, pairs, steps=1, lr=1e-3, batch_size=6)
    by_hand = RewardModel(model)
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=1e-3, weight_decay=0.0)
    batch = collate(pairs, tokenizer)
    both = by_hand(batch.input_ids, batch.attention_mask)
    (-functional.logsigmoid(both[:6] - both[6:]).mean()).backward()
    optimizer.step()
    mine, other = (pair_rewards(r, tokenizer, pairs) for r in (reward, by_hand))
    torch.testing.assert_close(mine[0] - mine[1], other[0] - other[1], rtol=1e-3, atol=1e-5)
    assert float((mine[0] - mine[1]).abs().max()) > 1e-3


def test_the_last_batchs_mean_is_the_zero_and_nothing_trains_any_more(model, tokenizer):
    pairs = judged()[:6]
    options = dict(lr=1e-2, batch_size=6)
    one, two = (train_reward(model, tokenizer, pairs, steps=steps, **options) for steps in (1, 2))
    # All pairs are in each batch, and the second step's is read before that step.
    mean = torch.cat(pair_rewards(one, tokenizer, pairs)).mean()
    assert float(one.center) == 0 and abs(float(mean)) > 1e-3
    torch.testing.assert_close(two.center, mean, rtol=1e-3, atol=1e-6)
    assert not any(p.requires_grad for p in two.parameters())


def test_a_drawn_answers_reward_is_that_of_its_tokens_up_to_the_end(model, tokenizer):
    reward = train_reward(model, tokenizer, judged(), steps=5, lr=3e-3, batch_size=8)
    drawn = draw_answers(model, tokenizer, PROMPTS, group=4, tokens=6, seed=0)
    mask = drawn.mask.clone()
    mask[3, 2:] = mask[17, 4:] = False
    answers = Answers(drawn.input_ids, drawn.attention_mask, mask, 4, 6)
    found = reward.of(answers)
    for row in (0, 3, 9, 17):
        real = answers.input_ids[row][answers.attention_mask[row].bool()]
        real = real[: len(real) - 6 + int(mask[row].sum())]
        alone = reward(real[None], torch.ones_like(real)[None])
        torch.testing.assert_close(found[row], alone[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[3], reward.of(drawn)[3], atol=1e-5)


def test_an_end_that_was_never_seen_is_not_read(model, tokenizer):
    drawn = draw_answers(model, tokenizer, PROMPTS, group=4, tokens=6, seed=0)
    ids, mask = drawn.input_ids.clone(), drawn.mask.clone()
    ids[2, -3], mask[2, 4:] = tokenizer.eos_token_id, False
    ended = Answers(ids, drawn.attention_mask, mask, 4, 6)
    mask = mask.clone()
    mask[2, 3:] = False
    without = Answers(ids, drawn.attention_mask, mask, 4, 6)
    found = []
    for append_eos in (False, True):
        options = dict(steps=5, lr=3e-3, batch_size=8, append_eos=append_eos)
        reward = train_reward(model, tokenizer, judged(), **options)
        found.append(float((reward.of(ended) - reward.of(without))[2]))
    assert found[0] == 0 and abs(found[1]) > 1e-4


def test_too_few_pairs_are_refused(model, tokenizer):
    with pytest.raises(ValueError, match="batch_size=32 is more than the 20 pairs"):
        train_reward(model, tokenizer, judged(), steps=1)
    with pytest.raises(ValueError, match="expected a language model of transformers"):
        RewardModel(torch.nn.Linear(2, 2))
