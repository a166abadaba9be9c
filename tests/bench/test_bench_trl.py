"""The step that is timed is a step of ``align``, and TRL's is the same one: the same ids, the same loss."""

import copy
import math

import pytest
import torch

from entanglement.losses import get_loss
from entanglement.pairs import PreferencePair, collate
from entanglement.training import align
from entanglement_book.bench import trl_steps as bench_trl

LR = 1e-3  # a tiny model needs a high rate for its loss to leave ln 2


@pytest.fixture
def batch(pairs):
    """Ten pairs of unequal lengths, more than ``align`` computes at a time."""
    words = ["a day", "today", "the people", "abab", "film", "sentiment", "bad"]
    more = [
        PreferencePair(f"the {w} was", f" {w} positive", " negative", f"p{i}") for i, w in enumerate(words)
    ]
    return [*pairs, *more]


@pytest.fixture
def model(tiny_model):
    return tiny_model("gpt2-tied", torch.float32)


def test_our_step_is_one_of_align(model, tokenizer, batch):
    step = bench_trl.our_step(copy.deepcopy(model), tokenizer, batch, lr=LR)
    loss = get_loss("dpo", beta=bench_trl.BETA)
    # Without warm-up the first of two steps has the full rate, and the second loss is that after it.
    run = align(model, tokenizer, batch, loss=loss, steps=2, lr=LR, batch_size=len(batch), warmup=0.0)
    ours = [step(), step()]
    assert abs(ours[1] - math.log(2)) > 1e-3
    # The batch of ``align`` is in another order.
    assert ours == pytest.approx(list(run.losses["loss"]), abs=1e-6)


def test_trl_takes_the_same_step(model, tokenizer, batch):
    theirs = bench_trl.trl_step(copy.deepcopy(model), tokenizer, batch, lr=LR)
    ours = bench_trl.our_step(model, tokenizer, batch, lr=LR)
    losses = [(ours(), theirs()) for _ in range(4)]
    for mine, other in losses:
        assert mine == pytest.approx(other, abs=1e-5)
    assert losses[0][0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses[-1][0] < losses[0][0] - 0.01


def test_trl_gets_the_ids_that_collate_makes(tokenizer, batch):
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    rows = bench_trl.token_ids(batch, tokenizer)
    theirs = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id)(rows)
    ours = collate(batch, tokenizer)
    torch.testing.assert_close(theirs["input_ids"], ours.input_ids)
    torch.testing.assert_close(theirs["attention_mask"], ours.attention_mask)
    torch.testing.assert_close(theirs["completion_mask"], ours.response_mask.long())


def test_a_pair_that_is_cut_keeps_one_prompt(tokenizer, pairs, monkeypatch):
    one = pairs[:1]  # its rejected response is the longer one
    longest = collate(one, tokenizer).attention_mask.sum(dim=1).max()
    monkeypatch.setattr(tokenizer, "model_max_length", int(longest) - 1)
    (row,) = bench_trl.token_ids(one, tokenizer)
    assert len(row["prompt_ids"]) + len(row["rejected_ids"]) == int(longest) - 1
