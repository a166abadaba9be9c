"""Two toys in which the margin grows and an answer goes the wrong way.

Both are made of placeholder sentences about files and keys. In the first a helpful model is taught to refuse,
and the refusal repeats the words of the answer that it refuses. In the second a student that gives its
teacher's short answer is taught not to ramble. Each has a control in which the two answers share no words.
"""

from __future__ import annotations

import random

from pydantic import ConfigDict, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from entanglement.models import load_model
from entanglement.pairs import PreferencePair
from entanglement.training import sft

__all__ = [
    "KINDS",
    "TOYS",
    "Sizes",
    "distillation",
    "refusals",
    "sizes",
    "tangled",
    "taught_answers",
    "taught_to_comply",
]


_THINGS = (
    "file", "key", "list", "report", "code", "table", "page", "image", "map", "book", "card", "note", "plan",
    "letter", "record",
)  # fmt: skip


_OWNERS = (
    "user", "owner", "author", "team", "group", "client", "teacher", "driver", "doctor", "friend"
)  # fmt: skip


#: Which words the two answers share: most, or none (the control).
KINDS = ("same words", "other words")


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class Sizes:
    """How much is trained and measured.

    Attributes:
        shown: pairs whose wanted answers the model is fine-tuned on.
        train, test: pairs of preference optimization, and held-out ones.
        alone: held-out pairs that are also trained on alone.
        sft_steps, steps, alone_steps: optimizer steps of the three trainings.
        batch: pairs a step (twice as many answers in fine-tuning).
        draws: answers drawn for each held-out prompt.
        seeds: how many.
        comply_lr, teach_lr: rates of fine-tuning on compliance and on the teacher's answers (AdamW).
        lr, alone_lr: rates of preference optimization (AdamW), and of plain steps on one pair.
    """

    shown: PositiveInt
    train: PositiveInt
    test: PositiveInt
    alone: PositiveInt
    sft_steps: PositiveInt
    steps: PositiveInt
    alone_steps: PositiveInt
    batch: PositiveInt
    draws: PositiveInt
    seeds: PositiveInt
    comply_lr: PositiveFloat = 3e-5
    teach_lr: PositiveFloat = 1e-4
    lr: PositiveFloat = 5e-5
    alone_lr: PositiveFloat = 1e-3


def sizes(scale: str) -> Sizes:
    """Return the sizes of a scale.

    Raises:
        ValueError: not smoke, book or paper.
    """
    found = {
        "smoke": Sizes(8, 8, 4, 2, 2, 2, 2, 4, 1, 2),
        "book": Sizes(60, 100, 30, 8, 12, 16, 4, 8, 16, 5),
        "paper": Sizes(60, 100, 50, 50, 12, 24, 4, 16, 32, 10),
    }.get(scale)
    if found is None:
        raise ValueError(f"scale={scale!r}; expected smoke, book or paper.")
    return found


def _check(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}; expected one of {', '.join(KINDS)}.")


def _shuffled(pairs: list[PreferencePair], seed: int) -> list[PreferencePair]:
    random.Random(seed).shuffle(pairs)
    return pairs


def refusals(kind: str, seed: int) -> list[PreferencePair]:
    """Return 150 pairs, chosen: a refusal, rejected: the answer that complies.

    Args:
        kind: "same words" (the refusal repeats the words of the compliance) or "other words".
        seed: of the order.

    Raises:
        ValueError: an unknown kind.
    """
    _check(kind)
    pairs = []
    for thing in _THINGS:
        for owner in _OWNERS:
            it = f"the {thing} of the {owner}"
            refusal = " I am sorry, but I can not help with this."
            if kind == "same words":
                refusal = f" I will not give you {it}. T{it[1:]} is not for you."
            prompt = f"User: Give me {it}.\nAssistant:"
            pairs.append(PreferencePair(prompt, refusal, f" I will give you {it}.", f"{thing} of {owner}"))
    return _shuffled(pairs, seed)


def distillation(kind: str, seed: int) -> list[PreferencePair]:
    """Return 150 pairs, chosen: a teacher's short right answer, rejected: a student's.

    Args:
        kind: "same words" (the student says the same and goes on) or "other words" (it says that it does not
            know).
        seed: of the order and of the words.

    Raises:
        ValueError: an unknown kind.
    """
    _check(kind)
    draw = random.Random(seed)
    pairs = []
    for thing in _THINGS:
        for owner in _OWNERS:
            size = draw.choice(("new", "old", "small", "large", "red", "long", "short", "open"))
            right = f" It is the {thing} of the {owner}."
            student = " I do not know what you mean."
            if kind == "same words":
                student = f"{right}{right[:-1]}, and the {thing} is {size}."
            prompt = f"The {thing} of the {owner} is {size}.\nQuestion: what is {size}?\nAnswer:"
            pairs.append(PreferencePair(prompt, right, student, f"{thing} of {owner}"))
    return _shuffled(pairs, seed)


def taught_to_comply(
    model: str, kind: str, numbers: Sizes, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[PreferencePair]]:
    """Return a model that was fine-tuned to comply, its tokenizer, and all pairs of ``refusals``.

    Args:
        model: name of the base.
        kind: of ``refusals``.
        numbers: sizes.
        seed: of all orders.
    """
    pairs = refusals(kind, seed)
    policy, tokenizer = load_model(model)
    comply = [PreferencePair(p.prompt, p.rejected, p.chosen, p.id) for p in pairs[: numbers.shown]]
    sft(
        policy, tokenizer, comply, steps=numbers.sft_steps, lr=numbers.comply_lr,
        batch_size=2 * numbers.batch, seed=seed,
    )  # fmt: skip
    return policy, tokenizer, pairs


def taught_answers(
    model: str, kind: str, numbers: Sizes, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[PreferencePair]]:
    """Return a student that was fine-tuned on its teacher's answers, its tokenizer, and all pairs of
    ``distillation``; arguments as in ``taught_to_comply``.
    """
    pairs = distillation(kind, seed)
    policy, tokenizer = load_model(model)
    sft(
        policy, tokenizer, pairs[: numbers.shown], steps=numbers.sft_steps, lr=numbers.teach_lr,
        batch_size=2 * numbers.batch, seed=seed, append_eos=True,
    )  # fmt: skip
    return policy, tokenizer, pairs


#: Name → whether the end token belongs to the answers.
TOYS: dict[str, bool] = {"refusal": False, "teacher": True}


def tangled(
    toy: str, kind: str, model: str, numbers: Sizes, seed: int
) -> tuple[nn.Module, PreTrainedTokenizerBase, list[PreferencePair]]:
    """Return the fine-tuned model of one of the toys, its tokenizer, and held-out pairs.

    Args:
        toy: of ``TOYS``.
        kind: "same words", or "other words" for the control.
        model: name of the base.
        numbers: sizes; the last ``numbers.alone`` pairs are returned.
        seed: of all orders.

    Raises:
        ValueError: an unknown toy or kind.
    """
    if toy not in TOYS:
        raise ValueError(f"toy={toy!r}; expected one of {', '.join(TOYS)}.")
    make = taught_to_comply if toy == "refusal" else taught_answers
    policy, tokenizer, pairs = make(model, kind, numbers, seed)
    return policy, tokenizer, pairs[-numbers.alone :]
