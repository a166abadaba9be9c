"""A DPO step of our trainer and the same step of TRL's ``DPOTrainer``, for ``make bench``.

Both sides get the same weights, token ids, β, AdamW (no weight decay, constant rate) and clipping, in
float32, without dropout and without gradient checkpointing; both know the reference's log-probabilities
beforehand. So their losses are equal in every step up to rounding. What differs is how a step is computed.

A step is forward, loss, backward, clipping and the optimizer. Ours also tokenizes and pads its pairs, as
``align`` does in every step. TRL's data set is tokenized before training, and its batch is taken from its own
data loader once: its padding is not timed. Nor are its callbacks and its log lines. The metrics that TRL's
loss computes on the way are part of its step, as for everyone who trains with it. So is its optimizer, which
is PyTorch's fused AdamW, while ours is the plain one.

Where PyTorch has no Triton, as on a CPU, TRL computes logits at every position, prompt and padding included;
ours are computed where a response token is predicted. That is a part of the ratio that a GPU does not show.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from entanglement.batches import grouped_logps, length_groups
from entanglement.logps import model_device
from entanglement.losses import get_loss
from entanglement.optimizers import make_optimizer
from entanglement.pairs import PreferencePair, collate
from entanglement.token_ids import context_length
from entanglement.updates import get_update

__all__ = ["our_step", "token_ids", "trl_step"]

BETA = 0.1
LR = 1e-5
MAX_GRAD_NORM = 1.0


def our_step(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    lr: float = LR,
) -> Callable[[], float]:
    """Return a function that makes one DPO step as ``align`` does.

    Args:
        model: trained in place; the reference is the model as it comes in.
        tokenizer: the model's.
        pairs: the batch, the same in every step.
        lr: constant learning rate.

    Returns:
        A function that makes one more step and returns its loss (nats, mean over the batch before the step).
    """
    model.eval()
    update, loss = get_update("joint"), get_loss("dpo", beta=BETA)
    update.begin(model)
    optimizer = make_optimizer("adamw", model, lr)
    order, _ = length_groups(model, tokenizer, pairs)
    with torch.no_grad():
        frozen = grouped_logps(model, tokenizer, pairs, append_eos=False)
    reference = (frozen.chosen[order], frozen.rejected[order])

    def step() -> float:
        _, batches = length_groups(model, tokenizer, pairs)
        return update.step(model, optimizer, batches, loss, reference, max_grad_norm=MAX_GRAD_NORM).loss

    return step


def token_ids(
    pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, list[int]]]:
    """Return the token ids that ``align`` trains on, in the columns that TRL's collator reads.

    Returns:
        One row a pair: prompt_ids, chosen_ids, rejected_ids.
    """
    batch = collate(pairs, tokenizer, max_length=context_length(tokenizer))
    halves = []  # (prompt, response) of each of the 2B rows
    for ids, real, response in zip(batch.input_ids, batch.attention_mask, batch.response_mask, strict=True):
        halves.append((ids[real.bool() & ~response].tolist(), ids[response].tolist()))
    rows = []
    for i in range(len(batch)):
        (prompt, chosen), (_, rejected) = halves[i], halves[i + len(batch)]
        rows.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    return rows


def trl_step(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    lr: float = LR,
) -> Callable[[], float]:
    """Return a function that makes one step of TRL's ``DPOTrainer``; arguments and result as ``our_step``.

    The trainer changes the model's ``forward``, its dropout and its configuration: give it a model of its
    own. It also seeds the global random generators.
    """
    # Imported late: it takes seconds and memory, which our own side must not pay for.
    import datasets
    from trl import DPOConfig, DPOTrainer

    class Tokenized(DPOTrainer):
        """The trainer without its tokenization, which TRL 1.16 tries even on a tokenized data set."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    with tempfile.TemporaryDirectory() as folder:
        settings = DPOConfig(
            output_dir=folder,  # nothing is saved
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=model_device(model).type == "cpu",
            bf16=False,
            gradient_checkpointing=False,
            disable_dropout=True,
            precompute_ref_log_probs=True,
            per_device_train_batch_size=len(pairs),
            max_length=None,
            beta=BETA,
            learning_rate=lr,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=MAX_GRAD_NORM,
        )
        trainer = Tokenized(
            model=model,
            args=settings,
            train_dataset=datasets.Dataset.from_list(token_ids(pairs, tokenizer)),
            processing_class=tokenizer,
        )
    # What Trainer.train does before its loop, and in it before each step.
    trainer.create_optimizer()
    policy, optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    trainer.current_gradient_accumulation_steps = 1
    inputs = next(iter(trainer.get_train_dataloader()))

    def step() -> float:
        loss = trainer.training_step(policy, inputs)
        trainer.accelerator.clip_grad_norm_(policy.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        policy.zero_grad()
        return float(loss)

    return step
