"""A toy with a verifiable reward: copy two digits, at once or after some words of hesitation.

The model is taught both ways. At once it mostly copies right; what it says after hesitating is mostly
wrong. So the few right answers among the hesitant ones share their words with wrong ones, and with hardly a
right one. In the control right answers hesitate with one word and wrong ones with another.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from entanglement.batches import shuffled
from entanglement.logps import row_logps
from entanglement.optimizers import make_optimizer
from entanglement.pairs import PreferencePair, collate
from entanglement.rewards.answers import Answers
from entanglement_book.studies.shared.scales import at_scale

__all__ = ["KINDS", "Sizes", "held_out", "hesitant", "prompts", "sizes", "taught", "worth"]

DIGITS = tuple("0123456789")
END, COPY, COLON, RIGHT_WORD, WRONG_WORD = "<end>", "copy", ":", "hm", "er"
WORDS = (END, COPY, COLON, RIGHT_WORD, WRONG_WORD, *DIGITS)
#: Which words of hesitation wrong answers use: those of the right ones, or others (the control).
KINDS = ("same words", "other words")
#: Words of hesitation, at most; then two digits and the end.
LONGEST = 3
TOKENS = LONGEST + 3


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class Sizes:
    """How much is taught, trained and measured.

    Attributes:
        lessons: answers that the model is taught with.
        teach_steps, teach_batch, teach_lr: of teaching (AdamW).
        hesitant: share of lessons that hesitate.
        right_at_once, right_hesitant: shares of the right ones among them.
        steps, prompts, group, epochs, lr: of GRPO: batches of answers, prompts a step, answers a prompt,
            plain steps a batch, and their rate: nothing but gradients tells where the answers go.
        held_out: prompts whose answers are measured, and none of those that are trained on.
        single: groups on which one step is predicted and taken.
        seeds: how many.
    """

    lessons: PositiveInt
    teach_steps: PositiveInt
    teach_batch: PositiveInt
    teach_lr: PositiveFloat
    hesitant: PositiveFloat
    right_at_once: PositiveFloat
    right_hesitant: PositiveFloat
    steps: PositiveInt
    prompts: PositiveInt
    group: PositiveInt
    epochs: PositiveInt
    lr: PositiveFloat
    held_out: PositiveInt
    single: PositiveInt
    seeds: NonNegativeInt


# Advantages of a group sum to 0, so wrong answers can pull a right one down only while other right ones are
# pulled up. Where hesitation is rare these hardly compete with it for the first word: its gradient is that
# of a rare token, theirs of a likely one.
_BOOK = Sizes(
    lessons=3000,
    teach_steps=700,
    teach_batch=64,
    teach_lr=3e-3,
    hesitant=0.1,
    right_at_once=0.98,
    right_hesitant=0.25,
    steps=24,
    prompts=2,
    group=40,
    epochs=2,
    lr=0.03,
    held_out=20,
    single=12,
    seeds=5,
)
_SMOKE = replace(
    _BOOK,
    lessons=600,
    teach_steps=240,
    teach_batch=32,
    hesitant=0.5,
    right_at_once=0.9,
    steps=3,
    group=8,
    held_out=4,
    single=3,
    seeds=2,
)


def sizes(scale: str) -> Sizes:
    """Return the sizes of a scale.

    Raises:
        ValueError: not smoke, book or paper.
    """
    return at_scale(scale, _SMOKE, _BOOK, _BOOK)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=END))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END)
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=16, **ends)


def prompts(seed: int, n: int) -> tuple[list[str], list[str]]:
    """Return (trained, held-out) prompts, n of them held out: all pairs of different digits."""
    found = [f"{COPY} {a} {b} {COLON}" for a in DIGITS for b in DIGITS if a != b]
    random.Random(seed).shuffle(found)
    return found[n:], found[:n]


def _answer(prompt: str, hesitation: int, right: bool, kind: str, rng: random.Random) -> str:
    """Return an answer; a wrong one has another second digit."""
    _, one, two, _ = prompt.split()
    word = RIGHT_WORD if right or kind == "same words" else WRONG_WORD
    last = two if right else rng.choice([d for d in DIGITS if d not in (one, two)])
    return " ".join([*[word] * hesitation, one, last])


def taught(kind: str, numbers: Sizes, seed: int) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
    """Return a small model that has been taught to copy both ways, and its tokenizer.

    Args:
        kind: one of ``KINDS``.
        numbers: sizes.
        seed: of the model, the lessons and their order.

    Raises:
        ValueError: another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}; expected one of {', '.join(KINDS)}.")
    rng, tokenizer = random.Random(seed), _tokenizer()
    lessons = []
    everything = [prompt for some in prompts(seed, numbers.held_out) for prompt in some]
    for i in range(numbers.lessons):
        hesitation = rng.randint(1, LONGEST) if rng.random() < numbers.hesitant else 0
        right = rng.random() < (numbers.right_hesitant if hesitation else numbers.right_at_once)
        prompt = rng.choice(everything)
        lessons.append(PreferencePair(prompt, _answer(prompt, hesitation, right, kind, rng), END, str(i)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=len(WORDS), n_positions=16, n_embd=64, n_layer=2, n_head=4, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        model = GPT2LMHeadModel(config).eval()
    batch = collate(lessons, tokenizer, append_eos=True)
    optimizer = make_optimizer("adamw", model, numbers.teach_lr)
    for rows in shuffled(len(lessons), numbers.teach_steps, numbers.teach_batch, seed):
        parts = (batch.input_ids, batch.attention_mask, batch.position_ids, batch.response_mask)
        loss = -row_logps(model, *(part[rows] for part in parts)).sum() / len(rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return model, tokenizer


def worth(tokenizer: PreTrainedTokenizerFast, answers: Answers) -> torch.Tensor:
    """Return 1 for each answer that ends in the prompt's two digits, else 0, (R,)."""
    found = []
    starts = answers.input_ids[:, : -answers.tokens]
    for ids, text in zip(starts, answers.texts(tokenizer), strict=True):
        asked = str(tokenizer.decode(ids)).split()[-3:-1]
        found.append(float(text.split()[-2:] == asked))
    return torch.tensor(found)


def hesitant(tokenizer: PreTrainedTokenizerFast, answers: Answers) -> list[bool]:
    """Return which answers hesitate."""
    return [text.split()[:1] in ([RIGHT_WORD], [WRONG_WORD]) for text in answers.texts(tokenizer)]


def held_out(kind: str, prompts: Sequence[str], seed: int) -> dict[str, list[PreferencePair]]:
    """Return pairs of a right and a wrong answer to each prompt: "hesitant" ones, and "at once".

    Args:
        kind: one of ``KINDS``.
        prompts: that are not trained on.
        seed: of the wrong digits and of how long is hesitated.
    """
    rng = random.Random(seed)
    found: dict[str, list[PreferencePair]] = {}
    for name in ("hesitant", "at once"):
        rows = []
        for prompt in prompts:
            words = rng.randint(1, LONGEST) if name == "hesitant" else 0
            right, wrong = (_answer(prompt, words, ok, kind, rng) for ok in (True, False))
            rows.append(PreferencePair(prompt, right, wrong, prompt))
        found[name] = rows
    return found
