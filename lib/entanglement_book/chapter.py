"""What every chapter begins with: the book's own names that a notebook uses, and its style and threads."""

from __future__ import annotations

import torch

from entanglement_book import drawing
from entanglement_book.grids.load import load_tables
from entanglement_book.grids.rerun import repeat_one
from entanglement_book.ledger import claims
from entanglement_book.press.pasting import percent, put, put_data, put_missing

__all__ = [
    "claims",
    "load_tables",
    "percent",
    "put",
    "put_data",
    "put_missing",
    "repeat_one",
    "set_up",
    "stored",
]


def set_up() -> None:
    """Set the book's style, and one thread, so that sums are taken in one order and numbers do not depend on
    the machine's cores.
    """
    drawing.use_style()
    torch.set_num_threads(1)


def stored(scale: str) -> str:
    """Return the scale of the stored tables that a page shows and quotes: at smoke those of the book, since a
    few steps of training have nothing to say.
    """
    return "book" if scale == "smoke" else scale
