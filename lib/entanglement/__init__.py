"""Gradient entanglement in preference optimization: measure it, predict it, and see it happen.

For pairs of your own and any causal language model::

    from entanglement import collate, load_model, pair_geometry, PreferencePair

    model, tokenizer = load_model("nano")
    pair = PreferencePair("Is it true?", chosen=" Yes, it is.", rejected=" No, it is not.")
    geometry = pair_geometry(model, collate([pair], tokenizer))
    print(geometry.cosine, geometry.norm_ratio, geometry.case())

These names are the public face, and the book's page of API reference documents them. Everything else is
reached by module. A name loads its module when it is first used, so ``import entanglement`` alone is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entanglement.auditing import AuditReport, audit
    from entanglement.auditing.callback import EntanglementCallback
    from entanglement.geometry import PairGeometry
    from entanglement.gradients import GeometryMonitor, pair_geometry, token_geometry
    from entanglement.losses import get_loss, list_losses
    from entanglement.models import load_model
    from entanglement.pairs import PreferencePair, collate
    from entanglement.training import Trajectory, align, sft
    from entanglement.updates import get_update

__version__ = "0.1.0"
__all__ = [
    "AuditReport",
    "EntanglementCallback",
    "GeometryMonitor",
    "PairGeometry",
    "PreferencePair",
    "Trajectory",
    "align",
    "audit",
    "collate",
    "get_loss",
    "get_update",
    "list_losses",
    "load_model",
    "pair_geometry",
    "sft",
    "token_geometry",
]

#: Public name → the module that defines it.
_EXPORTS = {
    "AuditReport": "entanglement.auditing",
    "EntanglementCallback": "entanglement.auditing.callback",
    "GeometryMonitor": "entanglement.gradients",
    "PairGeometry": "entanglement.geometry",
    "PreferencePair": "entanglement.pairs",
    "Trajectory": "entanglement.training",
    "align": "entanglement.training",
    "audit": "entanglement.auditing",
    "collate": "entanglement.pairs",
    "get_loss": "entanglement.losses",
    "get_update": "entanglement.updates",
    "list_losses": "entanglement.losses",
    "load_model": "entanglement.models",
    "pair_geometry": "entanglement.gradients",
    "sft": "entanglement.training",
    "token_geometry": "entanglement.gradients",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'entanglement' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
