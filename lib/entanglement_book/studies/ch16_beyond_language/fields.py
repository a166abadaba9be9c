"""What is learned: two digits in a picture with two questions about both, and fourteen labels of a gene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from entanglement_book.materials import digit_scenes, yeast_genes
from entanglement_book.materials.digit_scenes import SIDE

__all__ = ["FIELDS", "Field", "Separate", "Shared", "Split", "make_field"]


@dataclass(frozen=True)
class Split:
    """Some examples: inputs (n, …) and the answers of all tasks (n, k), whole numbers."""

    inputs: torch.Tensor
    answers: torch.Tensor

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, rows: torch.Tensor | slice) -> Split:
        return Split(self.inputs[rows], self.answers[rows])


@dataclass(frozen=True)
class Field:
    """Tasks that share their inputs.

    Attributes:
        tasks: their names.
        classes: how many answers each has; 1 for yes or no with one logit.
        trunk: width → the layers that all tasks share.
        features: width → how many numbers they end in.
        train, choice, judged: trained on; held out, to foretell and to choose by; held out, to judge by.
    """

    tasks: tuple[str, ...]
    classes: tuple[int, ...]
    trunk: Callable[[int], nn.Module]
    features: Callable[[int], int]
    train: Split
    choice: Split
    judged: Split

    def losses(self, net: nn.Module, split: Split) -> torch.Tensor:
        """Return the mean cross-entropy of each task (k,), nats."""
        found = []
        for logits, answer, classes in zip(net(split.inputs), split.answers.T, self.classes, strict=True):
            if classes == 1:
                found.append(binary_cross_entropy_with_logits(logits[:, 0], answer.to(logits.dtype)))
            else:
                found.append(cross_entropy(logits, answer))
        return torch.stack(found)

    @torch.no_grad()
    def accuracies(self, net: nn.Module, split: Split) -> list[float]:
        """Return the share of right answers of each task."""
        found = []
        for logits, answer, classes in zip(net(split.inputs), split.answers.T, self.classes, strict=True):
            said = (logits[:, 0] > 0).long() if classes == 1 else logits.argmax(1)
            found.append(float((said == answer).double().mean()))
        return found

    def network(self, width: int, *, shared: bool, seed: int) -> nn.Module:
        """Return a new network: one trunk with a head a task, or as many networks as tasks."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return (Shared if shared else Separate)(self, width)


class Shared(nn.Module):
    """One trunk, and a linear head for each task."""

    def __init__(self, field: Field, width: int) -> None:
        super().__init__()
        self.trunk = field.trunk(width)
        self.heads = nn.ModuleList(nn.Linear(field.features(width), classes) for classes in field.classes)

    def forward(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits of each task, (n, classes)."""
        features = self.trunk(inputs)
        return [head(features) for head in self.heads]


class Separate(nn.Module):
    """A trunk and a head for each task: the same layers, and no parameter in common."""

    def __init__(self, field: Field, width: int) -> None:
        super().__init__()
        one = [(field.trunk(width), nn.Linear(field.features(width), n)) for n in field.classes]
        self.nets = nn.ModuleList(nn.Sequential(*layers) for layers in one)

    def forward(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits of each task, (n, classes)."""
        return [net(inputs) for net in self.nets]


def _convolutions(width: int) -> nn.Module:
    side = SIDE // 4
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * width * side * side, 4 * width), nn.ReLU(),
    )  # fmt: skip


def _layers(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(103, 4 * width), nn.ReLU(), nn.Linear(4 * width, 4 * width), nn.ReLU())


def _scenes(split: str, n: int, seed: int) -> Split:
    found = digit_scenes(split, n, seed)  # type: ignore[arg-type]
    odd = (found.first + found.second) % 2
    larger = (found.first > found.second).long()
    return Split(found.images, torch.stack([found.first, found.second, odd, larger], dim=1))


def _digits(examples: int, held_out: int, seed: int) -> Field:
    others = _scenes("test", 2 * held_out, seed)
    return Field(
        ("first", "second", "odd sum", "first larger"), (10, 10, 1, 1), _convolutions, lambda w: 4 * w,
        _scenes("train", examples, seed), others[:held_out], others[held_out:],
    )  # fmt: skip


def _genes(examples: int, held_out: int, seed: int) -> Field:
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for split, most in (("train", examples), ("test", 2 * held_out)):
        inputs, answers = yeast_genes(split)  # type: ignore[arg-type]
        order = torch.randperm(len(inputs), generator=generator)[:most]
        parts.append(Split(inputs[order], answers[order].long()))
    train, others = parts
    half = len(others) // 2
    names = tuple(f"label {i + 1}" for i in range(14))
    return Field(names, (1,) * 14, _layers, lambda w: 4 * w, train, others[:half], others[half:])


FIELDS: dict[str, Callable[[int, int, int], Field]] = {"digits": _digits, "genes": _genes}


def make_field(name: str, examples: int, held_out: int, seed: int) -> Field:
    """Return the tasks and examples of a field.

    Args:
        name: of ``FIELDS``.
        examples: to train on; fewer where there are no more.
        held_out: to choose by, and as many to judge by; fewer where there are no more.
        seed: of the draw.

    Raises:
        ValueError: an unknown field.
    """
    if name not in FIELDS:
        raise ValueError(f"name={name!r}; expected one of {', '.join(FIELDS)}.")
    return FIELDS[name](examples, held_out, seed)
