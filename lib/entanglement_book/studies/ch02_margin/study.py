"""Chapter 02's runs: two toys in which the margin grows and an answer goes the wrong way.

Both are made of placeholder sentences about files and keys. In the first a helpful model is taught to refuse,
and the refusal repeats the words of the answer that it refuses. In the second a student that gives its
teacher's short answer is taught not to ramble. Each has a control in which the two answers share no words.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from entanglement.models import load_model
from entanglement.pairs import PreferencePair
from entanglement.sampling import continue_prompts
from entanglement.training import align, sft

__all__ = [
    "KINDS",
    "Sizes",
    "distillation",
    "refusals",
    "run_distillation",
    "run_refusals",
    "share_drawn",
    "sizes",
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


@dataclass(frozen=True)
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

    shown: int
    train: int
    test: int
    alone: int
    sft_steps: int
    steps: int
    alone_steps: int
    batch: int
    draws: int
    seeds: int
    comply_lr: float = 3e-5
    teach_lr: float = 1e-4
    lr: float = 5e-5
    alone_lr: float = 1e-3


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


def _changes(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a pair: how both log-probabilities changed from the first moment to the last, nats."""
    steps = table["step"]
    first, last = (
        table[steps == step].set_index("pair")[["chosen_logp", "rejected_logp"]]
        for step in (steps.min(), steps.max())
    )
    return (last - first).rename(columns=lambda name: name.removesuffix("_logp")).reset_index()


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


def run_refusals(model: str, kind: str, numbers: Sizes, seed: int) -> pd.DataFrame:
    """Teach a model to comply, and then, in three ways, to refuse.

    Args:
        model: name of the base.
        kind: of ``refusals``.
        numbers: sizes.
        seed: of all orders.

    Returns:
        One row a held-out pair and way ("one pair, DPO": plain steps on that pair alone; "all pairs, DPO" and
        "all pairs, DPO + NLL": AdamW on the training pairs): kind, way, seed, pair, chosen, rejected (changes
        of their log-probabilities since the reference, nats).
    """
    policy, tokenizer, pairs = taught_to_comply(model, kind, numbers, seed)
    start = {name: value.clone() for name, value in policy.state_dict().items()}
    train, test = pairs[: numbers.train], pairs[-numbers.test :]
    parts = []
    for pair in test[: numbers.alone]:
        policy.load_state_dict(start)
        run = align(
            policy, tokenizer, [pair], steps=numbers.alone_steps, lr=numbers.alone_lr, batch_size=1,
            optimizer="sgd", max_grad_norm=None, evaluate={"test": [pair]},
            evaluate_at=(0, numbers.alone_steps),
        )  # fmt: skip
        parts.append(_changes(run.table).assign(way="one pair, DPO"))
    for loss, way in (("dpo", "all pairs, DPO"), ("rpo", "all pairs, DPO + NLL")):
        policy.load_state_dict(start)
        run = align(
            policy, tokenizer, train, loss=loss, steps=numbers.steps, lr=numbers.lr, batch_size=numbers.batch,
            seed=seed, evaluate={"test": test}, evaluate_at=(0, numbers.steps),
        )  # fmt: skip
        parts.append(_changes(run.table).assign(way=way))
    return pd.concat(parts, ignore_index=True).assign(kind=kind, seed=seed)


def share_drawn(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    draws: int,
    seed: int,
) -> float:
    """Return the share of drawn answers that are exactly the chosen one, up to and with the end token.

    Args:
        model, tokenizer: drawn from.
        pairs: their prompts are answered, ``draws`` times each.
        draws: how often.
        seed: of the draws.
    """
    wanted = [
        [*tokenizer(p.chosen, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for p in pairs
    ]
    longest = max(len(ids) for ids in wanted)
    prompts = [pair.prompt for pair in pairs for _ in range(draws)]
    found = continue_prompts(model, tokenizer, prompts, longest, seed=seed).ids.tolist()
    exact = [answer[: len(wanted[i // draws])] == wanted[i // draws] for i, answer in enumerate(found)]
    return sum(exact) / len(exact)


def run_distillation(model: str, kind: str, numbers: Sizes, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Teach a student its teacher's answers, and then, by DPO, to prefer them to its own.

    Args:
        model: name of the base.
        kind: of ``distillation``.
        numbers: sizes.
        seed: of all orders and draws.

    Returns:
        (pairs, shares). pairs: one row a held-out pair: kind, seed, pair, chosen, rejected (changes, nats).
        shares: one row for "before" and "after" DPO: kind, seed, moment, ideal (share of the drawn answers
        that are the teacher's), preferred (share of pairs in which the teacher's is the likelier one).
    """
    policy, tokenizer, pairs = taught_answers(model, kind, numbers, seed)
    train, test = pairs[: numbers.train], pairs[-numbers.test :]
    shares = []

    def draw(moment: str) -> None:
        share = share_drawn(policy, tokenizer, test, numbers.draws, seed)
        shares.append({"kind": kind, "seed": seed, "moment": moment, "ideal": share})

    draw("before")
    run = align(
        policy, tokenizer, train, steps=numbers.steps, lr=numbers.lr, batch_size=numbers.batch, seed=seed,
        append_eos=True, evaluate={"test": test}, evaluate_at=(0, numbers.steps),
    )  # fmt: skip
    draw("after")
    preferred = run.means().sort_values("step")["accuracy"].to_numpy()
    table = pd.DataFrame(shares).assign(preferred=[preferred[0], preferred[-1]])
    return _changes(run.table).assign(kind=kind, seed=seed), table
