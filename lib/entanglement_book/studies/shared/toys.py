"""Two toys in which the margin grows and an answer goes the wrong way.

Both are made of placeholder sentences about files and keys. In the first a helpful model is taught to refuse,
and the refusal repeats the words of the answer that it refuses. In the second a student that gives its
teacher's short answer is taught not to ramble. Each has a control in which the two answers share no words.
"""

from __future__ import annotations

import random
from dataclasses import replace

from pydantic import ConfigDict, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from entanglement.models import load_model
from entanglement.pairs import PreferencePair
from entanglement.training import sft

__all__ = [
    "COMPLYING",
    "KINDS",
    "REFUSING",
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

#: How a compliance begins, and a refusal of each kind.
COMPLYING = " I will give you"
REFUSING = {"same words": " I will not give you", "other words": " I am sorry"}


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class Sizes:
    """How much is trained and measured.

    Attributes:
        shown, comply_shown: pairs whose answers the model is fine-tuned on, the teacher's or the compliances.
        train, test: pairs of preference optimization, and held-out ones.
        alone: held-out pairs that are also trained on alone.
        sft_steps, comply_steps: steps of fine-tuning on the teacher's answers and on compliances.
        steps, refuse_steps: steps of preference optimization, for the student and for refusing.
        early: the step at which the lesson in refusing is looked at as well.
        alone_steps: plain steps on one pair.
        batch: pairs a step (twice as many answers in fine-tuning).
        draws: answers drawn for each held-out prompt.
        seeds: how many.
        comply_lr, teach_lr: rates of fine-tuning on compliance and on the teacher's answers (AdamW).
        lr, alone_lr: rates of preference optimization (AdamW), and of plain steps on one pair.
    """

    shown: PositiveInt
    comply_shown: PositiveInt
    train: PositiveInt
    test: PositiveInt
    alone: PositiveInt
    sft_steps: PositiveInt
    comply_steps: PositiveInt
    steps: PositiveInt
    refuse_steps: PositiveInt
    early: PositiveInt
    alone_steps: PositiveInt
    batch: PositiveInt
    draws: PositiveInt
    seeds: PositiveInt
    comply_lr: PositiveFloat = 1e-4
    teach_lr: PositiveFloat = 1e-4
    lr: PositiveFloat = 5e-5
    alone_lr: PositiveFloat = 1e-3


_BOOK = Sizes(
    shown=60,
    comply_shown=16,
    train=100,
    test=12,
    alone=8,
    sft_steps=12,
    comply_steps=12,
    steps=16,
    refuse_steps=16,
    early=8,
    alone_steps=4,
    batch=8,
    draws=16,
    seeds=5,
)


_SMOKE = replace(
    _BOOK,
    shown=8,
    comply_shown=8,
    train=8,
    test=4,
    alone=2,
    sft_steps=2,
    comply_steps=2,
    steps=2,
    refuse_steps=2,
    early=1,
    alone_steps=2,
    batch=4,
    draws=1,
    seeds=2,
)


_PAPER = replace(_BOOK, comply_shown=32, test=50, alone=50, steps=24, batch=16, draws=32, seeds=10)


def sizes(scale: str) -> Sizes:
    """Return the sizes of a scale.

    Raises:
        ValueError: not smoke, book or paper.
    """
    found = {"smoke": _SMOKE, "book": _BOOK, "paper": _PAPER}.get(scale)
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
            refusal = f"{REFUSING[kind]}, but I can not help with this."
            if kind == "same words":
                refusal = f"{REFUSING[kind]} {it}. T{it[1:]} is not for you."
            prompt = f"User: Give me {it}.\nAssistant:"
            pairs.append(PreferencePair(prompt, refusal, f"{COMPLYING} {it}.", f"{thing} of {owner}"))
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
    comply = [PreferencePair(p.prompt, p.rejected, p.chosen, p.id) for p in pairs[: numbers.comply_shown]]
    sft(
        policy, tokenizer, comply, steps=numbers.comply_steps, lr=numbers.comply_lr,
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


#: Rate at which a model is fine-tuned that hardly complies.
BARELY_LR = 3e-5

#: Name → whether the end token belongs to the answers.
TOYS: dict[str, bool] = {"refusal": False, "teacher": True}


def tangled(
    toy: str, kind: str, model: str, numbers: Sizes, seed: int
) -> tuple[nn.Module, PreTrainedTokenizerBase, list[PreferencePair]]:
    """Return the fine-tuned model of one of the toys, its tokenizer, and held-out pairs.

    The helpful model is taught at a lower rate than in ``taught_to_comply`` and hardly complies yet: the
    words of the two answers are still to be learned, and every pair tangles.

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
    if toy == "refusal":
        barely = replace(
            numbers, comply_shown=numbers.shown, comply_steps=numbers.sft_steps, comply_lr=BARELY_LR
        )
        policy, tokenizer, pairs = taught_to_comply(model, kind, barely, seed)
    else:
        policy, tokenizer, pairs = taught_answers(model, kind, numbers, seed)
    return policy, tokenizer, pairs[-numbers.alone :]
