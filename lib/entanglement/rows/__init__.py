"""Comparisons as people have them: files of rows, their shapes, a verdict on each row, and its tokens.

``read_rows`` goes through a file and never stumbles over one row; ``recognize`` finds the shape that rows
have; ``judge`` reads every row and says what it is; ``encode`` gives the tokens that a trainer will see, and
``padded`` makes a batch of them.
"""

from __future__ import annotations

from entanglement.rows.encoded import EncodedPair, TokensAs, encode, padded
from entanglement.rows.from_files import Row, read_rows
from entanglement.rows.shapes import SHAPES, Comparison, Misfit, Shape, recognize
from entanglement.rows.soundness import TRAINED, VERDICTS, Judged, judge

__all__ = [
    "SHAPES",
    "TRAINED",
    "VERDICTS",
    "Comparison",
    "EncodedPair",
    "Judged",
    "Misfit",
    "Row",
    "Shape",
    "TokensAs",
    "encode",
    "judge",
    "padded",
    "read_rows",
    "recognize",
]
