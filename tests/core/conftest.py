"""What the tests of single rooms share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from entanglement_book.studies.ch08_sentiment import grid as sentiment
from entanglement_book.studies.shared import start


@pytest.fixture(scope="module")
def short_runs():
    """Runs at smoke that are shorter still: what a cell's tables are made of can be seen in two steps."""
    with pytest.MonkeyPatch.context() as patch:
        short = replace(start._SMOKE, steps=2, batch=2, test_pairs=3, moments=(0, 1, 2), answer_tokens=4)
        patch.setattr(start, "_SMOKE", short)
        short = replace(sentiment._SMOKE, dpo_steps=2, test_pairs=3, geometry_pairs=2, moments=(0, 1, 2))
        patch.setattr(sentiment, "_SMOKE", short)
        yield
