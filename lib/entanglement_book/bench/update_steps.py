"""A training step with any update, for the benchmark; the loss's own step is ``trl_steps.our_step``.

Both sides tokenize and pad their pairs in every step, as training does, know the reference's
log-probabilities beforehand, compute each prompt once where they can, and step in float32. A rule has to
tell the two gradients of a pair apart, and sends two gradients through the layers where the loss sends one;
token weights need the reference's tokens; a decoupled step needs every response's gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from entanglement.batches import grouped_logps, length_groups
from entanglement.losses import get_loss
from entanglement.optimizers import make_optimizer
from entanglement.pairs import PreferencePair
from entanglement.updates import UPDATES, get_update
from entanglement_book.bench.trl_steps import BETA, LR, MAX_GRAD_NORM

__all__ = ["update_step"]

#: Options that take a frozen model. A second reference is a copy of the first: it costs as much as another.
_FROZEN = ("reference", "other")


def update_step(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    update: str,
    optimizer: str = "adamw",
    **options: object,
) -> Callable[[], float]:
    """Return a function that makes one more step with an update, and returns its loss (nats).

    Args:
        model: trained in place.
        tokenizer: the model's.
        pairs: the batch, the same in every step.
        update: a name of ``UPDATES``; a frozen model that it wants is a copy of ``model``.
        optimizer: of ``optimizers.OPTIMIZERS``.
        options: of the update.
    """
    model.eval()
    frozen_model = deepcopy(model).requires_grad_(False)
    wanted = {name: frozen_model for name in _FROZEN if name in UPDATES[update].known}
    made, loss = get_update(update, **wanted, **options), get_loss("dpo", beta=BETA)
    made.begin(model)
    stepper = make_optimizer(optimizer, model, LR)
    order, _ = length_groups(model, tokenizer, pairs)
    with torch.no_grad():
        frozen = grouped_logps(model, tokenizer, pairs, append_eos=False)
    reference = (frozen.chosen[order], frozen.rejected[order])

    def step() -> float:
        _, batches = length_groups(model, tokenizer, pairs)
        return made.step(model, stepper, batches, loss, reference, max_grad_norm=MAX_GRAD_NORM).loss

    return step
