"""The figure of which tokens matter."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from entanglement_book.drawing import ACCENT
from entanglement_book.studies.ch12_which_tokens.figures import token_strips


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_box_is_as_full_as_its_token_weighs():
    rows = [
        {"weights": name, "response": side, "place": place, "token": f" t{place}", "contrast": place == 0}
        | {"weight": weight * (place == 0)}
        for name, weight in (("a", 1.0), ("b", 0.5))
        for side in ("chosen", "rejected")
        for place in (0, 1)
    ]
    fig = token_strips(pd.DataFrame(rows), {"a": "A", "b": "B"})
    for ax in fig.axes:
        fills = [patch.get_alpha() for patch in ax.patches if patch.get_fill()]
        assert fills == pytest.approx([0.55, 0.0, 0.275, 0.0])
        colors = {text.get_text(): text.get_color() for text in ax.texts}
        assert colors["t0"] == ACCENT != colors["t1"]
