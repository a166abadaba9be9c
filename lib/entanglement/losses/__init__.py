"""Preference losses: a registry in which a loss is one declaration.

``get_loss("dpo", beta=0.1)`` gives a function of PairLogps; its ``weights`` are (d_w, d_l). A loss never
knows a model. To add one, write one declaration in the file of its form (``catalogue`` names them). DPO is
declared at once, all others when one of them is asked for.
"""

from __future__ import annotations

from entanglement.logps import PairLogps
from entanglement.losses import strict as _strict  # noqa: F401  (importing a file declares its losses)
from entanglement.losses.registry import (
    Hyper,
    Loss,
    LossSpec,
    declare_loss,
    get_loss,
    list_losses,
    loss_spec,
    loss_specs,
)

__all__ = [
    "Hyper",
    "Loss",
    "LossSpec",
    "PairLogps",
    "declare_loss",
    "get_loss",
    "list_losses",
    "loss_spec",
    "loss_specs",
]
