"""From a model and a batch to the geometry of its pairs.

``pair_geometry`` gives a², b², c of every pair from one forward and one backward pass over the batch;
``token_geometry`` gives all inner products between the token gradients of one pair, from one backward pass
for all tokens. Neither forms a gradient of a weight's size. ``GeometryMonitor`` reads the same out of the
backward pass of a training step. ``naive`` is the slow and plain reference. Which parameters count is
``parameters``: "all" (frozen ones too), "trainable", or a predicate on names. A tied weight counts once, with
all its cross terms.
"""

from __future__ import annotations

from torch import nn

from entanglement.geometry import PairGeometry
from entanglement.gradients import fast
from entanglement.gradients.directions import directional_change, flat_gradients, flatten, unflatten
from entanglement.gradients.monitor import GeometryMonitor, Reading
from entanglement.gradients.naive import ResponseGradient, response_gradients
from entanglement.gradients.select import Parameters, select_parameters
from entanglement.gradients.tokens import TokenGeometry
from entanglement.gradients.uncovered import UncoveredParameterWarning
from entanglement.pairs import PairBatch

__all__ = [
    "GeometryMonitor",
    "Parameters",
    "Reading",
    "ResponseGradient",
    "TokenGeometry",
    "UncoveredParameterWarning",
    "directional_change",
    "flat_gradients",
    "flatten",
    "pair_geometry",
    "response_gradients",
    "select_parameters",
    "token_geometry",
    "unflatten",
]


def pair_geometry(
    model: nn.Module, batch: PairBatch, parameters: Parameters = "all", *, strict: bool = False
) -> PairGeometry:
    """Return a² = ‖∇ log π(y_w|x)‖², b² = ‖∇ log π(y_l|x)‖² and c = ⟨·,·⟩ of every pair of a batch.

    Args:
        model: a causal language model in a deterministic state (``model.eval()``, or no dropout).
        batch: B pairs; padding, left or right, changes nothing.
        parameters: "all", "trainable" or a predicate on names.
        strict: refuse, by name, a parameter that is used in a way no rule covers. Otherwise it is measured
            by one backward pass a response, with an ``UncoveredParameterWarning``.

    Returns:
        PairGeometry of B pairs, float64. The model's ``.grad``, ``requires_grad`` and mode are left as they
        were.

    Raises:
        ValueError: active dropout (naming the module), an empty response or a non-finite value (naming the
            pair), or a parameter that is used but gets no gradient.
    """
    return fast.pair_geometry(model, batch, parameters, strict=strict)


def token_geometry(
    model: nn.Module, batch: PairBatch, parameters: Parameters = "all", *, strict: bool = False
) -> TokenGeometry:
    """Return the inner products of all token gradients ∇ log π(y_t | x, y_<t) of one pair, (N, N), N = n_w +
    n_l.

    Args:
        model: as in ``pair_geometry``.
        batch: one pair (``batch.select(i)``).
        parameters, strict: as in ``pair_geometry``.

    Returns:
        TokenGeometry, float64; its blocks sum to the pair's a², b², c.

    Raises:
        ValueError: as ``pair_geometry``, and a batch of more than one pair.
    """
    return fast.token_geometry(model, batch, parameters, strict=strict)
