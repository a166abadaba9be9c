"""Training steps of the untangling part for ``make bench``; the loss's own step is ``bench_trl.our_step``.

Both sides tokenize and pad their pairs in every step, as training does, know the reference's
log-probabilities beforehand, compute each prompt once where they can, and step in float32. A rule has to
tell the two gradients of a pair apart, and sends two gradients through the layers where the loss sends one;
token weights need the reference's tokens; a decoupled step needs every response's gradient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from entanglement.adversarial import Discriminator, _policy_step, drawn_batch
from entanglement.losses import get_loss
from entanglement.pairs import PreferencePair
from entanglement.token_weights import (
    FromGeometry,
    LearnedMask,
    TokenWeighted,
    TwoReferences,
    Weigher,
    contrasting,
)
from entanglement.training import OPTIMIZERS, _by_length, _collate, _pair_logps, _trainable
from entanglement.updates import Update, get_update
from entanglement_book.bench.trl_steps import BETA, LR, MAX_GRAD_NORM

__all__ = ["adversarial_step", "step_with", "token_step", "update_step"]

Prepare = Callable[[PreTrainedModel, PreTrainedTokenizerBase, Sequence[PreferencePair]], Callable[[], float]]


def step_with(make: Callable[[nn.Module], Update], optimizer: str = "adamw") -> Prepare:
    """Return a function that prepares a model for steps with an update.

    Args:
        make: takes the frozen reference and returns the update.
        optimizer: of ``training.OPTIMIZERS``.

    Returns:
        A function of (model, tokenizer, pairs); it returns one that makes one more step, and returns its loss
        (nats).
    """

    def prepare(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]
    ) -> Callable[[], float]:
        model.eval()
        update, loss = make(deepcopy(model).requires_grad_(False)), get_loss("dpo", beta=BETA)
        update.begin()
        stepper = OPTIMIZERS[optimizer](_trainable(model), LR)
        groups = _by_length(pairs, 8)
        order = [i for group in groups for i in group]
        with torch.no_grad():
            frozen = _pair_logps(model, tokenizer, pairs, append_eos=False)
        reference = (frozen.chosen[order], frozen.rejected[order])

        def step() -> float:
            batches = [_collate([pairs[i] for i in group], tokenizer, False) for group in groups]
            return update.step(model, stepper, batches, loss, reference, max_grad_norm=MAX_GRAD_NORM).loss

        return step

    return prepare


def update_step(name: str, **options: object) -> Prepare:
    """Return ``step_with`` an update of ``updates.get_update``."""
    return step_with(lambda reference: get_update(name, **options))


def token_step(name: str) -> Prepare:
    """Return ``step_with`` token weights: contrasting, two, geometry or learned.

    The second reference of "two" is a copy of the first: it costs as much as another one.
    """
    make: dict[str, Callable[[nn.Module], Weigher]] = {
        "contrasting": lambda reference: contrasting,
        "two": TwoReferences,
        "geometry": lambda reference: FromGeometry(),
        "learned": LearnedMask,
    }
    return step_with(lambda reference: TokenWeighted(make[name](reference), reference))


def adversarial_step(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]
) -> Callable[[], float]:
    """Return a function that makes one more step of adversarial training, the discriminator's included, and
    returns its loss.
    """
    model.eval()
    judge, reference = Discriminator(model), deepcopy(model).requires_grad_(False)
    stepper = OPTIMIZERS["adamw"](_trainable(model), LR)
    groups, done = _by_length(pairs, 8), itertools.count()

    def step() -> float:
        seed = next(done)
        batches = [
            drawn_batch(model, tokenizer, [pairs[i] for i in group], seed=seed * len(groups) + place)
            for place, group in enumerate(groups)
        ]
        judge.learn(batches)
        return _policy_step(model, reference, judge, batches, stepper, LR, BETA, MAX_GRAD_NORM)["loss"]

    return step
