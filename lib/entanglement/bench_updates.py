"""A training step with an update rule, for ``make bench``; the loss's own step is ``bench_trl.our_step``.

Both sides tokenize and pad their pairs in every step, as training does, know the reference's
log-probabilities beforehand, compute each prompt once, and take the same AdamW step in float32. A rule has to
tell the two gradients of a pair apart, and sends two gradients through the layers where the loss sends one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from entanglement.bench_trl import BETA, LR, MAX_GRAD_NORM
from entanglement.losses import get_loss
from entanglement.pairs import PreferencePair
from entanglement.training import OPTIMIZERS, _by_length, _collate, _pair_logps, _trainable
from entanglement.updates import get_update

__all__ = ["update_step"]

Prepare = Callable[[PreTrainedModel, PreTrainedTokenizerBase, Sequence[PreferencePair]], Callable[[], float]]


def update_step(name: str, **options: object) -> Prepare:
    """Return a function that prepares a model for steps with an update.

    Args:
        name, options: of ``updates.get_update``.

    Returns:
        A function of (model, tokenizer, pairs); it returns one that makes one more step, and returns its loss
        (nats).
    """

    def prepare(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]
    ) -> Callable[[], float]:
        model.eval()
        update, loss = get_update(name, **options), get_loss("dpo", beta=BETA)
        update.begin()
        optimizer = OPTIMIZERS["adamw"](_trainable(model), LR)
        groups = _by_length(pairs, 8)
        order = [i for group in groups for i in group]
        with torch.no_grad():
            frozen = _pair_logps(model, tokenizer, pairs, append_eos=False)
        reference = (frozen.chosen[order], frozen.rejected[order])

        def step() -> float:
            batches = [_collate([pairs[i] for i in group], tokenizer, False) for group in groups]
            done = update.step(model, optimizer, batches, loss, reference, max_grad_norm=MAX_GRAD_NORM)
            return done.loss

        return step

    return prepare
