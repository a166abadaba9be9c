"""The kinds of layers whose gradients are known in closed form, one file each.

``base`` says what a kind of layer declares; the other files are found by themselves.
"""

from __future__ import annotations

from entanglement.gradients.layers.base import (
    EXAMPLES,
    LAYERS,
    TIES,
    Factors,
    Layer,
    Use,
    can_be_combined,
    has_rule,
    inner_products,
    layer_of,
    own_parameter,
    parameter_uses,
)

__all__ = [
    "EXAMPLES",
    "LAYERS",
    "TIES",
    "Factors",
    "Layer",
    "Use",
    "can_be_combined",
    "has_rule",
    "inner_products",
    "layer_of",
    "own_parameter",
    "parameter_uses",
]
