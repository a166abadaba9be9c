"""``align`` makes the training of ``plain.align_plainly``, which saves nothing and can be read in one go."""

import copy

import pytest
import torch

from entanglement.batches import grouped_logps
from entanglement.losses import get_loss
from entanglement.pairs import PreferencePair
from entanglement.training import align, align_plainly

WORDS = ["good", "bad", "what", "the film", "people", "a day", "today", "liked", "hated", "abab", "sentiment"]


@pytest.fixture(scope="module")
def eleven():
    """More pairs than are computed at a time, with prompts and responses of unequal lengths."""

    def pair(i, word):
        chosen = f" positive {word}" if i % 3 else " good"
        return PreferencePair(f"the {word} was" * (1 + i % 2), chosen, f" {word} bad", f"p{i}")

    return [pair(i, word) for i, word in enumerate(WORDS)]


BASE = {"loss": "dpo", "steps": 5, "lr": 3e-3, "batch_size": 9}
CASES = {
    "as it is": {},
    "simpo": {"loss": "simpo", "lr": 1e-3},
    "kto": {"loss": "kto"},
    "rpo": {"loss": "rpo"},
    "ipo": {"loss": "ipo", "lr": 1e-3},
    "orpo": {"loss": "orpo", "lr": 1e-3},
    "plain steps": {"optimizer": "sgd", "lr": 0.05},
    "clipped": {"max_grad_norm": 0.05, "optimizer": "sgd", "lr": 0.5},
    "not clipped": {"max_grad_norm": None, "optimizer": "sgd", "lr": 0.003, "loss": "rpo"},
    "clipped at 1": {"max_grad_norm": 1.0, "optimizer": "sgd", "lr": 0.003, "loss": "rpo"},
    "slow start": {"warmup": 0.6},
    "no warm-up": {"warmup": 0.0},
    "end of sequence": {"append_eos": True},
    "another order": {"seed": 3},
    "small batches": {"batch_size": 4},
}


def ends(train, model, tokenizer, pairs, options):
    mine = copy.deepcopy(model)
    found = train(mine, tokenizer, pairs, **options)
    losses = found if isinstance(found, list) else list(found.losses["loss"])
    with torch.no_grad():
        logps = grouped_logps(mine, tokenizer, pairs, options.get("append_eos", False))
    return torch.stack([logps.chosen, logps.rejected]), losses


@pytest.fixture(scope="module")
def plain_ends(tiny_model, tokenizer, eleven):
    """What the oracle does in every case."""
    model = tiny_model("gpt2-tied")
    return {
        name: ends(align_plainly, model, tokenizer, eleven, BASE | options) for name, options in CASES.items()
    }


@pytest.mark.parametrize("name", list(CASES))
def test_align_is_the_plain_training(tiny_model, tokenizer, eleven, plain_ends, name):
    model = tiny_model("gpt2-tied")
    logps, losses = ends(align, model, tokenizer, eleven, BASE | CASES[name])
    expected, their_losses = plain_ends[name]
    torch.testing.assert_close(logps, expected, rtol=0, atol=1e-5)
    assert losses == pytest.approx(their_losses, abs=1e-6)
    before = ends(align, model, tokenizer, eleven, BASE | CASES[name] | {"steps": 0})[0]
    assert float((logps - before).abs().max()) > 0.05  # something was trained


@pytest.mark.parametrize("shape", ["llama-untied", "neox-untied"])
def test_on_other_architectures_too(tiny_model, tokenizer, eleven, shape):
    model = tiny_model(shape)
    ours, theirs = (ends(train, model, tokenizer, eleven, BASE)[0] for train in (align, align_plainly))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("as it is", "slow start"), ("slow start", "no warm-up"), ("as it is", "another order"),
        ("as it is", "end of sequence"), ("as it is", "kto"), ("not clipped", "clipped at 1"),
        ("as it is", "small batches"), ("as it is", "plain steps"),
    ],
)  # fmt: skip
def test_each_setting_matters_to_the_oracle(plain_ends, one, other):
    """Or the comparisons above would hold for nothing."""
    assert float((plain_ends[one][0] - plain_ends[other][0]).abs().max()) > 1e-3


def test_a_loss_with_its_own_beta_takes_one_route(tiny_model, tokenizer, eleven):
    model = tiny_model("gpt2-tied")
    ours = ends(align, model, tokenizer, eleven, BASE | {"loss": get_loss("dpo", beta=0.7)})[0]
    theirs = ends(align_plainly, model, tokenizer, eleven, BASE | {"loss": get_loss("dpo", beta=0.7)})[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert float((ours - ends(align, model, tokenizer, eleven, BASE)[0]).abs().max()) > 1e-3
