"""The figure of the chapter on scale: every measured work stands where it was told and measured."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from entanglement_book.grids.load import load_tables
from entanglement_book.studies.ch18_scale import figures as draw, numbers as tell


@pytest.mark.parametrize("quantity", ["seconds", "peak"])
def test_each_work_is_drawn_in_both_panels(quantity):
    table = tell.with_predictions(load_tables("costs", "smoke")["works"])
    fig = draw.told_and_measured(table, quantity, ("ours", "theirs"))
    for ax, who in zip(fig.axes, ("told", "rival"), strict=True):
        drawn = np.concatenate(
            [line.get_ydata() for line in ax.lines if line.get_marker() not in (None, "None")]
        )
        wanted = table[f"{who}_{quantity}"] / table[quantity]
        assert sorted(np.asarray(drawn, float)) == pytest.approx(sorted(wanted))
    assert [ax.get_title() or ax.get_title(loc="left") for ax in fig.axes] == ["ours", "theirs"]
    plt.close(fig)
