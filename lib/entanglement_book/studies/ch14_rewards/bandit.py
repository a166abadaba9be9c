"""A policy with one prompt and eight answers of known worth: where each method has to end is known."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import brentq
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from entanglement.rewards import Answers, reinforce

__all__ = ["BETA", "WORDS", "WORTH", "ends", "shares", "still", "tilted"]

WORDS = ("<end>", "go", "a", "b", "c", "d", "e", "f")
#: What each word pays as an answer.
WORTH = (0.0, 0.0, 1.0, 2.0, 0.5, 0.0, 1.5, 0.0)
#: Price of a nat from the reference.
BETA = 0.5


def _policy(seed: int) -> tuple[nn.Module, PreTrainedTokenizerFast]:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = dict.fromkeys(("bos_token", "eos_token", "pad_token"), WORDS[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=0,
            eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.2,
        )  # fmt: skip
        model = GPT2LMHeadModel(config).eval()
    return model, PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=16, **ends)


@torch.no_grad()
def shares(model: nn.Module) -> np.ndarray:
    """Return the probabilities of the eight answers to "go", (8,)."""
    ids = torch.tensor([[0, WORDS.index("go")]])
    found: np.ndarray = model(input_ids=ids).logits[0, -1].double().softmax(0).numpy()
    return found


def tilted(reference: np.ndarray, beta: float = BETA) -> np.ndarray:
    """Return the policy (8,) that maximizes worth less β KL(π ‖ π_ref): π_ref e^{worth/β}, normalized."""
    found: np.ndarray = reference * np.exp(np.asarray(WORTH) / beta)
    return found / found.sum()


def still(reference: np.ndarray, beta: float = BETA) -> np.ndarray:
    """Return the policy (8,) at which GRPO stands still, with its price inside the loss.

    The mean gradient of that price at draws of π is that of β KL(π_ref ‖ π), so in the logits
    π (A − mean A) − β (π − π_ref) = 0 with A = worth over its standard deviation under π: π is proportional
    to π_ref/(level − A), where the level makes it sum to 1.
    """
    worth = np.asarray(WORTH)

    def policy(spread: float) -> np.ndarray:
        gain = worth / spread

        def at(level: float) -> np.ndarray:
            found: np.ndarray = beta * reference / (level - gain)
            return found

        top = float(gain.max())
        return at(brentq(lambda level: float(at(level).sum()) - 1, top + 1e-9, top + 100))

    def miss(spread: float) -> float:
        p = policy(spread)
        return math.sqrt(float(p @ (worth - p @ worth) ** 2)) - spread

    return policy(brentq(miss, 0.05, 2.0))


def ends(seed: int, steps: int = 100) -> dict[str, np.ndarray]:
    """Train with each method from one policy: "reference" and method → the probabilities of the answers."""

    def pays(answers: Answers) -> torch.Tensor:
        return torch.tensor(WORTH)[answers.ids[:, 0]]

    found = {"reference": shares(_policy(seed)[0])}
    for method in ("ppo", "rloo", "grpo"):
        model, tokenizer = _policy(seed)
        reinforce(
            model, tokenizer, ["go"], pays, method=method, steps=steps, lr=0.03, batch_size=1, group=64,
            tokens=1, beta=BETA, max_grad_norm=None, warmup=0.0, seed=seed,
        )  # fmt: skip
        found[method] = shares(model)
    return found
