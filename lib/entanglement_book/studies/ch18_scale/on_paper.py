"""What the paper's run on summaries would cost with a model of 8 billion parameters. Nothing of it was run.

Operations and memory follow from the same counts as in ``cost``. What a GPU does with them does not: that
share of its peak is assumed, and so are the lengths and the number of comparisons. Each assumption has its
name here.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from entanglement_book.studies.ch18_scale.architectures import LLAMA_8B, Shape
from entanglement_book.studies.ch18_scale.cost import (
    Rows,
    forward_operations,
    held_in_training,
    operations,
    peak,
    saved_per_token,
    tokens,
)

__all__ = [
    "A100",
    "ASSUMED",
    "H100",
    "WAYS",
    "Assumed",
    "Gpu",
    "Way",
    "adapter_parameters",
    "bill",
    "facts_of",
    "hours",
    "looks",
    "memory",
    "operations_of_a_pair",
]


@dataclass(frozen=True)
class Gpu:
    """A graphics processor as its maker's data sheet has it.

    Attributes:
        name, sheet: of the device, of the data sheet.
        peak: of dense bf16 products, operations a second.
        memory: bytes.
    """

    name: str
    sheet: str
    peak: float
    memory: float


A100 = Gpu("A100 80GB SXM", "NVIDIA A100 Tensor Core GPU, data sheet", 312e12, 80e9)
#: Its sheet gives 1,979 with sparsity, which is twice the dense number.
H100 = Gpu("H100 SXM", "NVIDIA H100 Tensor Core GPU, data sheet", 989.5e12, 80e9)


@dataclass(frozen=True)
class Assumed:
    """What the bill rests on and nobody measured here.

    Attributes:
        share: of the peak that a training reaches.
        comparisons: in an epoch.
        prompt, response: tokens; every sequence is taken to be as long.
        pairs: on a GPU at a time (the authors' 2).
        rank: of the adapters of queries, keys and values (the authors' 64).
    """

    share: float = 0.4
    comparisons: int = 92_500
    prompt: int = 400
    response: int = 50
    pairs: int = 2
    rank: int = 64

    @property
    def rows(self) -> Rows:
        """One batch of a GPU, as a trainer lays it out that computes the prompt for each response."""
        return Rows(self.prompt, self.response, self.pairs, shared=False)


ASSUMED = Assumed()


@dataclass(frozen=True)
class Way:
    """A way of training.

    Attributes:
        title: in words.
        adapters: whether only low-rank adapters are trained, over frozen weights, which are the reference as
            well.
        checkpointed: whether activations are computed again in the backward pass, layer by layer.
    """

    title: str
    adapters: bool
    checkpointed: bool


WAYS = (
    Way("LoRA", adapters=True, checkpointed=False),
    Way("LoRA, checkpointed", adapters=True, checkpointed=True),
    Way("all weights, checkpointed", adapters=False, checkpointed=True),
)


def adapter_parameters(shape: Shape, rank: int) -> int:
    """Return how many parameters low-rank adapters of queries, keys and values have."""
    d, kv = shape.width, shape.width // shape.shared
    return shape.layers * rank * ((d + d) + 2 * (d + kv))


def memory(way: Way, gpus: int, shape: Shape = LLAMA_8B, assumed: Assumed = ASSUMED) -> dict[str, float]:
    """Return what one GPU holds, GB, by what it is for; weights and moments are split over the GPUs where all
    weights are trained (as FSDP splits them), and are on each of them with adapters.

    Numbers are bf16 (2 bytes); gradients, both moments and the copy that AdamW steps are float32 where
    adapters are trained (16 bytes a parameter) and the gradient is bf16 where all weights are (14 besides the
    weight itself).
    """
    rows, d = assumed.rows, shape.width
    trained = adapter_parameters(shape, assumed.rank) if way.adapters else shape.parameters
    split = 1 if way.adapters else gpus
    one_layer = tokens(rows) * saved_per_token(shape)
    kept = tokens(rows) * shape.layers * d + one_layer if way.checkpointed else shape.layers * one_layer
    picked = 2 * rows.pairs * rows.response * shape.vocabulary
    return {
        "weights": 2 * shape.parameters / split / 1e9,
        "reference": 0.0 if way.adapters else 2 * shape.parameters / split / 1e9,
        "gradients and optimizer": (16 if way.adapters else 14) * trained / split / 1e9,
        "activations": 2 * kept / 1e9,
        "logits": 4 * 3 * picked / 1e9,  # float32: their logarithms, and two gradients on the way back
    }


def operations_of_a_pair(way: Way, shape: Shape = LLAMA_8B, assumed: Assumed = ASSUMED) -> float:
    """Return what a pair's part of a step takes.

    A pass forward for the reference, one for the policy, one more where activations are computed again, and
    the backward pass: one for what entered each layer, and one for its weights where these are trained.
    """
    rows = assumed.rows
    linear, attention = forward_operations(shape, rows)
    forward = linear + attention
    back = (1 if way.adapters else 2) * linear + 2.5 * attention
    adapters = 6 * tokens(rows) * adapter_parameters(shape, assumed.rank) if way.adapters else 0
    return (2 * forward + (forward if way.checkpointed else 0) + back + adapters) / rows.pairs


def hours(way: Way, gpu: Gpu, gpus: int, shape: Shape = LLAMA_8B, assumed: Assumed = ASSUMED) -> float:
    """Return what one epoch takes."""
    each = operations_of_a_pair(way, shape, assumed)
    return each * assumed.comparisons / (assumed.share * gpu.peak * gpus) / 3600


def bill(way: Way, gpus: int) -> dict[str, str | float | bool]:
    """Return a row for the page: way, GPUs, hours of one epoch on either kind, GB of one GPU, and whether
    that fits.
    """
    held = sum(memory(way, gpus).values())
    return {
        "way": way.title,
        "GPUs": gpus,
        **{f"hours, {gpu.name.split()[0]}": hours(way, gpu, gpus) for gpu in (A100, H100)},
        "GB": held,
        "fits": held < 0.95 * A100.memory / 1e9,  # the rest is what the device keeps for itself
    }


def looks(gpu: Gpu, pairs: int, shape: Shape = LLAMA_8B, assumed: Assumed = ASSUMED) -> pd.DataFrame:
    """Return what looking at gradients takes on one GPU, a row a work: minutes for so many pairs, and GB
    above the weights; of all weights, and with adapters, whose mean gradient is of them alone.
    """
    rows = Rows(assumed.prompt, assumed.response, assumed.pairs)
    linear, attention = forward_operations(shape, rows)
    trained = adapter_parameters(shape, assumed.rank)
    # Both sides' backward passes, through frozen weights.
    through = linear + attention + 2 * (linear + 2.5 * attention)
    held = 2 * held_in_training(shape, rows) + 4 * 11 * trained  # the adapters' sums are float32
    found = {
        "log-probabilities": (operations("logps", shape, rows), peak("logps", shape, rows, size=2)),
        "virtual step": (operations("virtual", shape, rows), peak("virtual", shape, rows, size=2)),
        "pair geometry": (operations("geometry", shape, rows), peak("geometry", shape, rows, size=2)),
        "mean gradient": (operations("gradient", shape, rows) / 2, peak("gradient", shape, rows, size=2)),
        "mean gradient, adapters": (through, held),
    }
    table = pd.DataFrame(found, index=["operations", "GB"]).T
    table["minutes"] = table["operations"] / assumed.pairs * pairs / (assumed.share * gpu.peak) / 60
    table["GB"] /= 1e9
    return table[["minutes", "GB"]]


def facts_of(pairs: int) -> dict[str, float]:
    """Return what the text quotes of the bill, with adapters and without checkpointing where there is a
    choice, and of looking at so many pairs on one H100.
    """
    adapters, _, every = WAYS
    looked, full = looks(H100, pairs).to_dict("index"), memory(every, 1)
    rehearsal = ["log-probabilities", "virtual step", "mean gradient, adapters"]
    return {
        "set_looked": float(pairs),
        "hours_one": hours(adapters, H100, 1),
        "hours_eight": hours(adapters, H100, 8),
        "full_gb": sum(full.values()),
        "full_eight_gb": sum(memory(every, 8).values()),
        "optimizer_gb": full["gradients and optimizer"],
        "weights_gb": full["weights"],
        "adapters_million": adapter_parameters(LLAMA_8B, ASSUMED.rank) / 1e6,
        "rehearsal_minutes": sum(float(looked[work]["minutes"]) for work in rehearsal),
        "rehearsal_gb": float(looked["mean gradient, adapters"]["GB"]),
        "gradient_gb": float(looked["mean gradient"]["GB"]),
    }
