"""Preference losses: a registry in which a loss is one declaration.

``get_loss("dpo", beta=0.1)`` gives a function of PairLogps; its ``weights`` are (d_w, d_l). A loss never
knows a model. To add one, write one declaration in the file of its form; it is found there when a loss is
first asked for.
"""

from __future__ import annotations

from entanglement.logps import PairLogps
from entanglement.losses.base import (
    FORMS,
    LOSSES,
    Form,
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
    "FORMS",
    "LOSSES",
    "Form",
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
