"""Settings and fixtures that every test shares: reproducible hypothesis, one thread, models that need no
hub.
"""

from __future__ import annotations

import gc

import pytest
import torch
import transformers
from hypothesis import HealthCheck, settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from entanglement.pairs import PreferencePair

# The same examples on every run: a failure in CI is a failure here.
# A loaded machine draws slowly: that is no fault of a test.
settings.register_profile(
    "book",
    deadline=None,
    derandomize=True,
    max_examples=100,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("book")

torch.set_num_threads(1)

#: Files that take longest, the longest first. Two processes share the files out in this order, and the small
#: ones fill what is left, so that neither waits for the other at the end.
LONGEST = (
    "book/test_execute.py",
    "recipes/test_contributing.py",
    "provenance/test_stale_list.py",
    "bench/test_bench.py",
    "grids/test_grid_cells.py",
    "book/test_build.py",
    "site/test_check.py",
)


def pytest_collection_modifyitems(items):
    """Put the files that take longest first; within a file the order stays."""

    def place(item):
        path = item.path.as_posix()
        return next((i for i, name in enumerate(LONGEST) if path.endswith(f"tests/{name}")), len(LONGEST))

    items.sort(key=place)


def pytest_collection_finish(session):
    """What the libraries and the collected tests keep alive stays: no collection has to look at it again, and
    full ones are rare. Each walks through millions of objects, and tests would take twice as long.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 20, 100)


transformers.utils.logging.set_verbosity_error()


def pytest_make_parametrize_id(config, val):
    """A number of hundreds of digits has no place in a test's name."""
    return "huge" if isinstance(val, int) and abs(val) > 10**30 else None


CORPUS = [
    "the film was good and the people liked it",
    "the film was bad and the people hated it",
    "abab abab abab abab what a day today",
    " positive negative positive negative sentiment",
]


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE of 300 tokens with one special token, like GPT-2's: start, end and padding are the
    same.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )


@pytest.fixture(scope="session")
def pairs():
    """Three pairs of unequal lengths, one with an empty prompt."""
    return [
        PreferencePair("the film was", " good", " bad and the people hated it", "film"),
        PreferencePair("", " positive sentiment", " negative", "empty prompt"),
        PreferencePair("what a day", " the people liked it", " the people hated it", "day"),
    ]


def _norms_in_float64(model):
    """Llama's RMSNorm rounds to float32 whatever the model's dtype; PyTorch's own computes the same in
    float64.
    """
    for module in model.modules():
        for name, child in module.named_children():
            if type(child).__name__ == "LlamaRMSNorm":
                exact = torch.nn.RMSNorm(child.weight.shape, eps=child.variance_epsilon, dtype=torch.float64)
                exact.weight = child.weight
                setattr(module, name, exact)


@pytest.fixture(scope="session")
def tiny_model():
    """Return make(shape, dtype=float64, seed=0, vocab=300): a tiny random model of a real architecture.

    Weights are large enough (0.2) for gradients to be far from rounding.
    """

    def make(shape, dtype=torch.float64, seed=0, vocab=300):
        family, tie = shape.split("-")
        # No pad_token_id: Llama would zero that token's embedding and hide its gradient (padding_idx), and
        # here the padding token is also the first token of every sequence.
        common = {"vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
        common |= {"tie_word_embeddings": tie == "tied", "initializer_range": 0.2}
        small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
        if family == "gpt2":
            config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=4, n_positions=64, **common)
            kind = transformers.GPT2LMHeadModel
        elif family == "llama":
            config = transformers.LlamaConfig(
                **small, num_key_value_heads=2, max_position_embeddings=64, **common
            )
            kind = transformers.LlamaForCausalLM
        else:
            config = transformers.GPTNeoXConfig(**small, max_position_embeddings=64, **common)
            kind = transformers.GPTNeoXForCausalLM
        torch.manual_seed(seed)
        model = kind(config).eval().to(dtype)
        if family == "llama" and dtype == torch.float64:
            _norms_in_float64(model)
        return model

    return make
