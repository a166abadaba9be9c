"""What the tests of rewards share: a policy of eight words and one prompt, whose optimum is known."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

WORDS = ("<end>", "go", "a", "b", "c", "d", "e", "f")


@pytest.fixture(scope="session")
def words():
    """A tokenizer of eight words."""
    level = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<end>"))
    level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<end>")
    return PreTrainedTokenizerFast(tokenizer_object=level, model_max_length=16, **ends)


@pytest.fixture
def bandit():
    """Return make(seed=0): a policy whose answer to any prompt is one of eight words."""

    def make(seed=0):
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=0,
            eos_token_id=0, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, initializer_range=0.2,
        )  # fmt: skip
        return GPT2LMHeadModel(config).eval()

    return make
