"""What ``EntanglementCallback`` costs: steps of TRL's trainer on nano with and without a look.

Processor time, not the clock's, of one process with one thread: another program on the machine changes it
little. It stands apart from the benchmark's table: nothing is stored, and no line becomes stale.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from transformers import TrainerCallback

from entanglement.models import load_model
from entanglement_book.materials import tldr_pairs

__all__ = ["Overhead", "measure_watching"]

#: Times a step's own that a looked-at step may take.
MOST = 1.35


@dataclass(frozen=True)
class Overhead:
    """Seconds of processor time of a step, medians.

    Attributes:
        looked_at: of steps that the callback looks at.
        left: of the other steps of that run.
        without: of a run without the callback.
    """

    looked_at: float
    left: float
    without: float

    def __str__(self) -> str:
        return (
            f"watching: a looked-at step takes {self.looked_at / self.without:.2f} times one without the "
            f"callback ({self.looked_at:.2f} s against {self.without:.2f} s of processor time; at most "
            f"{MOST}), another step {self.left / self.without:.2f} times"
        )


class _Clock(TrainerCallback):
    """Takes the time of each step, other callbacks' included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begun = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._begun = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds.append(time.process_time() - self._begun)


def _steps(
    rows: list[dict[str, str]], callback: TrainerCallback | None, batch: int, steps: int
) -> list[float]:
    """Return the seconds of each step of a run as TRL makes it by default, but for float32."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    clock, loaded = _Clock(), load_model("nano")
    with tempfile.TemporaryDirectory() as folder:
        settings = DPOConfig(
            output_dir=folder, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            bf16=False, gradient_checkpointing=False, per_device_train_batch_size=batch, max_steps=steps,
            max_length=128, learning_rate=1e-6, logging_strategy="no", seed=0,
        )  # fmt: skip
        trainer = DPOTrainer(
            model=loaded.model, ref_model=load_model("nano").model, args=settings,
            train_dataset=Dataset.from_list(rows), processing_class=loaded.tokenizer,
            callbacks=[clock],
        )  # fmt: skip
        if callback is not None:
            trainer.add_callback(callback)
        trainer.train()
    return clock.seconds


def measure_watching(batch: int = 32, probe: int = 8, looks: int = 5) -> Overhead:
    """Return what a look costs on summaries of docstrings, at the callback's own defaults.

    Args:
        batch: pairs of a step.
        probe: pairs that are watched.
        looks: steps that are looked at, every other one of the run; the first, which is slower, is left out.
    """
    from entanglement.auditing.callback import EntanglementCallback

    torch.set_num_threads(1)
    steps = 2 * (looks + 1)
    pairs = tldr_pairs("sibling", n=probe + batch * steps, packages=("numpy",))
    # The prompt's end, where the summary is asked for: what fits into nano's context.
    rows = [{"prompt": p.prompt[-200:], "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    callback = EntanglementCallback(rows[:probe], every=2)
    watched = _steps(rows[probe:], callback, batch, steps)
    without = _steps(rows[probe:], None, batch, steps)
    return Overhead(median(watched[3::2]), median(watched[2::2]), median(without[2:]))
