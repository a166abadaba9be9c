"""Which lines of the benchmark measure the updates: one for each of the registry, or those named here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from entanglement.updates import UPDATES

__all__ = ["ANOTHER", "BASE", "RULES", "VARIANTS", "Variant", "line_of", "measured_updates", "variants"]

RULES = "update rule against the loss's own step"
ANOTHER = "other training step against the loss's own"
#: The update that the others are measured against: the loss's own step.
BASE = "joint"


@dataclass(frozen=True)
class Variant:
    """An update with options, as a line of the benchmark.

    Attributes:
        title: how the line calls it.
        options: of ``get_update``.
        optimizer: of the step.
        work: the lines that it stands among.
    """

    title: str
    options: Mapping[str, object] = field(default_factory=dict)
    optimizer: str = "adamw"
    work: str = RULES


#: Updates that have several lines, or one that says more than their title. Any other update has one line.
VARIANTS: dict[str, tuple[Variant, ...]] = {
    "normalized": (
        Variant("normalized"),
        Variant("normalized in AdamW's metric", {"metric": "optimizer"}),
        Variant("normalized, batch", {"level": "batch"}),
    ),
    "contrasting": (Variant("contrasting tokens", work=ANOTHER),),
    "two": (Variant("tokens by two references", work=ANOTHER),),
    "geometry": (Variant("tokens by their geometry", work=ANOTHER),),
    "learned": (Variant("learned token mask", work=ANOTHER),),
    "decoupled": (
        Variant("decoupled, batch", {"level": "batch"}, "sgd", ANOTHER),
        Variant("decoupled, all responses", {"level": "all"}, "sgd", ANOTHER),
    ),
    "adversarial": (Variant("adversarial", work=ANOTHER),),
}


def variants(update: str) -> tuple[Variant, ...]:
    """Return how an update is measured; () for the loss's own step, and for one that costs like another.

    Raises:
        ValueError: an unknown update.
    """
    declared = UPDATES[update]
    if update == BASE or declared.costs_like:
        return ()
    return VARIANTS.get(update) or (Variant(declared.title),)


def measured_updates() -> dict[str, tuple[Variant, ...]]:
    """Return the updates that have lines, those named here first."""
    names = [*VARIANTS, *(name for name in UPDATES if name not in VARIANTS)]
    return {name: found for name in names if (found := variants(name))}


def line_of(update: str, **options: object) -> str:
    """Return the title of the line that measured an update: its own, or of the one that it costs like.

    Args:
        update: of the registry, not the loss's own step.
        options: of ``get_update``; those that no line names cost nothing.

    Raises:
        ValueError: an unknown update, or one that no line measures.
    """
    declared = UPDATES[update]
    if declared.costs_like:
        return line_of(declared.costs_like, **options)
    fitting = [v for v in variants(update) if v.options.items() <= options.items()]
    if not fitting:
        raise ValueError(f"update={update!r} with {options}: no line of the benchmark measures it.")
    return max(fitting, key=lambda variant: len(variant.options)).title
