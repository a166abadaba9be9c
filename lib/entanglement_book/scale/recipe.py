"""What a training at scale may be asked for, with the paper's numbers as defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass

from entanglement_book.layout import UsageError

__all__ = ["LOSSES", "TLDR", "Recipe"]

#: The paper's comparisons of summaries, on the hub.
TLDR = "CarperAI/openai_summarize_comparisons"
#: A loss of this library that TRL's DPOTrainer has → how TRL calls it.
LOSSES: dict[str, str] = {
    "dpo": "sigmoid",
    "sigmoid_norm": "sigmoid_norm",
    "ipo": "ipo",
    "hinge": "hinge",
    "nca": "nca_pair",
    "bco": "bco_pair",
    "sppo": "sppo_hard",
    "apo_zero": "apo_zero",
    "apo_down": "apo_down",
    "discopop": "discopop",
    "aot": "aot",
}


@dataclass(frozen=True)
class Recipe:
    """One training.

    Defaults are the paper's for summaries (its code: LoRA of rank 64 and α 128 on queries, keys and values,
    rate 5e-6, 2 pairs × 4 accumulated × 2 GPUs, one epoch), and TRL 1.16's where the paper says nothing: a
    rate that falls linearly to zero without warm-up, at most 1024 tokens.

    Attributes:
        model: nano, smollm2-135m, a folder, or an id of the hub.
        data: "docstrings", "tldr", or what ``entanglement.rows.read_rows`` takes.
        loss: one of ``LOSSES``.
        beta: of the loss.
        steps: optimizer steps; None for one epoch.
        lr: highest rate.
        lora_r: rank of the adapter; 0 to train all parameters.
        lora_alpha: of the adapter; None for twice its rank.
        batch_size: pairs at a time in each process.
        accumulate: such batches in a step.
        max_length: longest sequence, tokens.
        sample: pairs that are used of the data, those of the probe included; None for all.
        probe: a file of pairs to watch, or how many of the data are held out for it.
        every: steps between two looks at the probe; 0 to watch nothing.
        logging: steps between two rows of the table.
        precision: "bf16", "fp32", or "auto" for bf16 where there is a GPU.
        checkpointing: compute activations again in the backward pass, to save memory.
        seed: of the split and the training.

    Raises:
        UsageError: a value that means nothing, in one line.
    """

    model: str = "nano"
    data: str = "docstrings"
    loss: str = "dpo"
    beta: float = 0.1
    steps: int | None = None
    lr: float = 5e-6
    lora_r: int = 64
    lora_alpha: float | None = None
    batch_size: int = 2
    accumulate: int = 4
    max_length: int = 1024
    sample: int | None = None
    probe: str = "16"
    every: int = 50
    logging: int = 10
    precision: str = "auto"
    checkpointing: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UsageError(f"--loss {self.loss!r} is not TRL's; expected one of {', '.join(LOSSES)}")
        for name in ("beta", "lr", "lora_alpha"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{_option(name)} {value!r} is not allowed: expected a positive number")
        least = {"lora_r": 0, "every": 0, "seed": 0, "sample": 2}
        for name in ("lora_r", "every", "seed", "sample", "steps", "batch_size", "accumulate", "max_length",
                     "logging"):  # fmt: skip
            value, low = getattr(self, name), least.get(name, 1)
            if value is not None and not low <= value < 2**31:
                raise UsageError(
                    f"{_option(name)} {value} is not allowed: expected a whole number from {low}"
                )
        if self.precision not in ("auto", "bf16", "fp32"):
            raise UsageError(f"--precision {self.precision!r}: expected auto, bf16 or fp32")
        if not self.probe.strip() or (self.probe.lstrip("+-").isdigit() and self.held_out is None):
            raise UsageError(
                f"--probe {self.probe!r} is not allowed: expected a number of pairs, at least 1, or a file"
            )

    @property
    def held_out(self) -> int | None:
        """Pairs of the data that are the probe; None where the probe is a file."""
        return int(self.probe) if self.probe.isascii() and self.probe.isdigit() and int(self.probe) else None


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
