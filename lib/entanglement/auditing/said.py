"""How numbers are written."""

from __future__ import annotations

import math

__all__ = ["nats", "signed"]


def signed(value: float) -> str:
    """Return a number with its sign, a true minus, and two digits that say something."""
    if not math.isfinite(value):
        return "–" if value != value else ("∞" if value > 0 else "\u2212∞")
    digits = 2
    if value and abs(value) < 0.1:
        digits = min(1 - math.floor(math.log10(abs(value))), 6)
    return f"{value:+.{digits}f}".replace("-", "\u2212")


def nats(value: float) -> str:
    """Return a number of nats."""
    return f"{signed(value)} nats"
