"""The grid of masks."""

import pandas as pd
import pytest

from entanglement_book.studies.ch12_which_tokens import grid as masking


def test_ranking_counts_ties_half():
    table = pd.DataFrame({"weight": [0.9, 0.2, 0.5, 0.2], "contrast": [True, True, False, False]})
    assert masking.ranking(table) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert masking.ranking(table.assign(weight=1.0)) == 0.5
    with pytest.raises(ValueError, match="contrasting tokens and others"):
        masking.ranking(table.assign(contrast=True))


def test_every_weigher_has_its_seeds():
    cells = pd.DataFrame(masking.grid_cells("book"))
    assert set(cells["weights"]) == set(masking.WEIGHERS)
    assert cells.groupby("weights")["seed"].nunique().min() >= 5


@pytest.mark.parametrize("name", masking.WEIGHERS)
def test_a_cell_has_its_tables(name):
    found = masking.run_cell("smoke", "nano", {"weights": name, "seed": 1})
    assert set(found) == {"means", "tokens", "answers"}
    tokens = found["tokens"]
    assert tokens["weight"].between(0, 1).all() and tokens["contrast"].any() and not tokens["contrast"].all()
    if name == "contrasting":
        assert (tokens["weight"] == tokens["contrast"]).all()
