"""The training steps that the benchmark compares: ours, TRL's, and one for each line of an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from entanglement.models import load_model
from entanglement_book.bench.trl_steps import our_step, trl_step
from entanglement_book.bench.update_steps import update_step
from entanglement_book.bench.variants import measured_updates
from entanglement_book.bench.ways import gpt2_shape
from entanglement_book.materials import sentiment_pairs

__all__ = ["OWN_STEP", "SHAPES", "STEPS", "Step", "all_steps", "step_name"]

#: Model → how a line calls it, and on how many pairs an update's step is timed.
SHAPES: dict[str, tuple[str, int]] = {"nano": ("nano", 32), "gpt2-small": ("GPT-2-small's shape", 8)}
#: Model → the name of the loss's own step.
OWN_STEP: dict[str, str] = {
    model: f"DPO step of {shape}, {pairs} pairs" for model, (shape, pairs) in SHAPES.items()
}
#: Updates that are timed in the larger model, too.
_LARGE = ("normalized", "band")


@dataclass(frozen=True)
class Step:
    """A DPO step of some trainer.

    Attributes:
        prepare: (model, tokenizer, pairs, **options) → a function that makes one more step and returns its
            loss (nats).
        model: "nano", or "gpt2-small" for random weights of that shape on nano's token ids.
        pairs: sentiment pairs in the batch.
        options: of ``prepare``.
    """

    prepare: Callable[..., Callable[[], float]]
    model: str
    pairs: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def ready(self, device: str = "cpu") -> Callable[[], float]:
        """Return the function that makes one more step, of a model of its own."""
        loaded = load_model("nano")
        model = loaded.model if self.model == "nano" else gpt2_shape()
        pairs = sentiment_pairs("long_suffix", "train", n=self.pairs)
        nn.Module.to(model, device)  # in place; the annotation of the model's own method hides its arguments
        return self.prepare(model, loaded.tokenizer, pairs, **self.options)


def step_name(title: str, model: str = "nano") -> str:
    """Return the name of an update's step in a model."""
    return f"{title}, {SHAPES[model][0]}"


def all_steps() -> dict[str, Step]:
    """Return the steps of both trainers and of every update that has lines."""
    found = {}
    for model, (shape, pairs) in SHAPES.items():
        found[OWN_STEP[model]] = Step(our_step, model, pairs)
        found[f"TRL's DPOTrainer, {shape}"] = Step(trl_step, model, pairs)
    for update, variants in measured_updates().items():
        for place, variant in enumerate(variants):
            options = {"update": update, "optimizer": variant.optimizer, **variant.options}
            for model in SHAPES if update in _LARGE and not place else ("nano",):
                step = Step(update_step, model, SHAPES[model][1], options)
                found[step_name(variant.title, model)] = step
    return found


STEPS: dict[str, Step] = all_steps()
