"""The runs of the underspecified margin: two toys in which the margin grows and an answer goes the wrong way.

Both are made of placeholder sentences about files and keys. In the first a helpful model is taught to refuse,
and the refusal repeats the words of the answer that it refuses. In the second a student that gives its
teacher's short answer is taught not to ramble. Each has a control in which the two answers share no words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.pairs import PreferencePair
from entanglement.sampling import continue_prompts
from entanglement.token_ids import response_ids
from entanglement.training import Observer, align
from entanglement.training.observers import Taken
from entanglement_book.studies.shared.toys import (
    COMPLYING,
    KINDS,
    REFUSING,
    Sizes,
    distillation,
    refusals,
    taught_answers,
    taught_to_comply,
)

__all__ = [
    "ALL",
    "ALL_NLL",
    "LONE_DRAWS",
    "ONE",
    "ONLY_LIKELIHOOD",
    "SAYS",
    "WAYS",
    "run_distillation",
    "run_refusals",
    "says_of_refusals",
    "says_of_student",
]

ONE = "one pair, DPO"
ALL, ALL_NLL, ONLY_LIKELIHOOD = "all pairs, DPO", "all pairs, DPO + NLL", "all pairs, NLL alone"

#: Way of teaching → its loss, whether a pair is alone, and the kinds of refusal that are taught so.
WAYS: dict[str, tuple[str, bool, tuple[str, ...]]] = {
    ONE: ("dpo", True, KINDS),
    ALL: ("dpo", False, KINDS[:1]),
    ALL_NLL: ("rpo", False, KINDS),
    ONLY_LIKELIHOOD: ("sft", False, KINDS[:1]),
}

#: How many times as many answers are drawn to a pair that is trained on alone.
LONE_DRAWS = 4

#: What a drawn answer can be.
SAYS = ("what was asked for", "another thing", "a refusal", "anything else")


def _draws(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    draws: int,
    seed: int,
    longest: int,
) -> list[tuple[PreferencePair, list[int]]]:
    """Return ``draws`` answers of ``longest`` tokens to each prompt, each with its pair."""
    asked = [pair for pair in pairs for _ in range(draws)]
    ids = continue_prompts(model, tokenizer, [p.prompt for p in asked], longest, seed=seed).ids
    return list(zip(asked, ids.tolist(), strict=True))


def says_of_refusals(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    kind: str,
    draws: int,
    seed: int,
) -> dict[str, int]:
    """Return how many of the drawn answers begin with the compliance ("what was asked for"), begin to comply
    and name another thing, begin to refuse, or do something else; in ``SAYS``' order.

    Args:
        model, tokenizer: drawn from.
        pairs: of ``refusals``; their prompts are answered, ``draws`` times each.
        kind: of the pairs.
        draws: how often.
        seed: of the draws.
    """
    longest = max(len(response_ids(p.rejected, tokenizer)) for p in pairs)
    found = dict.fromkeys(SAYS, 0)
    for pair, answer in _draws(model, tokenizer, pairs, draws, seed, longest):
        text = str(tokenizer.decode(answer))
        asked, another, refused, rest = SAYS
        if text.startswith(pair.rejected):
            found[asked] += 1
        elif text.startswith(COMPLYING):
            found[another] += 1
        else:
            found[refused if text.startswith(REFUSING[kind]) else rest] += 1
    return found


class _At(Observer):
    """Does something after one step of a training."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.step, self.act = step, act

    def after_step(self, taken: Taken) -> None:
        if taken.step == self.step:
            self.act()


def run_refusals(model: str, numbers: Sizes, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Teach a model to comply, and then, in several ways and with both kinds of pairs, to refuse.

    The ways of ``WAYS``: plain steps on a held-out pair alone, each from the start; or AdamW on all training
    pairs. The likelihood alone (NLL) is the rival of DPO + NLL: same steps, batches and rate, and no margin.

    Args:
        model: name of the base.
        numbers: sizes.
        seed: of all orders and draws.

    Returns:
        (course, said). course: one row a kind, way, step and held-out pair: chosen, rejected (log π, nats).
        said: one row a kind, way and step: ``SAYS``, the numbers of drawn answers. Both have the seed.
    """
    policy, tokenizer, _ = taught_to_comply(model, KINDS[0], numbers, seed)
    start = {name: value.clone() for name, value in policy.state_dict().items()}
    course, said = [], []
    first: dict[tuple[str, ...], dict[str, int]] = {}  # what is said before any lesson is drawn once
    for way, (loss, alone, kinds) in WAYS.items():
        for kind in kinds:
            pairs = refusals(kind, seed)
            test = pairs[-numbers.test :]
            groups = [[pair] for pair in test[: numbers.alone]] if alone else [test]
            draws = numbers.draws * (LONE_DRAWS if alone else 1)
            last = numbers.alone_steps if alone else numbers.refuse_steps
            moments = sorted({0, last} if alone else {0, numbers.early, *range(0, last, 4), last})
            for group in groups:
                policy.load_state_dict(start)

                def speak(
                    step: int,
                    group: list[PreferencePair] = group,
                    kind: str = kind,
                    way: str = way,
                    draws: int = draws,
                ) -> None:
                    found = says_of_refusals(policy, tokenizer, group, kind, draws, seed)
                    said.append({"kind": kind, "way": way, "step": step, **found})

                same = (kind, *(pair.id for pair in group))
                if same not in first:
                    first[same] = says_of_refusals(policy, tokenizer, group, kind, draws, seed)
                said.append({"kind": kind, "way": way, "step": 0, **first[same]})
                run = align(
                    policy, tokenizer, group if alone else pairs[: numbers.train], loss=loss, steps=last,
                    lr=numbers.alone_lr if alone else numbers.lr, batch_size=1 if alone else numbers.batch,
                    optimizer="sgd" if alone else "adamw", max_grad_norm=None if alone else 1.0, seed=seed,
                    evaluate={"test": group}, evaluate_at=moments,
                    observers=[] if alone else [_At(numbers.early, lambda: speak(numbers.early))],
                )  # fmt: skip
                speak(last)
                columns = {"chosen_logp": "chosen", "rejected_logp": "rejected"}
                rows = run.table[["step", "pair", *columns]].rename(columns=columns)
                course.append(rows.assign(kind=kind, way=way))
    drawn = pd.DataFrame(said).groupby(["kind", "way", "step"], sort=False).sum().reset_index()
    return pd.concat(course, ignore_index=True).assign(seed=seed), drawn.assign(seed=seed)


def says_of_student(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    draws: int,
    seed: int,
) -> dict[str, int]:
    """Return how many of the drawn answers are the teacher's and end there ("ideal"), have its words and go
    on ("goes on"), or are anything else ("else").

    Args:
        model, tokenizer: drawn from.
        pairs: of ``distillation``; their prompts are answered, ``draws`` times each.
        draws: how often.
        seed: of the draws.
    """
    words = {p.id: response_ids(p.chosen, tokenizer) for p in pairs}
    longest = max(len(ids) for ids in words.values()) + 1
    found = dict.fromkeys(("ideal", "goes on", "else"), 0)
    for pair, answer in _draws(model, tokenizer, pairs, draws, seed, longest):
        right = words[pair.id]
        if answer[: len(right)] != right:
            found["else"] += 1
        else:
            found["ideal" if answer[len(right)] == tokenizer.eos_token_id else "goes on"] += 1
    return found


def run_distillation(model: str, numbers: Sizes, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Teach a student its teacher's answers, and then, by DPO and with both kinds of pairs, to prefer them.

    Args:
        model: name of the base.
        numbers: sizes.
        seed: of all orders and draws.

    Returns:
        (course, said). course: one row a kind, step (before and after DPO) and held-out pair: chosen,
        rejected (log π, nats). said: one row a kind and moment ("before", "after"): ideal, goes on, else
        (numbers of drawn answers), preferred (share of pairs in which the teacher's answer is the likelier
        one). Both have the seed.
    """
    policy, tokenizer, _ = taught_answers(model, KINDS[0], numbers, seed)
    start = {name: value.clone() for name, value in policy.state_dict().items()}
    course, said = [], []
    for kind in KINDS:
        pairs = distillation(kind, seed)
        train, test = pairs[: numbers.train], pairs[-numbers.test :]
        policy.load_state_dict(start)
        before = says_of_student(policy, tokenizer, test, numbers.draws, seed)
        run = align(
            policy, tokenizer, train, steps=numbers.steps, lr=numbers.lr, batch_size=numbers.batch, seed=seed,
            append_eos=True, evaluate={"test": test}, evaluate_at=(0, numbers.steps),
        )  # fmt: skip
        after = says_of_student(policy, tokenizer, test, numbers.draws, seed)
        preferred = run.means().sort_values("step")["accuracy"].to_numpy()
        for moment, found, share in (("before", before, preferred[0]), ("after", after, preferred[-1])):
            said.append({"kind": kind, "moment": moment, **found, "preferred": share})
        columns = {"chosen_logp": "chosen", "rejected_logp": "rejected"}
        course.append(run.table[["step", "pair", *columns]].rename(columns=columns).assign(kind=kind))
    return pd.concat(course, ignore_index=True).assign(seed=seed), pd.DataFrame(said).assign(seed=seed)
