"""The grid of masks."""

import pandas as pd
import pytest

from entanglement_book.studies.ch12_which_tokens import grid as masking

pytestmark = pytest.mark.usefixtures("short_runs")


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


def test_the_second_reference_is_trained_on_the_rejected_responses(monkeypatch):
    cell = {"weights": "two", "seed": 1}
    seen = []

    def sft(policy, tokenizer, pairs, **options):
        seen.append((pairs, options))

    monkeypatch.setattr(masking, "sft", sft)
    masking.run_cell("smoke", "nano", cell)
    (pairs, options), numbers = seen[0], masking.recipe("smoke")
    train = masking.train_pairs("smoke", "nano", "sentiment", 1)
    assert [(p.prompt, p.chosen, p.rejected) for p in pairs] == [
        (p.prompt, p.rejected, p.chosen) for p in train
    ]
    assert options == {
        "steps": numbers.sft_steps, "lr": numbers.sft_lr, "batch_size": numbers.sft_batch, "seed": 1,
    }  # fmt: skip
