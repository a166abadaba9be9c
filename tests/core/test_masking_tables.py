"""What is left of the chosen response's rate when only the contrasting tokens are trained."""

import pandas as pd
import pytest
import torch

from entanglement.gradients import flat_gradients, pair_geometry, token_geometry
from entanglement.logps import response_logps, token_logps
from entanglement.pairs import PreferencePair, collate
from entanglement.updates.token_weights import contrasting
from entanglement_book.studies.ch12_which_tokens.grid_crosstab import token_moves
from entanglement_book.studies.ch12_which_tokens.tables import gap_parts, gap_table, one_sided
from entanglement_book.studies.shared.update_tables import as_updates


@pytest.fixture
def pair():
    return PreferencePair(
        "the film was", " good and the people liked it", " bad and the people liked it", "0"
    )


def test_the_parts_are_those_of_true_gradients(tiny_model, tokenizer, pair):
    model, batch = tiny_model("gpt2-tied"), collate([pair], tokenizer)
    row = gap_table(model, tokenizer, [pair]).iloc[0]
    geometry = pair_geometry(model, batch)
    assert row["all"] == pytest.approx(float(geometry.chosen_sq - geometry.inner))
    told = contrasting(model, batch, token_logps(model, batch))
    logps = token_logps(model, batch)
    alone = (told * torch.cat([logps.chosen, -logps.rejected])).sum()
    step = torch.cat([g.flatten() for g in torch.autograd.grad(alone, list(model.parameters()))])
    g_w, _ = flat_gradients(model, batch)
    assert row["alone"] == pytest.approx(float(g_w[0] @ step))
    assert row["token"] > 0 and abs(row["asymmetry"]) > 0.01 * abs(row["all"])


def test_nothing_is_left_out_when_all_tokens_are_contrasting(tiny_model, tokenizer, pair):
    geometry = token_geometry(tiny_model("gpt2-tied"), collate([pair], tokenizer))
    every = gap_parts(geometry, torch.ones(len(geometry.token_ids)))
    assert every["cross_talk"] == every["asymmetry"] == 0
    none = gap_parts(geometry, torch.zeros(len(geometry.token_ids)))
    assert none["token"] == none["cross_talk"] == 0 and none["asymmetry"] == pytest.approx(every["token"])
    with pytest.raises(ValueError, match="contrast"):
        gap_parts(geometry, torch.ones(2))


def test_one_sided_counts_places_at_which_the_two_differ():
    rows = [
        ("p", side, place, weight, place == 0)
        for side, weights in (("chosen", [1.0, 0.9, 0.1, 0.9]), ("rejected", [1.0, 0.2, 0.1, 0.8]))
        for place, weight in enumerate(weights)
    ]
    tokens = pd.DataFrame(rows, columns=["pair", "response", "place", "weight", "contrast"])
    assert one_sided(tokens) == pytest.approx(1 / 3)
    assert one_sided(tokens.assign(weight=1.0)) == 0


def test_a_grid_without_rates_reads_as_updates():
    found = as_updates(pd.DataFrame({"weights": ["two"], "seed": [0]}), "weights")
    assert found.iloc[0].to_dict() == {"update": "two", "seed": 0, "rate": 1.0, "optimizer": "adamw"}


def test_moves_of_tokens_add_up_to_those_of_responses(tiny_model, tokenizer, pair):
    models, batch = [tiny_model("gpt2-tied", seed=k) for k in (0, 1)], collate([pair], tokenizer)
    moves = token_moves(*models, tokenizer, [pair])
    old, new = (response_logps(model, batch) for model in models)
    for side, row in enumerate(moves.itertuples()):
        assert row.contrasting + row.shared == pytest.approx(float((new[side] - old[side]).detach()))
        assert row.contrasting_before + row.shared_before == pytest.approx(float(old[side].detach()))
        assert abs(row.contrasting) > 0 and abs(row.shared) > 0
    twins = PreferencePair(pair.prompt, pair.chosen, pair.chosen)
    strangers = PreferencePair(pair.prompt, " day", " film")
    assert token_moves(*models, tokenizer, [twins])["contrasting"].tolist() == [0, 0]
    assert token_moves(*models, tokenizer, [strangers])["shared"].tolist() == [0, 0]
