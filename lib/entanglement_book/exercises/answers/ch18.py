"""At scale: the operations of a forward pass, and the error on shapes that a constant has not seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from entanglement_book.exercises.checking import Check

Pass = tuple[float, float, float]
Error = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def _forward(d: int, layers: int, weights: int, vocabulary: int, length: int, read: int) -> Pass:
    """Operations of the layers' maps, of the head, and of attention."""
    maps = 2.0 * length * layers * weights
    return maps, 2.0 * read * d * vocabulary, 4.0 * length**2 * d * layers


def _head_everywhere(d: int, layers: int, weights: int, vocabulary: int, length: int, read: int) -> Pass:
    return _forward(d, layers, weights, vocabulary, length, length)


def _products_alone(d: int, layers: int, weights: int, vocabulary: int, length: int, read: int) -> Pass:
    maps, head, attention = _forward(d, layers, weights, vocabulary, length, read)
    return maps / 2, head / 2, attention / 2


def _scores_alone(d: int, layers: int, weights: int, vocabulary: int, length: int, read: int) -> Pass:
    maps, head, attention = _forward(d, layers, weights, vocabulary, length, read)
    return maps, head, attention / 2


def _not_squared(d: int, layers: int, weights: int, vocabulary: int, length: int, read: int) -> Pass:
    maps, head, attention = _forward(d, layers, weights, vocabulary, length, read)
    return maps, head, attention / length


def _one_layer(d: int, layers: int, weights: int, vocabulary: int, length: int, read: int) -> Pass:
    maps, head, attention = _forward(d, layers, weights, vocabulary, length, read)
    return maps, head, attention / layers


def _every(fitted: np.ndarray) -> np.ndarray:
    return np.ones_like(fitted)


def _off(
    judged_on: Callable[[np.ndarray], np.ndarray] = np.logical_not,
    known: Callable[[np.ndarray], np.ndarray] = np.asarray,
    told: bool = False,
    signed: bool = False,
    middle: Callable[[np.ndarray], np.floating] = np.median,
) -> Error:
    """The error of one constant; the arguments are the ways to get it wrong."""

    def error(cost: np.ndarray, seconds: np.ndarray, fitted: np.ndarray) -> float:
        constant = np.median((seconds / cost)[known(fitted)])
        gap = constant * cost - seconds
        share = gap / (constant * cost if told else seconds)
        return float(middle((share if signed else np.abs(share))[judged_on(fitted)]))

    return error


_FITTED = np.array([True] * 5 + [False] * 4)
_COST = np.array([1.0, 2.0, 4.0, 8.0, 3.0, 16.0, 32.0, 5.0, 20.0])
_SECONDS = np.array([1.1, 1.9, 4.4, 7.2, 3.3, 21.0, 28.0, 5.9, 33.0])

CHECKS: dict[str, Check] = {
    "18.2": Check(
        right=_forward,
        inputs=[(4096, 32, 218_103_808, 128_256, 450, 50), (768, 12, 7_077_888, 50_257, 1024, 16)],
        mistakes=[
            (_head_everywhere, "logits are needed only where a token of the response is predicted."),
            (_products_alone, "an addition is an operation, too: one for each multiplication."),
            (
                _scores_alone,
                "attention multiplies twice: for the scores, and when it adds up the values by them.",
            ),
            (_not_squared, "every token attends to every other one: how does that grow with their number?"),
            (_one_layer, "every layer has an attention of its own."),
        ],
        praise="With eight billion parameters and 450 tokens nearly everything is in the layers' maps.",
    ),
    "18.4": Check(
        right=_off(),
        inputs=[(_COST, _SECONDS, _FITTED), (_COST**1.1, _SECONDS, _FITTED)],
        mistakes=[
            (
                _off(judged_on=np.asarray),
                "these are the shapes that the constant was taken from: they say how well it fits, and not "
                "how far it carries.",
            ),
            (_off(known=_every), "the constant has seen the shapes that judge it."),
            (_off(known=np.logical_not), "the constant was taken from the wrong ones of the shapes."),
            (_off(told=True), "an error is a share of what was measured, and not of what was told."),
            (_off(signed=True), "a shape told too high and one told too low must not cancel."),
            (
                _off(middle=np.mean),
                "the middle error was asked for; in a mean one bad shape can decide.",
            ),
        ],
        praise="What counts is the error where the constant has not been, beside that of a rival.",
    ),
}
