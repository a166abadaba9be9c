"""What a rule is: arithmetic from a pair's geometry and the loss's weights to the weights of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch

from entanglement.checks import share
from entanglement.geometry import PairGeometry
from entanglement.signatures import checked

__all__ = ["Rule", "Weights"]


Weights = tuple[torch.Tensor, torch.Tensor]


@checked()
@dataclass(frozen=True)
class Rule:
    """How a pair's geometry and the loss's weights become the weights of a step.

    Attributes:
        title: as the book writes it.
        function: (geometry, d_w, d_l, **options) → (u_w, u_l), each (B,), float64.
        safe: whether, to first order, the pair's own plain step then lowers no chosen and raises no rejected
            response, whatever the geometry, for d_w, d_l > 0.
        needs_geometry: whether it looks at the geometry at all.
        options: names of the options and their defaults.
    """

    title: str
    function: Callable[..., Weights]
    safe: bool
    needs_geometry: bool = True
    options: Mapping[str, float] = field(default_factory=dict)

    def weights(self, geometry: PairGeometry | None, d_w: torch.Tensor, d_l: torch.Tensor) -> Weights:
        """Return (u_w, u_l), each (B,), float64 on the CPU.

        Args:
            geometry: of B pairs; None for a rule that does not need it.
            d_w, d_l: (B,) the loss's own weights, −∂L/∂log π_w and ∂L/∂log π_l.

        Raises:
            ValueError: no geometry for a rule that needs it, or shapes that do not fit.
        """
        w, l = (torch.as_tensor(d).detach().double().cpu() for d in (d_w, d_l))  # noqa: E741
        if w.shape != l.shape or w.ndim != 1:
            raise ValueError(
                f"{self.title}: d_w is {tuple(w.shape)}, d_l is {tuple(l.shape)}; expected the same (B,)."
            )
        if not self.needs_geometry:
            return w, l
        if geometry is None or len(geometry) != len(w):
            have = "no geometry" if geometry is None else f"the geometry of {len(geometry)} pairs"
            raise ValueError(f"{self.title}: got {have} for {len(w)} pairs.")
        return self.function(geometry, w, l, **self.options)

    def with_options(self, **options: float) -> Rule:
        """Return the rule with options in place of its defaults.

        Raises:
            ValueError: an unknown option, or a value that is not from 0 to 1.
        """
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            known = ", ".join(self.options) or "none"
            raise ValueError(f"{self.title}: unknown option {unknown[0]!r}; it has {known}.")
        for key, value in options.items():
            share(key, value, self.title)
        return replace(self, options={**self.options, **options})
