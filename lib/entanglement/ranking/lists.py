"""Prompts with k graded candidates, what a model says of them, and how their gradients lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.checks import non_empty
from entanglement.gradients.select import Parameters
from entanglement.objectives import ObjectiveGeometry
from entanglement.rewards.answers import Answers, read_answers, written_answers
from entanglement.rewards.group_gram import group_gram
from entanglement.signatures import checked

__all__ = ["RankedList", "answers_of", "list_geometry", "list_logps", "relevance_of"]


@checked()
@dataclass(frozen=True)
class RankedList:
    """A prompt and its candidates.

    Attributes:
        prompt: text.
        candidates: k ≥ 2 texts.
        relevance: k numbers of at least 0, larger is better.
        id: a name.
    """

    prompt: str
    candidates: tuple[str, ...]
    relevance: tuple[float, ...]
    id: str = ""

    def __post_init__(self) -> None:
        if len(self.candidates) < 2 or not all(self.candidates):
            raise ValueError(f"candidates of {self.id!r}: expected at least two texts, none of them empty.")
        if len(self.relevance) != len(self.candidates) or min(self.relevance) < 0:
            raise ValueError(
                f"relevance={self.relevance}; expected {len(self.candidates)} numbers of at least 0."
            )

    def __len__(self) -> int:
        return len(self.candidates)


@checked(lists=non_empty)
def relevance_of(lists: Sequence[RankedList]) -> torch.Tensor:
    """Return the relevance of the candidates, (B, k), float64."""
    return torch.tensor([some.relevance for some in lists], dtype=torch.float64)


@checked(lists=non_empty)
def answers_of(
    tokenizer: PreTrainedTokenizerBase,
    lists: Sequence[RankedList],
    *,
    append_eos: bool = False,
    model: nn.Module | None = None,
) -> Answers:
    """Return the candidates of B lists as B groups of k answers.

    Args:
        tokenizer: of the model that is to read them.
        lists: all with the same number of candidates.
        append_eos: whether the end-of-sequence token belongs to a candidate.
        model: as in ``written_answers``.

    Raises:
        ValueError: numbers of candidates that differ.
    """
    if len({len(some) for some in lists}) > 1:
        raise ValueError(
            f"lists have {sorted({len(some) for some in lists})} candidates; expected one number."
        )
    return written_answers(
        tokenizer,
        [some.prompt for some in lists],
        [some.candidates for some in lists],
        append_eos=append_eos,
        model=model,
    )


@checked(lists=non_empty)
def list_logps(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    lists: Sequence[RankedList],
    *,
    append_eos: bool = False,
) -> torch.Tensor:
    """Return log π of the candidates, (B, k), nats; gradients flow to the model.

    Args:
        model: a causal language model of transformers.
        tokenizer: the model's.
        lists: B lists of k candidates.
        append_eos: as in ``answers_of``.
    """
    answers = answers_of(tokenizer, lists, append_eos=append_eos, model=model)
    logps = read_answers(model, answers).logps
    return (logps * answers.mask.to(logps)).sum(dim=1).view(len(lists), -1)


@checked(lists=non_empty)
def list_geometry(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    lists: Sequence[RankedList],
    parameters: Parameters = "trainable",
    *,
    append_eos: bool = False,
) -> ObjectiveGeometry:
    """Return the Gram matrices of the gradients of log π of the candidates, one list after the other.

    A plain step of size η on a loss with the weights d (``Ranking.weights``) changes the log-probabilities to
    first order by η G d, which are ``rates(d)``.

    Args:
        model: in evaluation mode, left as it is; k whole gradients are held at a time.
        tokenizer: the model's.
        lists: B lists of k candidates.
        parameters: as for pairs.
        append_eos: as in ``answers_of``.
    """
    grams = [
        group_gram(model, answers_of(tokenizer, [some], append_eos=append_eos, model=model), parameters).gram
        for some in lists
    ]
    names = tuple(f"candidate {i + 1}" for i in range(len(lists[0])))
    return ObjectiveGeometry(torch.stack(grams), names)
